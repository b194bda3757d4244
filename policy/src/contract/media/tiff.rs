//! TIFF 6.0: a chain of directories, one per page, each with the size of its page. TIFF allows any
//! order; here each directory must follow the previous one, so the chain ends and can be streamed.

use alloc::string::String;

use super::{MediaRule, Next, Probe, be, le};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Offset of the next directory, if any.
    Offset,
    /// Number of entries.
    Count,
    /// An entry, and how many follow.
    Entry(u16),
}

const WIDTH: u64 = 256;
const HEIGHT: u64 = 257;
const SAMPLES: u64 = 277;
const TILE_WIDTH: u64 = 322;
const TILE_HEIGHT: u64 = 323;
/// Tag of sub-directories, which are images outside the chain.
const BELOW: u64 = 330;
/// Maximum samples of a pixel.
const MAX_SAMPLES: u64 = 8;
/// Types of a 16-bit and a 32-bit number.
const SHORT: u64 = 3;
const LONG: u64 = 4;
/// Size of an entry.
const ENTRY: usize = 12;

pub(super) const fn begin() -> Next {
    step(0, 4, Step::Offset)
}

const fn step(skip: u64, bytes: usize, step: Step) -> Next {
    Next::read(skip, bytes, super::Step::Tiff(step))
}

pub(super) fn read(
    probe: &mut Probe,
    rule: &MediaRule,
    at: Step,
    read: &[u8],
) -> Result<Next, String> {
    let number = if probe.notes.flag { be } else { le };
    let not_one = || String::from("the TIFF directory is malformed");
    match at {
        Step::Offset => {
            let offset = number(read);
            if offset == 0 {
                return rule.frames(probe.notes.frames).map(|()| Next::Known);
            }
            let skip = offset
                .checked_sub(probe.at)
                .ok_or("a TIFF directory is before the one that refers to it")?;
            probe.notes.frames = probe.notes.frames.saturating_add(1);
            rule.frames(probe.notes.frames)?;
            (probe.notes.width, probe.notes.height) = (0, 0);
            probe.notes.tile = (0, 0);
            Ok(step(skip, 2, Step::Count))
        }
        Step::Count => {
            let entries = u16::try_from(number(read)).unwrap_or(0);
            let behind = entries.checked_sub(1).ok_or_else(not_one)?;
            Ok(step(0, ENTRY, Step::Entry(behind)))
        }
        Step::Entry(behind) => {
            let &[t0, t1, k0, k1, n0, n1, n2, n3, v0, v1, v2, v3] = read else {
                return Err(not_one());
            };
            let tag = number(&[t0, t1]);
            if tag == BELOW {
                return Err("a TIFF directory has subdirectories".into());
            }
            if matches!(tag, WIDTH | HEIGHT | SAMPLES | TILE_WIDTH | TILE_HEIGHT) {
                let value = match number(&[k0, k1]) {
                    SHORT => number(&[v0, v1]),
                    LONG => number(&[v0, v1, v2, v3]),
                    _ => return Err(not_one()),
                };
                let notes = &mut probe.notes;
                let mut samples = 0;
                let slot = match tag {
                    WIDTH => &mut notes.width,
                    HEIGHT => &mut notes.height,
                    TILE_WIDTH => &mut notes.tile.0,
                    TILE_HEIGHT => &mut notes.tile.1,
                    _ => &mut samples,
                };
                if number(&[n0, n1, n2, n3]) != 1 || *slot != 0 {
                    return Err(not_one());
                }
                *slot = value;
                if samples > MAX_SAMPLES {
                    return Err("a TIFF pixel has too many samples".into());
                }
            }
            if let Some(behind) = behind.checked_sub(1) {
                return Ok(step(0, ENTRY, Step::Entry(behind)));
            }
            rule.picture(probe.notes.width, probe.notes.height)?;
            // A tile may be larger than its image, and is what decoders allocate.
            let (width, height) = probe.notes.tile;
            if (width, height) != (0, 0) {
                rule.area(width, height)?;
            }
            Ok(step(0, 4, Step::Offset))
        }
    }
}
