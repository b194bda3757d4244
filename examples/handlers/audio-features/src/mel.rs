//! Log-mel frames of samples: Hann window, power spectrum, triangular filters on Slaney's scale,
//! logarithm.

use core::f64::consts::PI;

use crate::fft::{Fft, real};

/// The least value whose logarithm is taken, which stands for silence.
const FLOOR: f64 = 1e-10;
/// Slaney's scale is linear up to this frequency in Hz, and logarithmic above.
const LOG_FROM_HZ: f64 = 1_000.0;
/// Hz for each mel in the linear part.
const HZ_A_MEL: f64 = 200.0 / 3.0;
/// Mels in the logarithmic part over which the frequency grows by a factor of 6.4.
const MELS_A_FACTOR: f64 = 27.0;
const FACTOR: f64 = 6.4;

/// The parameters of the features; see the crate's documentation.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Hz.
    pub sample_rate: u32,
    /// Samples of a transform, a power of two.
    pub n_fft: usize,
    /// Samples of the window, which is centred in a transform.
    pub win_length: usize,
    /// Samples from one frame to the next.
    pub hop_length: usize,
    /// Filters.
    pub n_mels: usize,
    /// Hz, where the first filter begins.
    pub f_min: f64,
    /// Hz, where the last filter ends.
    pub f_max: f64,
}

/// Tables that do not depend on the sound.
#[derive(Debug)]
pub struct Mel {
    fft: Fft,
    window: Vec<f64>,
    hop: usize,
    filters: Vec<Filter>,
}

/// A triangular filter, without the zeros before and after it.
#[derive(Debug)]
struct Filter {
    first: usize,
    weights: Vec<f64>,
}

impl Mel {
    /// Computes window, factors and filters.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let before = settings.n_fft.saturating_sub(settings.win_length) >> 1;
        let step = 2.0 * PI / real(settings.win_length.max(1));
        let window = (0..settings.n_fft).map(|at| match at.checked_sub(before) {
            Some(at) if at < settings.win_length => 0.5 - 0.5 * (step * real(at)).cos(),
            _ => 0.0,
        });
        Self {
            fft: Fft::new(settings.n_fft),
            window: window.collect(),
            hop: settings.hop_length.max(1),
            filters: filters(settings),
        }
    }

    /// The frames one after another, each with one value for each filter. The sound is padded with
    /// silence at both ends, so that each frame is centred on its hop.
    #[must_use]
    pub fn features(mut self, samples: &[f64]) -> Vec<f32> {
        let half = self.window.len() >> 1;
        let mut padded = vec![0.0; half];
        padded.extend_from_slice(samples);
        padded.resize(padded.len().saturating_add(half), 0.0);
        let mut frame = vec![0.0; self.window.len()];
        let mut power = Vec::new();
        let mut features = Vec::new();
        for sound in padded.windows(self.window.len().max(1)).step_by(self.hop) {
            for ((cell, sample), weight) in frame.iter_mut().zip(sound).zip(&self.window) {
                *cell = sample * weight;
            }
            power.clear();
            power.extend(self.fft.power(&frame));
            features.extend(self.filters.iter().map(|filter| {
                let heard = power.get(filter.first..).unwrap_or_default();
                let energy: f64 = heard.iter().zip(&filter.weights).map(|(p, w)| p * w).sum();
                rounded(energy.max(FLOOR).ln())
            }));
        }
        features
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "logarithms lie between -24 and 50"
)]
const fn rounded(value: f64) -> f32 {
    value as f32
}

/// librosa's filters. Each rises to the centre of the next and falls to the one after, and all have
/// the same area.
fn filters(settings: &Settings) -> Vec<Filter> {
    let (low, high) = (mel(settings.f_min), mel(settings.f_max));
    let step = (high - low) / real(settings.n_mels.saturating_add(1));
    let edges: Vec<f64> = (0..settings.n_mels.saturating_add(2))
        .map(|at| hz(low + step * real(at)))
        .collect();
    let bin_hz = f64::from(settings.sample_rate) / real(settings.n_fft.max(1));
    let bins = (settings.n_fft >> 1).saturating_add(1);
    edges
        .windows(3)
        .map(|edges| {
            let &[left, middle, right] = edges else {
                return Filter {
                    first: 0,
                    weights: Vec::new(),
                };
            };
            let norm = 2.0 / (right - left);
            let weights = (0..bins).map(|bin| {
                let at = bin_hz * real(bin);
                let rising = (at - left) / (middle - left);
                let falling = (right - at) / (right - middle);
                rising.min(falling).max(0.0) * norm
            });
            let weights: Vec<f64> = weights.collect();
            let first = weights.iter().take_while(|weight| **weight == 0.0).count();
            let some = weights
                .into_iter()
                .skip(first)
                .take_while(|weight| *weight > 0.0);
            Filter {
                first,
                weights: some.collect(),
            }
        })
        .collect()
}

fn mel(hz: f64) -> f64 {
    if hz < LOG_FROM_HZ {
        hz / HZ_A_MEL
    } else {
        LOG_FROM_HZ / HZ_A_MEL + (hz / LOG_FROM_HZ).ln() * MELS_A_FACTOR / FACTOR.ln()
    }
}

fn hz(mel: f64) -> f64 {
    let from = LOG_FROM_HZ / HZ_A_MEL;
    if mel < from {
        mel * HZ_A_MEL
    } else {
        LOG_FROM_HZ * ((mel - from) * FACTOR.ln() / MELS_A_FACTOR).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mels_and_hertz_are_each_others_inverse() {
        for value in [0.0, 440.0, 999.0, 1_000.0, 8_000.0] {
            assert!((hz(mel(value)) - value).abs() < 1e-9, "{value}");
        }
        assert!((mel(1_000.0) - 15.0).abs() < 1e-12);
        assert!((mel(6_400.0) - 42.0).abs() < 1e-12);
    }
}
