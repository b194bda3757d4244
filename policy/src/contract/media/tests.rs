//! Headers of every media type: valid, contradictory and truncated; whole and in chunks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{MediaRule, MediaType, Probe};

fn rule() -> MediaRule {
    MediaRule {
        types: MediaType::ALL.to_vec(),
        min_width: 1,
        min_height: 1,
        max_width: 100,
        max_height: 50,
        max_pixels: 4_000,
        max_frames: 2,
        max_duration_ms: 1_000,
    }
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn chunk(name: &[u8; 4], data: &[u8]) -> Vec<u8> {
    join(&[
        &u32::try_from(data.len()).unwrap().to_be_bytes(),
        name,
        data,
        b"crc!",
    ])
}

fn png(width: u32, height: u32, between: &[Vec<u8>]) -> Vec<u8> {
    let head = join(&[
        &width.to_be_bytes(),
        &height.to_be_bytes(),
        &[8, 2, 0, 0, 0],
    ]);
    join(&[
        b"\x89PNG\r\n\x1a\n",
        &chunk(b"IHDR", &head),
        &between.concat(),
        &chunk(b"IDAT", b"data"),
        &chunk(b"IEND", b""),
    ])
}

fn segment(marker: u8, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len() + 2).unwrap().to_be_bytes();
    join(&[&[0xff, marker], &length, data])
}

fn jpeg(width: u16, height: u16, between: &[Vec<u8>]) -> Vec<u8> {
    let frame = join(&[&[8], &height.to_be_bytes(), &width.to_be_bytes(), &[3]]);
    join(&[
        &[0xff, 0xd8],
        &segment(0xe0, b"JFIF\0"),
        &between.concat(),
        &segment(0xc0, &frame),
        &segment(0xda, b"scans"),
        b"data",
    ])
}

fn gif(width: u16, height: u16, frames: &[(u16, u16, u16, u16)]) -> Vec<u8> {
    let mut file = join(&[
        b"GIF89a",
        &width.to_le_bytes(),
        &height.to_le_bytes(),
        &[0x80, 0, 0],
        &[0; 6],
        &[0x21, 0xf9, 4, 0, 0, 0, 0, 0],
    ]);
    for (x, y, w, h) in frames {
        file.push(0x2c);
        for number in [x, y, w, h] {
            file.extend(number.to_le_bytes());
        }
        file.extend([
            0x81, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 3, 1, 2, 3, 1, 0, 0,
        ]);
    }
    file.push(0x3b);
    file
}

fn riff(kind: &[u8; 4], chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let mut body = kind.to_vec();
    for (name, data) in chunks {
        body.extend_from_slice(*name);
        body.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        body.extend(data);
        body.extend(vec![0; data.len() % 2]);
    }
    join(&[
        b"RIFF",
        &u32::try_from(body.len()).unwrap().to_le_bytes(),
        &body,
    ])
}

fn lossy(width: u16, height: u16) -> Vec<u8> {
    join(&[
        &[0x30, 1, 0, 0x9d, 0x01, 0x2a],
        &width.to_le_bytes(),
        &height.to_le_bytes(),
        b"rest",
    ])
}

fn lossless(width: u32, height: u32) -> Vec<u8> {
    let sizes = (width - 1) | (height - 1) << 14;
    join(&[&[0x2f], &sizes.to_le_bytes(), b"rest"])
}

fn extended(flags: u8, width: u32, height: u32) -> Vec<u8> {
    join(&[
        &[flags, 0, 0, 0],
        &(width - 1).to_le_bytes()[..3],
        &(height - 1).to_le_bytes()[..3],
    ])
}

fn tiff(big: bool, pages: &[(u32, u32)]) -> Vec<u8> {
    let short = |number: u16| {
        if big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    };
    let long = |number: u32| {
        if big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    };
    let mut file = if big {
        b"MM\0*".to_vec()
    } else {
        b"II*\0".to_vec()
    };
    for (index, (width, height)) in pages.iter().enumerate() {
        let at = u32::try_from(file.len()).unwrap() + 4 + 6;
        file.extend(long(at));
        file.extend(b"strips");
        file.extend(short(3));
        file.extend(join(&[&short(254), &short(4), &long(1), &long(0)]));
        file.extend(join(&[&short(256), &short(4), &long(1), &long(*width)]));
        file.extend(join(&[
            &short(257),
            &short(3),
            &long(1),
            &short(u16::try_from(*height).unwrap()),
            &[0, 0],
        ]));
        if index + 1 == pages.len() {
            file.extend(long(0));
        }
    }
    file
}

