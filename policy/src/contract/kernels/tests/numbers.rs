//! Channels, value lists and counts compared with simple reference implementations, in one chunk
//! and in many.
#![allow(
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "tests count little"
)]

use alloc::collections::BTreeSet;

use super::super::{Listed, Tally, listed_bits};
use super::*;
use crate::contract::Numbers;

/// Pseudo-random numbers, the same on every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % end
    }
}

fn with(datatype: Datatype, numbers: Numbers) -> TensorRule {
    TensorRule {
        numbers,
        ..rule(datatype, true, None)
    }
}

/// A small whole number in raw form.
fn raw(datatype: Datatype, number: i64) -> Vec<u8> {
    let float = number as f64;
    match datatype {
        Datatype::Fp16 | Datatype::Bf16 => {
            let (bits, _) = listed_bits(datatype, Listed::Float(float)).unwrap();
            bits.to_le_bytes()[..2].to_vec()
        }
        Datatype::Fp32 => (float as f32).to_le_bytes().to_vec(),
        Datatype::Fp64 => float.to_le_bytes().to_vec(),
        _ => number.to_le_bytes()[..datatype.size_bytes().unwrap()].to_vec(),
    }
}

fn numbers() -> impl Iterator<Item = Datatype> {
    Datatype::ALL
        .into_iter()
        .filter(|datatype| !matches!(datatype, Datatype::Bool | Datatype::Bytes))
}

#[test]
fn every_channel_has_its_own_range_for_every_split() {
    let mut chance = Chance(7);
    for datatype in numbers() {
        for (count, run) in [(1, 1), (3, 1), (3, 7), (2, 64), (4, 100), (300, 1), (5, 63)] {
            let ranges: Vec<(i64, i64)> = (0..count)
                .map(|_| {
                    let least = chance.below(5) as i64;
                    (least, least + chance.below(4) as i64)
                })
                .collect();
            let kept = ranges
                .iter()
                .map(|(least, greatest)| {
                    bounds(datatype, (*least as f64, *greatest as f64)).unwrap()
                })
                .collect();
            let rule = with(
                datatype,
                Numbers {
                    channels: Some(Channels {
                        axis: 0,
                        bounds: kept,
                    }),
                    ..Numbers::default()
                },
            );
            let channel = |index: usize| ranges[index / run % count];
            let length = 1_500 + chance.below(200) as usize;
            let mut values: Vec<i64> = (0..length)
                .map(|index| {
                    let (least, greatest) = channel(index);
                    least + chance.below((greatest - least + 1) as u64) as i64
                })
                .collect();
            let bytes = |values: &[i64]| -> Vec<u8> {
                values
                    .iter()
                    .flat_map(|value| raw(datatype, *value))
                    .collect()
            };
            let first = chance.below(length as u64) as usize;
            let from = |at: usize| DataPosition { first: at, run };
            let size = datatype.size_bytes().unwrap();
            let good = bytes(&values);
            assert!(
                super::super::clean(&rule, from(0), &good),
                "{datatype} {count} {run}"
            );
            assert!(
                super::super::clean(&rule, from(first), &good[first * size..]),
                "{datatype} {count} {run} from {first}"
            );
            let bad = chance.below(length as u64) as usize;
            values[bad] = channel(bad).1 + 1;
            let data = bytes(&values);
            assert!(
                !super::super::clean(&rule, from(0), &data),
                "{datatype} {count} {run}"
            );
            assert_eq!(
                super::super::first_out_of_range(&rule, from(0), &data),
                Some(bad)
            );
            let start = bad.min(first);
            assert_eq!(
                super::super::first_out_of_range(&rule, from(start), &data[start * size..]),
                Some(bad - start)
            );
            // Bytes that are not a whole element, and elements without a channel.
            if size > 1 {
                assert!(!super::super::clean(
                    &rule,
                    from(0),
                    &good[..good.len() - 1]
                ));
            }
            assert!(!super::super::clean(&rule, DataPosition::default(), &good));
        }
    }
}

#[test]
fn nan_and_infinities_are_in_no_channels_range() {
    for (datatype, bad) in [
        (Datatype::Fp16, [0x00, 0x7e]),
        (Datatype::Fp16, [0x00, 0x7c]),
        (Datatype::Fp16, [0x00, 0xfc]),
        (Datatype::Bf16, [0xc0, 0x7f]),
        (Datatype::Bf16, [0x80, 0x7f]),
    ] {
        let rule = with(
            datatype,
            Numbers {
                channels: Some(Channels {
                    axis: 0,
                    bounds: vec![bounds(datatype, (-1e300, 1e300)).unwrap()],
                }),
                ..Numbers::default()
            },
        );
        let place = DataPosition { first: 0, run: 1 };
        assert!(!super::super::clean(&rule, place, &bad), "{datatype}");
        let many = bad.repeat(1_000);
        assert!(!super::super::clean(&rule, place, &many), "{datatype}");
    }
}

