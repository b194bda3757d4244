//! Rewrites the client's headers into the forwarded headers: field by field if few differ,
//! otherwise as a whole. Both ways give the same fields. Replacing a whole map costs a proxy as
//! much as a dozen single changes.

use crate::host::{Field, HostFault, Proxy};

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
        gone: Vec<String>,
        /// Indices of forwarded fields whose value differs, or that occurred not exactly once.
        put: Vec<usize>,
    },
}

impl Rewrite {
    /// No changes except fields that are known only when the head is forwarded.
    pub(crate) const DONE: Self = Self::Fields {
        gone: Vec::new(),
        put: Vec::new(),
    };

    /// Plans the changes from the proxy's fields to the forwarded fields.
    pub(crate) fn plan(fields: &[Field], crossing: &[(&str, &str)]) -> Self {
        let mut gone: Vec<String> = Vec::new();
        for (name, _) in fields {
            let crosses = crossing.iter().any(|(known, _)| known.as_bytes() == name);
            if crosses || gone.iter().any(|known| known.as_bytes() == name) {
                continue;
            }
            // A name that is not text is rejected before anything is forwarded.
            let (true, Ok(name)) = (gone.len() < MAX_CHANGES, str::from_utf8(name)) else {
                return Self::Whole;
            };
            gone.push(name.to_owned());
        }
        let is_so = |(name, value): &(&str, &str)| {
            let mut came = fields
                .iter()
                .filter(|(known, _)| known == name.as_bytes())
                .map(|(_, value)| value.as_slice());
            (came.next(), came.next()) == (Some(value.as_bytes()), None)
        };
        let put: Vec<_> = crossing
            .iter()
            .enumerate()
            .filter(|(_, field)| !is_so(field))
            .map(|(place, _)| place)
            .collect();
        if gone.len().saturating_add(put.len()) > MAX_CHANGES {
            return Self::Whole;
        }
        Self::Fields { gone, put }
    }

    /// Applies the plan. `crossing` are the planned fields; `added` is set in addition.
    pub(crate) fn carry_out(
        &self,
        proxy: &mut dyn Proxy,
        crossing: &[(&str, &str)],
        added: Option<(&str, &str)>,
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
                let changed = put.iter().filter_map(|place| crossing.get(*place));
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
        let fields: Vec<Field> = fields
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        let expected = expected.map_or(Rewrite::Whole, |(gone, put)| Rewrite::Fields {
            gone: gone.iter().map(|name| (*name).to_owned()).collect(),
            put: (0..CROSSING.len())
                .filter(|place| put.contains(&CROSSING[*place].0))
                .collect(),
        });
        assert_eq!(Rewrite::plan(&fields, &CROSSING), expected, "{fields:?}");
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
