//! Encoding and decoding of the rate limit protocol's messages.

use tensorgate_policy::time::SECOND_NS;

use super::{
    Code, Descriptor, LimitOverride, MAX_DESCRIPTORS, MAX_ENTRIES, MAX_MESSAGE_BYTES,
    MAX_TEXT_BYTES, RateLimitRequest, RateLimitResponse, Status, TimeUnit,
};
use crate::fault::BodyFault;
use crate::grpc::protobuf::{FieldRef, Value, read};
use crate::grpc::writer::Message;

/// Maximum seconds of a protobuf duration.
const MAX_DURATION_S: u64 = 315_576_000_000;

/// An invalid message; for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MessageFault(String);

impl From<BodyFault> for MessageFault {
    fn from(fault: BodyFault) -> Self {
        Self(fault.to_string())
    }
}

fn fits(bytes: &[u8]) -> Result<(), MessageFault> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(MessageFault(format!("a message of {} bytes", bytes.len())));
    }
    Ok(())
}

fn too_many(what: &'static str, max: usize) -> BodyFault {
    BodyFault::TooMany { what, max }
}

/// A number within 32 bits.
fn short(field: FieldRef, value: Value<'_>) -> Result<u32, BodyFault> {
    u32::try_from(field.varint(value)?).map_err(|_| field.wrong("is more than 32 bits"))
}

/// `google.protobuf.UInt32Value` and similar wrappers.
fn wrapped(field: FieldRef, value: Value<'_>) -> Result<u64, BodyFault> {
    let mut number = None;
    read(
        "a wrapped number",
        field.bytes(value)?,
        |field, value| match field.number {
            1 => field.once(&mut number, field.varint(value)?),
            _ => Ok(()),
        },
    )?;
    Ok(number.unwrap_or(0))
}

fn wrap(number: u64) -> Message {
    Message::default().varint(1, number)
}

impl TimeUnit {
    const fn number(self) -> u64 {
        match self {
            Self::Unknown => 0,
            Self::Second => 1,
            Self::Minute => 2,
            Self::Hour => 3,
            Self::Day => 4,
        }
    }

    const fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Second,
            2 => Self::Minute,
            3 => Self::Hour,
            4 => Self::Day,
            _ => Self::Unknown,
        }
    }
}

impl Code {
    const fn number(self) -> u64 {
        match self {
            Self::Unknown => 0,
            Self::Ok => 1,
            Self::OverLimit => 2,
        }
    }

    const fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Ok,
            2 => Self::OverLimit,
            _ => Self::Unknown,
        }
    }
}

impl RateLimitRequest {
    /// Encodes the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let message = Message::default().bytes(1, &self.domain);
        let message = self
            .descriptors
            .iter()
            .fold(message, |message, one| message.message(2, one.message()));
        message
            .varint(3, self.hits.min(u64::from(u32::MAX)))
            .into_bytes()
    }

    /// Decodes the message.
    ///
    /// # Errors
    /// It is invalid or exceeds a limit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageFault> {
        fits(bytes)?;
        let (mut domain, mut descriptors, mut hits) = (None, Vec::new(), None);
        read("RateLimitRequest", bytes, |field, value| {
            match field.number {
                1 => field.once(
                    &mut domain,
                    field.text_of(value, MAX_TEXT_BYTES)?.to_owned(),
                ),
                2 if descriptors.len() == MAX_DESCRIPTORS => {
                    Err(too_many("descriptors", MAX_DESCRIPTORS))
                }
                2 => {
                    descriptors.push(Descriptor::read(field.bytes(value)?)?);
                    Ok(())
                }
                3 => field.once(&mut hits, u64::from(short(field, value)?)),
                _ => Ok(()),
            }
        })?;
        Ok(Self {
            domain: domain.unwrap_or_default(),
            descriptors,
            hits: hits.unwrap_or(0),
        })
    }
}

