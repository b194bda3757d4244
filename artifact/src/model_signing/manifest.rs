//! The manifest of a signed model: its files or their shards, each with a digest, and the rules by
//! which they were found.

use std::cmp::Ordering;
use std::num::NonZeroU64;
use std::ops::Range;

use sha2::{Digest as _, Sha256};

use super::json::{decimal, excerpt};
use super::names::{self, NameFault};
use super::path::{Exclusions, PathFault, SINGLE_FILE, check};

/// Maximum resources of a manifest: files, or shards of files.
pub const MAX_RESOURCES: usize = 200_000;

/// Why resources are not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestFault {
    /// A signature over nothing.
    #[error("the model has no files; a signature over nothing is not accepted")]
    Empty,
    /// More resources than [`MAX_RESOURCES`].
    #[error("the model has more than {} files or shards", MAX_RESOURCES)]
    TooMany,
    /// The resources are not in one of the two orders, or one is there twice.
    #[error("the resources are not sorted by name, or one of them is there twice")]
    Order,
    /// A name that is not a path in the model.
    #[error("the resource {0:?} {1}")]
    Path(String, PathFault),
    /// A name that is not `PATH:START:END`.
    #[error("the resource {0:?} is no shard: its name does not end in `:START:END`")]
    ShardName(String),
    /// The shards of a file leave a gap, overlap, or have another size than the signed one.
    #[error("the shards of {0:?} do not cover the file in pieces of the signed size")]
    Shards(String),
    /// Names that some systems take for one.
    #[error(
        "{0:?} has a name in its folder that differs from another one only by case, the form of \
         Unicode or hidden characters, and some systems keep only one of both: rename it"
    )]
    Alike(String),
    /// The subject's digest is not that of the resources.
    #[error("the root digest is {signed}, that of the resources is {computed}")]
    Root {
        /// The signed digest, hex.
        signed: String,
        /// The digest of the resources, hex.
        computed: String,
    },
}

/// What a digest is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pieces {
    /// Whole files.
    Files,
    /// Ranges of files, each of this many bytes; the last of a file may be shorter.
    Shards(NonZeroU64),
}

/// By which rules a model's files are found and hashed. A signature fixes them; a verifier cannot
/// replace them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What a digest is over.
    pub pieces: Pieces,
    /// Whether symbolic links were followed. If not, a link in the model is a fault.
    pub follow_links: bool,
    /// What is left out.
    pub exclusions: Exclusions,
}

/// A file or a shard of a file, with its SHA-256.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The path of the file, relative to the model's folder.
    pub path: String,
    /// The bytes of a shard.
    pub range: Option<Range<u64>>,
    /// The digest.
    pub sha256: [u8; 32],
}

impl Resource {
    /// A whole file.
    pub fn file(path: String, sha256: [u8; 32]) -> Self {
        Self {
            path,
            range: None,
            sha256,
        }
    }

    /// A shard of a file.
    pub fn shard(path: String, range: Range<u64>, sha256: [u8; 32]) -> Self {
        Self {
            path,
            range: Some(range),
            sha256,
        }
    }

    /// Reads a resource's name. A path may have colons, so a shard's range is what the last two
    /// colons delimit.
    pub(super) fn from_name(
        name: &str,
        pieces: Pieces,
        sha256: [u8; 32],
    ) -> Result<Self, ManifestFault> {
        if pieces == Pieces::Files {
            return Ok(Self::file(name.to_owned(), sha256));
        }
        let mut parts = name.rsplitn(3, ':');
        let end = parts.next().and_then(decimal);
        let start = parts.next().and_then(decimal);
        match (parts.next(), start, end) {
            (Some(path), Some(start), Some(end)) => {
                Ok(Self::shard(path.to_owned(), start..end, sha256))
            }
            _ => Err(ManifestFault::ShardName(excerpt(name))),
        }
    }

