//! Time is an argument: a driver reads its clocks once per step and passes both readings. Days of
//! a policy are compared with it.

/// Nanoseconds per second.
pub const SECOND_NS: u64 = 1_000_000_000;
/// Nanoseconds per millisecond.
pub const MILLISECOND_NS: u64 = 1_000_000;

/// Two clock readings taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, in seconds since the Unix epoch; used for expiry.
    pub unix_s: u64,
    /// Monotonic clock, in nanoseconds since an arbitrary start that all workers of a process
    /// share; used for buckets.
    pub monotonic_ns: u64,
}

/// Seconds per day; Unix time has no leap seconds.
pub const DAY_S: u64 = 86_400;

/// First Unix second after a day `YYYY-MM-DD` in UTC; `None` if this is not a Gregorian date from
/// 1970 to 9999.
pub fn end_of_day_unix_s(text: &str) -> Option<u64> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1] = text.as_bytes() else {
        return None;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0_u64, |number, digit| {
            let value = char::from(**digit).to_digit(10)?;
            number.checked_mul(10)?.checked_add(u64::from(value))
        })
    };
    let (year, month, day) = (
        number(&[y0, y1, y2, y3])?,
        number(&[m0, m1])?,
        number(&[d0, d1])?,
    );
    if year < 1970 || day == 0 || day > days_in_month(year, month)? {
        return None;
    }
    let before_year = (1970..year).try_fold(0_u64, |days, year| {
        days.checked_add(if is_leap(year) { 366 } else { 365 })
    })?;
    let before_month = (1..month).try_fold(0_u64, |days, month| {
        days.checked_add(days_in_month(year, month)?)
    })?;
    // `day` counts from 1, so this is the next day.
    before_year
        .checked_add(before_month)?
        .checked_add(day)?
        .checked_mul(DAY_S)
}

/// First Unix second of such a day.
pub fn start_of_day_unix_s(text: &str) -> Option<u64> {
    end_of_day_unix_s(text)?.checked_sub(DAY_S)
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in_month(year: u64, month: u64) -> Option<u64> {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => Some(31),
        4 | 6 | 9 | 11 => Some(30),
        2 => Some(if is_leap(year) { 29 } else { 28 }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{end_of_day_unix_s, start_of_day_unix_s};

    #[test]
    fn a_day_ends_with_the_first_second_of_the_next() {
        fn check(text: &str, expected: Option<u64>) {
            assert_eq!(end_of_day_unix_s(text), expected, "{text:?}");
        }
        check("1970-01-01", Some(86_400));
        check("2000-02-28", Some(951_782_400));
        check("2000-02-29", Some(951_868_800));
        check("2027-01-31", Some(1_801_440_000));
        check("2038-01-19", Some(2_147_558_400));
        check("9999-12-31", Some(253_402_300_800));
        assert_eq!(start_of_day_unix_s("1970-01-01"), Some(0));
        assert_eq!(start_of_day_unix_s("2026-11-25"), Some(1_795_564_800));
    }

    #[test]
    fn invalid_dates_are_rejected() {
        for text in [
            "",
            "2027",
            "2027-1-31",
            "2027-01-32",
            "2027-00-10",
            "2027-13-01",
            "2027-01-00",
            "2026-02-29",
            "1900-02-29",
            "2100-02-29",
            "2027-04-31",
            "1969-12-31",
            "0000-00-00",
            "27-01-31",
            "2027/01/31",
            "2027-01-31Z",
            " 2027-01-31",
            "+027-01-31",
            "2027-0a-31",
            "２０２７-01-31",
            "10000-01-01",
        ] {
            assert_eq!(end_of_day_unix_s(text), None, "{text:?}");
            assert_eq!(start_of_day_unix_s(text), None, "{text:?}");
        }
    }
}
