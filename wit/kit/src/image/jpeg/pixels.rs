//! Pixels of a decoded frame: upsampled colours, converted to RGB as libjpeg-turbo does.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "positions in rows whose lengths the frame states, and samples limited to a byte"
)]

use super::frame::{Component, Frame, SIDE};
use super::{BLOCK, Tables, damaged, inverse, zeros};
use crate::failure::Failure;
use crate::image::Decoded;

/// The channels of a picture in colour.
const COLORS: usize = 3;

pub(super) fn decoded(mut frame: Frame, tables: &Tables) -> Result<Decoded, Failure> {
    for component in &mut frame.components {
        let quantization = component
            .quantization
            .ok_or_else(|| damaged("a component without a scan"))?;
        if frame.progressive {
            transform(component, &quantization);
        }
    }
    let channels = frame.components.len();
    let converts = has_luminance(&frame, tables);
    let row_length = frame.width * channels;
    let mut pixels = zeros(frame.height * row_length)?;
    let mut rows: Vec<Vec<u8>> = Vec::with_capacity(channels);
    for component in &frame.components {
        rows.push(zeros(component.width * (frame.across / component.across))?);
    }
    for (y, to) in pixels.chunks_exact_mut(row_length.max(1)).enumerate() {
        for (component, row) in frame.components.iter().zip(&mut rows) {
            upsampled(&frame, component, y, row);
        }
        match rows.as_slice() {
            [gray] => to.copy_from_slice(&gray[..frame.width]),
            [one, two, three] => {
                let (to, _) = to.as_chunks_mut::<COLORS>();
                for (to, ((one, two), three)) in to.iter_mut().zip(one.iter().zip(two).zip(three)) {
                    *to = if converts {
                        rgb(*one, *two, *three)
                    } else {
                        [*one, *two, *three]
                    };
                }
            }
            _ => return Err(damaged("its components")),
        }
    }
    Ok(Decoded {
        height: frame.height,
        width: frame.width,
        channels,
        pixels,
    })
}

/// Transforms all coefficients of a progressive image's component to samples.
fn transform(component: &mut Component, quantization: &[u16; BLOCK]) {
    let stride = component.blocks_across * SIDE;
    let (blocks, _) = component.coefficients.as_chunks::<BLOCK>();
    for (at, block) in blocks.iter().enumerate() {
        let (row, column) = (at / component.blocks_across, at % component.blocks_across);
        let samples = &mut component.samples[row * SIDE * stride + column * SIDE..];
        inverse::block(block, quantization, samples, stride);
    }
}

/// Whether three components are luminance and colour differences, by libjpeg's rules.
fn has_luminance(frame: &Frame, tables: &Tables) -> bool {
    let ids: Vec<u8> = frame
        .components
        .iter()
        .map(|component| component.id)
        .collect();
    if tables.has_jfif {
        return true;
    }
    match tables.adobe {
        Some(transform) => transform != 0,
        None => ids != *b"RGB",
    }
}

/// The samples of a row of a component.
fn samples(component: &Component, y: usize) -> &[u8] {
    let stride = component.blocks_across * SIDE;
    &component.samples[y * stride..][..component.width]
}

/// A row of a component at the size of the image.
fn upsampled(frame: &Frame, component: &Component, y: usize, to: &mut [u8]) {
    let (across, down) = (frame.across / component.across, frame.down / component.down);
    let row = samples(component, y / down);
    // The other row that a row of half the height lies between.
    let beside = || {
        let at = y / down;
        let at = if y.is_multiple_of(2) {
            at.saturating_sub(1)
        } else {
            at + 1
        };
        samples(component, at.min(component.height - 1))
    };
    match (across, down) {
        (1, 1) => to.copy_from_slice(row),
        (2, 1) if component.width > 2 => wider(row, to),
        (1, 2) => {
            let bias = if y.is_multiple_of(2) { 1 } else { 2 };
            for (to, (near, far)) in to.iter_mut().zip(row.iter().zip(beside())) {
                *to = ((u32::from(*near) * 3 + u32::from(*far) + bias) >> 2) as u8;
            }
        }
        (2, 2) if component.width > 2 => larger(row, beside(), to),
        _ => {
            for (to, sample) in to.chunks_exact_mut(across).zip(row) {
                to.fill(*sample);
            }
        }
    }
}

/// A row of twice the width. Each new sample lies a quarter from an old one's centre.
fn wider(row: &[u8], to: &mut [u8]) {
    let last = row.len() - 1;
    for (at, to) in to.chunks_exact_mut(2).enumerate() {
        let sample = u32::from(row[at]);
        let before = u32::from(row[at.saturating_sub(1)]);
        let behind = u32::from(row[(at + 1).min(last)]);
        to[0] = ((sample * 3 + before + 1) >> 2) as u8;
        to[1] = ((sample * 3 + behind + 2) >> 2) as u8;
    }
}

/// A row of twice the width, between two rows of half the height.
fn larger(near: &[u8], far: &[u8], to: &mut [u8]) {
    let last = near.len() - 1;
    let sum = |at: usize| u32::from(near[at]) * 3 + u32::from(far[at]);
    let (mut before, mut sample) = (sum(0), sum(0));
    for (at, to) in to.chunks_exact_mut(2).enumerate() {
        let behind = sum((at + 1).min(last));
        to[0] = ((sample * 3 + before + 8) >> 4) as u8;
        to[1] = ((sample * 3 + behind + 7) >> 4) as u8;
        (before, sample) = (sample, behind);
    }
}

/// Converts luminance and colour differences, in 65 536ths.
fn rgb(luminance: u8, blue: u8, red: u8) -> [u8; COLORS] {
    let y = i32::from(luminance);
    let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
    let half = 1 << 15;
    [
        y + ((91_881 * red + half) >> 16),
        y + ((-22_554 * blue - 46_802 * red + half) >> 16),
        y + ((116_130 * blue + half) >> 16),
    ]
    .map(|value| value.clamp(0, 255) as u8)
}
