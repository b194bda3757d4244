//! TensorFlow's tensor bundles: the variables of a SavedModel, and checkpoints.
//!
//! `variables.index` is a table of LevelDB, whose values say which bytes of
//! `variables.data-00000-of-00001` are which tensor. A reader copies those bytes. Tensors of a type
//! that is no plain data are not safe.

mod crc32c;
mod entry;
pub(super) mod state;
pub(super) mod table;
#[cfg(test)]
mod tests;

use std::io;
use std::ops::Range;

use self::entry::Position;
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict};
use crate::scan::rules;

/// The letters before the number of a data file in its name.
const DATA: &str = ".data-";
/// The letters between the number of a data file and how many there are.
const OF: &str = "-of-";
/// Digits of either number, at least.
const MIN_DIGITS: usize = 5;

/// Scans the index of a tensor bundle.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let (report, _) = read(input, limits)?;
    Ok(report)
}

/// The tensors of a bundle, by its index. `None` if it is not safe to follow.
pub(super) fn tensors(index: &mut dyn Input, limits: &Limits) -> io::Result<Option<BundleTensors>> {
    let (report, bundle) = read(index, limits)?;
    let shards = bundle.shards.filter(|_| report.verdict == Verdict::Safe);
    Ok(shards.map(|shards| BundleTensors {
        shards,
        positions: bundle.places,
    }))
}

/// The tensors of a bundle that is safe to follow.
#[derive(Debug)]
pub(super) struct BundleTensors {
    /// How many data files there are.
    shards: u64,
    positions: Vec<Position>,
}

impl BundleTensors {
    /// The bytes of the tensors in a data file. Its name says which one it is, and of how many.
    pub(super) fn in_file(&self, data_name: &str) -> Option<Vec<Range<u64>>> {
        let (shard, shards) = data_number(data_name)?;
        if shards != self.shards {
            return None;
        }
        let positions = self.positions.iter();
        let positions = positions.filter(|position| position.shard == shard);
        Some(
            positions
                .map(|position| position.offset..position.end)
                .collect(),
        )
    }

    /// The bytes that they take in memory.
    pub(super) const fn bytes(&self) -> usize {
        self.positions
            .capacity()
            .saturating_mul(size_of::<Position>())
    }
}

/// The number of a data file, and how many there are: `variables.data-00000-of-00001`.
fn data_number(name: &str) -> Option<(u64, u64)> {
    let (_, numbers) = name.rsplit_once(DATA)?;
    let (shard, shards) = numbers.split_once(OF)?;
    let number = |digits: &str| {
        let is_number = digits.len() >= MIN_DIGITS && digits.bytes().all(|c| c.is_ascii_digit());
        is_number.then(|| digits.parse::<u64>().ok()).flatten()
    };
    let (shard, shards) = (number(shard)?, number(shards)?);
    (shard < shards).then_some((shard, shards))
}

/// What an index says.
#[derive(Default)]
struct Bundle {
    shards: Option<u64>,
    /// Where tensors with bytes are, by their beginning.
    places: Vec<Position>,
    /// The most tensors.
    entries: usize,
}

impl table::Visitor for Bundle {
    fn value(&mut self, key: &[u8], value: &[u8], at: u64) -> Result<(), Stop> {
        let Some(shards) = self.shards else {
            if !key.is_empty() {
                // LevelDB, whose format tables have, keeps other things in them.
                return Err(Stop::unknown(
                    at,
                    entry::RULE,
                    "the first key is no header's",
                ));
            }
            self.shards = Some(entry::shards(value, at)?);
            return Ok(());
        };
        if self.places.len() >= self.entries {
            let detail = format!("more than {} tensors", self.entries);
            return Err(Stop::unknown(at, entry::RULE, detail));
        }
        let position = entry::position(value, shards, at)?;
        self.places
            .extend(position.filter(|position| position.offset < position.end));
        Ok(())
    }
}

fn read(input: &mut dyn Input, limits: &Limits) -> io::Result<(Report, Bundle)> {
    let mut source = Source::new(input, rules::TENSOR_BUNDLE_TRUNCATED)?;
    let mut bundle = Bundle {
        entries: limits.entries,
        ..Bundle::default()
    };
    let walked = table::walk(&mut source, limits.header_bytes, &mut bundle);
    let walked = walked.and_then(|()| check(&mut bundle));
    let report = finish(Report::new("tensor bundle"), walked)?;
    Ok((report, bundle))
}

/// Sorts the tensors, which must not share bytes.
fn check(bundle: &mut Bundle) -> Result<(), Stop> {
    if bundle.shards.is_none() {
        return Err(Stop::malformed(0, entry::RULE, "a table without entries"));
    }
    bundle.places.sort_unstable();
    for (one, next) in bundle.places.iter().zip(bundle.places.iter().skip(1)) {
        if one.shard == next.shard && one.end > next.offset {
            let detail = format!(
                "two tensors share bytes at {} of the data file {}",
                next.offset, next.shard
            );
            return Err(Stop::malformed(0, entry::RULE, detail));
        }
    }
    Ok(())
}
