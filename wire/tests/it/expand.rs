//! Compressed bodies: every missing or changed byte is detected, and no size limit is exceeded.

use std::io::Read as _;

use flate2::Compression;
use flate2::bufread::{GzEncoder, ZlibEncoder};
use tensorgate_policy::Reason;
use tensorgate_policy::decision::{BodyFormat, BodyPlan, Expansion};
use tensorgate_policy::request::Coding;
use tensorgate_wire::{expand, most_expanded};

const PLAIN: &[u8] = br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[4],"data":[1,1,1,1]}]}"#;

fn plan(coding: Coding, max_bytes: usize, max_ratio: usize) -> BodyPlan {
    BodyPlan {
        max_bytes: 1 << 20,
        hold_bytes: 1 << 20,
        format: BodyFormat::OipJson,
        expansion: Some(Expansion {
            coding,
            max_bytes,
            max_ratio,
            free_bytes: 0,
        }),
    }
}

fn coded(coding: Coding, plain: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    match coding {
        Coding::Gzip => GzEncoder::new(plain, Compression::default()).read_to_end(&mut coded),
        Coding::Deflate => ZlibEncoder::new(plain, Compression::default()).read_to_end(&mut coded),
    }
    .unwrap();
    coded
}

const BOTH: [Coding; 2] = [Coding::Gzip, Coding::Deflate];

#[test]
fn truncated_or_changed_compressed_bodies_are_rejected() {
    for coding in BOTH {
        let plan = plan(coding, 1 << 20, 20);
        let compressed = coded(coding, PLAIN);
        assert_eq!(expand(&plan, &compressed).unwrap(), PLAIN);
        for end in 1..compressed.len() {
            let refused = expand(&plan, &compressed[..end]).unwrap_err();
            assert_eq!(refused.reason, Reason::Malformed, "{coding:?} {end}");
        }
        for bit in 0..compressed.len() * 8 {
            let mut other = compressed.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            // Some bits are not read: fields of the gzip header that describe a file, and unused
            // bits of the last byte before the checksum.
            if let Ok(plain) = expand(&plan, &other) {
                assert_eq!(plain, PLAIN, "{coding:?} {bit}");
            }
        }
    }
}

#[test]
fn a_body_may_expand_to_its_bound_and_not_a_byte_beyond() {
    for coding in BOTH {
        for bytes in [1, 4095, 4096, 4097, 32_768, 100_000] {
            let plain = vec![b' '; bytes];
            let coded = coded(coding, &plain);
            let check = |max_bytes, max_ratio, passes: bool| {
                let expanded = expand(&plan(coding, max_bytes, max_ratio), &coded);
                match expanded {
                    Ok(expanded) => assert!(passes && expanded == plain, "{coding:?} {bytes}"),
                    Err(denial) => {
                        assert!(!passes, "{coding:?} {bytes} {max_bytes} {max_ratio}");
                        assert_eq!(denial.reason, Reason::BodyTooLarge);
                    }
                }
            };
            check(bytes, usize::MAX, true);
            check(bytes - 1, usize::MAX, false);
            let ratio = bytes.div_ceil(coded.len());
            check(usize::MAX, ratio, true);
            if (ratio - 1) * coded.len() < bytes {
                check(usize::MAX, ratio - 1, false);
            }
        }
    }
}

#[test]
fn the_ratio_binds_only_beyond_what_any_body_may_have() {
    const FREE_BYTES: usize = 1 << 20;
    for coding in BOTH {
        for (bytes, max_bytes, passes) in [
            (4 << 10, 8 << 20, true),
            (FREE_BYTES, 8 << 20, true),
            (FREE_BYTES + 1, 8 << 20, false),
            (2 << 20, 8 << 20, false),
            // Never beyond what is held.
            (1_001, 1_000, false),
        ] {
            let plain = vec![b' '; bytes];
            let coded = coded(coding, &plain);
            assert!(coded.len() * 20 < bytes.min(FREE_BYTES), "{bytes}");
            let mut plan = plan(coding, max_bytes, 20);
            plan.expansion.as_mut().unwrap().free_bytes = FREE_BYTES;
            match expand(&plan, &coded) {
                Ok(expanded) => assert!(passes && expanded == plain, "{coding:?} {bytes}"),
                Err(denial) => {
                    assert!(!passes, "{coding:?} {bytes}");
                    assert_eq!(denial.reason, Reason::BodyTooLarge);
                }
            }
        }
    }
}

#[test]
fn a_gzip_body_takes_no_more_than_the_size_at_its_end() {
    let plain = vec![b' '; 5_000];
    let mut plan = plan(Coding::Gzip, 1 << 20, 20);
    let expansion = plan.expansion.as_mut().unwrap();
    expansion.free_bytes = 1 << 20;
    let expansion = *expansion;
    let mut body = coded(Coding::Gzip, &plain);
    assert_eq!(most_expanded(&expansion, &body), 5_000);
    let deflate = Expansion {
        coding: Coding::Deflate,
        ..expansion
    };
    assert_eq!(most_expanded(&deflate, &body), 1 << 20);
    let end = body.len() - 4;
    for (size, most) in [(4_999, 4_999), (u32::MAX, 1 << 20)] {
        body[end..].copy_from_slice(&size.to_le_bytes());
        assert_eq!(most_expanded(&expansion, &body), most);
        let refused = expand(&plan, &body).unwrap_err();
        assert_eq!(refused.reason, Reason::Malformed, "{size}");
    }
}
