//! Every scan compared with a simple reference implementation, at the limits of every datatype.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
#![allow(clippy::cast_possible_truncation, reason = "tests round on purpose")]

use alloc::vec;
use alloc::vec::Vec;

use tensorgate_values::datatype::Datatype;

use super::{BF16, BLOCK, Channels, DataPosition, FP16, bounds, first_not_finite, holds_a_value};
use crate::contract::TensorRule;

mod numbers;

fn rule(datatype: Datatype, finite: bool, range: Option<(f64, f64)>) -> TensorRule {
    TensorRule {
        finite,
        ..crate::contract::tests::rule("x", datatype, range)
    }
}

fn clean(rule: &TensorRule, data: &[u8]) -> bool {
    super::clean(rule, DataPosition::default(), data)
}

fn first_out_of_range(rule: &TensorRule, data: &[u8]) -> Option<usize> {
    super::first_out_of_range(rule, DataPosition::default(), data)
}

/// One value and one range: whether the value is in the range.
#[track_caller]
fn check(datatype: Datatype, range: (f64, f64), value: &[u8], inside: bool) {
    let rule = rule(datatype, false, Some(range));
    assert_eq!(
        clean(&rule, value),
        inside,
        "{datatype} {value:x?} in {range:?}"
    );
    assert_eq!(
        first_out_of_range(&rule, value),
        (!inside).then_some(0),
        "{datatype} {value:x?} in {range:?}"
    );
}

#[test]
fn integers_are_compared_exactly() {
    const TWO_53: f64 = 9_007_199_254_740_992.0;
    for (value, inside) in [
        ((1_i64 << 53) + 1, false),
        (1 << 53, true),
        (-(1 << 53), true),
        (-(1 << 53) - 1, false),
        (i64::MIN, false),
    ] {
        check(
            Datatype::Int64,
            (-TWO_53, TWO_53),
            &value.to_le_bytes(),
            inside,
        );
    }
    for (value, inside) in [
        ((1_u64 << 63) + 1, false),
        (1 << 63, true),
        (0, true),
        (u64::MAX, false),
    ] {
        check(
            Datatype::Uint64,
            (0.0, 9_223_372_036_854_775_808.0),
            &value.to_le_bytes(),
            inside,
        );
    }
    // 2^64 as a double is above the maximum of u64, so the maximum is in range.
    check(
        Datatype::Uint64,
        (0.0, 18_446_744_073_709_551_616.0),
        &u64::MAX.to_le_bytes(),
        true,
    );
    check(
        Datatype::Int64,
        (-1e300, 1e300),
        &i64::MIN.to_le_bytes(),
        true,
    );
    check(
        Datatype::Int64,
        (1e300, 1e301),
        &i64::MAX.to_le_bytes(),
        false,
    );
    check(Datatype::Uint8, (-10.0, -1.0), &[0], false);
    check(Datatype::Uint8, (256.0, 300.0), &[255], false);
    check(Datatype::Int8, (-128.0, -128.0), &[0x80], true);
    check(Datatype::Int8, (-127.0, 127.0), &[0x80], false);
    check(Datatype::Uint16, (1.0, 2.0), &[0, 1], false);
    check(
        Datatype::Int32,
        (f64::from(i32::MIN), -1.0),
        &i32::MIN.to_le_bytes(),
        true,
    );
    check(
        Datatype::Uint32,
        (1.0, f64::from(u32::MAX)),
        &0_u32.to_le_bytes(),
        false,
    );
    check(Datatype::Int16, (-1.0, 1.0), &(-2_i16).to_le_bytes(), false);
}

#[test]
fn fractions_bound_integers_by_the_integers_between_them() {
    for (value, inside) in [(-2_i8, false), (-1, true), (0, true), (1, true), (2, false)] {
        check(Datatype::Int8, (-1.5, 1.5), &value.to_le_bytes(), inside);
    }
    check(Datatype::Int8, (0.25, 0.75), &[0], false);
    check(Datatype::Int8, (0.25, 0.75), &[1], false);
    assert!(!holds_a_value(Datatype::Int8, (0.25, 0.75)));
    assert!(!holds_a_value(Datatype::Uint8, (-9.0, -1.0)));
    assert!(!holds_a_value(Datatype::Bool, (2.0, 3.0)));
    assert!(!holds_a_value(Datatype::Fp16, (70_000.0, 80_000.0)));
    assert!(!holds_a_value(Datatype::Fp32, (1e39, 1e40)));
    assert!(!holds_a_value(Datatype::Fp64, (f64::NAN, 1.0)));
    assert!(holds_a_value(Datatype::Fp64, (-0.0, 0.0)));
    assert!(holds_a_value(Datatype::Uint64, (1e19, 1e20)));
}

#[test]
fn booleans_are_0_or_1() {
    let any = rule(Datatype::Bool, false, None);
    for (byte, good) in [
        (0, true),
        (1, true),
        (2, false),
        (0x80, false),
        (0xff, false),
    ] {
        assert_eq!(clean(&any, &[byte]), good, "{byte}");
        assert_eq!(
            first_out_of_range(&any, &[1, 0, byte]),
            (!good).then_some(2),
            "{byte}"
        );
        check(Datatype::Bool, (0.0, 0.0), &[byte], byte == 0);
        check(Datatype::Bool, (0.5, 7.0), &[byte], byte == 1);
    }
}