fn wav(rate: u32, seconds_10th: u32, lie: bool) -> Vec<u8> {
    let bytes_per_s = rate * 4;
    let format = join(&[
        &1_u16.to_le_bytes(),
        &2_u16.to_le_bytes(),
        &rate.to_le_bytes(),
        &(bytes_per_s * if lie { 1_000 } else { 1 }).to_le_bytes(),
        &4_u16.to_le_bytes(),
        &16_u16.to_le_bytes(),
    ]);
    let data = vec![0; (bytes_per_s * seconds_10th / 10) as usize];
    riff(
        b"WAVE",
        &[
            (b"LIST", b"odd".to_vec()),
            (b"fmt ", format),
            (b"data", data),
        ],
    )
}

/// Whole, in chunks of every size, and truncated. The result must be the same, and a prefix of a
/// valid file is accepted only if its header is complete.
#[track_caller]
fn check(file: &[u8], expected: Result<(), &str>) {
    let rule = rule();
    let whole = rule.check(file);
    match (&whole, expected) {
        (Ok(()), Ok(())) => {}
        (Err(cause), Err(text)) if cause.contains(text) => {}
        _ => panic!("{whole:?} is not {expected:?}: {file:02x?}"),
    }
    for size in [1, 2, 3, 5, 7, 16, 33] {
        assert_eq!(streamed(&rule, file, size), whole, "in pieces of {size}");
    }
}

fn streamed(rule: &MediaRule, file: &[u8], size: usize) -> Result<(), String> {
    let mut probe = Probe::new(file.len());
    for piece in file.chunks(size) {
        probe.take(rule, piece)?;
    }
    probe.end()
}

#[test]
fn sizes_are_read_from_every_kind_of_header() {
    let good: [Vec<u8>; 13] = [
        png(80, 50, &[]),
        png(
            80,
            50,
            &[
                chunk(b"tEXt", &[7; 300]),
                chunk(b"acTL", &[0, 0, 0, 2, 0, 0, 0, 0]),
            ],
        ),
        jpeg(80, 50, &[]),
        jpeg(
            80,
            50,
            &[
                segment(0xe1, &[0xff; 700]),
                vec![0xff, 0xff],
                segment(0xdb, &[1; 65]),
            ],
        ),
        gif(80, 50, &[(0, 0, 80, 50)]),
        gif(80, 50, &[(0, 0, 80, 50), (79, 49, 1, 1)]),
        riff(b"WEBP", &[(b"VP8 ", lossy(80, 50))]),
        riff(b"WEBP", &[(b"VP8L", lossless(80, 50))]),
        riff(
            b"WEBP",
            &[
                (b"VP8X", extended(0, 80, 50)),
                (b"ICCP", vec![1; 7]),
                (b"VP8 ", lossy(80, 50)),
            ],
        ),
        riff(
            b"WEBP",
            &[
                (b"VP8X", extended(2, 80, 50)),
                (b"ANMF", vec![0; 21]),
                (b"ANMF", vec![0; 20]),
            ],
        ),
        tiff(false, &[(80, 50)]),
        tiff(true, &[(80, 50), (100, 40)]),
        wav(8_000, 10, false),
    ];
    for file in &good {
        check(file, Ok(()));
        let needs_all = file.starts_with(b"GIF");
        for end in 0..file.len().min(200) {
            let cut = rule().check(&file[..end]);
            if end < 18 || needs_all {
                assert!(cut.is_err(), "{end} bytes of {file:02x?}");
            }
        }
    }
}

