//! The narrow port between a filter and its proxy.
//!
//! All that a filter asks of the proxy it runs in, and nothing else. Every call that can fail says so as data: what a
//! failure means for the request is the filter's decision, never the port's. The port decides nothing.

use tensorgate_identity::VerifyFault;
#[cfg(feature = "jwt-simple")]
use tensorgate_identity::{PureVerifier, Verifier as _};
use tensorgate_policy::Now;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_wire::Answer;

use crate::record::Verdict;

/// The proxy's name of the way to the rate limit service.
pub const RATE_LIMIT_CLUSTER: &str = "tensorgate-limits";

/// A header field, name and value as bytes: neither is known to be text.
pub type Field = (Vec<u8>, Vec<u8>);

/// A host call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("host call {call} failed with status {status}")]
pub struct HostFault {
    /// The call's name.
    pub call: &'static str,
    /// The proxy's status code.
    pub status: u32,
}

/// Whether the proxy goes on with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Pass on what came (and what was held before it).
    Continue,
    /// Hold what came: headers are kept back, body bytes are buffered.
    Pause,
}

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Ordinary: a refusal that the caller brought about.
    Info,
    /// Worth a look: a weak policy, a refusal that the caller did not bring about.
    Warn,
    /// The filter cannot do its work.
    Error,
}

/// A value of the shared store and the token with which it may be swapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The bytes.
    pub value: Vec<u8>,
    /// Changes at every write.
    pub token: u32,
}

/// Bytes that all workers of one proxy process share, by key.
pub trait SharedStore {
    /// Reads a value; `None` if the key was never written.
    fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault>;

    /// Writes if nobody else has since `token` was read. `false`: somebody has.
    fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault>;

    /// Writes without looking; the only call that can make a key.
    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault>;
}

/// A question to a server elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The proxy's name of the way there.
    pub cluster: &'a str,
    /// The request's fields, pseudo-headers first.
    pub headers: &'a [(&'a str, &'a str)],
    /// How long it may take, milliseconds.
    pub timeout_ms: u64,
}

/// Its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Header fields, `:status` among them.
    pub headers: Vec<Field>,
    /// The body, or more of it than anybody reads.
    pub body: Vec<u8>,
}

/// What fetching an issuer's keys came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched {
    /// Its keys, at this wall-clock time, Unix seconds.
    Good(u64),
    /// Nothing.
    Failed,
}

impl Fetched {
    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good(_) => "fetched",
            Self::Failed => "failed",
        }
    }
}

/// What a question to the rate limit service came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It answered.
    Answered,
    /// It did not, or with what nobody can believe.
    Failed,
    /// It answered that it knows no such limit.
    Unknown,
    /// Nobody asked: it does not answer.
    Skipped,
    /// It was told what was used of a reservation.
    Settling,
    /// It was not: all of the reservation stays spent.
    Unsettled,
}

impl Asked {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Answered,
        Self::Failed,
        Self::Unknown,
        Self::Skipped,
        Self::Settling,
        Self::Unsettled,
    ];

    /// Its counter's name, in the form that the rendered `stats_tags` take apart.
    pub fn metric(self) -> String {
        let outcome = match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
            Self::Settling => "settling",
            Self::Unsettled => "unsettled",
        };
        format!("tensorgate_rate_limit_service;outcome={outcome};")
    }
}

/// The proxy outside of any request.
pub trait Outside: SharedStore {
    /// Both clocks, read together.
    fn clocks(&mut self) -> Result<Now, HostFault>;

    /// Asks a server; the token of its answer, of which there will be one, if only that none came.
    fn ask(&mut self, call: &Call<'_>) -> Result<u32, HostFault>;

    /// Writes a log line. A line that cannot be written is lost.
    fn tell(&mut self, level: Level, line: &str);

    /// Counts what fetching an issuer's keys came to.
    fn count_fetch(&mut self, issuer: &str, fetched: Fetched);
}

/// One request's view of its proxy.
pub trait Proxy: SharedStore {
    /// Every request header field, pseudo-headers included, in order.
    fn request_headers(&mut self) -> Result<Vec<Field>, HostFault>;

