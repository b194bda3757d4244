//! Real digits are converted to their recorded pixels. Other bodies are rejected as bad input.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::panic,
    reason = "tests"
)]

use std::path::{Path, PathBuf};

use png::{BitDepth, ColorType, Encoder};
use tensorgate_handler::testing::set_config;
use tensorgate_handler::{Datatype, RawBody};

use super::*;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The pixels of held-out image `index`, as the training script recorded them: 64 for each image,
/// after a header of 20 bytes.
fn recorded(index: usize) -> Vec<f32> {
    let split = std::fs::read(examples().join("models/digits/heldout.bin")).unwrap();
    split[20 + index * 64..][..64]
        .iter()
        .map(|pixel| f32::from(*pixel))
        .collect()
}

/// A PNG with these bytes as pixels.
fn encode(
    side: (u32, u32),
    colour: ColorType,
    depth: BitDepth,
    change: impl FnOnce(&mut Encoder<'_, &mut Vec<u8>>),
    data: &[u8],
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, side.0, side.1);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    change(&mut encoder);
    encoder
        .write_header()
        .unwrap()
        .write_image_data(data)
        .unwrap();
    bytes
}

/// A greyscale image of 8 bits.
fn grey(side: u32, value: u8) -> Vec<u8> {
    encode(
        (side, side),
        ColorType::Grayscale,
        BitDepth::Eight,
        |_| {},
        &vec![value; (side * side) as usize],
    )
}

/// The chunks of a PNG as `(offset, length of the body)`.
fn chunks(png: &[u8]) -> Vec<(usize, [u8; 4], usize)> {
    let mut found = Vec::new();
    let mut at = 8;
    while at < png.len() {
        let length = u32::from_be_bytes(png[at..at + 4].try_into().unwrap()) as usize;
        found.push((at, png[at + 4..at + 8].try_into().unwrap(), length));
        at += 12 + length;
    }
    found
}

/// A chunk with a correct CRC.
fn chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in kind.iter().chain(body) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0xedb8_8320
            } else {
                crc >> 1
            };
        }
    }
    [
        &(body.len() as u32).to_be_bytes()[..],
        kind,
        body,
        &(!crc).to_be_bytes(),
    ]
    .concat()
}

/// A PNG with a modified header and a correct CRC.
fn with_header(png: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut body = png[16..29].to_vec();
    change(&mut body);
    [&png[..8], &chunk(b"IHDR", &body), &png[33..]].concat()
}

/// A complete interlaced image, black, 8 pixels a side: 15 rows in seven passes, 64 pixels and a
/// filter byte for each row.
fn interlaced() -> Vec<u8> {
    const ROWS: u8 = 64 + 15;
    // One stored block of zeros, and the checksum of these zeros.
    let mut pixels = vec![0x78, 0x01, 0x01, ROWS, 0, !ROWS, 0xff];
    pixels.resize(pixels.len() + usize::from(ROWS), 0);
    pixels.extend([0, ROWS, 0, 1]);
    let header = [0, 0, 0, 8, 0, 0, 0, 8, 8, 0, 0, 0, 1];
    let chunks = [
        chunk(b"IHDR", &header),
        chunk(b"IDAT", &pixels),
        chunk(b"IEND", b""),
    ];
    [&b"\x89PNG\r\n\x1a\n"[..], &chunks.concat()].concat()
}

#[test]
fn real_digits_come_out_as_the_dataset_has_them() {
    let mut seen = 0;
    for entry in std::fs::read_dir(examples().join("images")).unwrap() {
        let path = entry.unwrap().path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        let Some(rest) = name.strip_prefix("digit-") else {
            continue;
        };
        let index = rest.split('-').nth(1).unwrap().parse().unwrap();
        let image = digit(&std::fs::read(&path).unwrap(), DEFAULT_MAX_SIDE).unwrap();
        assert_eq!(image.shape(), [1, 1, 8, 8]);
        assert_eq!(
            image.iter().copied().collect::<Vec<f32>>(),
            recorded(index),
            "{name}"
        );
        seen += 1;
    }
    assert!(seen >= 7, "only {seen} images");
}

