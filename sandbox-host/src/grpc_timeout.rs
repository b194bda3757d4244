//! A client's deadline, as gRPC over HTTP/2 says it: `grpc-timeout`, up to eight digits and a unit. The gate lets only one
//! well-formed value through; it is read as strictly here, and anything else is no deadline, as there.

use std::time::Duration;

use http::HeaderMap;

/// The field's name.
const NAME: &str = "grpc-timeout";
/// Digits of a value (gRPC over HTTP/2, "TimeoutValue").
const MAX_DIGITS: usize = 8;

/// How long a client waits; `None` if it does not say so, or not in one well-formed value.
pub(crate) fn of(headers: &HeaderMap) -> Option<Duration> {
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
    // Eight digits of hours are far from what 64 bits of seconds hold.
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
            assert_eq!(of(&headers), expected, "{values:?}");
        }
    }
}
