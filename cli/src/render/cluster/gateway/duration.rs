//! Durations in manifests of the Gateway API.

/// Milliseconds as the Gateway API writes durations: units with at most five digits each.
pub(super) fn duration(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let (mut rest, mut text) = (ms, String::new());
    for (unit, name) in UNITS {
        let count = rest.checked_div(unit).unwrap_or_default();
        rest = rest.checked_rem(unit).unwrap_or_default();
        if count > 0 {
            text.push_str(&format!("{count}{name}"));
        }
    }
    if text.is_empty() {
        return "0s".to_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn a_duration_has_units_of_at_most_five_digits() {
        for (ms, expected) in [
            (0, "0s"),
            (1, "1ms"),
            (5_000, "5s"),
            (61_500, "1m1s500ms"),
            (3_600_000, "1h"),
            (100_000_000, "27h46m40s"),
        ] {
            assert_eq!(duration(ms), expected);
        }
    }
}