impl Descriptor {
    fn message(&self) -> Message {
        let entries = self.entries.iter();
        let message = entries.fold(Message::default(), |message, (key, value)| {
            message.message(1, Message::default().bytes(1, key).bytes(2, value))
        });
        let message = match self.limit {
            Some(limit) => message.message(2, limit.message(3)),
            None => message,
        };
        match self.hits {
            Some(hits) => message.message(3, wrap(hits)),
            None => message,
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, BodyFault> {
        let (mut entries, mut limit, mut hits) = (Vec::new(), None, None);
        let mut gives_back = false;
        read("RateLimitDescriptor", bytes, |field, value| {
            match field.number {
                1 if entries.len() == MAX_ENTRIES => Err(too_many("entries", MAX_ENTRIES)),
                1 => {
                    entries.push(entry(field.bytes(value)?)?);
                    Ok(())
                }
                2 => field.once(&mut limit, LimitOverride::read(field.bytes(value)?, 3)?),
                3 => field.once(&mut hits, wrapped(field, value)?),
                4 => {
                    gives_back |= field.varint(value)? != 0;
                    Ok(())
                }
                _ => Ok(()),
            }
        })?;
        if gives_back {
            return Err(BodyFault::field(
                "is_negative_hits of RateLimitDescriptor",
                "requests a refund",
            ));
        }
        Ok(Self {
            entries,
            limit,
            hits,
        })
    }
}

fn entry(bytes: &[u8]) -> Result<(String, String), BodyFault> {
    let (mut key, mut text) = (None, None);
    read("RateLimitDescriptor.Entry", bytes, |field, value| {
        let of = |value| field.text_of(value, MAX_TEXT_BYTES).map(str::to_owned);
        match field.number {
            1 => field.once(&mut key, of(value)?),
            2 => field.once(&mut text, of(value)?),
            _ => Ok(()),
        }
    })?;
    Ok((key.unwrap_or_default(), text.unwrap_or_default()))
}

impl LimitOverride {
    /// `multiplier`: number of that field.
    fn message(&self, multiplier: u32) -> Message {
        let message = Message::default()
            .varint(1, u64::from(self.quota))
            .varint(2, self.unit.number());
        if self.multiplier > 1 {
            message.message(multiplier, wrap(u64::from(self.multiplier)))
        } else {
            message
        }
    }

    fn read(bytes: &[u8], multiplier_field: u32) -> Result<Self, BodyFault> {
        let (mut quota, mut unit, mut multiplier) = (None, None, None);
        read("a rate limit", bytes, |field, value| match field.number {
            1 => field.once(&mut quota, short(field, value)?),
            2 => field.once(&mut unit, TimeUnit::from_number(field.varint(value)?)),
            number if number == multiplier_field => {
                let factor = u32::try_from(wrapped(field, value)?)
                    .map_err(|_| field.wrong("is more than 32 bits"))?;
                field.once(&mut multiplier, factor)
            }
            _ => Ok(()),
        })?;
        Ok(Self {
            quota: quota.unwrap_or(0),
            unit: unit.unwrap_or_default(),
            multiplier: multiplier.unwrap_or(1).max(1),
        })
    }
}

impl RateLimitResponse {
    /// Encodes the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        let message = Message::default().varint(1, self.code.number());
        let statuses = self.statuses.iter();
        statuses
            .fold(message, |message, one| message.message(2, one.message()))
            .into_bytes()
    }

    /// Decodes the message.
    ///
    /// # Errors
    /// It is invalid or exceeds a limit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MessageFault> {
        fits(bytes)?;
        let (mut code, mut statuses) = (None, Vec::new());
        read("RateLimitResponse", bytes, |field, value| {
            match field.number {
                1 => field.once(&mut code, Code::from_number(field.varint(value)?)),
                2 if statuses.len() == MAX_DESCRIPTORS => {
                    Err(too_many("statuses", MAX_DESCRIPTORS))
                }
                2 => {
                    statuses.push(Status::read(field.bytes(value)?)?);
                    Ok(())
                }
                _ => Ok(()),
            }
        })?;
        Ok(Self {
            code: code.unwrap_or_default(),
            statuses,
        })
    }
}

impl Status {
    fn message(&self) -> Message {
        let message = Message::default().varint(1, self.code.number());
        let message = match self.limit {
            Some(limit) => message.message(2, limit.message(4)),
            None => message,
        };
        let message = message.varint(3, u64::from(self.left));
        match self.reset_ns {
            Some(ns) => message.message(4, duration(ns)),
            None => message,
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, BodyFault> {
        let (mut code, mut limit, mut left, mut reset_ns) = (None, None, None, None);
        read("DescriptorStatus", bytes, |field, value| {
            match field.number {
                1 => field.once(&mut code, Code::from_number(field.varint(value)?)),
                2 => field.once(&mut limit, LimitOverride::read(field.bytes(value)?, 4)?),
                3 => field.once(&mut left, short(field, value)?),
                4 => field.once(&mut reset_ns, nanoseconds(field, field.bytes(value)?)?),
                _ => Ok(()),
            }
        })?;
        Ok(Self {
            code: code.unwrap_or_default(),
            limit,
            left: left.unwrap_or(0),
            reset_ns,
        })
    }
}

/// `google.protobuf.Duration`.
fn duration(ns: u64) -> Message {
    Message::default()
        .varint(1, ns.checked_div(SECOND_NS).unwrap_or(0))
        .varint(2, ns.checked_rem(SECOND_NS).unwrap_or(0))
}

fn nanoseconds(field: FieldRef, bytes: &[u8]) -> Result<u64, BodyFault> {
    let (mut seconds, mut nanos) = (None, None);
    read("a duration", bytes, |field, value| match field.number {
        1 => field.once(&mut seconds, field.varint(value)?),
        2 => field.once(&mut nanos, field.varint(value)?),
        _ => Ok(()),
    })?;
    let (seconds, nanos) = (seconds.unwrap_or(0), nanos.unwrap_or(0));
    // Negative values appear as large numbers here.
    if seconds > MAX_DURATION_S || nanos >= SECOND_NS {
        return Err(field.wrong("is not a time in the future"));
    }
    Ok(seconds.saturating_mul(SECOND_NS).saturating_add(nanos))
}
