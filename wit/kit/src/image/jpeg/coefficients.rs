//! Coefficients of blocks: those of a baseline image at once, those of a progressive image in
//! several scans. All functions return `None` for invalid codes and at the end of the scan's bits.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "positions are checked to be in the block; a file's coefficients wrap"
)]

use super::bits::{Bits, Table};
use super::{BLOCK, ZIGZAG};

/// The part of the coefficients that a scan has.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// The first and the last coefficient.
    pub(super) from: usize,
    pub(super) to: usize,
    /// The bit before the one that the scan begins with; 0 in a first scan.
    pub(super) high: u32,
    /// The lowest bit that the scan has.
    pub(super) low: u32,
}

/// A coefficient's difference from the one of the last block.
fn difference(bits: &mut Bits<'_>, table: &Table, last: &mut i32) -> Option<i32> {
    let size = bits.symbol(table)?;
    if size > 15 {
        return None;
    }
    *last = last.wrapping_add(bits.signed(u32::from(size))?);
    Some(*last)
}

/// All coefficients of a block.
pub(super) fn baseline(
    bits: &mut Bits<'_>,
    first: &Table,
    others: &Table,
    last: &mut i32,
    block: &mut [i16; BLOCK],
) -> Option<()> {
    block[0] = difference(bits, first, last)? as i16;
    let mut at = 1;
    while at < BLOCK {
        let symbol = bits.symbol(others)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if zeros != 15 {
                break;
            }
            at += 16;
            continue;
        }
        at += zeros;
        let position = usize::from(*ZIGZAG.get(at)?);
        block[position] = bits.signed(size)? as i16;
        at += 1;
    }
    Some(())
}

/// The first coefficient of a block of a progressive image.
pub(super) fn first(
    bits: &mut Bits<'_>,
    table: Option<&Table>,
    part: Part,
    last: &mut i32,
    block: &mut [i16; BLOCK],
) -> Option<()> {
    if part.high == 0 {
        block[0] = (difference(bits, table?, last)? << part.low) as i16;
    } else if bits.number(1)? == 1 {
        block[0] |= 1 << part.low;
    }
    Some(())
}

/// The other coefficients of a block, the first time. `ended` is the number of following blocks
/// without any.
pub(super) fn others(
    bits: &mut Bits<'_>,
    table: &Table,
    part: Part,
    ended: &mut u32,
    block: &mut [i16; BLOCK],
) -> Option<()> {
    if *ended > 0 {
        *ended -= 1;
        return Some(());
    }
    let mut at = part.from;
    while at <= part.to {
        let symbol = bits.symbol(table)?;
        let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
        if size == 0 {
            if zeros != 15 {
                *ended = (1 << zeros) - 1 + bits.number(u32::from(symbol >> 4))?;
                break;
            }
            at += 16;
            continue;
        }
        at += zeros;
        let position = usize::from(*ZIGZAG.get(at)?);
        block[position] = (bits.signed(size)? << part.low) as i16;
        at += 1;
    }
    Some(())
}

/// One bit more of the other coefficients of a block.
pub(super) fn refined(
    bits: &mut Bits<'_>,
    table: &Table,
    part: Part,
    ended: &mut u32,
    block: &mut [i16; BLOCK],
) -> Option<()> {
    let bit = 1_i16 << part.low;
    let mut at = part.from;
    if *ended == 0 {
        while at <= part.to {
            let symbol = bits.symbol(table)?;
            let mut zeros = u32::from(symbol >> 4);
            let new = match symbol & 15 {
                0 if zeros != 15 => {
                    *ended = (1 << zeros) + bits.number(zeros)?;
                    break;
                }
                0 => 0,
                1 if bits.number(1)? == 1 => bit,
                1 => -bit,
                _ => return None,
            };
            // Coefficients that are not zero get their bit on the way to the new one.
            while at <= part.to {
                let coefficient = &mut block[usize::from(*ZIGZAG.get(at)?)];
                at += 1;
                if *coefficient != 0 {
                    refine(bits, coefficient, bit)?;
                } else if zeros == 0 {
                    *coefficient = new;
                    break;
                } else {
                    zeros -= 1;
                }
            }
        }
    }
    if *ended > 0 {
        while at <= part.to {
            let coefficient = &mut block[usize::from(*ZIGZAG.get(at)?)];
            at += 1;
            if *coefficient != 0 {
                refine(bits, coefficient, bit)?;
            }
        }
        *ended -= 1;
    }
    Some(())
}

/// Adds a bit to a coefficient that is not zero, away from it.
fn refine(bits: &mut Bits<'_>, coefficient: &mut i16, bit: i16) -> Option<()> {
    if bits.number(1)? == 1 && *coefficient & bit == 0 {
        let change = if *coefficient > 0 { bit } else { -bit };
        *coefficient = coefficient.wrapping_add(change);
    }
    Some(())
}
