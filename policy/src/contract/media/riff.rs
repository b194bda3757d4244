//! RIFF files: WebP (RFC 9649), with the size in its first chunk and frames as chunks, and WAV,
//! whose duration follows from the data size and the byte rate.

use alloc::format;
use alloc::string::String;

use super::{MediaRule, MediaType, Next, Probe, allowed, le, truncated};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Size and type of the file.
    Form,
    /// WebP's first chunk.
    First,
    /// Header of a lossy image.
    Lossy,
    /// Header of a lossless image.
    Lossless,
    /// Header of an extended file; the length of its chunk.
    Extended(u32),
    /// WebP's next chunk.
    Chunk,
    /// WAV's next chunk.
    WavChunk,
    /// Format of WAV samples; the length of the chunk.
    Format(u32),
    /// Extended format; the length of the chunk.
    Extensible(u32),
}

/// Suffix of every sub-format that equals a numbered format.
const SUB_FORMAT: &[u8] = &[0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];

pub(super) const fn begin() -> Next {
    step(0, 8, Step::Form)
}

const fn step(skip: u64, bytes: usize, step: Step) -> Next {
    Next::read(skip, bytes, super::Step::Riff(step))
}

/// Length of a chunk with its padding byte.
const fn even(length: u64) -> u64 {
    length.saturating_add(length & 1)
}

fn not_one(kind: &str) -> String {
    format!("the {kind} header is malformed")
}

/// The next chunk, or the end of the file.
fn next(probe: &Probe, rule: &MediaRule, skip: u64) -> Result<Next, String> {
    if probe.left == skip {
        return rule.frames(probe.notes.frames).map(|()| Next::Known);
    }
    Ok(step(skip, 8, Step::Chunk))
}

