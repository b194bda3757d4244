//! Power spectrum of a frame: a radix-2 Fourier transform in double precision, with precomputed
//! factors.

use core::f64::consts::PI;

/// Real and imaginary part.
type Complex = (f64, f64);

/// A transform of one size, a power of two.
#[derive(Debug)]
pub struct Fft {
    size: usize,
    /// `exp(-2πi k / size)` for the first half of `k`.
    factors: Vec<Complex>,
    values: Vec<Complex>,
}

impl Fft {
    /// For frames of `size` samples.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let step = -2.0 * PI / real(size.max(1));
        let factors = (0..size >> 1).map(|k| {
            let angle = step * real(k);
            (angle.cos(), angle.sin())
        });
        Self {
            size,
            factors: factors.collect(),
            values: Vec::with_capacity(size),
        }
    }

    /// Squared magnitudes of the `size / 2 + 1` frequencies from 0 to half the rate. `frame` has
    /// `size` samples.
    pub fn power(&mut self, frame: &[f64]) -> impl Iterator<Item = f64> {
        let bits = self.size.trailing_zeros();
        self.values.clear();
        self.values.extend((0..self.size).map(|at| {
            let from = at.reverse_bits() >> (usize::BITS.saturating_sub(bits)).min(usize::BITS - 1);
            (frame.get(from).copied().unwrap_or_default(), 0.0)
        }));
        let mut block = 2_usize;
        while block <= self.size {
            let half = block >> 1;
            let stride = self.size.checked_div(block).unwrap_or(1).max(1);
            for values in self.values.chunks_exact_mut(block) {
                let (low, high) = values.split_at_mut(half);
                let factors = self.factors.iter().step_by(stride);
                for ((low, high), factor) in low.iter_mut().zip(high).zip(factors) {
                    let turned = (
                        high.0 * factor.0 - high.1 * factor.1,
                        high.0 * factor.1 + high.1 * factor.0,
                    );
                    *high = (low.0 - turned.0, low.1 - turned.1);
                    *low = (low.0 + turned.0, low.1 + turned.1);
                }
            }
            block = block.saturating_mul(2);
        }
        let kept = (self.size >> 1).saturating_add(1);
        let values = self.values.iter().take(kept);
        values.map(|(real, imaginary)| real * real + imaginary * imaginary)
    }
}

/// Converts a count to a number. Sizes are at most 8192.
#[expect(clippy::cast_precision_loss, reason = "far below 2⁵³")]
pub const fn real(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_has_its_power_at_its_frequency() {
        for size in [16, 64, 512] {
            let mut fft = Fft::new(size);
            for wanted in [0, 1, 3, size / 2] {
                let frame: Vec<f64> = (0..size)
                    .map(|at| (2.0 * PI * real(wanted * at) / real(size)).cos())
                    .collect();
                let power: Vec<f64> = fft.power(&frame).collect();
                assert_eq!(power.len(), size / 2 + 1);
                let full = if wanted == 0 || wanted == size / 2 {
                    real(size * size)
                } else {
                    real(size * size) / 4.0
                };
                for (at, power) in power.iter().enumerate() {
                    let expected = if at == wanted { full } else { 0.0 };
                    assert!(
                        (power - expected).abs() < 1e-6,
                        "{size} {wanted} {at}: {power}"
                    );
                }
            }
        }
    }
}