#[test]
fn colours_depths_and_alpha_make_the_brightness_they_show() {
    let check = |colour, depth, pixel: &[u8], expected: f32| {
        for side in [8_u32, 11] {
            let data = pixel.repeat((side * side) as usize);
            let image = digit(&encode((side, side), colour, depth, |_| {}, &data), 16).unwrap();
            assert!(
                image.iter().all(|value| *value == expected),
                "{colour:?} {depth:?} {pixel:?} at {side}: {image}"
            );
        }
    };
    use BitDepth::{Eight, Sixteen};
    use ColorType::{Grayscale, GrayscaleAlpha, Rgb, Rgba};
    check(Grayscale, Eight, &[255], 16.0);
    check(Grayscale, Eight, &[0], 0.0);
    check(Grayscale, Eight, &[128], 8.0);
    check(Grayscale, Sixteen, &[0x80, 0x00], 8.0);
    check(Grayscale, Sixteen, &[0xff, 0xff], 16.0);
    check(GrayscaleAlpha, Eight, &[255, 128], 8.0);
    check(GrayscaleAlpha, Sixteen, &[0xff, 0xff, 0, 0], 0.0);
    check(Rgb, Eight, &[255, 255, 255], 16.0);
    // 0.587 × 16 = 9.4.
    check(Rgb, Eight, &[0, 255, 0], 9.0);
    check(Rgb, Sixteen, &[0xff, 0xff, 0, 0, 0, 0], 5.0);
    check(Rgba, Eight, &[255, 255, 255, 0], 0.0);
    check(Rgba, Eight, &[0, 0, 255, 255], 2.0);
    check(
        Rgba,
        Sixteen,
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        16.0,
    );
}

#[test]
fn every_size_up_to_the_bound_is_taken_and_none_beyond() {
    for (side, taken) in [
        (1, false),
        (7, false),
        (8, true),
        (31, true),
        (32, true),
        (33, false),
    ] {
        assert_eq!(digit(&grey(side, 9), 32).is_ok(), taken, "side {side}");
    }
}

