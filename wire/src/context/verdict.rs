//! Verdicts on a body whose head was forwarded before.
//!
//! A proxy that cannot hold headers sends them upstream before the body is evaluated. The context
//! of such a head announces the number of verdicts ([`super::Context::verdicts`]): one per filter
//! that evaluates or charges the body. A verdict carries the remaining quota of limits that were
//! charged after the head. The host does not act before it has verified all of them.
//!
//! `b1.<fields>.<mac>`, both parts base64url without padding. The HMAC-SHA256 covers everything
//! before its dot and the request, which is not transmitted. A verdict is therefore valid for one
//! request and one filter of its chain.
//!
//! A verdict is a request trailer. If the filter can no longer add trailers, because its last
//! callback of the stream is over, the verdict follows the body, with its length in 4 bytes,
//! big-endian.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;

use tensorgate_policy::policy::RemainingQuota;

use super::{Key, put_text, quotas};

/// Request trailer of a verdict; one field per verdict.
pub const TRAILER: &str = "x-tensorgate-verdict";

/// Maximum verdicts on one body: `auth`, `rate-limit` and `tensor-guard`.
pub const MAX_VERDICTS: u8 = 3;

/// Version prefix.
const VERSION: &str = "b1.";
/// Maximum size of a verdict: two quotas of 25 bytes in base64, and the MAC.
const MAX_BYTES: usize = 1024;
/// Size of the length after a verdict.
const LENGTH_BYTES: usize = 4;
/// Maximum bytes that verdicts add after a body.
pub const MAX_BEHIND_BYTES: usize = MAX_VERDICTS as usize * (MAX_BYTES + LENGTH_BYTES);

/// The request of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerdictSubject<'a> {
    /// Name of the client; `None` for public requests.
    pub client: Option<&'a str>,
    /// The gate's request id.
    pub request_id: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// The request's path with its query.
    pub path: &'a str,
    /// The policy version.
    pub generation: &'a str,
}

/// Why the verdicts of a body are rejected; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum VerdictFault {
    #[error("{found} verdicts were sent with the body, the context announces {announced}")]
    Count { found: usize, announced: u8 },
    #[error("verdict is not in the form that a gate writes")]
    Form,
    #[error("verdict's signature does not verify")]
    Signature,
}

