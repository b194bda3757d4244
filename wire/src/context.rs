//! The signed context: the caller's identity, sent by the filter to the sandbox host in a header.
//!
//! `v10;<release>;<fields>.<mac>`, the last two parts base64url without padding. Fields are
//! length-prefixed in a fixed order, so encodings are unique. The MAC is HMAC-SHA256 over
//! everything before its dot, including format and release, which every release can read
//! ([`Release`]). The context contains no verdict. It says what the filters do with the request,
//! the remaining quota of limits on requests, and when the caller's credential expires. The host
//! does what the filters leave.

mod key;
mod quotas;
mod release;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::policy::RemainingQuota;
use tensorgate_policy::request::{CallerDigest, CallerDigests, HolderDigest, Operations, Proofs};

use crate::limits::{MAX_CLAIM_FIELDS, MAX_CONTEXT_BYTES};
use crate::request_id::is_uuid;
pub use key::{Key, KeyFault};
use release::OtherFormat;
pub use release::Release;

/// Name of the header field.
pub const HEADER: &str = "x-tensorgate-context";

/// Response trailer with the release of a host that rejects a request because it does not
/// understand the filter ([`Release`]). The filter removes it.
pub const RELEASE_TRAILER: &str = "x-tensorgate-release";

/// Tolerated clock difference, in seconds: filter and host may run on different machines with NTP.
pub const CLOCK_SKEW_S: u64 = 5;

/// Usual size of the fields, for preallocation.
const USUAL_FIELD_BYTES: usize = 256;

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

/// Why a context is rejected; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ContextFault {
    #[error("context is not in the form that a gate writes")]
    Form,
    #[error("context signature does not verify")]
    Signature,
    #[error("context was signed by a gateway of another release")]
    Release,
    #[error("context was issued for another method or path")]
    Request,
    #[error("context is too old or from the future")]
    Age,
}

impl Context {
    /// Encodes and signs the header's value.
    pub fn sign(&self, key: &Key) -> String {
        let mut fields = Vec::with_capacity(USUAL_FIELD_BYTES);
        fields.extend_from_slice(&self.issued_unix_s.to_be_bytes());
        fields.push(u8::from(self.until_unix_s.is_some()));
        fields.extend_from_slice(&self.until_unix_s.unwrap_or_default().to_be_bytes());
        for named in [&self.client, &self.credential] {
            fields.push(u8::from(named.is_some()));
        }
        fields.push(work_bits(&self.work) | self.proofs.to_bits() << WORK_BITS);
        fields.push(self.withheld.to_bits());
        fields.extend_from_slice(&self.work.max_body_bytes.to_be_bytes());
        for field in [
            self.client.as_deref().unwrap_or_default(),
            self.credential.as_deref().unwrap_or_default(),
            &self.request_id,
            &self.method,
            &self.path,
            &self.generation,
        ] {
            put_text(&mut fields, field);
        }
        quotas::write(&self.quotas, &mut fields);
        // A larger number would exceed the header's limit too.
        fields.push(u8::try_from(self.claims.len()).unwrap_or(u8::MAX));
        for (name, value) in &self.claims {
            put_text(&mut fields, name);
            put_text(&mut fields, value);
        }
        for digest in [self.caller.user, self.caller.source] {
            fields.push(match digest {
                CallerDigest::Unknown => UNKNOWN,
                CallerDigest::Known(_) => KNOWN,
                CallerDigest::NotLimited => NOT_LIMITED,
            });
            if let Some(digest) = digest.known() {
                fields.extend_from_slice(&digest.to_bits().to_be_bytes());
            }
        }
        let mut value = String::with_capacity(USUAL_FIELD_BYTES.saturating_mul(2));
        value.push_str(release::own_prefix());
        URL_SAFE_NO_PAD.encode_string(fields, &mut value);
        let mac = key.mac(&value).finalize().into_bytes();
        value.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut value);
        value
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
        let (signed, mac) = value.rsplit_once('.').ok_or(ContextFault::Form)?;
        let fields = Release::own_fields(signed).ok_or(ContextFault::Form)?;
        let mac = URL_SAFE_NO_PAD
            .decode(mac)
            .map_err(|_| ContextFault::Form)?;
        key.mac(signed)
            .verify_slice(&mac)
            .map_err(|_| ContextFault::Signature)?;

