//! The arithmetic: from interleaved RGB pixels to three planes of floats.

/// Red, green, blue.
pub const CHANNELS: usize = 3;

/// One over the deviation of each channel of ImageNet's training images, for bytes: `1 / (255 ×
/// deviation)`.
const SCALE: [f32; CHANNELS] = [
    1.0 / (255.0 * 0.229),
    1.0 / (255.0 * 0.224),
    1.0 / (255.0 * 0.225),
];
/// Mean over deviation of each channel.
const OFFSET: [f32; CHANNELS] = [0.485 / 0.229, 0.456 / 0.224, 0.406 / 0.225];
/// Pixels for each iteration of the loop.
const BLOCK: usize = 16;
/// Bytes of a block.
const BLOCK_BYTES: usize = BLOCK * CHANNELS;

/// Fills `image` (three planes with a float for each pixel) from `pixels`. Excess elements on
/// either side are ignored: callers pass slices of matching size.
// WebAssembly has vector instructions in functions that enable them; the sandbox supports them.
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
pub fn planes(pixels: &[u8], image: &mut [f32]) {
    let count = image.len().div_euclid(CHANNELS);
    let (red, others) = image.split_at_mut(count);
    let (green, blue) = others.split_at_mut(count);
    let (blocks, rest) = pixels.as_chunks::<BLOCK_BYTES>();
    let (red_blocks, red) = red.as_chunks_mut::<BLOCK>();
    let (green_blocks, green) = green.as_chunks_mut::<BLOCK>();
    let (blue_blocks, blue) = blue.as_chunks_mut::<BLOCK>();
    let planes = red_blocks.iter_mut().zip(green_blocks).zip(blue_blocks);
    for (block, ((red, green), blue)) in blocks.iter().zip(planes) {
        let channels = apart(block);
        let planes = [red, green, blue].into_iter();
        for (((bytes, plane), scale), offset) in channels.iter().zip(planes).zip(SCALE).zip(OFFSET)
        {
            normalised(bytes, plane, scale, offset);
        }
    }
    // The rest, which is less than a block.
    let (pixels, _) = rest.as_chunks::<CHANNELS>();
    for (at, plane) in [red, green, blue].into_iter().enumerate() {
        let bytes = pixels.iter().filter_map(|pixel| pixel.get(at));
        let (scale, offset) = (SCALE.get(at).copied(), OFFSET.get(at).copied());
        let (scale, offset) = (scale.unwrap_or_default(), offset.unwrap_or_default());
        for (byte, cell) in bytes.zip(plane) {
            *cell = f32::from(*byte) * scale - offset;
        }
    }
}

/// The bytes of each channel.
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
#[inline]
fn apart(block: &[u8; BLOCK_BYTES]) -> [[u8; BLOCK]; CHANNELS] {
    let mut channels = [[0; BLOCK]; CHANNELS];
    let [red, green, blue] = &mut channels;
    let (pixels, _) = block.as_chunks::<CHANNELS>();
    for (((pixel, red), green), blue) in pixels.iter().zip(red).zip(green).zip(blue) {
        [*red, *green, *blue] = *pixel;
    }
    channels
}

/// One channel of a block.
#[cfg_attr(target_arch = "wasm32", target_feature(enable = "simd128"))]
#[inline]
fn normalised(bytes: &[u8; BLOCK], plane: &mut [f32; BLOCK], scale: f32, offset: f32) {
    for (byte, cell) in bytes.iter().zip(plane) {
        *cell = f32::from(*byte) * scale - offset;
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn every_pixel_of_any_count_lands_in_its_place_of_each_plane() {
        for count in [0, 1, 15, 16, 17, 49, 224 * 224] {
            let pixels: Vec<u8> = (0..count * CHANNELS)
                .map(|at| u8::try_from(at * 7 % 256).unwrap_or_default())
                .collect();
            let mut image = vec![f32::NAN; count * CHANNELS];
            planes(&pixels, &mut image);
            let (mean, deviation) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
            for (at, value) in image.iter().enumerate() {
                let (channel, pixel) = (at / count, at % count);
                let byte = f32::from(pixels[pixel * CHANNELS + channel]);
                let expected = (byte / 255.0 - mean[channel]) / deviation[channel];
                assert!(
                    (value - expected).abs() < 1e-5,
                    "{count} pixels, element {at}: {value} {expected}"
                );
            }
        }
    }
}
