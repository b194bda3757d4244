//! PNG (RFC 2083 chunks, animation of the W3C PNG third edition): the size is in the first chunk,
//! the number of frames before the first data.

use alloc::string::String;

use super::{MediaRule, Next, Probe, be};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Head,
    Chunk,
    Animation,
}

/// Bytes of a chunk's checksum.
const CHECKSUM: u64 = 4;

pub(super) const fn begin() -> Next {
    // The rest of the signature; length, name and size in the first chunk.
    Next::read(0, 20, super::Step::Png(Step::Head))
}

const fn chunk(skip: u64) -> Next {
    Next::read(skip, 8, super::Step::Png(Step::Chunk))
}

pub(super) fn read(
    probe: &mut Probe,
    rule: &MediaRule,
    step: Step,
    read: &[u8],
) -> Result<Next, String> {
    match (step, read) {
        (
            Step::Head,
            [
                0x0d,
                0x0a,
                0x1a,
                0x0a,
                0,
                0,
                0,
                13,
                b'I',
                b'H',
                b'D',
                b'R',
                size @ ..,
            ],
        ) => {
            let (width, height) = size.split_at_checked(4).unwrap_or((&[], &[]));
            rule.picture(be(width), be(height))?;
            probe.notes.frames = 1;
            // Five more bytes of that chunk.
            Ok(chunk(CHECKSUM.saturating_add(5)))
        }
        (Step::Chunk, [a, b, c, d, name @ ..]) => {
            let length = be(&[*a, *b, *c, *d]);
            match name {
                b"IDAT" => rule.frames(probe.notes.frames).map(|()| Next::Known),
                b"acTL" if !probe.notes.flag && length == 8 => {
                    probe.notes.flag = true;
                    Ok(Next::read(0, 4, super::Step::Png(Step::Animation)))
                }
                b"acTL" | b"IHDR" | b"IEND" => Err("a PNG chunk is out of order".into()),
                name if name.iter().all(u8::is_ascii_alphabetic) => {
                    Ok(chunk(length.saturating_add(CHECKSUM)))
                }
                _ => Err("a PNG chunk has no name".into()),
            }
        }
        (Step::Animation, frames) => {
            probe.notes.frames = u32::try_from(be(frames)).unwrap_or(u32::MAX);
            // The number of plays.
            Ok(chunk(CHECKSUM.saturating_add(4)))
        }
        _ => Err("the PNG header is malformed".into()),
    }
}
