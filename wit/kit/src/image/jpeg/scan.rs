//! A scan: the coded blocks of one component, or of several that take turns.
#![allow(
    clippy::arithmetic_side_effects,
    reason = "numbers of blocks and samples, which are below the size of the image's memory"
)]

use super::bits::{Bits, Table};
use super::coefficients::{self, Part};
use super::frame::{Component, Frame, SIDE};
use super::{BLOCK, Tables, damaged, inverse};
use crate::failure::Failure;

/// The most blocks of an MCU.
const MAX_BLOCKS: usize = 10;

/// A component of a scan.
struct Member<'a> {
    component: &'a mut Component,
    first: Option<&'a Table>,
    others: Option<&'a Table>,
    quantization: [u16; BLOCK],
    /// The first coefficient of the last block.
    last: i32,
}

/// Decodes a scan of a header, and returns the bytes behind it.
pub(super) fn decode<'a>(
    frame: &mut Frame,
    tables: &Tables,
    header: &[u8],
    bytes: &'a [u8],
) -> Result<&'a [u8], Failure> {
    let wrong = || damaged("a scan's header");
    let (count, behind) = header.split_first().ok_or_else(wrong)?;
    let (listed, behind) = behind
        .split_at_checked(2 * usize::from(*count))
        .ok_or_else(wrong)?;
    let (listed, _) = listed.as_chunks::<2>();
    let [from, to, bits] = *behind else {
        return Err(wrong());
    };
    let part = Part {
        from: usize::from(from),
        to: usize::from(to),
        high: u32::from(bits >> 4),
        low: u32::from(bits & 15),
    };
    let progressive = frame.progressive;
    if progressive && !fits(part, listed.len()) {
        return Err(wrong());
    }
    let (mcus_across, mcus_down) = (frame.mcus_across, frame.mcus_down);
    let (all_across, all_down) = (frame.across, frame.down);
    let (width, height) = (frame.width, frame.height);
    let mut members = members(frame, tables, listed)?;
    let interleaved = members.len() > 1;
    let blocks: usize = members
        .iter()
        .map(|member| member.component.across * member.component.down)
        .sum();
    let (across, down) = match members.as_slice() {
        [] => return Err(wrong()),
        // Alone, a component has only the blocks with samples.
        [member] => (
            (width * member.component.across).div_ceil(all_across * SIDE),
            (height * member.component.down).div_ceil(all_down * SIDE),
        ),
        _ if blocks > MAX_BLOCKS => return Err(wrong()),
        _ => (mcus_across, mcus_down),
    };
    let mut reader = Bits::of(bytes);
    let (mut ended, mut restarts, mut left) = (0_u32, 0_u8, tables.restart_interval);
    for mcu_row in 0..down {
        for mcu in 0..across {
            if tables.restart_interval > 0 && left == 0 {
                reader
                    .restart(restarts)
                    .ok_or_else(|| damaged("a restart marker is missing"))?;
                restarts = restarts.wrapping_add(1);
                left = tables.restart_interval;
                ended = 0;
                for member in &mut members {
                    member.last = 0;
                }
            }
            left = left.saturating_sub(1);
            for member in &mut members {
                let own = &member.component;
                let (wide, deep) = if interleaved {
                    (own.across, own.down)
                } else {
                    (1, 1)
                };
                for row in 0..deep {
                    for column in 0..wide {
                        let at = (mcu_row * deep + row, mcu * wide + column);
                        let done = if progressive {
                            member.progressive(&mut reader, part, &mut ended, at)
                        } else {
                            member.baseline(&mut reader, at)
                        };
                        done.ok_or_else(|| damaged("its coded data"))?;
                    }
                }
            }
        }
    }
    Ok(reader.rest())
}

/// Whether a scan may have a part of the coefficients, for a number of components.
const fn fits(part: Part, components: usize) -> bool {
    let range = if part.from == 0 {
        part.to == 0
    } else {
        part.to >= part.from && part.to < BLOCK && components == 1
    };
    range && part.low <= 13 && (part.high == 0 || part.high == part.low + 1)
}

/// The components that a scan lists, in their order in the frame.
fn members<'a>(
    frame: &'a mut Frame,
    tables: &'a Tables,
    listed: &[[u8; 2]],
) -> Result<Vec<Member<'a>>, Failure> {
    let progressive = frame.progressive;
    let mut made = Vec::new();
    let mut left = listed.iter();
    for component in &mut frame.components {
        let Some([id, numbers]) = left.as_slice().first() else {
            break;
        };
        if component.id != *id {
            continue;
        }
        left.next();
        if component.is_decoded() && !progressive {
            return Err(damaged("a component with two scans"));
        }
        let quantization = component
            .quantization
            .or_else(|| *tables.quantization.get(component.table)?)
            .ok_or_else(|| damaged("a quantization table is missing"))?;
        component.quantization = Some(quantization);
        let table = |tables: &'a [Option<Table>; 4], number: u8| {
            tables.get(usize::from(number)).and_then(Option::as_ref)
        };
        made.push(Member {
            component,
            first: table(&tables.first, numbers >> 4),
            others: table(&tables.others, numbers & 15),
            quantization,
            last: 0,
        });
    }
    if left.next().is_some() {
        return Err(damaged("a scan of an unknown component"));
    }
    Ok(made)
}

impl Member<'_> {
    /// Decodes a block of a baseline image, at a row and a column of blocks, to samples.
    fn baseline(&mut self, bits: &mut Bits<'_>, (row, column): (usize, usize)) -> Option<()> {
        let mut block = [0; BLOCK];
        coefficients::baseline(bits, self.first?, self.others?, &mut self.last, &mut block)?;
        let stride = self.component.blocks_across * SIDE;
        let samples = self
            .component
            .samples
            .get_mut(row * SIDE * stride + column * SIDE..)?;
        inverse::block(&block, &self.quantization, samples, stride);
        Some(())
    }

    /// Decodes a part of a block of a progressive image.
    fn progressive(
        &mut self,
        bits: &mut Bits<'_>,
        part: Part,
        ended: &mut u32,
        (row, column): (usize, usize),
    ) -> Option<()> {
        let at = (row * self.component.blocks_across + column) * BLOCK;
        let block = self.component.coefficients.get_mut(at..)?;
        let block = block.first_chunk_mut::<BLOCK>()?;
        if part.from == 0 {
            coefficients::first(bits, self.first, part, &mut self.last, block)
        } else if part.high == 0 {
            coefficients::others(bits, self.others?, part, ended, block)
        } else {
            coefficients::refined(bits, self.others?, part, ended, block)
        }
    }
}
