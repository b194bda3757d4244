//! Compares the check of lists with one that reads byte by byte.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

extern crate std;

use std::string::String;
use std::vec::Vec;

use super::*;

/// A limit of magnitude, whether negative numbers are allowed, and whether all are integers.
type Rule = (u64, bool, bool);

const RULES: [Rule; 10] = [
    (1, true, false),
    (1, false, false),
    (4, true, false),
    (9, false, true),
    (10, true, false),
    (19, true, true),
    (100, false, false),
    (255, false, true),
    (50_256, true, true),
    (u64::MAX, true, false),
];

/// The same byte by byte.
fn run_by_bytes(text: &[u8], (greatest, negative, integers): Rule) -> NumberRun {
    let mut run = NumberRun::default();
    let mut start = 0;
    loop {
        let mut rest = &text[start..];
        while let [b' ' | b'\t' | b'\n' | b'\r', behind @ ..] = rest {
            rest = behind;
        }
        let minus = rest.starts_with(b"-");
        rest = &rest[usize::from(minus)..];
        let digits = |rest: &[u8]| rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (integer, behind) = rest.split_at(digits(rest));
        let (fraction, behind) = match behind {
            [b'.', behind @ ..] => {
                let (fraction, behind) = behind.split_at(digits(behind));
                (Some(fraction), behind)
            }
            _ => (None, behind),
        };
        let size = integer.len() + fraction.map_or(0, |fraction| fraction.len() + 1);
        let end = text.len() - behind.len();
        let is_number = !integer.is_empty()
            && (integer == b"0" || integer[0] != b'0')
            && fraction != Some(b"")
            && behind.starts_with(b",");
        if !is_number || size > 20 || integer.len() > 19 {
            return run;
        }
        let value: u64 = str::from_utf8(integer).unwrap().parse().unwrap();
        let greatest = greatest.min(9_999_999_999_999_999_999);
        let is_within = value < greatest || value == greatest && fraction.is_none_or(|f| f == b"0");
        let is_integer = fraction.is_none() && !(minus && value == 0);
        if !is_within || minus && !negative || integers && !is_integer {
            return run;
        }
        run.count += 1;
        run.bytes = end;
        start = end + 1;
    }
}

fn check(text: &[u8]) {
    for rule in RULES {
        let Some(limit) = NumberLimit::new(rule.0, rule.1, rule.2) else {
            continue;
        };
        assert_eq!(
            limit.run(text),
            run_by_bytes(text, rule),
            "{rule:?}: {}",
            text.escape_ascii()
        );
    }
}

#[test]
fn a_limit_has_vectors_and_a_magnitude() {
    assert_eq!(NumberLimit::new(0, true, true), None);
    assert_eq!(NumberLimit::new(1, true, true).is_some(), is_supported());
}

#[test]
fn lists_are_read_to_the_first_number_that_is_not_within() {
    for text in [
        "",
        "1",
        "1,",
        "0.5,0.25,1.0]",
        "0.5, 0.25, -1.0, 1.0, 1.00, 2]",
        "1,\n    2,\n    3,\n    4\n]",
        "1,\r\n2]",
        "1 ,2,3",
        "255,254,256,1,",
        "50256,50257,",
        "4.0,4,4.01,",
        "1e5,",
        "1,2e5,3,",
        "1.2.3,4,",
        "-0,-0.0,0,",
        "-0,1,",
        "15,",
        "95,",
        "101,",
        "1000,",
        "00,",
        "1,,2",
        "1,]",
        "1, ,",
        "--1,",
        "1-,",
        "0.12345678901234567,0.123456789012345678,0.1234567890123456789,",
        "1234567890123456789,12345678901234567890,",
        "123456789.1234567890,123456789.12345678901,",
        "1,2,3,\u{e9}4,",
        "1,2\u{fffd},",
    ] {
        // At each position of a block, and across its end.
        for offset in 0..2 * BLOCK_BYTES {
            let blank = if offset % 2 == 0 { "" } else { " " };
            check(std::format!("{}{blank}{text}", "1,".repeat(offset / 2)).as_bytes());
        }
    }
    let blanks = |count: usize| std::format!("1,{}2,3,", " ".repeat(count));
    for count in 50..70 {
        check(blanks(count).as_bytes());
    }
}

#[test]
fn each_byte_is_checked_at_each_position() {
    let list = b"0.12345,-1.5, 3,100.25,0.000001,12,7.0,-0.5,99999.5,0.25,1,2,3.5,4,5,6,7,8,9,10,";
    for position in 0..list.len() {
        for byte in 0..=u8::MAX {
            let mut text = *list;
            text[position] = byte;
            check(&text);
        }
        check(&list[..position]);
    }
}

#[test]
fn short_texts_are_read_as_byte_by_byte() {
    const BYTES: &[u8] = b"019.-,\re";
    let mut count = 0_usize;
    for size in 0..6_u32 {
        for number in 0..BYTES.len().pow(size) {
            let digit = |position: u32| BYTES[number / BYTES.len().pow(position) % BYTES.len()];
            let mut text: Vec<u8> = (0..size).map(digit).collect();
            text.push(b',');
            check(&text);
            count += 1;
        }
    }
    assert_eq!(count, 37_449);
}

#[test]
fn long_texts_are_read_as_byte_by_byte() {
    // xorshift64*: the same texts each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        usize::try_from(state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % below
    };
    for _ in 0..20_000 {
        let mut text = String::new();
        let (most_digits, most_fraction) = (1 + next(21), next(21));
        for _ in 0..next(60) {
            text.push_str(["", "", "", " ", "\r\n  ", "-", " -"][next(7)]);
            let integer = 1 + next(most_digits);
            for position in 0..integer {
                // Most numbers begin as they should.
                let least = usize::from(position == 0 && integer > 1 && next(40) > 0);
                text.push(char::from(b"0123456789"[least + next(10 - least)]));
            }
            if most_fraction > 0 {
                text.push('.');
                for _ in 0..1 + next(most_fraction) {
                    text.push(char::from(b"0123456789"[next(10)]));
                }
            }
            text.push(',');
        }
        check(text.as_bytes());
    }
}
