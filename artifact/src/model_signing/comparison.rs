//! Compares a signed manifest with the files that a model has.

use std::cmp::Ordering;
use std::fmt;

use super::json::excerpt;
use super::manifest::{Manifest, Resource};

/// Maximum differences that are named. The others are counted.
const MAX_NAMED: usize = 20;

/// How a resource differs from what was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has another digest, or a shard has another end.
    Content,
    /// It is signed and not in the model.
    Missing,
    /// It is in the model and not signed.
    Unsigned,
}

/// All differences between a manifest and a model; none for the signed model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The first differences, by the name of the resource.
    pub named: Vec<(String, Change)>,
    /// How many there are.
    pub count: usize,
}

impl Differences {
    /// Whether the model is the signed one.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn add(&mut self, resource: &Resource, change: Change) {
        if self.named.len() < MAX_NAMED {
            self.named.push((resource.name(), change));
        }
        self.count = self.count.saturating_add(1);
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, change)) in self.named.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let change = match change {
                Change::Content => "has other content than was signed",
                Change::Missing => "is signed and missing",
                Change::Unsigned => "is not signed",
            };
            write!(f, "{separator}{:?} {change}", excerpt(name))?;
        }
        match self.count.saturating_sub(self.named.len()) {
            0 => Ok(()),
            others => write!(f, ", and {others} more"),
        }
    }
}

/// Compares a manifest with the resources of a model, in any order.
///
/// `found` has all files of the model but those of class [`super::FileClass::Excluded`], hashed by
/// the manifest's own [`super::Rules`].
pub fn compare(manifest: &Manifest, mut found: Vec<Resource>) -> Differences {
    found.sort_by(Resource::order);
    let mut differences = Differences::default();
    let mut signed = manifest.resources().iter().peekable();
    let mut found = found.iter().peekable();
    loop {
        let order = match (signed.peek(), found.peek()) {
            (None, None) => return differences,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(signed), Some(found)) => signed.order(found),
        };
        let expected = if order.is_le() { signed.next() } else { None };
        let actual = if order.is_ge() { found.next() } else { None };
        match (expected, actual) {
            (Some(expected), Some(actual)) if expected != actual => {
                differences.add(expected, Change::Content);
            }
            (Some(expected), None) => differences.add(expected, Change::Missing),
            (None, Some(actual)) => differences.add(actual, Change::Unsigned),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::model_signing::{Exclusions, Pieces, Rules};

    fn file(path: &str, digest: u8) -> Resource {
        Resource::file(path.to_owned(), [digest; 32])
    }

    fn manifest(resources: Vec<Resource>) -> Manifest {
        let rules = Rules {
            pieces: Pieces::Files,
            follow_links: false,
            exclusions: Exclusions::default(),
        };
        Manifest::new("model".to_owned(), rules, resources).unwrap()
    }

    #[test]
    fn each_kind_of_difference_is_named() {
        let signed = manifest(vec![file("a", 1), file("b", 2), file("d", 4)]);
        let same = compare(&signed, vec![file("d", 4), file("b", 2), file("a", 1)]);
        assert!(same.is_empty());
        let other = compare(
            &signed,
            vec![file("e", 5), file("c", 3), file("b", 0), file("a", 1)],
        );
        assert_eq!(
            other.to_string(),
            "\"b\" has other content than was signed, \"c\" is not signed, \"d\" is signed and \
             missing, \"e\" is not signed"
        );
        let twice = compare(
            &signed,
            vec![file("a", 1), file("a", 1), file("b", 2), file("d", 4)],
        );
        assert_eq!(twice.count, 1);
    }

    #[test]
    fn a_shard_that_became_longer_is_another() {
        let shard = |end| Resource::shard("a".to_owned(), 0..end, [0; 32]);
        let rules = Rules {
            pieces: Pieces::Shards(std::num::NonZeroU64::new(8).unwrap()),
            follow_links: false,
            exclusions: Exclusions::default(),
        };
        let signed = Manifest::new("model".to_owned(), rules, vec![shard(5)]).unwrap();
        assert!(compare(&signed, vec![shard(5)]).is_empty());
        let longer = compare(&signed, vec![shard(6)]);
        assert_eq!(longer.named, [("a:0:5".to_owned(), Change::Content)]);
    }

    #[test]
    fn only_the_first_differences_are_named() {
        let signed = manifest(vec![file("a", 1)]);
        let found = (0..100).map(|n| file(&format!("n{n:03}"), 0)).collect();
        let differences = compare(&signed, found);
        assert_eq!(
            (differences.named.len(), differences.count),
            (MAX_NAMED, 101)
        );
        assert!(differences.to_string().ends_with(", and 81 more"));
    }
}