        let fields = fields.map_err(|OtherFormat| ContextFault::Release)?;
        let fields = URL_SAFE_NO_PAD
            .decode(fields)
            .map_err(|_| ContextFault::Form)?;
        let context = Self::read(&fields).ok_or(ContextFault::Form)?;
        if context.method != method || context.path != path {
            return Err(ContextFault::Request);
        }
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
        let fields = URL_SAFE_NO_PAD.decode(fields).ok()?;
        let request_id = Self::read(&fields)?.request_id;
        is_uuid(&request_id).then_some(request_id)
    }

    fn read(mut rest: &[u8]) -> Option<Self> {
        let issued_unix_s = u64::from_be_bytes(take_chunk(&mut rest)?);
        let [expires] = take_chunk(&mut rest)?;
        let until_unix_s = match (expires, u64::from_be_bytes(take_chunk(&mut rest)?)) {
            (0, 0) => None,
            (1, until_unix_s) => Some(until_unix_s),
            _ => return None,
        };
        let named: [u8; 2] = take_chunk(&mut rest)?;
        let [flags] = take_chunk(&mut rest)?;
        let proofs = Proofs::from_bits(flags >> WORK_BITS)?;
        let [withheld] = take_chunk(&mut rest)?;
        let withheld = Operations::from_bits(withheld)?;
        let work = work_of(flags, u64::from_be_bytes(take_chunk(&mut rest)?));
        let mut optional = |named: u8| {
            let text = take_text(&mut rest)?;
            match named {
                0 if text.is_empty() => Some(None),
                1 => Some(Some(text)),
                _ => None,
            }
        };
        let [client, credential] = named;
        let (client, credential) = (optional(client)?, optional(credential)?);
        let context = Self {
            client,
            credential,
            proofs,
            withheld,
            request_id: take_text(&mut rest)?,
            method: take_text(&mut rest)?,
            path: take_text(&mut rest)?,
            generation: take_text(&mut rest)?,
            issued_unix_s,
            until_unix_s,
            work,
            quotas: quotas::read(&mut rest)?,
            claims: read_claims(&mut rest)?,
            caller: CallerDigests {
                user: read_digest(&mut rest)?,
                source: read_digest(&mut rest)?,
            },
        };
        rest.is_empty().then_some(context)
    }
}

/// Number of bits for the filters' work, below those of the proofs.
const WORK_BITS: u8 = 4;
const COUNTS: u8 = 1;
const CHECKS: u8 = 2;
const BUFFERED: u8 = 4;
const LEAVES_CHARGE: u8 = 8;

fn work_bits(work: &FilterWork) -> u8 {
    let bits = [
        (work.counts, COUNTS),
        (work.checks, CHECKS),
        (work.buffered, BUFFERED),
        (work.leaves_charge, LEAVES_CHARGE),
    ];
    let set = bits.into_iter().filter(|(is_set, _)| *is_set);
    set.fold(0, |flags, (_, bit)| flags | bit)
}

const fn work_of(flags: u8, max_body_bytes: u64) -> FilterWork {
    FilterWork {
        counts: flags & COUNTS != 0,
        checks: flags & CHECKS != 0,
        buffered: flags & BUFFERED != 0,
        leaves_charge: flags & LEAVES_CHARGE != 0,
        max_body_bytes,
    }
}

fn read_claims(rest: &mut &[u8]) -> Option<Vec<(String, String)>> {
    let [count] = take_chunk(rest)?;
    if usize::from(count) > MAX_CLAIM_FIELDS {
        return None;
    }
    (0..count)
        .map(|_| Some((take_text(rest)?, take_text(rest)?)))
        .collect()
}

const UNKNOWN: u8 = 0;
const KNOWN: u8 = 1;
const NOT_LIMITED: u8 = 2;

fn read_digest(rest: &mut &[u8]) -> Option<CallerDigest> {
    let [kind] = take_chunk(rest)?;
    Some(match kind {
        UNKNOWN => CallerDigest::Unknown,
        KNOWN => CallerDigest::Known(HolderDigest::new(u64::from_be_bytes(take_chunk(rest)?))),
        NOT_LIMITED => CallerDigest::NotLimited,
        _ => return None,
    })
}

fn put_text(fields: &mut Vec<u8>, text: &str) {
    // A longer text would exceed the header's limit too, which `verify` checks.
    fields.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    fields.extend_from_slice(text.as_bytes());
}

fn take_chunk<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (chunk, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*chunk)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(u32::from_be_bytes(take_chunk(rest)?)).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests;
