//! `--chain`: which filters stand in Envoy, in which order.

use std::fmt;
use std::str::FromStr;

use tensorgate_glue::filter::{Duties, Filter, check_chain};
use tensorgate_policy::Policy;

/// Filters that make a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain(Vec<Filter>);

impl Chain {
    /// In order.
    pub fn filters(&self) -> &[Filter] {
        &self.0
    }

    /// What of a policy no filter of the chain keeps, each as a sentence: it must be somebody else's business.
    pub fn leaves_open(&self, policy: &Policy) -> Vec<String> {
        let has = |duty: fn(Duties) -> bool| self.0.iter().any(|filter| duty(filter.duties()));
        let counts = policy.buckets().next().is_some() || !policy.places().is_empty();
        let mut open = Vec::new();
        if !has(|duties| duties.identify) {
            open.push(format!(
                "{self} reads no credentials: another filter in front has to prove who is calling"
            ));
        }
        if counts && !has(|duties| duties.charge) {
            open.push(format!(
                "{self} charges nothing: the policy's rates and concurrency are not kept here"
            ));
        }
        if !has(|duties| duties.check) {
            open.push(format!(
                "{self} checks no tensors: only the sandbox host keeps the contracts"
            ));
        }
        open
    }
}

impl FromStr for Chain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let filters: Vec<Filter> = text
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| {
                Filter::from_name(name).ok_or_else(|| {
                    let known: Vec<_> = Filter::ALL.iter().map(|filter| filter.name()).collect();
                    format!(
                        "no filter is named {name:?}: there are {}",
                        known.join(", ")
                    )
                })
            })
            .collect::<Result<_, _>>()?;
        check_chain(&filters).map_err(|fault| fault.to_string())?;
        Ok(Self(filters))
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|filter| filter.name()).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_chain_is_written_as_it_is_read_and_nonsense_is_refused() {
        for text in [
            "gate",
            "auth",
            "auth,rate-limit,tensor-guard",
            "tensor-guard,rate-limit",
        ] {
            assert_eq!(text.parse::<Chain>().unwrap().to_string(), text);
        }
        for (text, why) in [
            ("", "at least one filter"),
            ("gate,auth", "stands alone"),
            ("auth,auth", "comes twice"),
            ("rate-limit,auth", "auth comes first"),
            ("Auth", "no filter is named \"Auth\""),
            ("auth, rate-limit", "no filter is named \" rate-limit\""),
        ] {
            let fault = text.parse::<Chain>().unwrap_err();
            assert!(fault.contains(why), "{text}: {fault}");
        }
    }
}
