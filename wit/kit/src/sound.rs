//! Decodes WAV to samples. Every length in a file is checked against the actual bytes.

use crate::array::Array;
use crate::datatype::Datatype;
use crate::failure::{Failure, data};

/// The most channels.
pub const MAX_SOUND_CHANNELS: usize = 32;

/// The most chunks that are searched for the two that count.
const MAX_CHUNKS: usize = 64;

/// Format tags: whole numbers, floats, and a tag in an extension.
const PCM: u16 = 1;
const FLOAT: u16 = 3;
const EXTENSIBLE: u16 = 0xfffe;

/// The offset of the tag in the extension.
const SUBFORMAT: usize = 24;

/// The encoding of samples.
#[derive(Clone, Copy)]
struct Format {
    tag: u16,
    channels: usize,
    rate: u32,
    bits: u16,
}

/// Decodes a WAV to samples, `Fp32` `[frames, channels]` from -1 to 1, and its frame rate. Supports
/// floats of 32 and 64 bits, and whole numbers of 8, 16, 24 and 32 bits, which are divided by
/// 2^(bits-1), as in soundfile and torchaudio.
///
/// # Errors
/// If it is not a WAV, or has more than `max_frames` frames.
pub fn decode_wav(bytes: &[u8], max_frames: usize) -> Result<(Array, u32), Failure> {
    let (head, mut rest) = bytes
        .split_first_chunk::<12>()
        .ok_or_else(|| data("not a WAV: too short"))?;
    if !head.starts_with(b"RIFF") || !head.ends_with(b"WAVE") {
        return Err(data("not a WAV: wrong header"));
    }
    let mut format = None;
    for _ in 0..MAX_CHUNKS {
        let Some((head, after)) = rest.split_first_chunk::<8>() else {
            break;
        };
        let [a, b, c, d, size @ ..] = *head;
        let size = usize::try_from(u32::from_le_bytes(size)).unwrap_or(usize::MAX);
        let body = after.get(..size).ok_or_else(|| data("a truncated chunk"))?;
        match &[a, b, c, d] {
            b"fmt " => format = Some(header(body)?),
            b"data" => {
                let format = format.ok_or_else(|| data("samples before their format"))?;
                return Ok((samples(body, format, max_frames)?, format.rate));
            }
            _ => {}
        }
        // Chunks begin at even offsets; the last may lack its padding.
        let next = size.saturating_add(size & 1);
        rest = after.get(next..).unwrap_or_default();
    }
    Err(data("a WAV without samples"))
}

fn header(body: &[u8]) -> Result<Format, Failure> {
    let half = |at: usize| {
        let pair = body.get(at..)?.first_chunk::<2>()?;
        Some(u16::from_le_bytes(*pair))
    };
    let read = || {
        let tag = match half(0)? {
            EXTENSIBLE => half(SUBFORMAT)?,
            tag => tag,
        };
        let rate = u32::from_le_bytes(*body.get(4..)?.first_chunk::<4>()?);
        Some((tag, usize::from(half(2)?), rate, half(12)?, half(14)?))
    };
    let (tag, channels, rate, align, bits) = read().ok_or_else(|| data("a format too short"))?;
    if channels == 0 || channels > MAX_SOUND_CHANNELS {
        return Err(data(format!(
            "{channels} channels, not 1 to {MAX_SOUND_CHANNELS}"
        )));
    }
    if !matches!((tag, bits), (PCM, 8 | 16 | 24 | 32) | (FLOAT, 32 | 64)) {
        return Err(data(format!(
            "unsupported samples: format {tag} with {bits} bits"
        )));
    }
    let frame = channels.checked_mul(usize::from(bits / 8));
    if rate == 0 || frame != Some(usize::from(align)) {
        return Err(data("an inconsistent format"));
    }
    Ok(Format {
        tag,
        channels,
        rate,
        bits,
    })
}

fn samples(body: &[u8], format: Format, max_frames: usize) -> Result<Array, Failure> {
    let width = usize::from(format.bits / 8);
    let frame = width.saturating_mul(format.channels).max(1);
    if body.len().checked_rem(frame) != Some(0) {
        return Err(data("an incomplete frame at the end"));
    }
    let frames = body.len().checked_div(frame).unwrap_or(0);
    if frames > max_frames {
        return Err(data(format!("{frames} frames, at most {max_frames}")));
    }
    let mut made = Array::zeros(Datatype::Fp32, &[frames, format.channels])?;
    let to = made.buffer.view_mut::<f32>();
    match (format.tag, width) {
        (FLOAT, 4) => each(body, to, |bytes: [u8; 4]| f32::from_le_bytes(bytes)),
        (FLOAT, _) => each(body, to, |bytes: [u8; 8]| {
            num_traits::cast(f64::from_le_bytes(bytes)).unwrap_or(f32::NAN)
        }),
        // Bytes are unsigned: 128 is silence.
        (_, 1) => each(body, to, |[byte]: [u8; 1]| {
            (f32::from(byte) - 128.0) / 128.0
        }),
        (_, 2) => each(body, to, |bytes: [u8; 2]| {
            f32::from(i16::from_le_bytes(bytes)) / 32_768.0
        }),
        (_, 3) => each(body, to, |[low, middle, high]: [u8; 3]| {
            from_signed([0, low, middle, high])
        }),
        _ => each(body, to, from_signed),
    }
    Ok(made)
}

/// Decodes 32 bits, or fewer in the upper bits.
fn from_signed(bytes: [u8; 4]) -> f32 {
    let number = f64::from(i32::from_le_bytes(bytes)) / 2_147_483_648.0;
    num_traits::cast(number).unwrap_or_default()
}

fn each<const N: usize>(from: &[u8], to: &mut [f32], sample: impl Fn([u8; N]) -> f32) {
    let (from, _) = from.as_chunks::<N>();
    for (to, bytes) in to.iter_mut().zip(from) {
        *to = sample(*bytes);
    }
}
