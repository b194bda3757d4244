//! Long lists of numbers in every spelling that JSON allows, compared element by element with the
//! standard library, which rounds correctly. Numbers that are read in runs and numbers that are
//! read one by one must give the same values, at every boundary between the two.

use crate::common;

use common::{accepted, json as one, refusal};
use tensorgate_policy::Reason;
use tensorgate_policy::decision::BodyFormat::OipJson;
use tensorgate_policy::tensor::DataFault;

/// Xorshift64*: the same numbers on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// This many digits. The first is not zero unless `zero` is set.
    fn digits(&mut self, count: u64, zero: bool) -> String {
        let first = if zero { 0 } else { 1 };
        let mut text = (first + self.below(10 - first)).to_string();
        text.extend((1..count).map(|_| char::from(b'0' + self.below(10) as u8)));
        text
    }

    fn number(&mut self) -> String {
        let sign = self.pick(&["", "", "-"]);
        let integer_digits = self.pick(&[1, 1, 2, 3, 8, 9, 17]);
        let integer = self.digits(integer_digits, false);
        let fraction_digits = 1 + self.below(19);
        let fraction = self.digits(fraction_digits, true);
        let single = f32::from_bits(self.next() as u32);
        match self.below(12) {
            0 => "0".into(),
            1 => format!("{sign}{integer}"),
            2 => format!("{sign}0.0"),
            3 => format!(
                "{sign}{integer}{}{}",
                self.pick(&["e", "E+", "e-"]),
                self.below(30)
            ),
            4 => format!("{sign}{integer}.{fraction}e-{}", self.below(30)),
            5 if single.is_finite() => format!("{single:e}"),
            // The midpoint between two singles, and the numbers next to it.
            6 if single.is_finite() && single.abs() < 1e9 && single.abs() > 1e-9 => {
                let middle = f64::midpoint(single.into(), single.next_up().into());
                let beside = self.pick(&[middle, middle.next_up(), middle.next_down()]);
                format!("{beside}")
            }
            7 => format!("{sign}{integer}.{fraction}"),
            _ => format!("{sign}0.{fraction}"),
        }
    }
}

fn data(datatype: &str, shape: &str, list: &str) -> Result<Vec<u8>, DataFault> {
    let body = one(datatype, shape, list);
    let input = accepted(OipJson, body.as_bytes()).inputs.remove(0);
    input.data.map(|bytes| bytes.into_vec())
}

/// The values of the elements in the standard library.
fn expected<T: core::str::FromStr + Copy, const N: usize>(
    numbers: &[String],
    is_finite: fn(T) -> bool,
    le: fn(T) -> [u8; N],
) -> Result<Vec<u8>, DataFault> {
    let mut raw = Vec::new();
    for (index, text) in numbers.iter().enumerate() {
        match text.parse().ok().filter(|value| is_finite(*value)) {
            Some(value) => raw.extend_from_slice(&le(value)),
            None => return Err(DataFault::NotFinite { index }),
        }
    }
    Ok(raw)
}

/// A list of them, with a separator that `random` picks between any two.
fn joined(random: &mut Random, numbers: &[String], separators: &[&str]) -> String {
    let mut list = String::new();
    for (index, number) in numbers.iter().enumerate() {
        if index > 0 {
            list.push_str(random.pick(separators));
        }
        list.push_str(number);
    }
    list
}

const SEPARATORS: [&[&str]; 4] = [
    &[","],
    &[", "],
    &[",", ", ", ",", ",", " ,", ",  ", ",\n", "\t, "],
    &[" , "],
];

#[test]
fn every_spelling_of_a_float_is_read_as_the_standard_library_reads_it() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for turn in 0..400 {
        let count = 1 + random.below(300);
        let numbers: Vec<_> = (0..count).map(|_| random.number()).collect();
        let separators = SEPARATORS[turn % SEPARATORS.len()];
        let list = joined(&mut random, &numbers, separators);
        let (shape, flat) = (format!("[{count}]"), format!("[{list}]"));
        let singles = expected(&numbers, f32::is_finite, f32::to_le_bytes);
        assert_eq!(data("FP32", &shape, &flat), singles, "{flat}");
        let doubles = expected(&numbers, f64::is_finite, f64::to_le_bytes);
        assert_eq!(data("FP64", &shape, &flat), doubles, "{flat}");
        // The same in rows of one.
        let rows: Vec<_> = numbers.iter().map(|text| format!("[{text}]")).collect();
        let rows = format!("[{}]", joined(&mut random, &rows, separators));
        let shape = format!("[{count},1]");
        assert_eq!(data("FP32", &shape, &rows), singles, "{rows}");
    }
}

#[test]
fn every_integer_is_itself_in_its_datatype_and_beyond_it_overflows() {
    let mut random = Random(0x1234_5678_9abc_def1);
    for turn in 0..200 {
        let count = 1 + random.below(300);
        let bits = random.pick(&[7_u32, 8, 9, 15, 16, 31, 63]);
        let numbers: Vec<_> = (0..count)
            .map(|_| (random.next().cast_signed() >> (64 - bits)).to_string())
            .collect();
        let list = joined(&mut random, &numbers, SEPARATORS[turn % SEPARATORS.len()]);
        let (shape, list) = (format!("[{count}]"), format!("[{list}]"));
        macro_rules! check {
            ($($type:ty, $datatype:literal;)*) => {$(
                let mut raw = Ok(Vec::new());
                for (index, text) in numbers.iter().enumerate() {
                    match text.parse::<$type>() {
                        Ok(value) => raw.as_mut().unwrap().extend_from_slice(&value.to_le_bytes()),
                        Err(_) => {
                            raw = Err(DataFault::Overflow { index });
                            break;
                        }
                    }
                }
                assert_eq!(data($datatype, &shape, &list), raw, "{} {list}", $datatype);
            )*};
        }
        check! {
            i8, "INT8"; u8, "UINT8"; i16, "INT16"; u16, "UINT16"; i32, "INT32"; u32, "UINT32"; i64, "INT64"; u64, "UINT64";
        }
    }
}

#[test]
fn an_invalid_number_is_found_at_every_position() {
    let kind = |index| Err(DataFault::Kind { index });
    for position in [0, 1, 2, 7, 31] {
        let list = |element: &str, separator: &str| {
            let mut elements = vec!["0.25"; 32];
            elements[position] = element;
            format!("[{}]", elements.join(separator))
        };
        for separator in [",", ", "] {
            for element in ["\"1\"", "true", "null", "[1]", "[]"] {
                let found = data("FP32", "[32]", &list(element, separator));
                let expected = if element.starts_with('[') {
                    Err(DataFault::Nesting)
                } else {
                    kind(position)
                };
                assert_eq!(found, expected, "{element} at {position}");
            }
            let found = data("FP32", "[32]", &list("1e39", separator));
            assert_eq!(found, Err(DataFault::NotFinite { index: position }));
            let found = data("UINT8", "[32]", &list("7", separator));
            assert_eq!(found, kind(if position == 0 { 1 } else { 0 }));
            for element in [
                "", "-", "+1", "01", "00", "1.", "1.e1", ".5", "1e", "1e+", "1 2", "1_0", "0x1",
                "1f", "1.5.5", "1,", "1e5e", "--1", "1-", "NaN", "٣",
            ] {
                let body = one("FP32", "[32]", &list(element, separator));
                assert_eq!(
                    refusal(OipJson, body.as_bytes()).0,
                    Reason::Malformed,
                    "{body}"
                );
            }
        }
    }
}
