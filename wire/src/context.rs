//! The signed context: the caller's identity, sent by the filter to the sandbox host in a header.
//!
//! `v11;<release>;<fields>.<mac>`, the last two parts base64url without padding. Fields are in a
//! fixed order (`fields`), and no text and no number has two encodings. The MAC is HMAC-SHA256 over
//! everything before its dot, including format and release, which every release can read
//! ([`Release`]). The context contains no verdict. It says what the filters do with the request,
//! the remaining quota of limits on requests, and when the caller's credential expires. The host
//! does what the filters leave.
//!
//! The request's method and path are in it as a digest that only holders of the key can compute.

mod fault;
mod fields;
mod key;
mod release;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::policy::RemainingQuota;
use tensorgate_policy::request::{CallerDigests, Operations, Proofs};

use crate::headers::CONTEXT;
use crate::limits::MAX_CONTEXT_BYTES;
use crate::request_id::is_uuid;
pub use fault::ContextFault;
pub use key::{Key, KeyFault};
use release::OtherFormat;
pub use release::Release;

/// Name of the header field.
pub const HEADER: &str = CONTEXT;

/// Response trailer with the release of a host that rejects a request because it does not
/// understand the filter ([`Release`]). The filter removes it.
pub const RELEASE_TRAILER: &str = "x-tensorgate-release";

/// Tolerated clock difference, in seconds: filter and host may run on different machines with NTP.
pub const CLOCK_SKEW_S: u64 = 5;

/// Usual size of the fields, for preallocation.
const USUAL_FIELD_BYTES: usize = 96;

/// Size of the digest of method and path.
const REQUEST_DIGEST_BYTES: usize = 8;

/// Contents of the context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Name of the client; `None` for public server-level requests only.
    pub client: Option<String>,
    /// Log name of the credential, never the credential itself.
    pub credential: Option<String>,
    /// Kinds of proof that the caller provided.
    pub proofs: Proofs,
    /// Operations whose scope the caller's token lacks. Some bodies decide which operation they ask
    /// for, and no filter may have read them.
    pub withheld: Operations,
    /// The gate's request id.
    pub request_id: String,
    /// The request's method.
    pub method: String,
    /// The request's path with its query.
    pub path: String,
    /// The policy version.
    pub generation: String,
    /// Time of signing, in Unix seconds.
    pub issued_unix_s: u64,
    /// When the credential expires, in Unix seconds; `None`: never. A stream takes no message then.
    pub until_unix_s: Option<u64>,
    /// What the filters do with the request; the host does the rest.
    pub work: FilterWork,
    /// Remaining quota of the grant's limits on requests.
    pub quotas: Vec<RemainingQuota>,
    /// Claims to forward as header fields: lower-case names and values.
    pub claims: Vec<(String, String)>,
    /// End user and source.
    pub caller: CallerDigests,
}

/// The same, borrowed, to be signed.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "as in `Context`")]
pub struct Unsigned<'a, C> {
    pub client: Option<&'a str>,
    pub credential: Option<&'a str>,
    pub proofs: Proofs,
    pub withheld: Operations,
    pub request_id: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub generation: &'a str,
    pub issued_unix_s: u64,
    pub until_unix_s: Option<u64>,
    pub work: FilterWork,
    pub quotas: &'a [RemainingQuota],
    /// Names and values.
    pub claims: C,
    pub caller: CallerDigests,
}

impl<'a, C: ExactSizeIterator<Item = (&'a str, &'a str)>> Unsigned<'a, C> {
    /// Encodes and signs the header's value.
    pub fn sign(self, key: &Key) -> String {
        let request = request_digest(key, self.method, self.path);
        let mut fields = Vec::with_capacity(USUAL_FIELD_BYTES);
        fields::write(self, request, &mut fields);
        let mut value = String::with_capacity(USUAL_FIELD_BYTES.saturating_mul(2));
        value.push_str(release::own_prefix());
        URL_SAFE_NO_PAD.encode_string(fields, &mut value);
        key.sign(&mut value);
        value
    }
}

impl Context {
    /// Encodes and signs the header's value.
    pub fn sign(&self, key: &Key) -> String {
        let claims = self.claims.iter();
        let unsigned = Unsigned {
            client: self.client.as_deref(),
            credential: self.credential.as_deref(),
            proofs: self.proofs,
            withheld: self.withheld,
            request_id: &self.request_id,
            method: &self.method,
            path: &self.path,
            generation: &self.generation,
            issued_unix_s: self.issued_unix_s,
            until_unix_s: self.until_unix_s,
            work: self.work,
            quotas: &self.quotas,
            claims: claims.map(|(name, value)| (name.as_str(), value.as_str())),
            caller: self.caller,
        };
        unsigned.sign(key)
    }

    /// Verifies a header's value. The signature is compared in constant time first. `max_age_s`
    /// limits the age, [`CLOCK_SKEW_S`] the time in the future.
    ///
    /// # Errors
    /// The first failure, in the order form, signature, release, request, age. With
    /// [`ContextFault::Release`] the signature is valid, so [`Release::of_signed`] names the
    /// release.
    pub fn verify(
        value: &str,
        key: &Key,
        method: &str,
        path: &str,
        now_unix_s: u64,
        max_age_s: u64,
    ) -> Result<Self, ContextFault> {
        if value.len() > MAX_CONTEXT_BYTES {
            return Err(ContextFault::Form);
        }
        let (unverified, _) = value.rsplit_once('.').ok_or(ContextFault::Form)?;
        let own = Release::own_fields(unverified).ok_or(ContextFault::Form)?;
        key.signed(value)?;
        let fields = own.map_err(|OtherFormat| ContextFault::Release)?;
        let (mut context, request) = Self::decode(fields).ok_or(ContextFault::Form)?;
        if request != request_digest(key, method, path) {
            return Err(ContextFault::Request);
        }
        (context.method, context.path) = (method.to_owned(), path.to_owned());
        let latest = now_unix_s.saturating_add(CLOCK_SKEW_S);
        if context.issued_unix_s > latest
            || now_unix_s.saturating_sub(context.issued_unix_s) > max_age_s
        {
            return Err(ContextFault::Age);
        }
        Ok(context)
    }

    /// The request id that a header's value names. Its signature is not verified, so it proves
    /// nothing and is only for logs. `None` if the value or the id is not in the form that a gate
    /// writes.
    pub fn claimed_request_id(value: &str) -> Option<String> {
        if value.len() > MAX_CONTEXT_BYTES {
            return None;
        }
        let (signed, _) = value.rsplit_once('.')?;
        let fields = Release::own_fields(signed)?.ok()?;
        let (context, _) = Self::decode(fields)?;
        is_uuid(&context.request_id).then_some(context.request_id)
    }

    /// Decodes a context without its method and path, and their digest.
    fn decode(fields: &str) -> Option<(Self, [u8; REQUEST_DIGEST_BYTES])> {
        let fields = URL_SAFE_NO_PAD.decode(fields).ok()?;
        fields::read(&fields)
    }
}

/// A digest of method and path that only holders of the key can compute.
fn request_digest(key: &Key, method: &str, path: &str) -> [u8; REQUEST_DIGEST_BYTES] {
    let [a, b, c, d, e, f, g, h, ..] = key.name(&[b"request", method.as_bytes(), path.as_bytes()]);
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests;
