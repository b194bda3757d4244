//! The one header of our own: who is calling, signed by the gate for the sandbox host.
//!
//! `v5.<fields>.<mac>`, both parts base64url without padding. The fields are length-prefixed, in one order, so that no two
//! contexts share an encoding; the MAC is HMAC-SHA256 over everything before its dot, version included. It carries no verdict, only
//! whether there is one about the body, and what limits have left.

mod key;
mod levels;
mod mark;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac as _;
use tensorgate_policy::request::Proofs;

use crate::limits::MAX_CONTEXT_BYTES;

pub use key::Key;
pub use levels::Levels;
pub(crate) use mark::MAX_MARK_BYTES;
pub use mark::{Mark, MarkFault, Marker, Refusal};

/// Its name.
pub const HEADER: &str = "x-tensorgate-context";

/// How far a context may lie in the future, seconds: gate and host may run on two machines, each kept by NTP.
pub const CLOCK_SKEW_S: u64 = 5;

/// What the fields of most contexts take, bytes: what is made room for.
const USUAL_FIELD_BYTES: usize = 256;

/// What every context of this form begins with.
const VERSION: &str = "v5.";

/// What crosses from the gate to the host. Identity does; verdicts do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The client's name; `None` only for the public server-level questions.
    pub client: Option<String>,
    /// The log's name of the credential that proved it; never the credential itself.
    pub credential: Option<String>,
    /// By what it has proven who it is: models may ask for some.
    pub proofs: Proofs,
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
    /// Whether whoever signs holds bodies against contracts. Where nobody does, the host's refusal of one contradicts nobody.
    pub checked: bool,
    /// What the grant's limits had left.
    pub levels: Levels,
}

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

impl Context {
    /// The header's value.
    pub fn sign(&self, key: &Key) -> String {
        let mut fields = Vec::with_capacity(USUAL_FIELD_BYTES);
        fields.extend_from_slice(&self.issued_unix_s.to_be_bytes());
        for named in [&self.client, &self.credential] {
            fields.push(u8::from(named.is_some()));
        }
        fields.push(u8::from(self.checked) | self.proofs.to_bits() << 1);
        for field in [
            self.client.as_deref().unwrap_or_default(),
            self.credential.as_deref().unwrap_or_default(),
            &self.request_id,
            &self.method,
            &self.path,
            &self.generation,
        ] {
            // A field beyond 32 bits would be beyond the header's bound too, which `verify` holds to.
            fields.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            fields.extend_from_slice(field.as_bytes());
        }
        self.levels.write(&mut fields);
        let mut value = String::with_capacity(USUAL_FIELD_BYTES.saturating_mul(2));
        value.push_str(VERSION);
        URL_SAFE_NO_PAD.encode_string(fields, &mut value);
        let mac = key.mac(&value).finalize().into_bytes();
        value.push('.');
        URL_SAFE_NO_PAD.encode_string(mac, &mut value);
        value
    }

    /// Reads a header's value; the signature is compared in constant time before anything else is looked at.
    /// `max_age_s` bounds the age; [`CLOCK_SKEW_S`] how far it may lie in the future.
    ///
    /// # Errors
    /// What does not hold, in the order form, signature, request, age.
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
        let fields = signed.strip_prefix(VERSION).ok_or(ContextFault::Form)?;
        let mac = URL_SAFE_NO_PAD
            .decode(mac)
            .map_err(|_| ContextFault::Form)?;
        key.mac(signed)
            .verify_slice(&mac)
            .map_err(|_| ContextFault::Signature)?;

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