pub(super) fn read(
    probe: &mut Probe,
    rule: &MediaRule,
    at: Step,
    read: &[u8],
) -> Result<Next, String> {
    let (front, back) = read.split_at_checked(4).unwrap_or((read, &[]));
    match at {
        Step::Form => {
            let inside = le(front).checked_sub(4).ok_or_else(truncated)?;
            if inside > probe.left {
                return Err(truncated());
            }
            // Some players play data beyond the file's own end; only one padding byte is allowed.
            if probe.left > inside.saturating_add(1) {
                return Err("the file has bytes after its declared end".into());
            }
            probe.left = inside;
            let (kind, step_) = match back {
                b"WEBP" => (MediaType::Webp, Step::First),
                b"WAVE" => (MediaType::Wav, Step::WavChunk),
                _ => return Err("the type of the file is not known".into()),
            };
            allowed(rule, kind)?;
            Ok(step(0, 8, step_))
        }
        Step::First => match front {
            b"VP8 " => Ok(step(0, 10, Step::Lossy)),
            b"VP8L" => Ok(step(0, 5, Step::Lossless)),
            b"VP8X" => {
                let length = u32::try_from(le(back)).unwrap_or(u32::MAX);
                Ok(step(0, 10, Step::Extended(length)))
            }
            _ => Err(not_one("WebP")),
        },
        Step::Lossy => {
            // A key frame tag (lowest bit 0), a start code, two sizes of 14 bits.
            let &[tag, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = read else {
                return Err(not_one("WebP"));
            };
            if tag & 1 != 0 {
                return Err(not_one("WebP"));
            }
            still(probe, rule, le(&[w0, w1]) & 0x3fff, le(&[h0, h1]) & 0x3fff)
        }
        Step::Lossless => {
            let Some((0x2f, sizes)) = read.split_first() else {
                return Err(not_one("WebP"));
            };
            // Width and height minus one, 14 bits each.
            let sizes = le(sizes);
            let width = (sizes & 0x3fff).saturating_add(1);
            let height = (sizes.wrapping_shr(14) & 0x3fff).saturating_add(1);
            still(probe, rule, width, height)
        }
        Step::Extended(length) => {
            let &[flags, _, _, _, w0, w1, w2, h0, h1, h2] = read else {
                return Err(not_one("WebP"));
            };
            let width = le(&[w0, w1, w2]).saturating_add(1);
            let height = le(&[h0, h1, h2]).saturating_add(1);
            rule.picture(width, height)?;
            (probe.notes.width, probe.notes.height) = (width, height);
            probe.notes.flag = flags & 2 != 0;
            let rest = u64::from(length)
                .checked_sub(10)
                .ok_or_else(|| not_one("WebP"))?;
            next(probe, rule, even(rest))
        }
        Step::Chunk => match front {
            b"VP8 " if !probe.notes.flag => Ok(step(0, 10, Step::Lossy)),
            b"VP8L" if !probe.notes.flag => Ok(step(0, 5, Step::Lossless)),
            b"ANMF" if probe.notes.flag => {
                probe.notes.frames = probe.notes.frames.saturating_add(1);
                rule.frames(probe.notes.frames)?;
                next(probe, rule, even(le(back)))
            }
            b"VP8 " | b"VP8L" | b"ANMF" | b"VP8X" => Err("a WebP chunk is out of order".into()),
            _ => next(probe, rule, even(le(back))),
        },
        Step::WavChunk => {
            let length = le(back);
            match front {
                b"fmt " if probe.notes.bytes_per_s == 0 && length >= 16 => {
                    let length = u32::try_from(length).unwrap_or(u32::MAX);
                    Ok(step(0, 16, Step::Format(length)))
                }
                b"data" if probe.notes.bytes_per_s > 0 && !probe.notes.flag => {
                    recording(probe, rule, length)
                }
                b"fmt " | b"data" => Err("a WAV chunk is out of order".into()),
                _ => Ok(behind(probe, length)),
            }
        }
        Step::Format(length) => {
            let &[
                f0,
                f1,
                c0,
                c1,
                r0,
                r1,
                r2,
                r3,
                b0,
                b1,
                b2,
                b3,
                a0,
                a1,
                s0,
                s1,
            ] = read
            else {
                return Err(not_one("WAV"));
            };
            let (channels, bits) = (le(&[c0, c1]), le(&[s0, s1]));
            let (rate, bytes_per_s) = (le(&[r0, r1, r2, r3]), le(&[b0, b1, b2, b3]));
            let sample = le(&[a0, a1]);
            // Integers, floats, and either in extended form; the byte rate must match the other
            // fields.
            let format = le(&[f0, f1]);
            let plain = matches!(format, 1 | 3 | 0xfffe)
                && channels.saturating_mul(bits) == sample.saturating_mul(8)
                && rate.saturating_mul(sample) == bytes_per_s;
            if !plain || bytes_per_s == 0 {
                return Err("the WAV's samples are not plain ones".into());
            }
            probe.notes.bytes_per_s = bytes_per_s;
            if format == 0xfffe {
                return Ok(step(0, 24, Step::Extensible(length)));
            }
            let rest = u64::from(length).saturating_sub(16);
            Ok(step(even(rest), 8, Step::WavChunk))
        }
        Step::Extensible(length) => {
            let rest = u64::from(length).checked_sub(40);
            let (Some(rest), Some((&[1 | 3, 0], SUB_FORMAT))) =
                (rest, read.get(8..).and_then(<[u8]>::split_first_chunk))
            else {
                return Err("the WAV's samples are not plain ones".into());
            };
            Ok(step(even(rest), 8, Step::WavChunk))
        }
    }
}

/// The next chunk of a WAV, or the end after its samples. The last chunk may have an odd length.
fn behind(probe: &Probe, length: u64) -> Next {
    if probe.notes.flag && (probe.left == length || probe.left == even(length)) {
        return Next::Known;
    }
    step(even(length), 8, Step::WavChunk)
}

/// A still image; within a file that declares a size, it must have that size.
fn still(probe: &Probe, rule: &MediaRule, width: u64, height: u64) -> Result<Next, String> {
    let declared = (probe.notes.width, probe.notes.height);
    if declared != (0, 0) && declared != (width, height) {
        return Err("the WebP picture has another size than its file declares".into());
    }
    rule.picture(width, height)?;
    rule.frames(1).map(|()| Next::Known)
}

fn recording(probe: &mut Probe, rule: &MediaRule, bytes: u64) -> Result<Next, String> {
    if bytes > probe.left {
        return Err(truncated());
    }
    // Players read such a file up to its end.
    if bytes == 0 {
        return Err("the WAV declares no samples".into());
    }
    probe.notes.flag = true;
    // A started millisecond counts. The format was read, so there is no division by zero.
    let ms = bytes
        .saturating_mul(1_000)
        .div_ceil(probe.notes.bytes_per_s.max(1));
    if ms > rule.max_duration_ms {
        return Err(format!(
            "the recording declares a duration of {ms} ms, more than the contract allows"
        ));
    }
    Ok(behind(probe, bytes))
}
