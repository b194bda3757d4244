//! How a request left the filter.

use tensorgate_policy::Reason;

/// How a request left the filter. The set of values is fixed, so metrics contain nothing that a
/// client chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Forwarded.
    Allow,
    /// Rejected.
    Deny(Reason),
    /// Ended before a verdict: the client disconnected or the proxy gave up.
    Aborted,
}

impl Verdict {
    /// All verdicts.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Allow, Self::Aborted]
            .into_iter()
            .chain(Reason::ALL.into_iter().map(Self::Deny))
    }

    /// `allow`, `deny` or `aborted`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny(_) => "deny",
            Self::Aborted => "aborted",
        }
    }

    /// `ok`, the reason of the rejection, or `incomplete`.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Allow => "ok",
            Self::Deny(reason) => reason.name(),
            Self::Aborted => "incomplete",
        }
    }

    /// Name of the counter with its labels, in the form that the rendered `stats_tags` parse.
    pub fn metric(self) -> String {
        format!(
            "tensorgate_requests;verdict={};reason={};",
            self.name(),
            self.reason()
        )
    }
}
