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

/// An interval of samples in any order that has the median of their distribution, whatever that is,
/// in at least 95 of 100 cases: as many of the smallest samples are left out as of the largest.
/// Fewer than six samples give no such interval; then it has all samples.
pub fn interval(samples: &[f64]) -> (f64, f64) {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = number(sorted.len());
    // The number of samples below the median is that of heads in as many tosses of a coin.
    let mut probability = 0.5_f64.powf(count);
    let mut below = probability;
    let mut rank = 0_usize;
    while below <= 0.025 && rank < sorted.len() {
        probability *= (count - number(rank)) / (number(rank) + 1.0);
        below += probability;
        rank = rank.saturating_add(1);
    }
    let least = rank.saturating_sub(1);
    let most = sorted.len().saturating_sub(least).saturating_sub(1);
    let sample = |at: usize| sorted.get(at).copied().unwrap_or(f64::NAN);
    (sample(least), sample(most))
}

/// A count as a floating-point number.
pub fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_leave_out_as_many_samples_as_they_may() {
        for (count, expected) in [
            (1, (1.0, 1.0)),
            (5, (1.0, 5.0)),
            (6, (1.0, 6.0)),
            (8, (1.0, 8.0)),
            (9, (2.0, 8.0)),
            (15, (4.0, 12.0)),
        ] {
            let samples: Vec<f64> = (1..=count).map(f64::from).rev().collect();
            assert_eq!(interval(&samples), expected, "{count}");
        }
    }

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
