//! The `grpc-timeout` header: up to eight digits and a unit. The gate passes only one well-formed
//! value of a client. It is parsed as strictly here, and anything else is no deadline, as in the
//! gate.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The name of the field.
pub const NAME: HeaderName = HeaderName::from_static("grpc-timeout");
/// The most digits of a value (gRPC over HTTP/2, "TimeoutValue").
const MAX_DIGITS: usize = 8;
/// The largest value with that many digits.
const MAX_AMOUNT: u64 = 99_999_999;
/// The units from fine to coarse, with their lengths in nanoseconds.
const UNITS: [(char, u64); 6] = [
    ('n', 1),
    ('u', 1_000),
    ('m', 1_000_000),
    ('S', 1_000_000_000),
    ('M', 60_000_000_000),
    ('H', 3_600_000_000_000),
];

/// Encodes a timeout in the finest unit that fits. It is rounded up, so that the receiver does not
/// give up before the sender.
pub fn header(left: Duration) -> HeaderValue {
    let nanos = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
    let said = UNITS.iter().find_map(|(unit, length)| {
        let amount = nanos.div_ceil(*length);
        (amount <= MAX_AMOUNT).then_some((amount, *unit))
    });
    // 64 bits of nanoseconds are fewer hours than eight digits can hold.
    let (amount, unit) = said.unwrap_or((MAX_AMOUNT, 'H'));
    let mut text = BytesMut::with_capacity(MAX_DIGITS.saturating_add(1));
    // Writing to memory does not fail.
    let _ = write!(text, "{amount}{unit}");
    HeaderValue::from_maybe_shared(text.freeze()).unwrap_or(HeaderValue::from_static("99999999H"))
}

/// The client's timeout. `None` without exactly one well-formed value.
pub fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    let mut values = headers.get_all(NAME).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    parse(value.as_bytes())
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let well_formed =
        (1..=MAX_DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    if !well_formed {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    // Eight digits of hours are far below 64 bits of seconds.
    match unit {
        b'H' => Some(Duration::from_secs(amount.saturating_mul(3_600))),
        b'M' => Some(Duration::from_secs(amount.saturating_mul(60))),
        b'S' => Some(Duration::from_secs(amount)),
        b'm' => Some(Duration::from_millis(amount)),
        b'u' => Some(Duration::from_micros(amount)),
        b'n' => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_deadline_is_said_in_eight_digits_and_never_too_short() {
        for (nanos, expected) in [
            (0, "0n"),
            (99_999_999, "99999999n"),
            (100_000_001, "100001u"),
            (99_999_999_001, "100000m"),
            // Rounding down here would end a call up to a millisecond too soon.
            (150_000_000_001, "150001m"),
            (100_000_000_000_000, "100000S"),
            (u64::MAX, "5124096H"),
        ] {
            assert_eq!(header(Duration::from_nanos(nanos)), expected, "{nanos}");
        }
        assert_eq!(header(Duration::MAX), "5124096H");
    }

    #[test]
    fn a_deadline_is_one_value_of_digits_and_a_unit() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let cases: [(&[&str], Option<Duration>); 15] = [
            (&[], None),
            (&["1S"], seconds(1)),
            (&["2M"], seconds(120)),
            (&["99999999H"], seconds(359_999_996_400)),
            (&["250m"], Some(Duration::from_millis(250))),
            (&["7u"], Some(Duration::from_micros(7))),
            (&["00000009n"], Some(Duration::from_nanos(9))),
            (&["0S"], seconds(0)),
            (&["100000000n"], None),
            (&["S"], None),
            (&[""], None),
            (&["-1S"], None),
            (&["1s"], None),
            (&["1 S"], None),
            (&["1S", "1S"], None),
        ];
        for (values, expected) in cases {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(NAME, value.parse().unwrap());
            }
            assert_eq!(from_headers(&headers), expected, "{values:?}");
        }
    }
}