#[test]
fn oversized_media_are_rejected_by_their_headers() {
    let large = Err("more than the contract allows");
    check(&png(101, 1, &[]), large);
    check(&png(1, 51, &[]), large);
    check(&png(100, 41, &[]), large);
    check(&png(u32::MAX, u32::MAX, &[]), large);
    check(&jpeg(65_535, 65_535, &[]), large);
    check(&gif(101, 1, &[(0, 0, 1, 1)]), large);
    check(&riff(b"WEBP", &[(b"VP8 ", lossy(16_383, 1))]), large);
    check(
        &riff(b"WEBP", &[(b"VP8L", lossless(16_384, 16_384))]),
        large,
    );
    check(&riff(b"WEBP", &[(b"VP8X", extended(0, 1 << 24, 1))]), large);
    check(&tiff(false, &[(80, 50), (101, 1)]), large);
    let empty = Err("width or height of 0");
    check(&png(0, 1, &[]), empty);
    check(&jpeg(1, 0, &[]), empty);
    check(&gif(1, 0, &[(0, 0, 0, 0)]), empty);
    check(&riff(b"WEBP", &[(b"VP8 ", lossy(0, 1))]), empty);
    check(&tiff(true, &[(0, 1)]), empty);
    let frames = Err("3 frames");
    check(
        &png(1, 1, &[chunk(b"acTL", &[0, 0, 0, 3, 0, 0, 0, 0])]),
        frames,
    );
    check(&gif(1, 1, &[(0, 0, 1, 1); 3]), frames);
    let frame = (b"ANMF", vec![0; 16]);
    let animation = (b"VP8X", extended(2, 1, 1));
    check(
        &riff(b"WEBP", &[animation, frame.clone(), frame.clone(), frame]),
        frames,
    );
    check(&tiff(false, &[(1, 1); 3]), frames);
    check(&wav(8_000, 11, false), Err("a duration of 1100 ms"));
}

#[test]
fn files_that_decoders_read_in_two_ways_are_refused() {
    check(&png(1, 1, &[chunk(b"IHDR", &[0; 13])]), Err("out of order"));
    let animated = chunk(b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0]);
    check(
        &png(1, 1, &[animated.clone(), animated]),
        Err("out of order"),
    );
    check(
        &png(1, 1, &[chunk(b"acTL", &[0; 8])]),
        Err("declares no frame"),
    );
    check(&png(1, 1, &[chunk(b"a\0b!", b"")]), Err("no name"));
    check(&jpeg(1, 1, &[b"rubbish".to_vec()]), Err("unexpected bytes"));
    check(&jpeg(1, 1, &[segment(0xda, b"")]), Err("out of order"));
    check(&jpeg(1, 1, &[vec![0xff, 0xe1, 0, 1]]), Err("shorter"));
    check(&gif(1, 1, &[(1, 0, 1, 1)]), Err("larger than its screen"));
    check(&gif(1, 1, &[]), Err("declares no frame"));
    check(
        &riff(
            b"WEBP",
            &[(b"VP8X", extended(0, 1, 1)), (b"VP8 ", lossy(2, 1))],
        ),
        Err("another size"),
    );
    check(
        &riff(
            b"WEBP",
            &[(b"VP8X", extended(0, 1, 1)), (b"ANMF", vec![0; 16])],
        ),
        Err("out of order"),
    );
    check(
        &riff(b"WEBP", &[(b"VP8X", extended(0, 1, 1))]),
        Err("declares no frame"),
    );
    check(
        &riff(b"WEBP", &[(b"ALPH", vec![0; 10])]),
        Err("is malformed"),
    );
    check(&riff(b"AVI ", &[(b"LIST", vec![])]), Err("is not known"));
    check(&wav(8_000, 10, true), Err("not plain"));
    check(
        &jpeg(1, 1, &[segment(0xc2, &[8, 0, 1, 0, 1, 1])]),
        Err("out of order"),
    );
    let frame = segment(0xc0, &[8, 0, 1, 0, 1, 1]);
    check(&join(&[&[0xff, 0xd8], &frame, &frame]), Err("out of order"));
    check(&join(&[&[0xff, 0xd8], &frame]), Err("ends within"));
    // A directory that refers to itself, and one that refers to an earlier one.
    let mut ring = tiff(false, &[(1, 1)]);
    let end = ring.len() - 4;
    ring[end] = 14;
    check(&ring, Err("before the one that refers to it"));
    check(b"II*\0\x07\0\0\0", Err("before the one"));
    check(b"%PDF-1.7 and more", Err("is not known"));
    check(b"", Err("ends within"));
    check(b"\x89PN", Err("ends within"));
    // Lengths that would overflow.
    let mut long = png(1, 1, &[chunk(b"tEXt", b"")]);
    long[33..37].copy_from_slice(&[0xff; 4]);
    check(&long, Err("ends within"));
    check(
        b"RIFF\xff\xff\xff\xffWEBPVP8 \xff\xff\xff\xff",
        Err("ends within"),
    );
    check(b"RIFF\0\0\0\0WEBPVP8 \xff\xff\xff\xff", Err("ends within"));
}

/// A WAV with this format and its fields after the first 16 bytes.
fn wave(format: u16, more: &[u8], chunks: &[(&[u8; 4], Vec<u8>)]) -> Vec<u8> {
    let fields = join(&[
        &format.to_le_bytes(),
        &[1, 0, 8, 0, 0, 0, 8, 0, 0, 0, 1, 0, 8, 0],
        more,
    ]);
    riff(b"WAVE", &[&[(b"fmt ", fields)], chunks].concat())
}

