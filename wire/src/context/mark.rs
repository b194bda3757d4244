//! What the gate says of each message of a stream, signed: that it let it through, and what limits had left; or that it refused it, and why,
//! in place of the message.
//!
//! A mark is bound to its stream's context, which no other stream has, and counts from 1: none can be left out, repeated, moved, or taken from
//! another stream. Like the context it carries identity and no verdict that would let anything in: the host judges what was let through as if
//! nobody had, and what was refused never comes.

use hmac::Mac as _;
use tensorgate_policy::{Denial, Reason};

use super::{Key, Levels, take_chunk, take_text};

/// A cause, a field or a name in a refusal, bytes. A cause may quote names of the caller's, which are bounded in their turn.
const MAX_TEXT_BYTES: usize = 1024;
/// Denials in shadow that a refusal tells of: there is one for each reason that may be.
const MAX_SHADOWED: usize = 4;
/// What begins every signed mark: no context, and no name of [`Key::name`], begins so.
const DOMAIN: &str = "mark1.";
/// HMAC-SHA256.
const MAC_BYTES: usize = 32;
/// The longest mark, bytes: a refusal with all of its texts.
pub(crate) const MAX_MARK_BYTES: usize = 16 << 10;

/// What the gate says of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The message that follows was let through.
    Message {
        /// Whether whoever signs holds messages against contracts.
        checked: bool,
        /// What the grant's limits had left.
        levels: Levels,
    },
    /// The message was refused, and does not follow.
    Refused(Box<Refusal>),
}

/// A message that the gate refused: what the caller and the log are told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why. Of what a caller's limits have left it carries how long to wait, and no more.
    pub denial: Denial,
    /// The model, once granted.
    pub model: Option<String>,
    /// The grant's name, once found.
    pub rule: Option<String>,
    /// The message's own id, once decoded.
    pub id: Option<String>,
    /// What would have refused it before, but for its grant's mode.
    pub shadowed: Vec<Denial>,
    /// Whether it is the stream's last: nothing that comes behind it is looked at.
    pub ends: bool,
}

/// Why a mark is not accepted; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum MarkFault {
    #[error("mark is not in the form that a gate writes")]
    Form,
    #[error(
        "mark's signature does not verify: it is another stream's, another message's, or nobody's"
    )]
    Signature,
}

/// Writes and reads the marks of one stream, in order.
#[derive(Clone, Debug)]
pub struct Marker {
    key: Key,
    /// The context's own signature.
    stream: String,
    /// The number of the mark that was written or read last.
    number: u64,
}

impl Marker {
    /// For the stream that begins with this context, as signed.
    pub fn new(key: &Key, context: &str) -> Self {
        let signature = context.rsplit_once('.').map_or(context, |(_, mac)| mac);
        Self {
            key: key.clone(),
            stream: signature.to_owned(),
            number: 0,
        }
    }

    /// The next mark in bytes.
    pub fn write(&mut self, mark: &Mark) -> Vec<u8> {
        self.number = self.number.saturating_add(1);
        let mut fields = Vec::new();
        match mark {
            Mark::Message { checked, levels } => {
                fields.push(u8::from(*checked));
                levels.write(&mut fields);
            }
            Mark::Refused(refusal) => {
                fields.push(REFUSED);
                refusal.write(&mut fields);
            }
        }
        let mac = self.mac(&fields);
        fields.extend_from_slice(&mac.finalize().into_bytes());
        fields
    }

    /// Reads the next mark; the signature is compared in constant time before anything else is looked at.
    ///
    /// # Errors
    /// What does not hold. The stream is over then: which message is meant can no longer be told.
    pub fn read(&mut self, mark: &[u8]) -> Result<Mark, MarkFault> {
        self.number = self.number.saturating_add(1);
        let at = mark.len().checked_sub(MAC_BYTES).ok_or(MarkFault::Form)?;
        let (fields, mac) = mark.split_at_checked(at).ok_or(MarkFault::Form)?;
        self.mac(fields)
            .verify_slice(mac)
            .map_err(|_| MarkFault::Signature)?;
        read(fields).ok_or(MarkFault::Form)
    }

    /// How many marks were written or read.
    pub const fn number(&self) -> u64 {
        self.number
    }

    fn mac(&self, fields: &[u8]) -> hmac::Hmac<sha2::Sha256> {
        let mut mac = self.key.mac(DOMAIN);
        mac.update(&self.number.to_be_bytes());
        // A context's signature is always as long.
        mac.update(self.stream.as_bytes());
        mac.update(fields);
        mac
    }
}

