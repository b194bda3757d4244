//! Signed envelopes of stream messages: each says that a message was accepted, with the remaining
//! quota, or why it was rejected, in place of the message. Messages that wait for a limit may be
//! sent ahead of their envelopes.
//!
//! An envelope is bound to its stream's context and to a counter from 1. None can be omitted,
//! repeated, moved or taken from another stream. Like the context it grants nothing: the host
//! validates accepted messages itself, and acts on none that is rejected or has no envelope.

use hmac::Mac as _;
use tensorgate_policy::policy::RemainingQuota;
use tensorgate_policy::{Denial, Reason};

use super::{Key, quotas, take_chunk, take_text};

/// Maximum length of a cause, field or name. A cause may quote the caller's names, which are
/// limited too.
const MAX_TEXT_BYTES: usize = 1024;
/// Maximum shadow denials: one per reason.
const MAX_SHADOWED: usize = 4;
/// Prefix of the signed data, which differs from contexts and [`Key::name`].
const DOMAIN: &str = "mark1.";
/// HMAC-SHA256.
const MAC_BYTES: usize = 32;
/// Maximum size of an envelope: a rejection with all texts.
pub(crate) const MAX_ENVELOPE_BYTES: usize = 16 << 10;

/// Contents of an envelope: the result for one message, or bytes without a result so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageEnvelope {
    /// The following message was accepted, or the first that was sent ahead.
    Message {
        /// Whether the signing filter validates messages.
        checked: bool,
        /// Remaining quota of the grant's limits on requests.
        quotas: Vec<RemainingQuota>,
    },
    /// The message was rejected: it is not forwarded, or was sent ahead.
    Refused(Box<Refusal>),
    /// The following bytes belong to messages whose results come later.
    Ahead {
        /// Number of bytes, at least one.
        bytes: usize,
    },
}

/// A message that the filter rejected, with the contents of response and log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The denial. Of the rate limits it carries only the time to wait.
    pub denial: Denial,
    /// The model, once granted.
    pub model: Option<String>,
    /// Name of the grant, once found.
    pub rule: Option<String>,
    /// The message's own id, once decoded.
    pub id: Option<String>,
    /// Earlier denials that the grant's shadow mode let pass.
    pub shadowed: Vec<Denial>,
    /// Whether the stream ends: later data is ignored.
    pub ends: bool,
}

/// Why an envelope is rejected; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum EnvelopeFault {
    #[error("envelope is not in the form that a gate writes")]
    Form,
    #[error(
        "envelope's signature does not verify: it is another stream's, another message's, or forged"
    )]
    Signature,
}

/// Writes and reads the envelopes of one stream, in order.
#[derive(Clone, Debug)]
pub struct EnvelopeCodec {
    key: Key,
    /// Signature of the context.
    stream: String,
    /// Number of the last envelope.
    number: u64,
}

impl EnvelopeCodec {
    /// Creates the codec of the stream with this signed context.
    pub fn new(key: &Key, context: &str) -> Self {
        let signature = context.rsplit_once('.').map_or(context, |(_, mac)| mac);
        Self {
            key: key.clone(),
            stream: signature.to_owned(),
            number: 0,
        }
    }

    /// Encodes the next envelope.
    pub fn write(&mut self, envelope: &MessageEnvelope) -> Vec<u8> {
        self.number = self.number.saturating_add(1);
        let mut fields = Vec::new();
        match envelope {
            MessageEnvelope::Message { checked, quotas } => {
                fields.push(u8::from(*checked));
                quotas::write(quotas, &mut fields);
            }
            MessageEnvelope::Refused(refusal) => {
                fields.push(REFUSED);
                refusal.write(&mut fields);
            }
            MessageEnvelope::Ahead { bytes } => {
                fields.push(AHEAD);
                let bytes = u32::try_from(*bytes).unwrap_or_default();
                fields.extend_from_slice(&bytes.to_be_bytes());
            }
        }
        let mac = self.mac(&fields);
        fields.extend_from_slice(&mac.finalize().into_bytes());
        fields
    }

    /// Verifies the next envelope. The signature is compared in constant time first.
    ///
    /// # Errors
    /// The failure. The stream then ends, because its position is unknown.
    pub fn read(&mut self, envelope: &[u8]) -> Result<MessageEnvelope, EnvelopeFault> {
        self.number = self.number.saturating_add(1);
        let at = envelope
            .len()
            .checked_sub(MAC_BYTES)
            .ok_or(EnvelopeFault::Form)?;
        let (fields, mac) = envelope.split_at_checked(at).ok_or(EnvelopeFault::Form)?;
        self.mac(fields)
            .verify_slice(mac)
            .map_err(|_| EnvelopeFault::Signature)?;
        read(fields).ok_or(EnvelopeFault::Form)
    }

    /// Number of envelopes so far.
    pub const fn number(&self) -> u64 {
        self.number
    }

