//! PNG of up to 8 bits a sample, interlaced or not. Checksums are verified. Compressed chunks that
//! do not change pixels (texts, colour profiles) are never decompressed.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodeOptions, Decoder, Limits, Transformations};
use tensorgate_handler::Error;

use super::{Rgb, bounded};
use crate::CHANNELS;

/// Memory for the decoder's rows and chunks.
const DECODER_BYTES: usize = 1 << 20;

pub(super) fn decode(data: &[u8], max_pixels: usize) -> Result<Rgb, Error> {
    let mut options = DecodeOptions::default();
    options.set_ignore_crc(false);
    options.set_ignore_adler32(false);
    options.set_skip_ancillary_crc_failures(false);
    options.set_ignore_text_chunk(true);
    options.set_ignore_iccp_chunk(true);
    let mut bytes = Cursor::new(data);
    let mut decoder = Decoder::new_with_options(&mut bytes, options);
    decoder.set_limits(Limits {
        bytes: DECODER_BYTES,
    });
    // Palettes are expanded to colours, and samples to eight bits.
    decoder.set_transformations(Transformations::EXPAND);

    let header = decoder.read_header_info().map_err(Error::bad_input)?;
    let (width, height) = (whole(header.width)?, whole(header.height)?);
    let pixels = bounded(width, height, max_pixels)?;
    if header.bit_depth == BitDepth::Sixteen {
        return Err(Error::bad_input("16 bits a sample"));
    }
    let mut reader = decoder.read_info().map_err(Error::bad_input)?;
    if reader.info().is_animated() {
        return Err(Error::bad_input("animated"));
    }
    let (colour, depth) = reader.output_color_type();
    if depth != BitDepth::Eight {
        return Err(Error::bad_input(format!("{depth:?} bits a sample")));
    }
    let samples = match colour {
        ColorType::Grayscale => 1_usize,
        ColorType::GrayscaleAlpha => 2,
        ColorType::Rgb => 3,
        ColorType::Rgba => 4,
        ColorType::Indexed => return Err(Error::bad_input("a palette that is not there")),
    };
    let expected = pixels.saturating_mul(samples);
    if reader.output_buffer_size() != Some(expected) {
        return Err(Error::bad_input("rows of another length than declared"));
    }
    let mut unpacked = vec![0; expected];
    reader.next_frame(&mut unpacked).map_err(Error::bad_input)?;
    reader.finish().map_err(Error::bad_input)?;
    drop(reader);
    if usize::try_from(bytes.position()).ok() != Some(data.len()) {
        return Err(Error::bad_input("bytes after the end of the image"));
    }
    Ok(Rgb {
        width,
        height,
        pixels: rgb(unpacked, samples, pixels),
    })
}

/// Three samples a pixel: grey is tripled, alpha is dropped.
fn rgb(unpacked: Vec<u8>, samples: usize, count: usize) -> Vec<u8> {
    if samples == CHANNELS {
        return unpacked;
    }
    let mut pixels = Vec::with_capacity(count.saturating_mul(CHANNELS));
    for pixel in unpacked.chunks_exact(samples) {
        match *pixel {
            [grey] | [grey, _] => pixels.extend([grey; CHANNELS]),
            [red, green, blue, _] => pixels.extend([red, green, blue]),
            _ => {}
        }
    }
    pixels
}

fn whole(side: u32) -> Result<usize, Error> {
    usize::try_from(side).map_err(Error::bad_input)
}
