//! The narrow port between a filter and its proxy.
//!
//! The port contains every call that a filter makes to its proxy. A failing call returns a value:
//! the filter decides what the failure means for the request. The port makes no decisions.

mod fields;
mod header_map;
mod listener_bounds;
pub mod signature;
mod verdict;

use tensorgate_identity::{ConfirmationFault, Verifier};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::limits::StateBytes;
use tensorgate_policy::{Denial, Now, Reason};
use tensorgate_wire::Answer;
use tensorgate_wire::context::Key;

pub use fields::Fields;
pub use header_map::{deserialize, serialize};
pub use listener_bounds::ListenerBounds;
pub use verdict::Verdict;

/// Name of the proxy's cluster for the rate-limit service.
pub const RATE_LIMIT_CLUSTER: &str = "tensorgate-limits";

/// A header field. Name and value are bytes, because neither is known to be text.
pub type Field = (Vec<u8>, Vec<u8>);

/// A host call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("host call {call} failed with status {status}")]
pub struct HostFault {
    /// Name of the call.
    pub call: &'static str,
    /// The proxy's status code.
    pub status: u32,
}

/// Whether the proxy continues with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Forward the new data and any data held before.
    Continue,
    /// Hold the new data: headers are held, body bytes are buffered.
    Pause,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Normal: a rejection that the caller caused.
    Info,
    /// Needs attention: a weak policy, or a rejection that the caller did not cause.
    Warn,
    /// The filter cannot do its work.
    Error,
}

/// A value of the shared store and its compare-and-swap token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The value.
    pub value: Vec<u8>,
    /// Changes with every write.
    pub token: u32,
}

/// Maximum number of swap attempts. An attempt fails only if another worker's write succeeded in
/// between.
pub(crate) const MAX_SWAP_TRIES: usize = 64;

/// Why a value was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeFault {
    /// The store did not answer.
    Host(HostFault),
    /// The key was never written.
    Missing,
    /// Another worker's write won every attempt.
    Contended,
}

impl From<HostFault> for ChangeFault {
    fn from(fault: HostFault) -> Self {
        Self::Host(fault)
    }
}

/// Shared data of all workers of one proxy process, by key.
pub trait SharedStore {
    /// Reads a value; `None` if the key was never written.
    fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault>;

    /// Writes if no other worker has written since `token` was read. Returns `false` otherwise.
    fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault>;

    /// Writes unconditionally. This is the only call that can create a key.
    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault>;

    /// Changes a value: `change` gets the current one and returns the new one, if any. It is called
    /// again if another worker has written meanwhile. It must not use the store, which may be
    /// locked.
    fn change(
        &mut self,
        key: &str,
        change: &mut dyn FnMut(&[u8]) -> Option<StateBytes>,
    ) -> Result<(), ChangeFault> {
        for _ in 0..MAX_SWAP_TRIES {
            let slot = self.get(key)?.ok_or(ChangeFault::Missing)?;
            let Some(new) = change(&slot.value) else {
                return Ok(());
            };
            if self.swap(key, &new, slot.token)? {
                return Ok(());
            }
        }
        Err(ChangeFault::Contended)
    }
}

/// A port whose shared store is another value.
pub trait HasStore {
    /// The store.
    fn store(&mut self) -> impl SharedStore;
}

impl<T: HasStore> SharedStore for T {
    fn get(&mut self, key: &str) -> Result<Option<Shared>, HostFault> {
        self.store().get(key)
    }

    fn swap(&mut self, key: &str, value: &[u8], token: u32) -> Result<bool, HostFault> {
        self.store().swap(key, value, token)
    }

    fn put(&mut self, key: &str, value: &[u8]) -> Result<(), HostFault> {
        self.store().put(key, value)
    }

    fn change(
        &mut self,
        key: &str,
        change: &mut dyn FnMut(&[u8]) -> Option<StateBytes>,
    ) -> Result<(), ChangeFault> {
        self.store().change(key, change)
    }
}

/// An HTTP request to another server.
#[derive(Clone, Copy, Debug)]
pub struct HttpCall<'a> {
    /// Name of the proxy's cluster for that server.
    pub cluster: &'a str,
    /// Header fields of the request, pseudo-headers first.
    pub headers: &'a [(&'a str, &'a str)],
    /// Timeout, in milliseconds.
    pub timeout_ms: u64,
}

/// Response to an [`HttpCall`].
#[derive(Clone, Debug, Default)]
pub struct HttpResponse {
    /// Header fields, `:status` among them.
    pub headers: Fields,
    /// The body, possibly truncated above the readers' limits.
    pub body: Vec<u8>,
}

/// Outcome of a fetch of an issuer's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchOutcome {
    /// Keys were fetched at this time, in Unix seconds.
    Good(u64),
    /// No keys were fetched.
    Failed,
}

impl FetchOutcome {
    /// Name of an issuer's counter.
    pub fn metric(self, issuer: &str) -> String {
        let outcome = match self {
            Self::Good(_) => "fetched",
            Self::Failed => "failed",
        };
        format!("tensorgate_key_sets;issuer={issuer};outcome={outcome};")
    }

    /// Name of the gauge with the time of an issuer's last good fetch, in Unix seconds.
    pub fn time_metric(issuer: &str) -> String {
        format!("tensorgate_key_set_fetched_unix_s;issuer={issuer};")
    }

    /// Name of the gauge with the number of an issuer's keys that cannot be used.
    pub fn unused_keys_metric(issuer: &str) -> String {
        format!("tensorgate_key_set_unused_keys;issuer={issuer};")
    }
}

