//! Decodes RIFF WAVE to samples from -1 to 1, with channels averaged. Every length is checked
//! against the actual bytes before memory is allocated for it.

use tensorgate_handler::Error;

/// Sample formats in `fmt`.
const PCM: u16 = 1;
const FLOAT: u16 = 3;
/// The format is in an extension: the first two bytes of an identifier whose other bytes are fixed.
const EXTENSIBLE: u16 = 0xfffe;
const IDENTIFIER: [u8; 14] = [0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71];

/// The most channels.
const MAX_CHANNELS: u16 = 8;
/// The most chunks of a file. A sound has a handful.
const MAX_CHUNKS: usize = 64;
/// The greatest valid sample, as a multiple of full scale. Its square cannot overflow.
const LOUDEST: f32 = 8.0;

/// The encoding of a sample.
#[derive(Clone, Copy, Debug)]
enum Sample {
    Pcm16,
    Float32,
}

#[derive(Clone, Copy, Debug)]
struct Format {
    sample: Sample,
    channels: usize,
    rate: u32,
}

/// The samples of a file.
///
/// # Errors
/// Bad input unless it is a complete WAV of this rate, in a supported format, with 1 to `most`
/// samples for each channel.
pub fn samples(file: &[u8], rate: u32, most: usize) -> Result<Vec<f64>, Error> {
    let (format, data) = parts(file)?;
    if format.rate != rate {
        return Err(Error::bad_input(format!(
            "{} samples a second, not {rate}",
            format.rate
        )));
    }
    let sample_bytes = match format.sample {
        Sample::Pcm16 => 2_usize,
        Sample::Float32 => 4,
    };
    let frame_bytes = format.channels.saturating_mul(sample_bytes).max(1);
    let frames = data.chunks_exact(frame_bytes);
    if !frames.remainder().is_empty() {
        return Err(Error::bad_input("a part of a sample"));
    }
    if frames.len() == 0 || frames.len() > most {
        return Err(Error::bad_input(format!(
            "{} samples: 1 to {most} are allowed",
            frames.len()
        )));
    }
    let channels = f64::from(u32::try_from(format.channels).unwrap_or(1));
    frames
        .map(|frame| sum(frame, format.sample).map(|sum| sum / channels))
        .collect()
}

/// The sum of all channels at one moment.
fn sum(frame: &[u8], sample: Sample) -> Result<f64, Error> {
    match sample {
        Sample::Pcm16 => {
            let (samples, _) = frame.as_chunks::<2>();
            let sum: f64 = samples
                .iter()
                .map(|bytes| f64::from(i16::from_le_bytes(*bytes)) / 32_768.0)
                .sum();
            Ok(sum)
        }
        Sample::Float32 => {
            let (samples, _) = frame.as_chunks::<4>();
            samples.iter().try_fold(0.0, |sum, bytes| {
                let value = f32::from_le_bytes(*bytes);
                if value.abs() <= LOUDEST {
                    Ok(sum + f64::from(value))
                } else {
                    Err(Error::bad_input("a sample that is no sound"))
                }
            })
        }
    }
}

/// The parsed `fmt` chunk, and the bytes of `data`.
fn parts(file: &[u8]) -> Result<(Format, &[u8]), Error> {
    let no_wav = || Error::bad_input("not a WAV");
    let (id, after) = file.split_first_chunk::<4>().ok_or_else(no_wav)?;
    let (size, after) = after.split_first_chunk::<4>().ok_or_else(no_wav)?;
    let (kind, mut rest) = after.split_first_chunk::<4>().ok_or_else(no_wav)?;
    if id != b"RIFF" || kind != b"WAVE" {
        return Err(no_wav());
    }
    // The size excludes the chunk's header. Chunks of odd size are padded.
    let declared = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| no_wav())?;
    let there = file.len().saturating_sub(8);
    if declared != there && declared.checked_add(1) != Some(there) {
        return Err(Error::bad_input("another length than the header says"));
    }
    let (mut format, mut data) = (None, None);
    for _ in 0..MAX_CHUNKS {
        if rest.len() <= 1 {
            let format = format.ok_or_else(|| Error::bad_input("no fmt"))?;
            return Ok((format, data.ok_or_else(|| Error::bad_input("no data"))?));
        }
        let cut = || Error::bad_input("a chunk that is cut off");
        let (id, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let (size, after) = after.split_first_chunk::<4>().ok_or_else(cut)?;
        let size = usize::try_from(u32::from_le_bytes(*size)).map_err(|_| cut())?;
        let (body, after) = after.split_at_checked(size).ok_or_else(cut)?;
        match id {
            b"fmt " if format.is_none() && data.is_none() => format = Some(read(body)?),
            b"data" if format.is_some() && data.is_none() => data = Some(body),
            b"fmt " | b"data" => return Err(Error::bad_input("fmt and data, once, in this order")),
            _ => {}
        }
        // Chunks begin at even offsets.
        rest = after.get(size & 1..).unwrap_or_default();
    }
    Err(Error::bad_input(format!("more than {MAX_CHUNKS} chunks")))
}

/// Parses `fmt`.
fn read(body: &[u8]) -> Result<Format, Error> {
    let short = || Error::bad_input("a short fmt");
    let half = |at: usize| {
        let bytes = body.get(at..)?.first_chunk::<2>()?;
        Some(u16::from_le_bytes(*bytes))
    };
    let word = |at: usize| {
        let bytes = body.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*bytes))
    };
    let mut tag = half(0).ok_or_else(short)?;
    let channels = half(2).ok_or_else(short)?;
    let rate = word(4).ok_or_else(short)?;
    let bytes_a_second = word(8).ok_or_else(short)?;
    let frame_bytes = half(12).ok_or_else(short)?;
    let bits = half(14).ok_or_else(short)?;
    if tag == EXTENSIBLE {
        tag = half(24).ok_or_else(short)?;
        if half(18) != Some(bits) || body.get(26..40) != Some(&IDENTIFIER) {
            return Err(Error::bad_input("an extension that is not read here"));
        }
    }
    let sample = match (tag, bits) {
        (PCM, 16) => Sample::Pcm16,
        (FLOAT, 32) => Sample::Float32,
        _ => {
            return Err(Error::bad_input(format!(
                "format {tag} of {bits} bits: PCM of 16 or floats of 32"
            )));
        }
    };
    let expected = channels.saturating_mul(bits >> 3);
    let agrees = (1..=MAX_CHANNELS).contains(&channels)
        && frame_bytes == expected
        && bytes_a_second == rate.saturating_mul(u32::from(expected));
    if !agrees {
        return Err(Error::bad_input("a fmt that does not agree with itself"));
    }
    Ok(Format {
        sample,
        channels: usize::from(channels),
        rate,
    })
}