    /// The name in a statement.
    pub fn name(&self) -> String {
        match &self.range {
            None => self.path.clone(),
            Some(range) => format!("{}:{}:{}", self.path, range.start, range.end),
        }
    }

    fn start(&self) -> u64 {
        self.range.as_ref().map_or(0, |range| range.start)
    }

    /// The order in which this crate keeps and compares resources.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let paths = self.path.cmp(&other.path);
        paths.then_with(|| self.start().cmp(&other.start()))
    }

    /// The order in which `model-signing` writes resources: by the components of paths, then by
    /// the start of shards. The specification sorts by name instead.
    fn component_order(&self, other: &Self) -> Ordering {
        let paths = self.path.split('/').cmp(other.path.split('/'));
        paths.then_with(|| self.start().cmp(&other.start()))
    }
}

/// The ranges of a file's shards. An empty file has none.
pub fn shard_ranges(shard_bytes: NonZeroU64, file_bytes: u64) -> impl Iterator<Item = Range<u64>> {
    let mut start = 0_u64;
    std::iter::from_fn(move || {
        let end = start.saturating_add(shard_bytes.get()).min(file_bytes);
        let range = start..end;
        start = end;
        (!range.is_empty()).then_some(range)
    })
}

/// What a signature says about a file in a model's folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileClass {
    /// It is in the manifest. Its digest must be compared.
    Signed,
    /// It is left out by the rules. Nothing is known about it, and nothing should load it.
    Excluded,
    /// It is not in the manifest.
    Unsigned,
}

/// The files of a model with their digests, as they are signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The model's name. A signature is valid under any name, unless the verifier requires one.
    pub name: String,
    rules: Rules,
    /// When the signer says that the model was signed, in seconds since 1970.
    pub signed_at_s: Option<u64>,
    /// Sorted by path and start.
    resources: Vec<Resource>,
}

impl Manifest {
    /// A manifest of these resources, in any order. `name` is the model's name, by default the last
    /// component of its path.
    ///
    /// # Errors
    /// There are none or too many, a path is not canonical, one is there twice or is the same as
    /// another for some systems, or shards do not cover their files.
    pub fn new(
        name: String,
        rules: Rules,
        mut resources: Vec<Resource>,
    ) -> Result<Self, ManifestFault> {
        resources.sort_by(Resource::order);
        if !resources.is_sorted_by(|left, right| left.order(right).is_lt()) {
            return Err(ManifestFault::Order);
        }
        check_resources(&rules, &resources)?;
        Ok(Self {
            name,
            rules,
            signed_at_s: None,
            resources,
        })
    }

    /// The same manifest with the time at which it is signed, in seconds since 1970.
    #[must_use]
    pub fn signed_at(mut self, time_s: u64) -> Self {
        self.signed_at_s = Some(time_s);
        self
    }

    /// A manifest as it is listed in a statement, with the digest of its subject.
    pub(super) fn from_listed(
        name: String,
        rules: Rules,
        listed: Vec<Resource>,
        root: &[u8; 32],
    ) -> Result<Self, ManifestFault> {
        let names: Vec<String> = listed.iter().map(Resource::name).collect();
        let is_by_name = names.is_sorted_by(|left, right| left < right);
        if !is_by_name && !listed.is_sorted_by(|left, right| left.component_order(right).is_lt()) {
            return Err(ManifestFault::Order);
        }
        let computed = root_digest(&listed);
        if computed != *root {
            return Err(ManifestFault::Root {
                signed: tensorgate_values::hex(root),
                computed: tensorgate_values::hex(&computed),
            });
        }
        Self::new(name, rules, listed)
    }

    /// The signed rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The resources, sorted by path and start.
    pub fn resources(&self) -> &[Resource] {
        &self.resources
    }

    /// The digest of the model: that of its statement's subject, in the order of names.
    pub fn digest(&self) -> [u8; 32] {
        root_digest(&self.by_name())
    }