/// Outcome of a call to the rate-limit service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitCallOutcome {
    /// The service answered.
    Answered,
    /// The call failed, or the answer is invalid.
    Failed,
    /// The service does not know the limit.
    Unknown,
    /// No call was made: the circuit is open.
    Skipped,
}

impl LimitCallOutcome {
    /// All outcomes.
    pub const ALL: [Self; 4] = [Self::Answered, Self::Failed, Self::Unknown, Self::Skipped];

    /// Name of the counter, in the form that the rendered `stats_tags` parse.
    pub fn metric(self) -> String {
        let outcome = match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
        };
        format!("tensorgate_rate_limit_service;outcome={outcome};")
    }
}

/// Calls that are independent of any request.
pub trait Outside: SharedStore {
    /// Reads both clocks together.
    fn clocks(&mut self) -> Result<Now, HostFault>;

    /// Sends a request to a server. Returns the token of its response; every call gets one, even if
    /// the call fails.
    fn http_call(&mut self, call: &HttpCall<'_>) -> Result<u32, HostFault>;

    /// Writes a log line. A line that cannot be written is lost.
    fn log(&mut self, level: Level, line: &str);

    /// Counts the outcome of a fetch of an issuer's keys.
    fn count_fetch(&mut self, issuer: &str, fetched: FetchOutcome);

    /// Records how many keys of an issuer's last set cannot be used.
    fn record_unused_keys(&mut self, issuer: &str, keys: usize);
}

/// Calls on behalf of one request. Signatures are verified by the fastest means that there is.
pub trait Proxy: SharedStore + Verifier {
    /// All request header fields in order, including pseudo-headers.
    fn request_headers(&mut self) -> Result<Fields, HostFault>;

    /// Replaces all request header fields.
    fn replace_request_headers(&mut self, fields: &[(&str, &str)]) -> Result<(), HostFault>;

    /// Replaces all fields of one name with one field.
    fn set_request_header(&mut self, name: &str, value: &str) -> Result<(), HostFault>;

    /// Removes all fields of one name.
    fn remove_request_header(&mut self, name: &str) -> Result<(), HostFault>;

    /// Replaces the request's trailers.
    fn set_request_trailers(&mut self, fields: &[(&str, &str)]) -> Result<(), HostFault>;

    /// Removes a trailer field from the response and returns its value.
    fn take_response_trailer(&mut self, name: &str) -> Result<Option<String>, HostFault>;

    /// Reads at most `max_bytes` of the buffered body from offset `start`.
    fn request_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault>;

    /// Passes the first `bytes` of the buffered body to `visit`, in the pieces in which the proxy
    /// has them and without a copy. Returns whether the proxy does; otherwise nothing was passed.
    fn visit_request_body(&mut self, bytes: usize, visit: &mut dyn FnMut(&[u8])) -> bool {
        let _ = (bytes, visit);
        false
    }

    /// Reads at most `max_bytes` of a response's current body chunk from offset `start`.
    fn response_body(&mut self, start: usize, max_bytes: usize) -> Result<Vec<u8>, HostFault>;

    /// Replaces the buffered body.
    fn replace_request_body(&mut self, data: &[u8]) -> Result<(), HostFault>;

    /// Sends a local response. Called at most once per request.
    fn respond(&mut self, answer: &Answer) -> Result<(), HostFault>;

    /// Resumes a held request with its buffered data, from a callback that is not its own. The
    /// request's fields are not read after that.
    fn resume(&mut self) -> Result<(), HostFault>;

    /// Requests an early tick for background work.
    fn tick_soon(&mut self);

    /// Reads both clocks together.
    fn now(&mut self) -> Result<Now, HostFault>;

    /// Address and port of the caller as text: the peer's, or the address that trusted proxies
    /// report.
    fn source_address(&mut self) -> Option<String>;

    /// Writes a log line. A line that cannot be written is lost; no request fails because of it.
    fn log(&mut self, level: Level, line: &str);

    /// Counts an outcome.
    fn count(&mut self, verdict: Verdict);

    /// Counts a rejection as overloaded by its cause, in addition to its outcome.
    fn count_overload(&mut self, cause: OverloadCause);

    /// Calls the rate-limit service. Returns the token of its answer; every call gets one, even
    /// after a timeout.
    fn call_rate_limit_service(
        &mut self,
        question: &[u8],
        timeout_ms: u64,
    ) -> Result<u32, HostFault>;

    /// Counts the outcome of such a call.
    fn count_limit_call(&mut self, asked: LimitCallOutcome);

    /// Counts a valid token whose sender has not proven that it is its own.
    fn count_unconfirmed(&mut self, fault: ConfirmationFault);

    /// Counts a denial that the grant's shadow mode let pass.
    fn count_shadow(&mut self, reason: &str);

    /// Reads a property of the request by its path; `None` if there is none.
    fn property(&mut self, path: &[&str]) -> Result<Option<Vec<u8>>, HostFault>;

    /// Sets a property of the request for the access log and for the following filters. The proxy
    /// rejects a second write to a property that was declared read-only.
    fn set_property(&mut self, name: &str, value: &str) -> Result<(), HostFault>;

    /// Creates the id of a new request; see [`crate::report::request_id`].
    fn new_request_id(&mut self, key: Option<&Key>) -> String;

    /// Next sequence number as `VM.NUMBER`: the VM's unique id in 16 hex digits, and a number that
    /// counts from 1. `None` for a VM without an id.
    fn next_sequence_number(&mut self) -> Option<String>;
}

/// Rejection of a request because a host call failed.
pub(crate) fn cannot_decide(fault: HostFault) -> Denial {
    Denial::new(Reason::Overloaded, fault.to_string()).overloaded_by(OverloadCause::HostCall)
}