#[test]
fn a_recordings_duration_is_what_players_play() {
    let data = |bytes: usize| (b"data", vec![0; bytes]);
    check(&wave(1, &[], &[data(8)]), Ok(()));
    check(&wave(1, &[], &[data(7), (b"LIST", vec![1; 3])]), Ok(()));
    check(&wave(1, &[], &[data(0)]), Err("no samples"));
    check(&wave(1, &[], &[data(0), data(8)]), Err("no samples"));
    check(&wave(1, &[], &[data(1), data(8)]), Err("out of order"));
    let format = (b"fmt ", vec![0; 16]);
    check(&wave(1, &[], &[data(1), format]), Err("out of order"));
    check(&wave(1, &[], &[]), Err("ends within"));
    let good = wave(1, &[], &[data(8)]);
    check(&join(&[&good, b"0"]), Ok(()));
    check(&join(&[&good, b"00"]), Err("after its declared end"));
    let guid = |format: u8| {
        let mut more = vec![22, 0, 8, 0, 4, 0, 0, 0, format, 0, 0, 0, 0, 0];
        more.extend([0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71]);
        more
    };
    check(&wave(0xfffe, &guid(1), &[data(8)]), Ok(()));
    check(&wave(0xfffe, &guid(3), &[data(8)]), Ok(()));
    check(&wave(0xfffe, &guid(2), &[data(8)]), Err("not plain"));
    check(&wave(0xfffe, &[0; 2], &[data(30)]), Err("not plain"));
    let mut other = guid(1);
    other[23] = 0;
    check(&wave(0xfffe, &other, &[data(8)]), Err("not plain"));
}

#[test]
fn tiles_samples_and_directories_below_count() {
    let page = |entries: &[(u16, u16)]| {
        let mut file = join(&[b"II*\0", &8_u32.to_le_bytes()]);
        let all = [&[(256, 9), (257, 9)], entries].concat();
        file.extend(u16::try_from(all.len()).unwrap().to_le_bytes());
        for (tag, value) in all {
            file.extend(join(&[
                &tag.to_le_bytes(),
                &[3, 0, 1, 0, 0, 0],
                &value.to_le_bytes(),
                &[0, 0],
            ]));
        }
        file.extend([0; 4]);
        file
    };
    check(&page(&[(277, 3), (322, 16), (323, 16)]), Ok(()));
    check(
        &page(&[(322, 101), (323, 16)]),
        Err("more than the contract allows"),
    );
    check(
        &page(&[(322, 16), (323, 51)]),
        Err("more than the contract allows"),
    );
    check(&page(&[(322, 16)]), Err("width or height of 0"));
    check(&page(&[(277, 8)]), Ok(()));
    check(&page(&[(277, 9)]), Err("too many samples"));
    check(&page(&[(330, 8)]), Err("has subdirectories"));
}

#[test]
fn a_picture_has_the_size_that_the_rule_requires() {
    let rule = MediaRule {
        min_width: 3,
        min_height: 2,
        ..rule()
    };
    for (width, height, allowed) in [
        (3_u16, 2_u16, true),
        (2, 2, false),
        (3, 1, false),
        (1, 1, false),
    ] {
        let (wide, high) = (u32::from(width), u32::from(height));
        for file in [
            png(wide, high, &[]),
            jpeg(width, height, &[]),
            gif(width, height, &[(0, 0, width, height)]),
            tiff(true, &[(wide, high)]),
        ] {
            let checked = rule.check(&file);
            assert_eq!(checked.is_ok(), allowed, "{width} x {height}: {checked:?}");
        }
    }
}

#[test]
fn a_forbidden_media_type_is_rejected_by_its_first_bytes() {
    let rule = MediaRule {
        types: vec![MediaType::Png],
        ..rule()
    };
    assert_eq!(rule.check(&png(1, 1, &[])), Ok(()));
    for file in [
        jpeg(1, 1, &[]),
        gif(1, 1, &[(0, 0, 1, 1)]),
        tiff(true, &[(1, 1)]),
        wav(8, 1, false),
    ] {
        assert!(rule.check(&file).unwrap_err().contains("not allowed"));
    }
    let webp = riff(b"WEBP", &[(b"VP8 ", lossy(1, 1))]);
    assert!(
        rule.check(&webp)
            .unwrap_err()
            .contains("webp, which is not allowed")
    );
}
