//! What a decision came to, for logs, access logs and `explain`.

use tensorgate_policy::Reason;

/// One request's outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The reason, if refused.
    pub reason: Option<Reason>,
    /// The client's name, once known.
    pub client: Option<String>,
    /// The model's public name, once granted.
    pub model: Option<String>,
    /// The grant's name, once found.
    pub rule: Option<String>,
    /// The whole cause, for the log.
    pub detail: String,
}
