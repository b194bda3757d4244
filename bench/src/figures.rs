//! Statistics of samples.

/// A quantile of sorted samples; NaN if there are none.
pub fn quantile(sorted: &[f64], share: f64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the index is clamped to the slice"
    )]
    let at = ((sorted.len().saturating_sub(1)) as f64 * share).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// The median of samples in any order; NaN if there are none.
pub fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = quantile(&sorted, 0.5);
    if sorted.len().is_multiple_of(2) {
        let lower = sorted
            .get(sorted.len().div_euclid(2).saturating_sub(1))
            .copied()
            .unwrap_or(upper);
        let higher = sorted
            .get(sorted.len().div_euclid(2))
            .copied()
            .unwrap_or(upper);
        f64::midpoint(lower, higher)
    } else {
        upper
    }
}

/// A count as a floating-point number.
pub fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples_and_medians_lie_between() {
        for (samples, expected) in [
            (vec![3.0, 1.0, 2.0], 2.0),
            (vec![4.0, 1.0, 2.0, 3.0], 2.5),
            (vec![7.0], 7.0),
        ] {
            assert!((median(&samples) - expected).abs() < 1e-9, "{samples:?}");
        }
        let sorted: Vec<f64> = (0..=100).map(f64::from).collect();
        assert!((quantile(&sorted, 0.99) - 99.0).abs() < 1e-9);
        assert!(median(&[]).is_nan());
    }
}