#[test]
fn a_float_bound_is_read_as_its_datatype_reads_it() {
    let next = |value: f32| f32::from_bits(value.to_bits() + 1);
    check(Datatype::Fp32, (0.0, 0.1), &0.1_f32.to_le_bytes(), true);
    check(Datatype::Fp32, (0.0, 0.1), &next(0.1).to_le_bytes(), false);
    check(Datatype::Fp64, (0.0, 0.1), &0.1_f64.to_le_bytes(), true);
    check(
        Datatype::Fp64,
        (0.0, 0.1),
        &f64::from(0.1_f32).to_le_bytes(),
        false,
    );
    // 0.3 in FP16 is 0x34cd, slightly above 0.3; in BF16 0x3e9a, also slightly above.
    check(Datatype::Fp16, (0.0, 0.3), &0x34cd_u16.to_le_bytes(), true);
    check(Datatype::Fp16, (0.0, 0.3), &0x34ce_u16.to_le_bytes(), false);
    check(Datatype::Bf16, (0.0, 0.3), &0x3e9a_u16.to_le_bytes(), true);
    check(Datatype::Bf16, (0.0, 0.3), &0x3e9b_u16.to_le_bytes(), false);
}

#[test]
fn zeros_are_one_number() {
    for (datatype, plus, minus) in [
        (Datatype::Fp16, vec![0, 0], vec![0, 0x80]),
        (Datatype::Bf16, vec![0, 0], vec![0, 0x80]),
        (
            Datatype::Fp32,
            0_f32.to_le_bytes().to_vec(),
            (-0_f32).to_le_bytes().to_vec(),
        ),
        (
            Datatype::Fp64,
            0_f64.to_le_bytes().to_vec(),
            (-0_f64).to_le_bytes().to_vec(),
        ),
    ] {
        for zero in [&plus, &minus] {
            for range in [(0.0, 1.0), (-0.0, 1.0), (-1.0, 0.0), (-1.0, -0.0)] {
                check(datatype, range, zero, true);
            }
        }
    }
}

#[test]
fn neither_nan_nor_an_infinity_is_in_any_range() {
    let widest = (-f64::MAX, f64::MAX);
    for sign in [0_u64, 1] {
        for payload in [0_u64, 1, 0x155, 0x3f] {
            check(
                Datatype::Fp16,
                widest,
                &(0x7c00 | (sign << 15) | payload).to_le_bytes()[..2],
                false,
            );
            check(
                Datatype::Bf16,
                widest,
                &(0x7f80 | (sign << 15) | (payload & 0x7f)).to_le_bytes()[..2],
                false,
            );
            check(
                Datatype::Fp32,
                widest,
                &(0x7f80_0000 | (sign << 31) | payload).to_le_bytes()[..4],
                false,
            );
            check(
                Datatype::Fp64,
                widest,
                &(0x7ff0_0000_0000_0000 | (sign << 63) | payload).to_le_bytes(),
                false,
            );
        }
    }
    // A bound just below infinity, or one that a narrower format rounds to infinity, still excludes
    // infinity.
    check(
        Datatype::Fp32,
        (0.0, 3.5e38),
        &f32::INFINITY.to_le_bytes(),
        false,
    );
    check(Datatype::Fp32, (0.0, 3.5e38), &f32::MAX.to_le_bytes(), true);
    check(
        Datatype::Fp16,
        (0.0, 65_519.0),
        &0x7c00_u16.to_le_bytes(),
        false,
    );
    check(
        Datatype::Fp16,
        (0.0, 65_519.0),
        &0x7bff_u16.to_le_bytes(),
        true,
    );
    check(
        Datatype::Fp32,
        (f64::NEG_INFINITY, f64::INFINITY),
        &f32::NEG_INFINITY.to_le_bytes(),
        false,
    );
    check(Datatype::Fp32, (f64::NAN, 1.0), &0_f32.to_le_bytes(), false);
}