/// The first byte of a refusal; of a message it is whether it was checked.
const REFUSED: u8 = 2;

fn read(mut rest: &[u8]) -> Option<Mark> {
    let [kind] = take_chunk(&mut rest)?;
    let mark = match kind {
        0 | 1 => Mark::Message {
            checked: kind == 1,
            levels: Levels::read(&mut rest)?,
        },
        REFUSED => Mark::Refused(Box::new(Refusal::read(&mut rest)?)),
        _ => return None,
    };
    rest.is_empty().then_some(mark)
}

impl Refusal {
    /// A refusal of what is no message of anybody's.
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
        for text in [&self.denial.field, &self.model, &self.rule, &self.id] {
            fields.push(u8::from(text.is_some()));
            write_text(text.as_deref().unwrap_or_default(), fields);
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

fn take_denial(rest: &mut &[u8]) -> Option<Denial> {
    let reason = Reason::from_name(&take_text(rest)?)?;
    Some(Denial::new(reason, take_text(rest)?))
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
    use tensorgate_policy::policy::{Level, Wait};

    use super::*;

    fn marker(stream: &str) -> Marker {
        let key = Key::from_hex(&"07".repeat(32)).unwrap();
        Marker::new(&key, &format!("v5.AAAA.{stream}"))
    }

    fn message() -> Mark {
        let level = Level {
            left: 3,
            full_after_ns: 7,
            wait: Wait::Ns(9),
        };
        Mark::Message {
            checked: true,
            levels: Levels {
                request: vec![level],
                content: Vec::new(),
            },
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
    fn marks_come_back_whole_in_their_order() {
        let mut marks = vec![message(), Mark::Refused(Box::new(refusal())), message()];
        marks.extend(Reason::ALL.map(|reason| {
            Mark::Refused(Box::new(Refusal {
                denial: Denial::new(reason, "a cause"),
                ends: true,
                ..refusal()
            }))
        }));
        let (mut gate, mut host) = (marker("one"), marker("one"));
        for mark in &marks {
            assert_eq!(host.read(&gate.write(mark)), Ok(mark.clone()));
        }
        assert_eq!((gate.number(), host.number()), (37, 37));
    }

    #[test]
    fn a_mark_left_out_repeated_moved_or_taken_from_elsewhere_does_not_verify() {
        let mut gate = marker("one");
        let marks: Vec<_> = (0..3).map(|_| gate.write(&message())).collect();
        let fault = Err(MarkFault::Signature);
        let mut host = marker("one");
        assert_eq!(host.read(&marks[1]), fault, "the first was left out");
        let mut host = marker("one");
        assert!(host.read(&marks[0]).is_ok());
        assert_eq!(host.clone().read(&marks[0]), fault, "it came twice");
        assert_eq!(host.read(&marks[2]), fault, "one was left out");
        assert_eq!(marker("two").read(&marks[0]), fault, "another stream's");
        let other = Key::from_hex(&"08".repeat(32)).unwrap();
        assert_eq!(Marker::new(&other, "v5.AAAA.one").read(&marks[0]), fault);
    }

    #[test]
    fn no_byte_of_a_mark_can_be_changed() {
        for mark in [message(), Mark::Refused(Box::new(refusal()))] {
            let bytes = marker("one").write(&mark);
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 1;
                assert!(marker("one").read(&changed).is_err(), "{at}");
                assert!(marker("one").read(&bytes[..at]).is_err(), "cut at {at}");
            }
            let longer = [&bytes[..], b"\0"].concat();
            assert!(marker("one").read(&longer).is_err());
        }
    }

    #[test]
    fn fields_that_a_gate_does_not_write_are_refused_whoever_signed_them() {
        for fields in [
            &b""[..],
            b"\x03\0\0",
            b"\0",
            b"\0\0\0\0",
            b"\x02",
            b"\x02\0\0\0\0\0",
            b"\x02\x02\0\0\0\0",
        ] {
            let mut gate = marker("one");
            gate.number = 1;
            let mac = gate.mac(fields).finalize().into_bytes();
            let bytes = [fields, &mac[..]].concat();
            assert_eq!(
                marker("one").read(&bytes),
                Err(MarkFault::Form),
                "{fields:?}"
            );
        }
    }

    #[test]
    fn the_longest_refusal_is_within_its_bound() {
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
        let bytes = marker("one").write(&Mark::Refused(Box::new(refusal)));
        assert!(bytes.len() <= MAX_MARK_BYTES, "{}", bytes.len());
        assert!(matches!(marker("one").read(&bytes), Ok(Mark::Refused(_))));
    }
}