impl VerdictSubject<'_> {
    /// Signs the verdict of the filter at position `index`, counted from 0. `quotas`: limits
    /// charged since the head was forwarded.
    pub fn sign(&self, key: &Key, index: u8, quotas: &[RemainingQuota]) -> String {
        let mut fields = Vec::new();
        quotas::write(quotas, &mut fields);
        let mut value = String::from(VERSION);
        URL_SAFE_NO_PAD.encode_string(fields, &mut value);
        let mac = self.mac(key, index, &value).finalize().into_bytes();
        value.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut value);
        value
    }

    /// Verifies the `announced` verdicts of a complete body, from its trailers or, without
    /// trailers, from the end of the body. Returns their joined quotas and the length of the body
    /// without verdicts.
    ///
    /// # Errors
    /// The failure. Signatures are compared in constant time first.
    pub fn read_all(
        &self,
        key: &Key,
        announced: u8,
        trailers: &[&[u8]],
        body: &[u8],
    ) -> Result<(Vec<RemainingQuota>, usize), VerdictFault> {
        let mut behind = Vec::new();
        let mut rest = body;
        if trailers.is_empty() {
            for _ in 0..announced.min(MAX_VERDICTS) {
                let Some((before, verdict)) = split_last(rest) else {
                    break;
                };
                rest = before;
                behind.push(verdict);
            }
            behind.reverse();
        }
        let verdicts = if trailers.is_empty() {
            behind.as_slice()
        } else {
            trailers
        };
        if verdicts.len() != usize::from(announced) || announced > MAX_VERDICTS {
            return Err(VerdictFault::Count {
                found: verdicts.len(),
                announced,
            });
        }
        let mut all = Vec::new();
        for (verdict, index) in verdicts.iter().zip(0..) {
            all.extend(self.verify(key, index, verdict)?);
        }
        Ok((all, rest.len()))
    }

    fn verify(
        &self,
        key: &Key,
        index: u8,
        verdict: &[u8],
    ) -> Result<Vec<RemainingQuota>, VerdictFault> {
        let value = str::from_utf8(verdict).map_err(|_| VerdictFault::Form)?;
        if value.len() > MAX_BYTES {
            return Err(VerdictFault::Form);
        }
        let (signed, mac) = value.rsplit_once('.').ok_or(VerdictFault::Form)?;
        let fields = signed.strip_prefix(VERSION).ok_or(VerdictFault::Form)?;
        let mac = URL_SAFE_NO_PAD
            .decode(mac)
            .map_err(|_| VerdictFault::Form)?;
        self.mac(key, index, signed)
            .verify_slice(&mac)
            .map_err(|_| VerdictFault::Signature)?;
        let fields = URL_SAFE_NO_PAD
            .decode(fields)
            .map_err(|_| VerdictFault::Form)?;
        let mut rest = fields.as_slice();
        let quotas = quotas::read(&mut rest).ok_or(VerdictFault::Form)?;
        rest.is_empty().then_some(quotas).ok_or(VerdictFault::Form)
    }

    fn mac(&self, key: &Key, index: u8, signed: &str) -> hmac::Hmac<sha2::Sha256> {
        let mut mac = key.mac(signed);
        let mut of = vec![b'.', index, u8::from(self.client.is_some())];
        for text in [
            self.client.unwrap_or_default(),
            self.request_id,
            self.method,
            self.path,
            self.generation,
        ] {
            put_text(&mut of, text);
        }
        mac.update(&of);
        mac
    }
}

/// A verdict in its form after a body.
pub fn behind_body(verdict: &str) -> Vec<u8> {
    let length = u32::try_from(verdict.len()).unwrap_or(u32::MAX);
    [verdict.as_bytes(), &length.to_be_bytes()].concat()
}