    /// Puts these fields, and only these, in place of the request's.
    fn replace_request_headers(&mut self, fields: &[(&str, &str)]) -> Result<(), HostFault>;

    /// Puts one field in the place of all of its name.
    fn set_request_header(&mut self, name: &str, value: &str) -> Result<(), HostFault>;

    /// Takes every field of a name away.
    fn remove_request_header(&mut self, name: &str) -> Result<(), HostFault>;

    /// Takes every request trailer field away.
    fn clear_request_trailers(&mut self) -> Result<(), HostFault>;

    /// Takes an answer's trailer field away, and says what it was.
    fn take_response_trailer(&mut self, name: &str) -> Result<Option<String>, HostFault>;

    /// The body that is held, from its byte `start` on, at most `max_bytes` of it.
    fn request_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault>;

    /// Puts bytes in front of the body that is held.
    fn prepend_request_body(&mut self, data: &[u8]) -> Result<(), HostFault>;

    /// Puts bytes in place of all of the body that is held.
    fn replace_request_body(&mut self, data: &[u8]) -> Result<(), HostFault>;

    /// Answers the request in the upstream's place. Called at most once a request.
    fn respond(&mut self, answer: &Answer) -> Result<(), HostFault>;

    /// Has a request that is held go on, with all that is held of it, out of a callback that is not its own. Nothing is asked of its fields
    /// after that.
    fn resume(&mut self) -> Result<(), HostFault>;

    /// Has the work that no request does be done soon, not when its time comes.
    fn tick_soon(&mut self);

    /// Both clocks, read together.
    fn now(&mut self) -> Result<Now, HostFault>;

    /// The caller's address and port as text: the peer's, or what the proxies in front that the policy trusts say of it.
    fn source_address(&mut self) -> Option<String>;

    /// Whether a signature is a key's, as [`tensorgate_identity::Verifier::verify`] says it: by the proxy's own library if it has one that is
    /// faster, else in Rust; without either nothing is known of any signature.
    fn verify(
        &mut self,
        key: &KeyMaterial,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<bool, VerifyFault> {
        check_signature(key, signed, signature)
    }

    /// Writes a log line. A line that cannot be written is lost: no request fails for it.
    fn log(&mut self, level: Level, line: &str);

    /// Counts an outcome.
    fn count(&mut self, verdict: Verdict);

    /// Asks the rate limit service; the token of its answer, of which there will be one, if only that none came in time.
    fn ask_limits(&mut self, question: &[u8], timeout_ms: u64) -> Result<u32, HostFault>;

    /// Counts what a question to it came to.
    fn count_asked(&mut self, asked: Asked);

    /// Counts a denial that a grant's mode let pass.
    fn count_shadow(&mut self, reason: &str);

    /// Reads a property of the request by its path; `None` if there is none.
    fn property(&mut self, path: &[&str]) -> Result<Option<Vec<u8>>, HostFault>;

    /// Sets a property of the request, for the proxy's access log and for filters behind this one. The proxy refuses it where the
    /// property was declared to be set once and is set.
    fn set_property(&mut self, name: &str, value: &str) -> Result<(), HostFault>;

    /// `VM.NUMBER`: a name that no other VM has, 16 hex digits, and this VM's next number, from 1. `None` for a VM without a name.
    fn next_entry(&mut self) -> Option<String>;
}

/// Checks a signature without the proxy's help.
///
/// # Errors
/// There is no verifier, or it could not do its work.
pub(crate) fn check_signature(
    key: &KeyMaterial,
    signed: &[u8],
    signature: &[u8],
) -> Result<bool, VerifyFault> {
    #[cfg(feature = "jwt-simple")]
    {
        PureVerifier.verify(key, signed, signature)
    }
    #[cfg(not(feature = "jwt-simple"))]
    {
        let _ = (key, signed, signature);
        Err(VerifyFault("there is no verifier"))
    }
}