/// All 65 536 values of both 16-bit formats compared with exact decoding.
#[test]
fn every_16_bit_float_is_judged_by_its_value() {
    let exact_fp16 = |bits: u16| {
        let (sign, exponent, mantissa) = (bits >> 15, (bits >> 10) & 0x1f, f64::from(bits & 0x3ff));
        let magnitude = match exponent {
            0 => mantissa * 2_f64.powi(-24),
            0x1f => {
                return if mantissa == 0.0 {
                    f64::INFINITY
                } else {
                    f64::NAN
                };
            }
            exponent => (1.0 + mantissa / 1024.0) * 2_f64.powi(i32::from(exponent) - 15),
        };
        if sign == 1 { -magnitude } else { magnitude }
    };
    let exact_bf16 = |bits: u16| f64::from(f32::from_bits(u32::from(bits) << 16));
    // Bounds that both formats represent exactly, so that a plain comparison is correct.
    let ranges = [
        (-1.0, 1.0),
        (0.5, 0.75),
        (-256.0, -0.25),
        (2_f64.powi(-24), 2_f64.powi(-14)),
        (-65_280.0, 65_280.0),
        (0.0, 0.0),
    ];
    for bits in 0..=u16::MAX {
        let (fp16, bf16) = (exact_fp16(bits), exact_bf16(bits));
        let bytes = bits.to_le_bytes();
        for range in ranges {
            for (datatype, value) in [(Datatype::Fp16, fp16), (Datatype::Bf16, bf16)] {
                let inside = range.0 <= value && value <= range.1;
                assert_eq!(
                    clean(&rule(datatype, true, Some(range)), &bytes),
                    inside,
                    "{datatype} {bits:#x} {value} in {range:?}"
                );
            }
        }
        assert_eq!(
            clean(&rule(Datatype::Fp16, true, None), &bytes),
            fp16.is_finite(),
            "{bits:#x}"
        );
        assert_eq!(
            clean(&rule(Datatype::Bf16, true, None), &bytes),
            bf16.is_finite(),
            "{bits:#x}"
        );
        if bits <= 0x7bff {
            assert_eq!(FP16.value(bits), fp16, "{bits:#x}");
            assert_eq!(FP16.nearest(fp16), bits);
            assert_eq!(FP16.nearest(-fp16) & 0x7fff, bits);
        }
        if bits <= 0x7f7f {
            assert_eq!(BF16.value(bits), bf16, "{bits:#x}");
            assert_eq!(BF16.nearest(bf16), bits);
        }
    }
}

#[test]
fn a_tie_goes_to_the_even_neighbour() {
    // Halfway between 1 and its FP16 neighbour, and between that and the next.
    assert_eq!(FP16.nearest(1.0 + 1.0 / 2048.0), 0x3c00);
    assert_eq!(FP16.nearest(1.0 + 3.0 / 2048.0), 0x3c02);
    assert_eq!(FP16.nearest(-(1.0 + 3.0 / 2048.0)), 0xbc02);
}

#[test]
fn floats_are_finite_unless_their_exponent_is_all_ones() {
    let check = |datatype, value: &[u8], finite: bool| {
        assert_eq!(
            clean(&rule(datatype, true, None), value),
            finite,
            "{datatype} {value:x?}"
        );
        assert_eq!(
            first_not_finite(&rule(datatype, true, None), value),
            (!finite).then_some(0)
        );
        assert!(clean(&rule(datatype, false, None), value));
        assert_eq!(first_not_finite(&rule(datatype, false, None), value), None);
    };
    for value in [
        0.0,
        -0.0,
        f32::MAX,
        f32::MIN,
        f32::MIN_POSITIVE,
        f32::from_bits(1),
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
    ] {
        check(Datatype::Fp32, &value.to_le_bytes(), value.is_finite());
    }
    for value in [
        0.0,
        -0.0,
        f64::MAX,
        f64::MIN,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
    ] {
        check(Datatype::Fp64, &value.to_le_bytes(), value.is_finite());
    }
    check(
        Datatype::Fp64,
        &f64::from_bits(0xfff0_0000_0000_0001).to_le_bytes(),
        false,
    );
    // The bits of a NaN are an ordinary number for an integer datatype.
    check(Datatype::Int32, &f32::NAN.to_le_bytes(), true);
}

#[test]
fn one_invalid_value_is_found_at_every_position() {
    let length = BLOCK * 2 + 3;
    // Both sides of every boundary at which the scan changes blocks.
    let edges = (1..=8).flat_map(|quarter| [quarter * BLOCK / 4 - 1, quarter * BLOCK / 4]);
    for place in edges.chain([0, 1, length - 1]) {
        let mut values = vec![0.5_f32; length];
        values[place] = f32::NAN;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let rules = [
            rule(Datatype::Fp32, true, None),
            rule(Datatype::Fp32, true, Some((0.0, 1.0))),
        ];
        let bounds = bounds(Datatype::Fp32, (0.0, 1.0)).unwrap();
        let mut channel = rule(Datatype::Fp32, true, None);
        channel.numbers.channels = Some(Channels {
            axis: 0,
            bounds: vec![bounds],
        });
        let whole = DataPosition {
            first: 0,
            run: length,
        };
        assert!(!super::clean(&channel, whole, &bytes), "{place}");
        for rule in &rules {
            assert!(!clean(rule, &bytes), "{place}");
            assert_eq!(first_not_finite(rule, &bytes), Some(place));
        }
        assert_eq!(first_out_of_range(&rules[1], &bytes), Some(place));
    }
    let zeros = vec![0_u8; length * 4];
    assert!(clean(&rule(Datatype::Fp32, true, Some((0.0, 1.0))), &zeros));
    // An incomplete element is never valid.
    assert!(!clean(&rule(Datatype::Fp32, true, None), &zeros[..5]));
    assert_eq!(
        first_not_finite(&rule(Datatype::Fp32, true, None), &zeros[..5]),
        Some(1)
    );
}