    fn mac(&self, fields: &[u8]) -> hmac::Hmac<sha2::Sha256> {
        let mut mac = self.key.mac(DOMAIN);
        mac.update(&self.number.to_be_bytes());
        // Signatures of contexts have a fixed length.
        mac.update(self.stream.as_bytes());
        mac.update(fields);
        mac
    }
}

/// First byte of a rejection; for a message it says whether it was validated.
const REFUSED: u8 = 2;
/// First byte of an envelope for bytes whose results come later.
const AHEAD: u8 = 3;

fn read(mut rest: &[u8]) -> Option<MessageEnvelope> {
    let [kind] = take_chunk(&mut rest)?;
    let envelope = match kind {
        0 | 1 => MessageEnvelope::Message {
            checked: kind == 1,
            quotas: quotas::read(&mut rest)?,
        },
        REFUSED => MessageEnvelope::Refused(Box::new(Refusal::read(&mut rest)?)),
        AHEAD => MessageEnvelope::Ahead {
            bytes: usize::try_from(u32::from_be_bytes(take_chunk(&mut rest)?))
                .ok()
                .filter(|bytes| *bytes > 0)?,
        },
        _ => return None,
    };
    rest.is_empty().then_some(envelope)
}

impl Refusal {
    /// Rejection of malformed data.
    pub fn of(denial: Denial, ends: bool) -> Self {
        Self {
            denial,
            model: None,
            rule: None,
            id: None,
            shadowed: Vec::new(),
            ends,
        }
    }

    fn write(&self, fields: &mut Vec<u8>) {
        fields.push(u8::from(self.ends));
        write_denial(&self.denial, fields);
        // The host only shows the field to the caller, so both parts are sent as one text.
        let field = self.denial.described_field();
        let texts = [&self.model, &self.rule, &self.id].map(Option::as_deref);
        for text in [field.as_deref()].into_iter().chain(texts) {
            fields.push(u8::from(text.is_some()));
            write_text(text.unwrap_or_default(), fields);
        }
        fields.push(u8::from(self.denial.retry_after_s.is_some()));
        let wait_s = self.denial.retry_after_s.unwrap_or_default();
        fields.extend_from_slice(&wait_s.to_be_bytes());
        let shadowed = self.shadowed.get(..MAX_SHADOWED).unwrap_or(&self.shadowed);
        fields.push(u8::try_from(shadowed.len()).unwrap_or_default());
        for denial in shadowed {
            write_denial(denial, fields);
        }
    }

    fn read(rest: &mut &[u8]) -> Option<Self> {
        let ends = take_flag(rest)?;
        let denial = take_denial(rest)?;
        let (field, model, rule, id) = (
            take_optional(rest)?,
            take_optional(rest)?,
            take_optional(rest)?,
            take_optional(rest)?,
        );
        let waits = take_flag(rest)?;
        let wait_s = u64::from_be_bytes(take_chunk(rest)?);
        let [shadowed] = take_chunk(rest)?;
        let shadowed = Some(usize::from(shadowed)).filter(|count| *count <= MAX_SHADOWED)?;
        Some(Self {
            denial: Denial {
                field,
                retry_after_s: waits.then_some(wait_s),
                ..denial
            },
            model,
            rule,
            id,
            shadowed: (0..shadowed)
                .map(|_| take_denial(rest))
                .collect::<Option<_>>()?,
            ends,
        })
    }
}

/// Reason and cause.
fn write_denial(denial: &Denial, fields: &mut Vec<u8>) {
    write_text(denial.reason.name(), fields);
    write_text(&denial.cause, fields);
}

fn write_text(text: &str, fields: &mut Vec<u8>) {
    let text = text
        .get(..text.floor_char_boundary(MAX_TEXT_BYTES))
        .unwrap_or_default();
    fields.extend_from_slice(&u32::try_from(text.len()).unwrap_or_default().to_be_bytes());
    fields.extend_from_slice(text.as_bytes());
}