    /// The resources in the order of the specification: sorted by name.
    pub(super) fn by_name(&self) -> Vec<Resource> {
        let mut resources = self.resources.clone();
        resources.sort_by_cached_key(Resource::name);
        resources
    }

    /// What the signature says about a file.
    pub fn classify(&self, path: &str) -> FileClass {
        if !self.pieces_of(path).is_empty() {
            FileClass::Signed
        } else if self.rules.exclusions.covers(path) {
            FileClass::Excluded
        } else {
            FileClass::Unsigned
        }
    }

    /// Whether a folder is left out and has no signed files, so that it need not be entered.
    pub fn skips_folder(&self, folder: &str) -> bool {
        let below = format!("{folder}/");
        let first = self
            .resources
            .partition_point(|resource| resource.path < below);
        let next = self.resources.get(first);
        self.rules.exclusions.covers(folder)
            && !next.is_some_and(|resource| resource.path.starts_with(&below))
    }

    /// Under which path a model that is a single file is listed: its name, or `.` in bundles of
    /// `model-signing`.
    pub fn single_file_path<'n>(&self, file_name: &'n str) -> &'n str {
        if self.pieces_of(SINGLE_FILE).is_empty() {
            file_name
        } else {
            SINGLE_FILE
        }
    }

    /// How long a file is that is signed in shards. Compare it before the shards are hashed: how
    /// many they are is up to the signer.
    pub fn sharded_bytes(&self, path: &str) -> Option<u64> {
        let last = self.pieces_of(path).last()?;
        last.range.as_ref().map(|range| range.end)
    }

    fn pieces_of(&self, path: &str) -> &[Resource] {
        let start = self
            .resources
            .partition_point(|resource| resource.path.as_str() < path);
        let end = self
            .resources
            .partition_point(|resource| resource.path.as_str() <= path);
        self.resources.get(start..end).unwrap_or_default()
    }
}

/// SHA-256 over the digests, in the order of the list.
pub(super) fn root_digest(listed: &[Resource]) -> [u8; 32] {
    let mut root = Sha256::new();
    for resource in listed {
        root.update(resource.sha256);
    }
    root.finalize().into()
}

/// Checks sorted resources: their number, their paths and their ranges.
fn check_resources(rules: &Rules, resources: &[Resource]) -> Result<(), ManifestFault> {
    if resources.is_empty() {
        return Err(ManifestFault::Empty);
    }
    if resources.len() > MAX_RESOURCES {
        return Err(ManifestFault::TooMany);
    }
    // A single file has no other path beside it.
    let is_single = resources
        .iter()
        .all(|resource| resource.path == SINGLE_FILE);
    for file in resources.chunk_by(|left, right| left.path == right.path) {
        let Some(Resource { path, .. }) = file.first() else {
            continue;
        };
        if !is_single {
            check(path).map_err(|fault| ManifestFault::Path(excerpt(path), fault))?;
        }
        let is_covered = match rules.pieces {
            Pieces::Files => matches!(file, [Resource { range: None, .. }]),
            Pieces::Shards(bytes) => is_covered(file, bytes),
        };
        if !is_covered {
            return Err(ManifestFault::Shards(excerpt(path)));
        }
    }
    let paths = resources.iter().map(|it| it.path.as_str());
    names::check(paths, names::MAX_NAMES).map_err(|fault| match fault {
        NameFault::Alike(path) => ManifestFault::Alike(excerpt(&path)),
        NameFault::TooMany => ManifestFault::TooMany,
    })
}

/// Whether the shards of a file follow each other from its start, each of the signed size, and the
/// last of at most that size.
fn is_covered(shards: &[Resource], shard_bytes: NonZeroU64) -> bool {
    let Some(Range { end, .. }) = shards.last().and_then(|it| it.range.as_ref()) else {
        return false;
    };
    let expected = shard_ranges(shard_bytes, *end).map(Some);
    // At most one range more than there are shards is computed.
    expected.eq(shards.iter().map(|shard| shard.range.clone()))
}

#[cfg(test)]
mod tests;