#[test]
fn only_listed_values_are_accepted() {
    let mut chance = Chance(11);
    for datatype in numbers() {
        for count in [1_usize, 2, 8, 9, 40] {
            let listed: BTreeSet<i64> = (0..count).map(|_| chance.below(100) as i64).collect();
            let mut bits: Vec<u64> = listed
                .iter()
                .flat_map(|number| {
                    let (one, other) =
                        listed_bits(datatype, Listed::Integer((*number).into())).unwrap();
                    core::iter::once(one).chain(other)
                })
                .collect();
            bits.sort_unstable();
            let rule = with(
                datatype,
                Numbers {
                    allowed: Some(bits),
                    ..Numbers::default()
                },
            );
            for number in 0..100 {
                check_one(&rule, &raw(datatype, number), listed.contains(&number));
            }
        }
    }
    let two_53 = 9_007_199_254_740_993_i128;
    let (bits, _) = listed_bits(Datatype::Int64, Listed::Integer(two_53)).unwrap();
    assert_eq!(bits, 9_007_199_254_740_993, "no double on the way");
    assert_eq!(listed_bits(Datatype::Int8, Listed::Integer(128)), None);
    assert_eq!(listed_bits(Datatype::Int8, Listed::Float(0.5)), None);
    assert_eq!(listed_bits(Datatype::Uint8, Listed::Integer(-1)), None);
    assert_eq!(
        listed_bits(Datatype::Int8, Listed::Float(-1.0)),
        Some((255, None))
    );
    assert_eq!(listed_bits(Datatype::Fp32, Listed::Float(1e39)), None);
    assert_eq!(listed_bits(Datatype::Fp16, Listed::Float(1e5)), None);
    assert_eq!(listed_bits(Datatype::Fp64, Listed::Float(f64::NAN)), None);
    // Both zeros are the same number.
    let zero = listed_bits(Datatype::Fp32, Listed::Integer(0)).unwrap();
    assert_eq!(zero, (0, Some(0x8000_0000)));
}

#[track_caller]
fn check_one(rule: &TensorRule, value: &[u8], inside: bool) {
    assert_eq!(clean(rule, value), inside, "{value:?} {rule:?}");
    assert_eq!(first_out_of_range(rule, value), (!inside).then_some(0));
}

#[test]
fn counts_cover_the_whole_tensor_for_every_split() {
    let mut chance = Chance(13);
    for datatype in numbers() {
        let size = datatype.size_bytes().unwrap();
        for least in [2_usize, 5, 64] {
            let kinds = 1 + chance.below(66);
            let values: Vec<i64> = (0..3_000).map(|_| chance.below(kinds) as i64).collect();
            let data: Vec<u8> = values
                .iter()
                .flat_map(|value| raw(datatype, *value))
                .collect();
            let rule = with(
                datatype,
                Numbers {
                    min_distinct: Some(least),
                    ..Numbers::default()
                },
            );
            let distinct = values.iter().collect::<BTreeSet<_>>().len();
            let zeros = values.iter().filter(|value| **value == 0).count();
            let mut tally = Tally::default();
            let mut rest = data.as_slice();
            while !rest.is_empty() {
                let cut = (chance.below(700) as usize * size).min(rest.len());
                tally.take(&rule, &rest[..cut]);
                rest = &rest[cut..];
            }
            assert_eq!(tally.fault(&rule).is_some(), distinct < least, "{datatype}");
            let exactly = |most: f64| {
                let rule = with(
                    datatype,
                    Numbers {
                        max_zero_fraction: Some(most),
                        ..Numbers::default()
                    },
                );
                let mut tally = Tally::default();
                tally.take(&rule, &data);
                tally.fault(&rule)
            };
            let part = zeros as f64 / 3_000.0;
            assert_eq!(exactly(part), None, "{datatype}");
            assert!(exactly(part - 0.000_1).is_some(), "{datatype}");
        }
    }
}

#[test]
fn zeros_of_either_sign_are_one_value_and_so_are_all_nans() {
    let rule = with(
        Datatype::Fp32,
        Numbers {
            min_distinct: Some(3),
            max_zero_fraction: Some(0.5),
            ..Numbers::default()
        },
    );
    let fault = |values: &[f32]| {
        let data: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let mut tally = Tally::default();
        tally.take(&rule, &data);
        tally.fault(&rule)
    };
    let nans = [f32::NAN, -f32::NAN, f32::from_bits(0x7fc0_0001)];
    assert_eq!(
        fault(&[0.0, -0.0, nans[0], nans[1], nans[2]]).unwrap(),
        "2 distinct values, at least 3 are required"
    );
    assert_eq!(
        fault(&[0.0, -0.0, 0.0, 1.0, 2.0]).unwrap(),
        "3 of 5 elements are zero, at most a fraction of 0.5 may be"
    );
    assert_eq!(fault(&[0.0, -0.0, 1.0, 2.0]), None);
    assert_eq!(
        fault(&[]).unwrap(),
        "0 distinct values, at least 3 are required"
    );
}
