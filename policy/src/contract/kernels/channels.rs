//! Per-channel ranges: each index along one axis has its own bounds.
//!
//! Elements of one channel lie in runs whose length is the product of the dimensions after the
//! axis. Long runs are scanned one by one; short ones are compared with a repeating tile of bounds.
//! Both become vector code. Data shorter than a tile, and rejected data, is scanned element by
//! element.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::datatype::Datatype;

use super::element::{Element, by_element};
use super::every;

/// Minimum run length for scanning runs one by one.
const LONG_RUN: usize = 64;
/// Minimum number of elements in a tile.
const TILE: usize = 256;

/// Bounds along an axis.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channels {
    /// The axis.
    pub axis: usize,
    /// Bounds of each channel, as bits of the element type.
    pub bounds: Vec<(u64, u64)>,
}

/// Position of a chunk of data in its tensor, and the tensor's layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::contract) struct DataPosition {
    /// Index of the first element.
    pub(in crate::contract) first: usize,
    /// Length of a run: consecutive elements of one channel.
    pub(in crate::contract) run: usize,
}

/// Index of the first element outside its channel's bounds; remaining bytes at the end count as
/// one.
pub(super) fn first_out(
    datatype: Datatype,
    channels: &Channels,
    position: DataPosition,
    data: &[u8],
) -> Option<usize> {
    by_element!(datatype, E => walk::<E>(channels, position, data), Some(0))
}

/// Whether every element is within its channel's bounds.
pub(super) fn clean(
    datatype: Datatype,
    channels: &Channels,
    position: DataPosition,
    data: &[u8],
) -> bool {
    by_element!(datatype, E => scan::<E>(channels, position, data), false)
}

fn outside<E: Element>(element: E::Bytes, least: E::Key, greatest: E::Key) -> bool {
    let key = E::key(element);
    // Written so that NaN, which compares with nothing, is outside.
    !((key >= least) & (key <= greatest))
}

/// Channel of an element and the remaining length of its run, including the element. `None` without
/// channels.
fn channel(channels: &Channels, position: DataPosition, index: usize) -> Option<(usize, usize)> {
    let at = position.first.checked_add(index)?;
    let channel = at
        .checked_div(position.run)?
        .checked_rem(channels.bounds.len())?;
    let left = position.run.checked_sub(at.checked_rem(position.run)?)?;
    Some((channel, left))
}

fn walk<E: Element>(channels: &Channels, position: DataPosition, data: &[u8]) -> Option<usize> {
    let (elements, rest) = E::split(data);
    let mut index = 0_usize;
    while let Some(left) = elements.get(index..).filter(|left| !left.is_empty()) {
        // Elements without a channel cannot be in range.
        let Some((number, run)) = channel(channels, position, index) else {
            return Some(index);
        };
        let Some((least, greatest)) = channels.bounds.get(number) else {
            return Some(index);
        };
        let (least, greatest) = (E::kept(*least), E::kept(*greatest));
        let mut run = left.iter().take(run);
        let length = run.len();
        if let Some(bad) = run.position(|element| outside::<E>(*element, least, greatest)) {
            return Some(index.saturating_add(bad));
        }
        index = index.saturating_add(length);
    }
    (!rest.is_empty()).then_some(elements.len())
}

fn scan<E: Element>(channels: &Channels, position: DataPosition, data: &[u8]) -> bool {
    let (elements, rest) = E::split(data);
    if !rest.is_empty() {
        return false;
    }
    if position.run >= LONG_RUN {
        return runs::<E>(channels, position, elements);
    }
    let period = position.run.saturating_mul(channels.bounds.len());
    let tile = TILE
        .checked_next_multiple_of(period)
        .filter(|tile| *tile <= elements.len());
    match tile {
        Some(tile) => tiles::<E>(channels, position, tile, elements),
        None => walk::<E>(channels, position, data).is_none(),
    }
}

fn runs<E: Element>(channels: &Channels, position: DataPosition, mut left: &[E::Bytes]) -> bool {
    let mut index = 0_usize;
    while !left.is_empty() {
        let bounds = channel(channels, position, index)
            .and_then(|(number, run)| Some((channels.bounds.get(number)?, run)));
        let Some(((least, greatest), run)) = bounds else {
            return false;
        };
        let (least, greatest) = (E::kept(*least), E::kept(*greatest));
        let (run, after) = left.split_at(run.min(left.len()));
        if !every(run, |element| !outside::<E>(*element, least, greatest)) {
            return false;
        }
        index = index.saturating_add(run.len());
        left = after;
    }
    true
}

fn tiles<E: Element>(
    channels: &Channels,
    position: DataPosition,
    tile: usize,
    elements: &[E::Bytes],
) -> bool {
    let (mut least, mut greatest) = (Vec::with_capacity(tile), Vec::with_capacity(tile));
    while least.len() < tile {
        let bounds = channel(channels, position, least.len())
            .and_then(|(number, run)| Some((channels.bounds.get(number)?, run)));
        let Some(((low, high), run)) = bounds else {
            return false;
        };
        let end = least.len().saturating_add(run).min(tile);
        least.resize(end, E::kept(*low));
        greatest.resize(end, E::kept(*high));
    }
    // A tile consists of whole periods, so every block begins like the tile.
    elements.chunks(tile).all(|block| {
        let bounds = least.iter().zip(&greatest);
        !block
            .iter()
            .zip(bounds)
            .fold(false, |flag, (element, (least, greatest))| {
                flag | outside::<E>(*element, *least, *greatest)
            })
    })
}
