//! What a rule reports: who, what, how far from the usual, since when, and what to do.

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use serde_json::Number;
use tensorgate_audit::record::{AlertRecord, MAX_DETAIL_BYTES, MAX_NAME_BYTES};
use tensorgate_base::rfc3339::rfc3339;
use tensorgate_policy::values::safe_text::printable_prefix;

use crate::observation::HOST_BITS;
use crate::time::Time;

/// Who an alert is about. Names come from the policy, and a source is an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A client.
    Client(String),
    /// A model.
    Model(String),
    /// A source address, or the /64 of an IPv6 source.
    Source(IpAddr),
    /// The clients, sources or models beyond those that a rule keeps state for.
    Others,
    /// All requests together.
    Gateway,
}

impl Subject {
    /// A client, or those that share state.
    pub(super) fn client(name: &str, is_shared: bool) -> Self {
        if is_shared {
            Self::Others
        } else {
            Self::Client(name.to_owned())
        }
    }

    /// A model, or those that share state.
    pub(super) fn model(name: &str, is_shared: bool) -> Self {
        if is_shared {
            Self::Others
        } else {
            Self::Model(name.to_owned())
        }
    }

    /// A source, or those that share state.
    pub(super) const fn source(address: IpAddr, is_shared: bool) -> Self {
        if is_shared {
            Self::Others
        } else {
            Self::Source(address)
        }
    }

    /// Whether it is a source, or a group that may be one of sources.
    pub const fn is_source(&self) -> bool {
        matches!(self, Self::Source(_) | Self::Others)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(name) => write!(f, "client {name}"),
            Self::Model(name) => write!(f, "model {name}"),
            Self::Source(address) if address.is_ipv6() => {
                write!(f, "source {address}/{}", HOST_BITS.1)
            }
            Self::Source(address) => write!(f, "source {address}"),
            Self::Others => f.write_str("a group that is watched together"),
            Self::Gateway => f.write_str("the gateway"),
        }
    }
}

/// The number that a rule judged, and the usual one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// The number.
    pub observed: f64,
    /// The usual number.
    pub usual: f64,
    /// What is counted, such as `requests a minute`.
    pub unit: &'static str,
}

/// What a rule has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Who it is about.
    pub subject: Subject,
    /// When it began.
    pub since: Time,
    /// How far from the usual it is.
    pub evidence: Evidence,
    /// What happened, as a sentence without its subject.
    pub what: String,
    /// What to do.
    pub advice: &'static str,
}

/// A finding that is reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The name of the rule.
    pub rule: &'static str,
    /// What it has found.
    pub finding: Finding,
    /// When it began.
    pub since: SystemTime,
    /// Whether it is logged. The others are only counted, because the rule had too many.
    pub is_logged: bool,
    /// The number of earlier alerts that were not logged: those of the rule about sources, or its
    /// others.
    pub withheld: u64,
    /// What was done to its client, such as `blocked until TIME`, or why nothing was.
    pub response: Option<String>,
}

impl Alert {
    /// Its record in the audit log.
    pub fn to_record(&self, id: String) -> AlertRecord {
        let Finding {
            subject,
            evidence,
            what,
            advice,
            ..
        } = &self.finding;
        AlertRecord {
            id,
            rule: self.rule.to_owned(),
            subject: printable_prefix(&subject.to_string(), MAX_NAME_BYTES),
            since: rfc3339(self.since),
            observed: rounded(evidence.observed),
            usual: rounded(evidence.usual),
            unit: evidence.unit.to_owned(),
            what: printable_prefix(what, MAX_DETAIL_BYTES),
            advice: (*advice).to_owned(),
            withheld: self.withheld,
            response: self.response.clone(),
        }
    }
}

/// A number with three decimal places at most. JSON has no number that is not finite.
fn rounded(value: f64) -> Number {
    let value = (value * 1_000.0).round() / 1_000.0;
    Number::from_f64(value).unwrap_or_else(|| Number::from(0_u8))
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            subject,
            evidence:
                Evidence {
                    observed,
                    usual,
                    unit,
                },
            what,
            advice,
            ..
        } = &self.finding;
        let since = rfc3339(self.since);
        let amount = amount(*observed, *usual, unit);
        write!(f, "{subject} {what}: {amount}, since {since}. {advice}")?;
        if let Some(response) = &self.response {
            write!(f, " The client is {response}.")?;
        }
        if self.withheld > 0 {
            let withheld = self.withheld;
            let counted = if withheld == 1 {
                "alert like it was"
            } else {
                "alerts like it were"
            };
            write!(f, " ({withheld} earlier {counted} only counted)")?;
        }
        Ok(())
    }
}

/// The number that a rule judged and the usual one as a text, such as `2 requests, usually 0`.
pub fn amount(observed: f64, usual: f64, unit: &str) -> String {
    let (observed, usual) = (number(observed), number(usual));
    let unit = if observed == "1" {
        singular(unit)
    } else {
        unit
    };
    format!("{observed} {unit}, usually {usual}")
}

/// A unit for the number 1. Those that are not listed are percentages, durations, or of rules whose
/// numbers are always larger.
fn singular(unit: &str) -> &str {
    match unit {
        "requests" => "request",
        "new credentials" => "new credential",
        "new networks" => "new network",
        unit => unit,
    }
}

/// A number with one decimal place, or none if that is zero.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn amounts_have_one_form_of_numbers_and_the_singular_of_one() {
        for (observed, usual, unit, expected) in [
            (1.0, 0.0, "requests", "1 request, usually 0"),
            (1.04, 0.96, "new networks", "1 new network, usually 1"),
            (2.0, 1.0, "requests", "2 requests, usually 1"),
            (19.96, 19.816, "ms", "20 ms, usually 19.8"),
            (1.0, 0.5, "% of requests", "1 % of requests, usually 0.5"),
        ] {
            assert_eq!(amount(observed, usual, unit), expected);
        }
    }

    #[test]
    fn a_source_of_ipv6_is_a_network() {
        let v4 = Subject::Source(Ipv4Addr::LOCALHOST.into());
        let v6 = Subject::Source(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0).into());
        let texts = [v4, v6].map(|subject| subject.to_string());
        assert_eq!(texts, ["source 127.0.0.1", "source 2001:db8:0:1::/64"]);
    }
}
