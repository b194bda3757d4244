//! Rewrites the client's headers into the forwarded headers: field by field if few differ,
//! otherwise as a whole. Both ways give the same fields. Replacing a whole map costs a proxy as
//! much as a dozen single changes.

use smallvec::{SmallVec, smallvec};
use tensorgate_policy::SmolStr;

use super::USUAL_FIELDS;
use crate::host::{Fields, HostFault, Proxy};

/// Maximum number of single changes, except the signed context.
const MAX_CHANGES: usize = 6;

/// Changes to the proxy's headers that remain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rewrite {
    /// Replace all fields.
    Whole,
    /// Remove the fields of these names, then set the other fields.
    Fields {
        /// Names that are not forwarded.
        gone: SmallVec<[SmolStr; MAX_CHANGES]>,
        /// Positions of forwarded fields whose value differs, or that occurred not exactly once.
        put: SmallVec<[u8; MAX_CHANGES]>,
    },
}

/// How a forwarded field arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// Not at all.
    Absent,
    /// Once, with the value that is forwarded.
    Same,
    /// With another value, or more than once.
    Different,
}

impl Rewrite {
    /// No changes except fields that are known only when the head is forwarded.
    pub(crate) const DONE: Self = Self::Fields {
        gone: SmallVec::new_const(),
        put: SmallVec::new_const(),
    };

    /// Plans the changes from the proxy's fields to the forwarded fields.
    pub(crate) fn plan(fields: &Fields, crossing: &[(&str, &str)]) -> Self {
        let mut arrivals: SmallVec<[Arrival; USUAL_FIELDS]> =
            smallvec![Arrival::Absent; crossing.len()];
        let mut left = MAX_CHANGES;
        let mut gone: SmallVec<[SmolStr; MAX_CHANGES]> = SmallVec::new();
        for (name, value) in fields.iter() {
            let is_it = |known: &str| known.as_bytes() == name;
            let mut forwarded = crossing.iter().zip(&mut arrivals);
            if let Some(((_, wanted), arrival)) = forwarded.find(|((known, _), _)| is_it(known)) {
                let is_same = *arrival == Arrival::Absent && wanted.as_bytes() == value;
                *arrival = if is_same {
                    Arrival::Same
                } else {
                    Arrival::Different
                };
                continue;
            }
            if gone.iter().any(|known| is_it(known)) {
                continue;
            }
            // A name that is not text is rejected before anything is forwarded.
            let (Some(rest), Ok(name)) = (left.checked_sub(1), str::from_utf8(name)) else {
                return Self::Whole;
            };
            left = rest;
            gone.push(name.into());
        }
        let mut put = SmallVec::new();
        for (position, arrival) in arrivals.iter().enumerate() {
            if *arrival == Arrival::Same {
                continue;
            }
            match u8::try_from(position) {
                Ok(position) if put.len() < left => put.push(position),
                _ => return Self::Whole,
            }
        }
        Self::Fields { gone, put }
    }

    /// Applies the plan. `crossing` are the planned fields; `added` is set in addition.
    pub(crate) fn carry_out<'c>(
        &self,
        proxy: &mut dyn Proxy,
        crossing: &[(&'c str, &'c str)],
        added: Option<(&'c str, &'c str)>,
    ) -> Result<(), HostFault> {
        match self {
            Self::Whole => {
                let fields: Vec<_> = crossing.iter().copied().chain(added).collect();
                proxy.replace_request_headers(&fields)
            }
            Self::Fields { gone, put } => {
                for name in gone {
                    proxy.remove_request_header(name)?;
                }
                let changed = put.iter().map(|position| usize::from(*position));
                let changed = changed.filter_map(|position| crossing.get(position));
                for (name, value) in changed.copied().chain(added) {
                    proxy.set_request_header(name, value)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]

    use super::*;

    const CROSSING: [(&str, &str); 3] = [(":path", "/v2"), (":authority", "ours"), ("te", "")];

    #[track_caller]
    fn check(fields: &[(&[u8], &[u8])], expected: Option<(&[&str], &[&str])>) {
        let fields: Fields = fields.iter().copied().collect();
        let expected = expected.map_or(Rewrite::Whole, |(gone, put)| {
            let positions = (0..).zip(CROSSING);
            let positions = positions.filter(|(_, (name, _))| put.contains(name));
            Rewrite::Fields {
                gone: gone.iter().copied().map(SmolStr::from).collect(),
                put: positions.map(|(position, _)| position).collect(),
            }
        });
        let plan = Rewrite::plan(&fields, &CROSSING);
        assert_eq!(plan, expected, "{fields:?}");
    }

    #[test]
    fn only_differing_fields_are_changed_and_repeated_fields_are_replaced() {
        let same: [(&[u8], &[u8]); 3] =
            [(b":path", b"/v2"), (b":authority", b"ours"), (b"te", b"")];
        let with = |more: &[(&'static [u8], &'static [u8])]| [&same, more].concat();
        check(&same, Some((&[], &[])));
        check(&[], Some((&[], &[":path", ":authority", "te"])));
        check(&with(&[(b"te", b"")]), Some((&[], &["te"])));
        check(&with(&[(b"te", b"x")]), Some((&[], &["te"])));
        check(
            &[
                (b":path", b"/v2 "),
                (b":authority", b"theirs"),
                (b"te", b""),
            ],
            Some((&[], &[":path", ":authority"])),
        );
        check(
            &with(&[
                (b"x-api-key", b"a"),
                (b"cookie", b"a"),
                (b"x-api-key", b"b"),
            ]),
            Some((&["x-api-key", "cookie"], &[])),
        );
        check(&with(&[(b"Te", b"")]), Some((&["Te"], &[])));
        check(&with(&[(b"\xff", b"")]), None);
    }

    #[test]
    fn a_head_with_many_foreign_fields_is_replaced() {
        let names: Vec<String> = (0..=MAX_CHANGES).map(|at| format!("x-{at}")).collect();
        let fields: Vec<(&[u8], &[u8])> = names
            .iter()
            .map(|name| (name.as_bytes(), b"1".as_slice()))
            .collect();
        check(&fields, None);
        // Three fields are dropped, three are added.
        let three: Vec<&str> = names.iter().take(3).map(String::as_str).collect();
        check(
            fields.get(..3).unwrap_or_default(),
            Some((&three, &[":path", ":authority", "te"])),
        );
        check(fields.get(..4).unwrap_or_default(), None);
    }
}