fn take_flag(rest: &mut &[u8]) -> Option<bool> {
    match take_chunk(rest)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

/// The filter has counted the denial by the cause of an overload, which is not sent.
fn take_denial(rest: &mut &[u8]) -> Option<Denial> {
    let reason = Reason::from_name(&take_text(rest)?)?;
    Some(Denial {
        overload: None,
        ..Denial::new(reason, take_text(rest)?)
    })
}

#[expect(
    clippy::option_option,
    reason = "the outer one is whether there is anything to read, as everywhere here"
)]
fn take_optional(rest: &mut &[u8]) -> Option<Option<String>> {
    let given = take_flag(rest)?;
    let text = take_text(rest)?;
    match given {
        true => Some(Some(text)),
        false => text.is_empty().then_some(None),
    }
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

    fn codec(stream: &str) -> EnvelopeCodec {
        let key = Key::from_hex(&("07".repeat(31) + "f0")).unwrap();
        EnvelopeCodec::new(&key, &format!("v5.AAAA.{stream}"))
    }

    fn message() -> MessageEnvelope {
        let quota = RemainingQuota {
            left: 3,
            full_after_ns: 7,
            wait: Wait::Ns(9),
        };
        MessageEnvelope::Message {
            checked: true,
            quotas: vec![quota],
        }
    }

    fn refusal() -> Refusal {
        Refusal {
            denial: Denial {
                retry_after_s: Some(7),
                ..Denial::with_field(Reason::Shape, "input \"x\"", "é\n")
            },
            model: Some("m".into()),
            rule: None,
            id: Some(String::new()),
            shadowed: vec![Denial::new(Reason::OutOfRange, "9 of 8")],
            ends: false,
        }
    }

    #[test]
    fn envelopes_are_read_back_in_order() {
        let mut envelopes = vec![
            message(),
            MessageEnvelope::Refused(Box::new(refusal())),
            MessageEnvelope::Ahead { bytes: 70_000 },
        ];
        envelopes.extend(Reason::ALL.map(|reason| {
            MessageEnvelope::Refused(Box::new(Refusal {
                denial: Denial {
                    overload: None,
                    ..Denial::new(reason, "a cause")
                },
                ends: true,
                ..refusal()
            }))
        }));
        let (mut gate, mut host) = (codec("one"), codec("one"));
        for envelope in &envelopes {
            assert_eq!(host.read(&gate.write(envelope)), Ok(envelope.clone()));
        }
        let written = envelopes.len() as u64;
        assert_eq!((gate.number(), host.number()), (written, written));
    }

    #[test]
    fn missing_repeated_moved_or_foreign_envelopes_do_not_verify() {
        let mut gate = codec("one");
        let envelopes: Vec<_> = (0..3).map(|_| gate.write(&message())).collect();
        let fault = Err(EnvelopeFault::Signature);
        let mut host = codec("one");
        assert_eq!(host.read(&envelopes[1]), fault, "the first was left out");
        let mut host = codec("one");
        assert!(host.read(&envelopes[0]).is_ok());
        assert_eq!(host.clone().read(&envelopes[0]), fault, "it came twice");
        assert_eq!(host.read(&envelopes[2]), fault, "one was left out");
        assert_eq!(codec("two").read(&envelopes[0]), fault, "another stream's");
        let other = Key::from_hex(&("08".repeat(31) + "f0")).unwrap();
        assert_eq!(
            EnvelopeCodec::new(&other, "v5.AAAA.one").read(&envelopes[0]),
            fault
        );
    }

    #[test]
    fn no_byte_of_an_envelope_can_be_changed() {
        for envelope in [
            message(),
            MessageEnvelope::Refused(Box::new(refusal())),
            MessageEnvelope::Ahead { bytes: 1 },
        ] {
            let bytes = codec("one").write(&envelope);
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert!(codec("one").read(&changed).is_err(), "{at}");
                assert!(codec("one").read(&bytes[..at]).is_err(), "cut at {at}");
            }
            let longer = [&bytes[..], b"\0"].concat();
            assert!(codec("one").read(&longer).is_err());
        }
    }

    #[test]
    fn fields_that_a_gate_does_not_write_are_rejected_with_any_signature() {
        for fields in [
            &b""[..],
            b"\x04\0\0",
            b"\x03",
            b"\x03\0\0\0\0",
            b"\x03\0\0\0\x01\0",
            b"\0",
            b"\0\0\0\0",
            b"\x02",
            b"\x02\0\0\0\0\0",
            b"\x02\x02\0\0\0\0",
        ] {
            let mut gate = codec("one");
            gate.number = 1;
            let mac = gate.mac(fields).finalize().into_bytes();
            let bytes = [fields, &mac[..]].concat();
            assert_eq!(
                codec("one").read(&bytes),
                Err(EnvelopeFault::Form),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn a_rejection_keeps_what_is_expected_of_the_field() {
        let denial = Denial::with_field(Reason::Shape, "input \"x\"", "");
        let refusal = Refusal::of(denial.expecting(Some("shape [2]".into())), false);
        let bytes = codec("one").write(&MessageEnvelope::Refused(Box::new(refusal)));
        let read = match codec("one").read(&bytes) {
            Ok(MessageEnvelope::Refused(read)) => {
                (read.denial.described_field()).map(|field| field.into_owned())
            }
            _ => None,
        };
        assert_eq!(read.as_deref(), Some("input \"x\": expected shape [2]"));
    }

    #[test]
    fn the_longest_rejection_is_within_its_bound() {
        let long = || Denial::with_field(Reason::Malformed, "é".repeat(9_999), "é".repeat(9_999));
        let text = || Some("é".repeat(9_999));
        let refusal = Refusal {
            denial: long(),
            model: text(),
            rule: text(),
            id: text(),
            shadowed: vec![long(); 99],
            ends: true,
        };
        let bytes = codec("one").write(&MessageEnvelope::Refused(Box::new(refusal)));
        assert!(bytes.len() <= MAX_ENVELOPE_BYTES, "{}", bytes.len());
        assert!(matches!(
            codec("one").read(&bytes),
            Ok(MessageEnvelope::Refused(_))
        ));
    }
}
