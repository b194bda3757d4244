//! Keys of issuers that publish them, as they were fetched last. It fetches nothing: whoever does puts them here, and takes them away when they are
//! too old.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_policy::policy::PublicKey;

/// One key's name among all that ever were in these sets: what came of it can be told from what came of a later key of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(u64);

/// Sets by the issuers' names in the policy.
#[derive(Debug, Default)]
pub struct KeySets {
    sets: BTreeMap<String, Vec<(Mark, PublicKey)>>,
    last: u64,
}

/// What can be said of a key that an issuer's set does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The set is what the issuer publishes: there is no such key.
    Unknown,
    /// It may have been published since. Whoever asks may wait for another look.
    Awaited,
    /// Nothing is known: why, for the log.
    Unjudged(&'static str),
}

/// Whoever fetches key sets.
pub trait KeySource {
    /// What is known of a key that an issuer's set, as it is here, does not hold.
    fn missing(&mut self, _issuer: &str) -> Missing {
        Missing::Unjudged(NOT_FETCHED)
    }
}

/// Where nobody fetches.
pub const NOT_FETCHED: &str = "the issuer's keys have not been fetched";

impl KeySets {
    /// Puts keys in the place of those that an issuer had. A key that it had is the same key.
    pub fn put(&mut self, issuer: &str, keys: Vec<PublicKey>) {
        let before = self.sets.remove(issuer).unwrap_or_default();
        let marked = keys
            .into_iter()
            .map(|key| {
                let known = before.iter().find(|(_, known)| *known == key);
                let mark = known.map_or_else(|| self.next(), |(mark, _)| *mark);
                (mark, key)
            })
            .collect();
        self.sets.insert(issuer.into(), marked);
    }

    /// Takes an issuer's keys away.
    pub fn remove(&mut self, issuer: &str) {
        self.sets.remove(issuer);
    }

    /// An issuer's keys; none, too, where nothing is known of them.
    pub(crate) fn of(&self, issuer: &str) -> &[(Mark, PublicKey)] {
        self.sets.get(issuer).map_or(&[], Vec::as_slice)
    }

    /// Whether a key is still published; one that the policy lists always counts.
    pub(crate) fn counts(&self, mark: Option<Mark>) -> bool {
        mark.is_none_or(|mark| {
            let mut keys = self.sets.values().flatten();
            keys.any(|(known, _)| *known == mark)
        })
    }

    const fn next(&mut self) -> Mark {
        self.last = self.last.saturating_add(1);
        Mark(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use tensorgate_policy::policy::Algorithm;
    use tensorgate_policy::raw::{Jwk, KeySet};
    use tensorgate_policy::validate::published;

    fn keys(list: &[(&str, u8)]) -> Vec<PublicKey> {
        let key = |(kid, byte): &(&str, u8)| Jwk {
            kty: Some("OKP".into()),
            crv: Some("Ed25519".into()),
            kid: Some((*kid).into()),
            x: Some(URL_SAFE_NO_PAD.encode([*byte; 32])),
            ..Jwk::default()
        };
        let set = KeySet {
            keys: list.iter().map(key).collect(),
        };
        published(&set, &[Algorithm::EdDsa]).map_or(vec![], |published| published.keys)
    }

    fn marks(sets: &KeySets, issuer: &str) -> Vec<u64> {
        sets.of(issuer).iter().map(|(mark, _)| mark.0).collect()
    }

    #[test]
    fn a_key_keeps_its_mark_while_it_is_published_and_no_other_ever_gets_it() {
        let mut sets = KeySets::default();
        sets.put("a", keys(&[("1", 1), ("2", 2)]));
        sets.put("b", keys(&[("1", 1)]));
        assert_eq!((marks(&sets, "a"), marks(&sets, "b")), ([1, 2].into(), [3].into()));
        sets.put("a", keys(&[("2", 2), ("3", 3)]));
        assert_eq!(marks(&sets, "a"), [2, 4]);
        assert!(!sets.counts(Some(Mark(1))) && sets.counts(Some(Mark(2))));
        // The same name for another key, and the same key under another name.
        sets.put("a", keys(&[("2", 9), ("9", 2)]));
        assert_eq!(marks(&sets, "a"), [5, 6]);
        sets.remove("a");
        assert!(!sets.counts(Some(Mark(5))) && sets.counts(Some(Mark(3))) && sets.counts(None));
        sets.put("a", keys(&[("2", 9)]));
        assert_eq!(marks(&sets, "a"), [7]);
    }
}