/// Splits the last verdict from the end of a body.
fn split_last(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (rest, length) = body.split_last_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if length > MAX_BYTES {
        return None;
    }
    rest.split_at_checked(rest.len().checked_sub(length)?)
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]
    use tensorgate_policy::policy::Wait;

    use super::*;

    const REQUEST: VerdictSubject<'_> = VerdictSubject {
        client: Some("scorer"),
        request_id: "8f1a2b3c-0000-4000-8000-000000000001",
        method: "POST",
        path: "/v2/models/m/infer",
        generation: "0123456789abcdef",
    };

    fn key(byte: &str) -> Key {
        Key::from_hex(&(byte.repeat(31) + "f0")).unwrap()
    }

    fn quotas(left: u64) -> Vec<RemainingQuota> {
        vec![RemainingQuota {
            left,
            full_after_ns: 7,
            wait: Wait::Ns(9),
        }]
    }

    fn read(
        request: &VerdictSubject<'_>,
        announced: u8,
        trailers: &[&str],
        body: &[u8],
    ) -> Result<(Vec<RemainingQuota>, usize), VerdictFault> {
        let trailers: Vec<_> = trailers.iter().map(|it| it.as_bytes()).collect();
        request.read_all(&key("07"), announced, &trailers, body)
    }

    #[test]
    fn verdicts_are_read_from_trailers_and_after_the_body() {
        let first = REQUEST.sign(&key("07"), 0, &quotas(3));
        let second = REQUEST.sign(&key("07"), 1, &[]);
        let expected = Ok((quotas(3), 4));
        assert_eq!(read(&REQUEST, 1, &[&first], b"body"), expected);
        assert_eq!(read(&REQUEST, 2, &[&first, &second], b"body"), expected);
        let mut body = [b"body".as_slice(), &behind_body(&first)].concat();
        assert_eq!(read(&REQUEST, 1, &[], &body), expected);
        body.extend(behind_body(&second));
        assert_eq!(read(&REQUEST, 2, &[], &body), expected);
        let empty = behind_body(&first);
        assert_eq!(read(&REQUEST, 1, &[], &empty), Ok((quotas(3), 0)));
        assert_eq!(read(&REQUEST, 0, &[], b"body"), Ok((Vec::new(), 4)));
    }

    #[test]
    fn a_verdict_counts_for_one_request_one_filter_and_one_key() {
        let verdict = REQUEST.sign(&key("07"), 0, &quotas(3));
        let fault = Err(VerdictFault::Signature);
        for other in [
            VerdictSubject {
                client: None,
                ..REQUEST
            },
            VerdictSubject {
                client: Some("other"),
                ..REQUEST
            },
            VerdictSubject {
                request_id: "another",
                ..REQUEST
            },
            VerdictSubject {
                method: "GET",
                ..REQUEST
            },
            VerdictSubject {
                path: "/v2/models/n/infer",
                ..REQUEST
            },
            VerdictSubject {
                generation: "another",
                ..REQUEST
            },
        ] {
            assert_eq!(read(&other, 1, &[&verdict], b""), fault, "{other:?}");
        }
        let second = REQUEST.sign(&key("07"), 1, &quotas(3));
        assert_eq!(read(&REQUEST, 1, &[&second], b""), fault);
        assert_eq!(read(&REQUEST, 2, &[&second, &verdict], b""), fault);
        assert_eq!(read(&REQUEST, 2, &[&verdict, &verdict], b""), fault);
        let other = REQUEST.sign(&key("08"), 0, &quotas(3));
        assert_eq!(read(&REQUEST, 1, &[&other], b""), fault);
    }

    #[test]
    fn a_body_without_each_of_its_verdicts_is_not_accepted() {
        let verdict = REQUEST.sign(&key("07"), 0, &quotas(3));
        let count = |found, announced| Err(VerdictFault::Count { found, announced });
        assert_eq!(read(&REQUEST, 1, &[], b""), count(0, 1));
        assert_eq!(read(&REQUEST, 1, &[], b"\xff\xff\xff\xff"), count(0, 1));
        assert_eq!(read(&REQUEST, 1, &[], b"abc"), count(0, 1));
        assert_eq!(read(&REQUEST, 2, &[&verdict], b""), count(1, 2));
        assert_eq!(read(&REQUEST, 1, &[&verdict, &verdict], b""), count(2, 1));
        assert_eq!(read(&REQUEST, 0, &[&verdict], b""), count(1, 0));
        assert_eq!(read(&REQUEST, 200, &[], b""), count(0, 200));
        let body = [&behind_body(&verdict)[..], b"more"].concat();
        assert!(read(&REQUEST, 1, &[], &body).is_err());
    }

    #[test]
    fn no_byte_of_a_verdict_can_be_changed() {
        let verdict = REQUEST.sign(&key("07"), 0, &quotas(3)).into_bytes();
        for at in 0..verdict.len() {
            let mut changed = verdict.clone();
            changed[at] ^= 1;
            let read = REQUEST.read_all(&key("07"), 1, &[&changed], b"");
            assert!(read.is_err(), "{at}");
            let read = REQUEST.read_all(&key("07"), 1, &[&verdict[..at]], b"");
            assert!(read.is_err(), "cut at {at}");
        }
    }

    #[test]
    fn the_longest_verdict_is_within_its_bound() {
        let quota = RemainingQuota {
            left: u64::MAX,
            full_after_ns: u64::MAX,
            wait: Wait::Ns(u64::MAX),
        };
        let verdict = REQUEST.sign(&key("07"), 0, &vec![quota; 99]);
        assert!(verdict.len() <= MAX_BYTES, "{}", verdict.len());
        assert!(read(&REQUEST, 1, &[&verdict], b"").is_ok());
    }
}
