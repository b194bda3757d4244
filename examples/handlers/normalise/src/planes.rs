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
    for (pixels, ((red, green), blue)) in blocks.iter().zip(planes) {
        block(pixels, [red, green, blue]);
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

/// A block of each plane.
#[cfg(not(target_arch = "wasm32"))]
fn block(pixels: &[u8; BLOCK_BYTES], planes: [&mut [f32; BLOCK]; CHANNELS]) {
    let mut channels = [[0; BLOCK]; CHANNELS];
    let [red, green, blue] = &mut channels;
    let (pixels, _) = pixels.as_chunks::<CHANNELS>();
    for (((pixel, red), green), blue) in pixels.iter().zip(red).zip(green).zip(blue) {
        [*red, *green, *blue] = *pixel;
    }
    for (((bytes, plane), scale), offset) in channels.iter().zip(planes).zip(SCALE).zip(OFFSET) {
        for (byte, cell) in bytes.iter().zip(plane) {
            *cell = f32::from(*byte) * scale - offset;
        }
    }
}

/// A block of each plane, in vectors. Without these instructions the compiler for WebAssembly loads
/// each byte by itself, because those of a channel lie three bytes apart.
#[cfg(target_arch = "wasm32")]
#[target_feature(enable = "simd128")]
fn block(pixels: &[u8; BLOCK_BYTES], planes: [&mut [f32; BLOCK]; CHANNELS]) {
    use core::arch::wasm32::{
        f32x4_convert_i32x4, f32x4_mul, f32x4_splat, f32x4_sub, i8x16_shuffle,
        i16x8_extend_high_u8x16, i16x8_extend_low_u8x16, i32x4_extend_high_u16x8,
        i32x4_extend_low_u16x8, v128,
    };

    let [a, b, c]: [v128; CHANNELS] = bytemuck::cast(*pixels);
    // The bytes of each channel: first those of two vectors, then those of the third, too.
    let red = i8x16_shuffle::<0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0>(a, b);
    let green = i8x16_shuffle::<1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31, 0, 0, 0, 0, 0>(a, b);
    let blue = i8x16_shuffle::<2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 0, 0, 0, 0, 0, 0>(a, b);
    let channels = [
        i8x16_shuffle::<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29>(red, c),
        i8x16_shuffle::<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 18, 21, 24, 27, 30>(green, c),
        i8x16_shuffle::<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 19, 22, 25, 28, 31>(blue, c),
    ];
    for (((bytes, plane), scale), offset) in channels.into_iter().zip(planes).zip(SCALE).zip(OFFSET)
    {
        let low = i16x8_extend_low_u8x16(bytes);
        let high = i16x8_extend_high_u8x16(bytes);
        let fours = [
            i32x4_extend_low_u16x8(low),
            i32x4_extend_high_u16x8(low),
            i32x4_extend_low_u16x8(high),
            i32x4_extend_high_u16x8(high),
        ];
        let (scale, offset) = (f32x4_splat(scale), f32x4_splat(offset));
        let (cells, _) = plane.as_chunks_mut::<4>();
        for (cells, four) in cells.iter_mut().zip(fours) {
            let scaled = f32x4_mul(f32x4_convert_i32x4(four), scale);
            *cells = bytemuck::cast(f32x4_sub(scaled, offset));
        }
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
