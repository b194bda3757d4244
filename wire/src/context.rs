//! The one header of our own: who is calling, signed by the gate for the sandbox host.

/// Its name.
pub const HEADER: &str = "x-tensorgate-context";

/// What crosses from the gate to the host. Identity does; verdicts do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The client's name; `None` only for the public server-level questions.
    pub client: Option<String>,
    /// Our request id.
    pub request_id: String,
    /// The request's method.
    pub method: String,
    /// The request's path with its query.
    pub path: String,
    /// The policy generation that judged it.
    pub generation: String,
    /// When, Unix seconds.
    pub issued_unix_s: u64,
}

/// The HMAC-SHA256 key that gate and host share, 32 bytes. Never printed.
#[derive(Clone)]
pub struct Key([u8; 32]);

/// Why a context is not accepted; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ContextFault {
    #[error("context is not in the form that a gate writes")]
    Form,
    #[error("context signature does not verify")]
    Signature,
    #[error("context was issued for another method or path")]
    Request,
    #[error("context is too old or from the future")]
    Age,
}

impl Key {
    /// Reads 64 hex digits, surrounding white space apart.
    pub fn from_hex(text: &str) -> Option<Self> {
        let _ = text;
        unimplemented!()
    }
}

impl Context {
    /// The header's value.
    pub fn sign(&self, key: &Key) -> String {
        let _ = key;
        unimplemented!()
    }

    /// Reads a header's value; the signature is compared in constant time before anything else is looked at.
    /// `max_age_s` bounds the age; `CLOCK_SKEW_S` how far it may lie in the future.
    pub fn verify(value: &str, key: &Key, method: &str, path: &str, now_unix_s: u64, max_age_s: u64) -> Result<Self, ContextFault> {
        let _ = (value, key, method, path, now_unix_s, max_age_s);
        unimplemented!()
    }
}
