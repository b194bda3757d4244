//! What the gate's limits had left when they were charged, as the context carries it. The host charges nothing: so it can tell the caller of
//! limits, and knows what a limit in shadow would have refused.

use tensorgate_policy::policy::{Level, Wait};

/// Levels of one charge: a grant has two limits on requests and six on what they carry.
const MAX_LEVELS: usize = 8;

/// Each in the order of the grant's limits; empty where there are none, or where nobody charges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Of the limits on requests.
    pub request: Vec<Level>,
    /// Of the limits on what a request carries.
    pub content: Vec<Level>,
}

impl Levels {
    /// These, and the other's where there are none: each limit is charged by one filter.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let either = |own: Vec<_>, other| if own.is_empty() { other } else { own };
        Self {
            request: either(self.request, other.request),
            content: either(self.content, other.content),
        }
    }

    /// Adds them to a context's fields.
    pub(super) fn write(&self, fields: &mut Vec<u8>) {
        for levels in [&self.request, &self.content] {
            let levels = levels.get(..MAX_LEVELS).unwrap_or(levels);
            fields.push(u8::try_from(levels.len()).unwrap_or(0));
            for level in levels {
                fields.extend_from_slice(&level.left.to_be_bytes());
                fields.extend_from_slice(&level.full_after_ns.to_be_bytes());
                match level.wait {
                    Wait::None => fields.push(0),
                    Wait::Ns(wait_ns) => {
                        fields.push(1);
                        fields.extend_from_slice(&wait_ns.to_be_bytes());
                    }
                    Wait::Forever => fields.push(2),
                }
            }
        }
    }

    /// Takes them off the front.
    pub(super) fn read(rest: &mut &[u8]) -> Option<Self> {
        Some(Self {
            request: list(rest)?,
            content: list(rest)?,
        })
    }
}

fn list(rest: &mut &[u8]) -> Option<Vec<Level>> {
    let [count] = super::take_chunk(rest)?;
    let count = Some(usize::from(count)).filter(|count| *count <= MAX_LEVELS)?;
    (0..count)
        .map(|_| {
            Some(Level {
                left: u64::from_be_bytes(super::take_chunk(rest)?),
                full_after_ns: u64::from_be_bytes(super::take_chunk(rest)?),
                wait: match super::take_chunk(rest)? {
                    [0] => Wait::None,
                    [1] => Wait::Ns(u64::from_be_bytes(super::take_chunk(rest)?)),
                    [2] => Wait::Forever,
                    _ => return None,
                },
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn levels_come_back_whole_and_nothing_else_is_read() {
        let level = |left, wait| Level {
            left,
            full_after_ns: 7,
            wait,
        };
        for levels in [
            Levels::default(),
            Levels {
                request: vec![level(0, Wait::Ns(u64::MAX)), level(u64::MAX, Wait::None)],
                content: vec![level(1, Wait::Forever)],
            },
            Levels {
                content: vec![level(1, Wait::None); MAX_LEVELS],
                ..Levels::default()
            },
        ] {
            let mut fields = Vec::new();
            levels.write(&mut fields);
            assert_eq!(Levels::read(&mut fields.as_slice()), Some(levels));
            for end in 0..fields.len() {
                assert_eq!(Levels::read(&mut &fields[..end]), None, "cut at {end}");
            }
        }
        let too_many = [9_u8, 0].repeat(1_000);
        assert_eq!(Levels::read(&mut too_many.as_slice()), None);
        let no_wait = [&[1][..], &[0; 16], &[3], &[0]].concat();
        assert_eq!(Levels::read(&mut no_wait.as_slice()), None);
    }
}
