//! `--chain`: the filters that Envoy runs, and their order.

use std::fmt;
use std::str::FromStr;

use tensorgate_filter_core::filter::{Capabilities, Filter, check_chain};
use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Allowance, Unit};

/// A valid sequence of filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain(Vec<Filter>);

impl Chain {
    /// The filters, in order.
    pub fn filters(&self) -> &[Filter] {
        &self.0
    }

    /// Parts of a policy that no filter of the chain enforces, each as a sentence: the sandbox host
    /// does, or another filter has to.
    pub fn leaves_open(&self, policy: &Policy) -> Vec<String> {
        let has = |duty: fn(Capabilities) -> bool| {
            self.0.iter().any(|filter| duty(filter.capabilities()))
        };
        let by_request = |allowance: Allowance| allowance.unit == Unit::Requests;
        // The host counts what is in flight at a model in every chain.
        let counters = policy.permit_counters();
        let counts = counters.iter().any(|permit| !permit.scope.is_of_model())
            || policy
                .allowances()
                .any(|(_, _, allowance)| by_request(allowance));
        let mut open = Vec::new();
        if !has(|capabilities| capabilities.identify) {
            open.push(format!(
                "{self} reads no credentials: another filter in front has to authenticate callers"
            ));
            let issuers = policy.issuers();
            let by_credential = [
                (
                    policy.lockout().is_some(),
                    "counts no wrong credentials: the policy's lockout is not enforced here",
                ),
                (
                    issuers.iter().any(|issuer| !issuer.scopes().is_empty()),
                    "checks no scopes: the scopes of the policy's issuers are not enforced here",
                ),
                (
                    policy.passes_claims_on(),
                    "reads no claims: the policy's claim_to_headers set no headers here",
                ),
                (
                    policy.limits_users(),
                    "names no end users: all callers of a client share the quota of one user",
                ),
            ];
            let unenforced = by_credential.into_iter().filter(|(is_there, _)| *is_there);
            open.extend(unenforced.map(|(_, what)| format!("{self} {what}")));
        }
        if counts && !has(|capabilities| capabilities.charge) {
            open.push(format!(
                "{self} counts no requests: only the sandbox host enforces the policy's rates, and its concurrency of clients and grants"
            ));
        }
        if !has(|capabilities| capabilities.check) {
            open.push(format!(
                "{self} checks no tensors: only the sandbox host enforces the contracts"
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
                        "no filter is named {name:?}: the filters are {}",
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
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn a_chain_that_counts_no_requests_leaves_limits_of_requests_to_the_host() {
        let counts = |chain: &str, grant: &str| {
            let policy = include_str!("../../policy/vectors/policies/costs.json");
            let mut policy: serde_json::Value = serde_json::from_str(policy).unwrap();
            let grants = policy.get_mut("grants").unwrap().as_array_mut().unwrap();
            grants.retain(|known| known.get("name").is_some_and(|name| name == grant));
            let policy = serde_json::from_value(policy).unwrap();
            let policy = tensorgate_policy_compiler::validate::validate(&policy)
                .unwrap()
                .0;
            let open = chain.parse::<Chain>().unwrap().leaves_open(&policy);
            !open.iter().any(|line| line.contains("counts no requests"))
        };
        for (chain, grant, expected) in [
            ("gate", "daily-requests", true),
            ("auth,rate-limit,tensor-guard", "daily-requests", true),
            ("rate-limit", "daily-requests", true),
            ("auth,tensor-guard", "daily-requests", false),
        ] {
            assert_eq!(counts(chain, grant), expected, "{chain} {grant}");
        }
    }

    #[test]
    fn a_chain_that_reads_no_credentials_lists_what_it_does_not_enforce() {
        let mut policy: serde_json::Value =
            serde_json::from_str(include_str!("../../policy/vectors/policies/claims.json"))
                .unwrap();
        let plain = serde_json::from_value(policy.clone()).unwrap();
        policy["lockout"] = serde_json::json!({});
        policy["issuers"]["plain"]["scopes"] = serde_json::json!({"infer": "ml.infer"});
        let all = serde_json::from_value(policy).unwrap();
        let unenforced = |chain: &str, policy: &tensorgate_policy_compiler::raw::Policy| {
            let policy = tensorgate_policy_compiler::validate::validate(policy)
                .unwrap()
                .0;
            let open = chain.parse::<Chain>().unwrap().leaves_open(&policy);
            let about = |word: &str| open.iter().any(|line| line.contains(word));
            ["credentials", "lockout", "scopes", "claim_to_headers"].map(about)
        };
        for chain in ["gate", "auth", "auth,rate-limit,tensor-guard"] {
            assert_eq!(unenforced(chain, &all), [false; 4], "{chain}");
        }
        for chain in ["rate-limit", "tensor-guard,rate-limit"] {
            assert_eq!(unenforced(chain, &all), [true; 4], "{chain}");
            assert_eq!(
                unenforced(chain, &plain),
                [true, false, false, true],
                "{chain}"
            );
        }
    }

    #[test]
    fn a_chain_round_trips_and_an_invalid_one_is_refused() {
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
            ("gate,auth", "use it alone"),
            ("auth,auth", "is listed twice"),
            ("rate-limit,auth", "auth must be first"),
            ("Auth", "no filter is named \"Auth\""),
            ("auth, rate-limit", "no filter is named \" rate-limit\""),
        ] {
            let fault = text.parse::<Chain>().unwrap_err();
            assert!(fault.contains(why), "{text}: {fault}");
        }
    }
}
