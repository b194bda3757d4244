//! Decodes a PNG to rows of brightness, which are averaged one by one. Every size is checked before
//! memory is allocated for it.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, Limits, Transformations};
use tensorgate_handler::Error;

use crate::shrink::{SIDE, Shrink};

/// Memory for the decoder's rows and chunks: two rows of the greatest `max_side` need 64 KiB.
const DECODER_BYTES: usize = 256 << 10;

/// The greatest sample.
const FULL: u64 = u16::MAX as u64;

/// Decodes an image and averages it row by row.
pub fn shrunk(png: &[u8], max_side: u32) -> Result<Shrink, Error> {
    let mut options = DecodeOptions::default();
    options.set_ignore_crc(false);
    options.set_ignore_adler32(false);
    options.set_skip_ancillary_crc_failures(false);
    // Texts and colour profiles can be compressed, and do not change pixels.
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut bytes = Cursor::new(png);
    let mut decoder = Decoder::new_with_options(&mut bytes, options);
    decoder.set_limits(Limits {
        bytes: DECODER_BYTES,
    });
    decoder.set_transformations(Transformations::IDENTITY);

    // The header is checked before memory for a row is allocated.
    let header = decoder.read_header_info().map_err(Error::bad_input)?;
    let (side, height, interlaced) = (header.width, header.height, header.interlaced);
    if side != height || !(SIDE..=max_side).contains(&side) {
        return Err(Error::bad_input(format!(
            "{side}x{height} pixels: not a square of {SIDE} to {max_side} a side"
        )));
    }
    if interlaced {
        return Err(Error::bad_input("interlaced"));
    }
    let samples = match (header.color_type, header.bit_depth) {
        (ColorType::Grayscale, BitDepth::Eight) => Samples {
            channels: 1,
            wide: false,
        },
        (ColorType::Grayscale, BitDepth::Sixteen) => Samples {
            channels: 1,
            wide: true,
        },
        (ColorType::GrayscaleAlpha, BitDepth::Eight) => Samples {
            channels: 2,
            wide: false,
        },
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => Samples {
            channels: 2,
            wide: true,
        },
        (ColorType::Rgb, BitDepth::Eight) => Samples {
            channels: 3,
            wide: false,
        },
        (ColorType::Rgb, BitDepth::Sixteen) => Samples {
            channels: 3,
            wide: true,
        },
        (ColorType::Rgba, BitDepth::Eight) => Samples {
            channels: 4,
            wide: false,
        },
        (ColorType::Rgba, BitDepth::Sixteen) => Samples {
            channels: 4,
            wide: true,
        },
        (colour, depth) => {
            return Err(Error::bad_input(format!(
                "{colour:?} of {depth:?} bits a sample"
            )));
        }
    };

    let mut reader = decoder.read_info().map_err(Error::bad_input)?;
    if reader.info().is_animated() {
        return Err(Error::bad_input("animated"));
    }
    if reader.info().trns.is_some() {
        return Err(Error::bad_input("transparent by colour"));
    }
    let mut shrunk = Shrink::new(side);
    while let Some(line) = reader.next_row().map_err(Error::bad_input)? {
        shrunk.row(samples.brightness(line.data()));
    }
    reader.finish().map_err(Error::bad_input)?;
    drop(reader);
    if usize::try_from(bytes.position()).ok() != Some(png.len()) {
        return Err(Error::bad_input("bytes after the end of the image"));
    }
    Ok(shrunk)
}

/// The layout of a row's pixels.
#[derive(Clone, Copy)]
struct Samples {
    channels: usize,
    /// 16 bits a sample, big-endian.
    wide: bool,
}

impl Samples {
    /// The brightness of a row's pixels: Rec. 601's weights for colour, on black for alpha.
    fn brightness(self, row: &[u8]) -> impl Iterator<Item = u16> {
        let sample_bytes = if self.wide { 2_usize } else { 1 };
        row.chunks_exact(self.channels.saturating_mul(sample_bytes))
            .map(move |pixel| {
                let mut samples = [0_u64; 4];
                for (sample, bytes) in samples.iter_mut().zip(pixel.chunks_exact(sample_bytes)) {
                    *sample = match bytes {
                        [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
                        // 255 × 257 is 65 535.
                        [byte] => u64::from(u16::from_be_bytes([*byte, *byte])),
                        _ => 0,
                    };
                }
                let [first, second, third, fourth] = samples;
                let brightness = match self.channels {
                    1 => first,
                    2 => on_black(first, second),
                    3 => luma(first, second, third),
                    _ => on_black(luma(first, second, third), fourth),
                };
                u16::try_from(brightness).unwrap_or(u16::MAX)
            })
    }
}

/// Rec. 601 in thousandths; the weights add up to 1000. Written out, because a fold over the three
/// nearly doubles an image's fuel in the demo's profile.
fn luma(red: u64, green: u64, blue: u64) -> u64 {
    let sum = red
        .saturating_mul(299)
        .saturating_add(green.saturating_mul(587))
        .saturating_add(blue.saturating_mul(114));
    sum.checked_div(1000).unwrap_or(0)
}

/// A sample composed over black.
fn on_black(sample: u64, alpha: u64) -> u64 {
    sample.saturating_mul(alpha).checked_div(FULL).unwrap_or(0)
}
