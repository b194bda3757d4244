//! Fetched key sets of issuers. The caller fetches, stores and removes them.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_policy::policy::{Issuer, PublicKey};

/// Unique id of a fetched key, or of a fetched set as a whole. A later key with the same name has
/// another id, and so has a set after any change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyMark(u64);

/// Key sets by issuer name.
#[derive(Debug, Default)]
pub struct KeySets {
    sets: BTreeMap<String, MarkedSet>,
    last: u64,
}

/// The keys of one issuer, and the id of this state of the set.
#[derive(Debug)]
struct MarkedSet {
    mark: KeyMark,
    keys: Vec<(KeyMark, PublicKey)>,
}

/// What is known about a key that is not in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The set is current: the key does not exist.
    Unknown,
    /// It may have been published since; the caller may wait for another fetch.
    Awaited,
    /// Unknown; the cause, for the log.
    Unverifiable(&'static str),
}

/// Provider of fetched key sets.
pub trait KeySource {
    /// What is known about a key that is not in an issuer's set.
    fn missing(&mut self, _issuer: &str) -> Missing {
        Missing::Unverifiable(NOT_FETCHED)
    }
}

/// Cause if nothing is fetched.
pub const NOT_FETCHED: &str = "the issuer's keys have not been fetched";

impl KeySets {
    /// Replaces an issuer's keys. An unchanged key keeps its id, and so does an unchanged set.
    pub fn put(&mut self, issuer: &str, keys: Vec<PublicKey>) {
        let before = self.sets.remove(issuer);
        let known = before.as_ref().map_or(&[][..], |set| set.keys.as_slice());
        let mut marked = Vec::with_capacity(keys.len());
        for key in keys {
            let same = known.iter().find(|(_, known)| *known == key);
            let mark = same.map_or_else(|| self.next(), |(mark, _)| *mark);
            marked.push((mark, key));
        }
        let mark = match before {
            Some(set) if set.keys == marked => set.mark,
            _ => self.next(),
        };
        let set = MarkedSet { mark, keys: marked };
        self.sets.insert(issuer.into(), set);
    }

    /// Removes an issuer's keys.
    pub fn remove(&mut self, issuer: &str) {
        self.sets.remove(issuer);
    }

    /// All keys of an issuer: those of the policy, then the fetched ones with their ids.
    pub(crate) fn keys_of<'k>(
        &'k self,
        issuer: &'k Issuer,
    ) -> impl Iterator<Item = (Option<KeyMark>, &'k PublicKey)> + Clone {
        let listed = issuer.keys().iter().map(|key| (None, key));
        let fetched = self.of(issuer.name()).iter();
        listed.chain(fetched.map(|(mark, key)| (Some(*mark), key)))
    }

    /// An issuer's fetched keys; empty if unknown.
    fn of(&self, issuer: &str) -> &[(KeyMark, PublicKey)] {
        self.sets.get(issuer).map_or(&[], |set| set.keys.as_slice())
    }

    /// The id of an issuer's set, if it is fetched.
    pub(crate) fn mark_of(&self, issuer: &str) -> Option<KeyMark> {
        self.sets.get(issuer).map(|set| set.mark)
    }

    /// Whether a key, or a set without any change, is still published. Keys of the policy always
    /// are.
    pub(crate) fn counts(&self, mark: Option<KeyMark>) -> bool {
        mark.is_none_or(|mark| {
            self.sets
                .values()
                .any(|set| set.mark == mark || set.keys.iter().any(|(known, _)| *known == mark))
        })
    }

    const fn next(&mut self) -> KeyMark {
        self.last = self.last.saturating_add(1);
        KeyMark(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use tensorgate_policy::issuer_keys::published;
    use tensorgate_policy::policy::Algorithm;
    use tensorgate_policy::values::{Jwk, KeySet};

    fn keys(list: &[(&str, u8)]) -> Vec<PublicKey> {
        let key = |(kid, byte): &(&str, u8)| Jwk {
            kty: Some("OKP".into()),
            crv: Some("Ed25519".into()),
            kid: Some((*kid).into()),
            x: Some(URL_SAFE_NO_PAD.encode([*byte; 32])),
            ..Jwk::default()
        };
        let set = KeySet {
            keys: list.iter().map(|entry| key(entry).into()).collect(),
        };
        published(&set, &[Algorithm::EdDsa]).map_or(vec![], |published| published.keys)
    }

    fn marks(sets: &KeySets, issuer: &str) -> Vec<u64> {
        sets.of(issuer).iter().map(|(mark, _)| mark.0).collect()
    }

    #[test]
    fn a_key_keeps_its_number_while_published_and_numbers_are_not_reused() {
        let mut sets = KeySets::default();
        // The numbers between are those of the sets.
        sets.put("a", keys(&[("1", 1), ("2", 2)]));
        sets.put("b", keys(&[("1", 1)]));
        assert_eq!(
            (marks(&sets, "a"), marks(&sets, "b")),
            ([1, 2].into(), [4].into())
        );
        sets.put("a", keys(&[("2", 2), ("3", 3)]));
        assert_eq!(marks(&sets, "a"), [2, 6]);
        assert!(!sets.counts(Some(KeyMark(1))) && sets.counts(Some(KeyMark(2))));
        // The same name with another key, and the same key with another name.
        sets.put("a", keys(&[("2", 9), ("9", 2)]));
        assert_eq!(marks(&sets, "a"), [8, 9]);
        sets.remove("a");
        assert!(
            !sets.counts(Some(KeyMark(8))) && sets.counts(Some(KeyMark(4))) && sets.counts(None)
        );
        sets.put("a", keys(&[("2", 9)]));
        assert_eq!(marks(&sets, "a"), [11]);
    }

    #[test]
    fn a_set_keeps_its_number_until_any_of_its_keys_changes() {
        let mut sets = KeySets::default();
        sets.put("a", keys(&[("1", 1)]));
        let first = sets.mark_of("a");
        sets.put("a", keys(&[("1", 1)]));
        assert!(sets.mark_of("a") == first && sets.counts(first));
        sets.put("a", keys(&[("1", 1), ("2", 2)]));
        assert!(sets.mark_of("a") != first && !sets.counts(first));
        sets.remove("a");
        assert_eq!(sets.mark_of("a"), None);
    }
}