#[test]
fn every_bad_image_is_the_callers_fault() {
    let good = grey(16, 200);
    assert!(digit(&good, 16).is_ok());
    let at = |kind: &[u8; 4]| {
        chunks(&good)
            .into_iter()
            .find(|(_, found, _)| found == kind)
            .unwrap()
    };
    let (data, _, data_bytes) = at(b"IDAT");
    let (end, ..) = at(b"IEND");
    let flipped = |offset: usize| {
        let mut bytes = good.clone();
        bytes[offset] ^= 1;
        bytes
    };
    let before_data =
        |kind, body: &[u8]| [&good[..data], &chunk(kind, body), &good[data..]].concat();
    let palette = encode(
        (16, 16),
        ColorType::Indexed,
        BitDepth::Eight,
        |encoder| encoder.set_palette(vec![0; 6]),
        &[1; 256],
    );
    let animated = encode(
        (16, 16),
        ColorType::Grayscale,
        BitDepth::Eight,
        |encoder| encoder.set_animated(1, 0).unwrap(),
        &[9; 256],
    );
    let bad_filter = encode(
        (16, 16),
        ColorType::Grayscale,
        BitDepth::Eight,
        |_| {},
        &[9; 256],
    );
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("a JPEG", b"\xff\xd8\xff\xe0\0\x10JFIF".to_vec()),
        ("text", b"not an image at all".to_vec()),
        ("the signature alone", good[..8].to_vec()),
        ("a cut header", good[..20].to_vec()),
        ("a header alone", good[..33].to_vec()),
        (
            "a cut in the pixels",
            good[..data + 8 + data_bytes / 2].to_vec(),
        ),
        ("no end", good[..end].to_vec()),
        ("a cut end", good[..good.len() - 1].to_vec()),
        ("bytes after the end", [good.as_slice(), b"PK"].concat()),
        ("a wrong CRC of the header", flipped(32)),
        ("a wrong CRC of the pixels", flipped(data + 8 + data_bytes)),
        ("a wrong CRC of the end", flipped(good.len() - 1)),
        (
            "a flipped bit in the pixels",
            flipped(data + 8 + data_bytes / 2),
        ),
        ("pixels with a wrong Adler-32", {
            let mut body = good[data + 8..data + 8 + data_bytes].to_vec();
            let last = body.len() - 1;
            body[last] ^= 1;
            [&good[..data], &chunk(b"IDAT", &body), &good[end..]].concat()
        }),
        ("no pixels", [&good[..data], &good[end..]].concat()),
        (
            "fewer rows than declared",
            with_header(&bad_filter, |header| {
                header[3] = 17;
                header[7] = 17;
            }),
        ),
        (
            "not square",
            encode(
                (16, 8),
                ColorType::Grayscale,
                BitDepth::Eight,
                |_| {},
                &[9; 128],
            ),
        ),
        ("no width", with_header(&good, |header| header[3] = 0)),
        (
            "2147483647 pixels a side in 100 bytes",
            with_header(&good, |header| {
                header[..8].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
            }),
        ),
        (
            "4294967295 pixels a side",
            with_header(&good, |header| header[..8].fill(0xff)),
        ),
        ("interlaced", interlaced()),
        (
            "an unknown interlacing",
            with_header(&good, |header| header[12] = 2),
        ),
        (
            "an unknown compression",
            with_header(&good, |header| header[10] = 1),
        ),
        (
            "an unknown filter method",
            with_header(&good, |header| header[11] = 1),
        ),
        (
            "an unknown colour type",
            with_header(&good, |header| header[9] = 5),
        ),
        (
            "a depth that its colour type lacks",
            with_header(&good, |header| header[8] = 3),
        ),
        (
            "1 bit",
            encode(
                (16, 16),
                ColorType::Grayscale,
                BitDepth::One,
                |_| {},
                &[0xaa; 32],
            ),
        ),
        (
            "4 bits",
            encode(
                (16, 16),
                ColorType::Grayscale,
                BitDepth::Four,
                |_| {},
                &[0xaa; 128],
            ),
        ),
        ("a palette", palette),
        (
            "a colour that is transparent",
            before_data(b"tRNS", &[0, 200]),
        ),
        ("an animation", animated),
        ("a second header", before_data(b"IHDR", &good[16..29])),
        ("an unknown critical chunk", before_data(b"EVIL", b"?")),
        ("an unknown chunk with a wrong CRC", {
            let mut text = chunk(b"teXt", b"?");
            let last = text.len() - 1;
            text[last] ^= 1;
            [&good[..data], &text, &good[data..]].concat()
        }),
        (
            "a chunk longer than the file",
            [&good[..data], &[0x7f, 0xff, 0xff, 0xff], &good[data + 4..]].concat(),
        ),
    ];
    for (name, png) in cases {
        match digit(&png, 16) {
            Err(Error::BadInput(_)) => {}
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn pixels_behind_the_last_row_are_passed_over() {
    let rows: Vec<u8> = (0..17)
        .flat_map(|row| [if row < 16 { 255 } else { 0 }; 16])
        .collect();
    let longer = encode(
        (16, 17),
        ColorType::Grayscale,
        BitDepth::Eight,
        |_| {},
        &rows,
    );
    let image = digit(&with_header(&longer, |header| header[7] = 16), 16).unwrap();
    assert!(image.iter().all(|value| *value == 16.0), "{image}");
}

#[test]
fn every_cut_and_every_flipped_bit_is_survived() {
    let good = std::fs::read(examples().join("images/digit-0-22.png")).unwrap();
    for length in 0..good.len() {
        assert!(
            matches!(digit(&good[..length], 16), Err(Error::BadInput(_))),
            "cut at {length}"
        );
    }
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(
            matches!(digit(&bytes, 16), Err(Error::BadInput(_))),
            "bit {bit}"
        );
    }
}

#[test]
fn a_request_becomes_the_models_tensor() {
    let body = |data| {
        Payload::Raw(RawBody {
            content_type: "image/png".into(),
            data,
        })
    };
    set_config([("max_side", "16")]);
    let tensors = PngDigits::preprocess(body(grey(16, 255))).unwrap();
    let [
        Tensor {
            name,
            datatype: Datatype::Fp32,
            shape,
            data,
        },
    ] = tensors.as_slice()
    else {
        panic!("{tensors:?}")
    };
    assert_eq!(
        (name.as_str(), shape.as_slice()),
        ("image", [1, 1, 8, 8].as_slice())
    );
    assert_eq!(*data, 16.0_f32.to_le_bytes().repeat(64));
    assert!(matches!(
        PngDigits::preprocess(body(grey(17, 255))),
        Err(Error::BadInput(_))
    ));
    assert!(matches!(
        PngDigits::preprocess(Payload::Tensors(Vec::new())),
        Err(Error::BadInput(_))
    ));
}

#[test]
fn a_bound_that_cannot_be_read_is_the_policys_fault() {
    for text in ["", "7", "4097", "-1", "1e3", " 64", "99999999999"] {
        assert!(
            matches!(max_side(Some(text)), Err(Error::Fault(_))),
            "{text:?}"
        );
    }
    assert_eq!(max_side(Some("64")).unwrap(), 64);
    assert_eq!(max_side(None).unwrap(), DEFAULT_MAX_SIDE);
}
