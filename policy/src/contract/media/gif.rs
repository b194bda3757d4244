//! GIF (87a, 89a): the screen size is in the header; frames are counted by walking all blocks.

use alloc::string::String;

use super::{MediaRule, Next, Probe, le};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Screen,
    Block,
    Image,
    /// Length of a data sub-block; 0 ends the data.
    Part,
}

pub(super) const fn begin() -> Next {
    step(0, 9, Step::Screen)
}

const fn step(skip: u64, bytes: usize, step: Step) -> Next {
    Next::read(skip, bytes, super::Step::Gif(step))
}

/// Size of the colour table that a flag byte announces.
fn colours(flags: u8) -> u64 {
    if flags & 0x80 == 0 {
        return 0;
    }
    let size = u32::from(flags & 7).saturating_add(1);
    3_u64.saturating_mul(1_u64.wrapping_shl(size))
}

pub(super) fn read(
    probe: &mut Probe,
    rule: &MediaRule,
    at: Step,
    read: &[u8],
) -> Result<Next, String> {
    match (at, read) {
        (Step::Screen, [b'7' | b'9', b'a', w0, w1, h0, h1, flags, _, _]) => {
            let (width, height) = (le(&[*w0, *w1]), le(&[*h0, *h1]));
            rule.picture(width, height)?;
            (probe.notes.width, probe.notes.height) = (width, height);
            Ok(step(colours(*flags), 1, Step::Block))
        }
        (Step::Block, [0x2c]) => {
            probe.notes.frames = probe.notes.frames.saturating_add(1);
            rule.frames(probe.notes.frames)?;
            Ok(step(0, 9, Step::Image))
        }
        // An extension: its label, then sub-blocks.
        (Step::Block, [0x21]) => Ok(step(1, 1, Step::Part)),
        (Step::Block, [0x3b]) => rule.frames(probe.notes.frames).map(|()| Next::Known),
        (Step::Image, [x0, x1, y0, y1, w0, w1, h0, h1, flags]) => {
            let right = le(&[*x0, *x1]).saturating_add(le(&[*w0, *w1]));
            let bottom = le(&[*y0, *y1]).saturating_add(le(&[*h0, *h1]));
            // Some decoders enlarge the screen in this case.
            if right > probe.notes.width || bottom > probe.notes.height {
                return Err("a GIF frame is larger than its screen".into());
            }
            // The code size, one byte, follows the colour table.
            Ok(step(colours(*flags).saturating_add(1), 1, Step::Part))
        }
        (Step::Part, [0]) => Ok(step(0, 1, Step::Block)),
        (Step::Part, [length]) => Ok(step(u64::from(*length), 1, Step::Part)),
        _ => Err("the GIF header is malformed".into()),
    }
}