    fn read(mut rest: &[u8]) -> Option<Self> {
        let issued_unix_s = u64::from_be_bytes(take_chunk(&mut rest)?);
        let named: [u8; 2] = take_chunk(&mut rest)?;
        let [flags] = take_chunk(&mut rest)?;
        let (checked, proofs) = (flags & 1 == 1, Proofs::from_bits(flags >> 1)?);
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
            request_id: take_text(&mut rest)?,
            method: take_text(&mut rest)?,
            path: take_text(&mut rest)?,
            generation: take_text(&mut rest)?,
            issued_unix_s,
            checked,
            levels: Levels::read(&mut rest)?,
        };
        rest.is_empty().then_some(context)
    }
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use hmac::Hmac;
    use sha2::Sha256;

    use super::*;

    const NOW: u64 = 1_780_000_000;

    fn key(byte: u8) -> Key {
        Key::from_hex(&format!("{byte:02x}").repeat(32)).unwrap()
    }

    fn context() -> Context {
        Context {
            client: Some("ocr".into()),
            credential: Some("key:0123456789abcdef".into()),
            proofs: Proofs::from_bits(9).unwrap(),
            request_id: "0f3c".into(),
            method: "POST".into(),
            path: "/v2/models/m/infer".into(),
            generation: "ab12".into(),
            issued_unix_s: NOW,
            checked: true,
            levels: Levels::default(),
        }
    }

    fn verify(value: &str) -> Result<Context, ContextFault> {
        Context::verify(value, &key(7), "POST", "/v2/models/m/infer", NOW, 30)
    }

    /// `signed` under the right key, whatever it says.
    fn signed(signed: &str) -> String {
        let mac = key(7).mac(signed).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    #[test]
    fn what_is_signed_verifies_and_comes_back_whole() {
        for context in [
            context(),
            Context {
                client: None,
                ..context()
            },
            Context {
                credential: None,
                ..context()
            },
            Context {
                checked: false,
                ..context()
            },
            Context {
                client: None,
                credential: None,
                ..context()
            },
            Context {
                client: Some(String::new()),
                ..context()
            },
            Context {
                client: Some("é\n.".into()),
                request_id: String::new(),
                ..context()
            },
        ] {
            assert_eq!(verify(&context.sign(&key(7))), Ok(context));
        }
    }

    #[test]
    fn no_byte_of_a_context_can_be_changed() {
        let value = context().sign(&key(7));
        for at in 0..value.len() {
            for byte in [b'A', b'B', b'.', b'=', b'-'] {
                let mut bytes = value.clone().into_bytes();
                if bytes[at] != byte {
                    bytes[at] = byte;
                    assert!(
                        verify(str::from_utf8(&bytes).unwrap()).is_err(),
                        "{at}: {}",
                        char::from(byte)
                    );
                }
            }
            assert!(verify(&value[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn every_other_context_is_refused_with_its_fault() {
        let own = || context().sign(&key(7));
        let fields = URL_SAFE_NO_PAD.encode([0; 40]);
        for (name, value, expected) in [
            (
                "another key's",
                context().sign(&key(8)),
                ContextFault::Signature,
            ),
            ("empty", String::new(), ContextFault::Form),
            ("no signature", "v5.AAAA".into(), ContextFault::Form),
            (
                "an empty signature",
                "v5.AAAA.".into(),
                ContextFault::Signature,
            ),
            (
                "a cut signature",
                own().get(..own().len() - 2).unwrap().into(),
                ContextFault::Form,
            ),
            (
                "a padded signature",
                format!("{}=", own()),
                ContextFault::Form,
            ),
            ("another version", signed("v1.AAAA"), ContextFault::Form),
            (
                "a blank before it",
                format!(" {}", own()),
                ContextFault::Form,
            ),
            (
                "a signature that is right, over no fields",
                signed("v5."),
                ContextFault::Form,
            ),
            (
                "a signature that is right, over no base64",
                signed("v5.!!"),
                ContextFault::Form,
            ),
            (
                "a signature that is right, over fields with a rest",
                signed(&format!("v5.{fields}")),
                ContextFault::Form,
            ),
            (
                "too long",
                Context {
                    path: "/".repeat(4096),
                    ..context()
                }
                .sign(&key(7)),
                ContextFault::Form,
            ),
            (
                "another method's",
                Context {
                    method: "GET".into(),
                    ..context()
                }
                .sign(&key(7)),
                ContextFault::Request,
            ),
            (
                "another path's",
                Context {
                    path: "/v2/models/n/infer".into(),
                    ..context()
                }
                .sign(&key(7)),
                ContextFault::Request,
            ),
            (
                "too old",
                Context {
                    issued_unix_s: NOW - 31,
                    ..context()
                }
                .sign(&key(7)),
                ContextFault::Age,
            ),
            (
                "from the future",
                Context {
                    issued_unix_s: NOW + CLOCK_SKEW_S + 1,
                    ..context()
                }
                .sign(&key(7)),
                ContextFault::Age,
            ),
            (
                "from the end of time",
                Context {
                    issued_unix_s: u64::MAX,
                    ..context()
                }
                .sign(&key(7)),
                ContextFault::Age,
            ),
        ] {
            assert_eq!(verify(&value), Err(expected), "{name}");
        }
        for issued_unix_s in [NOW - 30, NOW, NOW + CLOCK_SKEW_S] {
            assert!(
                verify(
                    &Context {
                        issued_unix_s,
                        ..context()
                    }
                    .sign(&key(7))
                )
                .is_ok(),
                "{issued_unix_s}"
            );
        }
    }

    #[test]
    fn a_client_is_named_or_not_but_not_both() {
        let of = |named: u8, client: &str, checked: u8| {
            let mut fields = NOW.to_be_bytes().to_vec();
            fields.extend([named, 1, checked]);
            let credential = "key:0123456789abcdef";
            for field in [
                client,
                credential,
                "0f3c",
                "POST",
                "/v2/models/m/infer",
                "ab12",
            ] {
                fields.extend_from_slice(&u32::try_from(field.len()).unwrap().to_be_bytes());
                fields.extend_from_slice(field.as_bytes());
            }
            fields.extend([0, 0]);
            signed(&format!("v5.{}", URL_SAFE_NO_PAD.encode(fields)))
        };
        // Checked, and by proofs 9; beyond four bits of proofs there is nothing.
        let fields = |named: u8, client: &str| of(named, client, 1 | 9 << 1);
        assert_eq!(verify(&fields(1, "ocr")), Ok(context()));
        assert_eq!(verify(&of(1, "ocr", 32)), Err(ContextFault::Form));
        let nobody = Context {
            client: None,
            ..context()
        };
        assert_eq!(verify(&fields(0, "")), Ok(nobody));
        assert_eq!(verify(&fields(0, "ocr")), Err(ContextFault::Form));
        assert_eq!(verify(&fields(2, "ocr")), Err(ContextFault::Form));
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let moved = Context {
            client: Some("ocrkey".into()),
            credential: Some(":0123456789abcdef".into()),
            ..context()
        };
        assert_ne!(moved.sign(&key(7)), context().sign(&key(7)));
    }

    #[test]
    fn a_key_is_64_hex_digits_and_is_never_printed() {
        let digits = "0123456789abcdefABCDEF0123456789abcdefABCDEF0123456789abcdef0123";
        assert!(Key::from_hex(&format!(" {digits}\n")).is_some());
        let seven = Key::from_hex(&"07".repeat(32)).unwrap();
        let mac = Hmac::<Sha256>::new_from_slice(&[7; 32]).unwrap();
        let (of_seven, mac) = (seven.mac("a"), mac.chain_update("a"));
        assert_eq!(
            of_seven.finalize().into_bytes(),
            mac.finalize().into_bytes()
        );
        for text in [
            "",
            &digits[1..],
            &format!("{digits}00"),
            &format!("0x{}", &digits[2..]),
            &format!("+{}", &digits[1..]),
        ] {
            assert!(Key::from_hex(text).is_none(), "{text}");
        }
        assert_eq!(format!("{:?}", key(7)), "Key");
    }
}
