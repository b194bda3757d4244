//! What a rule reports: who, what, how far from the usual, since when, and what to do.

mod command;

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use serde_json::Number;
use tensorgate_audit::record::{AlertRecord, MAX_DETAIL_BYTES, MAX_ID_BYTES, MAX_NAME_BYTES};
use tensorgate_base::rfc3339::rfc3339;
use tensorgate_base::source_host::IPV6_BITS;
use tensorgate_policy::values::safe_text::printable_prefix;
use tensorgate_policy::values::{AlertSeverity, WatchRule};

use crate::observation::Observation;
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
    /// A part of the gate, such as `backend http://gpu:8001`.
    Part(String),
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
                write!(f, "source {address}/{}", IPV6_BITS)
            }
            Self::Source(address) => write!(f, "source {address}"),
            Self::Others => f.write_str("a group that is watched together"),
            Self::Gateway => f.write_str("the gateway"),
            Self::Part(name) => f.write_str(name),
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
    /// What is counted, such as `requests a minute`. Empty if nothing is.
    pub unit: &'static str,
}

impl Evidence {
    /// Nothing is counted.
    pub(super) const NONE: Self = Self {
        observed: 1.0,
        usual: 0.0,
        unit: "",
    };
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

/// Which message about a cause an alert is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AlertStage {
    /// The alert itself.
    #[default]
    Raised,
    /// Names further alerts of the same cause.
    Joined,
    /// What it reported is over.
    Over,
}

impl AlertStage {
    /// The `state` of its record.
    const fn state(self) -> Option<&'static str> {
        match self {
            Self::Raised => None,
            Self::Joined => Some(AlertRecord::JOINED),
            Self::Over => Some(AlertRecord::OVER),
        }
    }
}

/// What an alert is beside its finding.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertContext {
    /// Which message about its cause it is.
    pub stage: AlertStage,
    /// How severe it is.
    pub severity: AlertSeverity,
    /// The client that it is about.
    pub client: Option<String>,
    /// The model that it is about, or that the request of its client was for.
    pub model: Option<String>,
    /// The source of the request that raised it.
    pub source: Option<IpAddr>,
    /// The ID of that request.
    pub request_id: Option<String>,
    /// What alerts of one cause have in common, in this run of the host.
    pub cause: Option<String>,
    /// The rules and subjects of further alerts of the cause.
    pub joined: Vec<String>,
    /// The number of those that are not named.
    pub joined_beyond: u64,
}

impl Default for AlertContext {
    fn default() -> Self {
        Self {
            stage: AlertStage::Raised,
            severity: AlertSeverity::Warning,
            client: None,
            model: None,
            source: None,
            request_id: None,
            cause: None,
            joined: Vec::new(),
            joined_beyond: 0,
        }
    }
}

impl AlertContext {
    /// The context of an alert that a request raised. A rule on many requests may report one client
    /// when the request of another arrives: only a request of the subject itself tells more.
    pub(super) fn of_request(rule: WatchRule, subject: &Subject, seen: &Observation) -> Self {
        let is_own = match subject {
            Subject::Client(name) => seen.client.as_ref() == Some(name),
            Subject::Model(name) => seen.model.as_ref() == Some(name),
            Subject::Source(address) => seen.source_host() == Some(*address),
            Subject::Others | Subject::Gateway => true,
            Subject::Part(_) => false,
        };
        let names_source = matches!(subject, Subject::Client(_) | Subject::Source(_));
        let own = Some(seen).filter(|_| is_own);
        let mut context = Self {
            severity: rule.severity(),
            source: own.filter(|_| names_source).and_then(|it| it.source),
            request_id: own.and_then(|it| it.request_id.clone()),
            ..Self::default()
        };
        match subject {
            Subject::Client(name) => {
                context.client = Some(name.clone());
                // A rule about models has judged what the client gets from this model.
                let judged = Some(seen).filter(|_| is_own || rule.has_models());
                context.model = judged.and_then(|it| it.model.clone());
            }
            Subject::Model(name) => context.model = Some(name.clone()),
            Subject::Source(_) | Subject::Others | Subject::Gateway | Subject::Part(_) => {}
        }
        context
    }
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
    /// Its severity, the request that raised it, and what it has in common with others.
    pub context: AlertContext,
}

impl Alert {
    /// Its record in the audit log. The reporter adds the gateway.
    pub fn to_record(&self, id: String) -> AlertRecord {
        let Finding {
            subject,
            evidence,
            what,
            advice,
            ..
        } = &self.finding;
        let context = &self.context;
        let name = |text: &String| printable_prefix(text, MAX_NAME_BYTES);
        let rule = WatchRule::from_name(self.rule);
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
            severity: Some(context.severity.name().to_owned()),
            gateway: None,
            client: context.client.as_ref().map(name),
            model: context.model.as_ref().map(name),
            source: context
                .source
                .map(|source| source.to_canonical().to_string()),
            request_id: (context.request_id.as_ref()).map(|id| printable_prefix(id, MAX_ID_BYTES)),
            command: rule
                .filter(|_| context.stage != AlertStage::Over)
                .map(|rule| command::command(rule, subject, context.request_id.as_deref())),
            cause: context.cause.clone(),
            state: context.stage.state().map(str::to_owned),
            joined: context.joined.iter().map(name).collect(),
            joined_beyond: (context.joined_beyond > 0).then_some(context.joined_beyond),
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
        write!(f, "{subject} {what}")?;
        if !unit.is_empty() {
            write!(f, ": {}", amount(*observed, *usual, unit))?;
        }
        write!(f, ", since {since}. {advice}")?;
        let AlertContext {
            joined,
            joined_beyond,
            ..
        } = &self.context;
        if !joined.is_empty() {
            write!(f, " Of the same cause: {}", joined.join(", "))?;
            if *joined_beyond > 0 {
                write!(f, " and {joined_beyond} more")?;
            }
            f.write_str(".")?;
        }
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
