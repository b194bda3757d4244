//! Images that are not valid are rejected as bad input, and none stops the handler. The sandbox's
//! tests compare the results of valid images with the committed cases.
#![allow(
    clippy::unwrap_used,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::path::Path;

use tensorgate_handler::RawBody;
use tensorgate_handler::testing::set_config;

use super::*;

fn file(name: &str) -> Vec<u8> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    std::fs::read(cases.join(name)).unwrap()
}

fn made(content_type: &str, data: &[u8]) -> Result<Vec<Tensor>, Error> {
    set_config([("resize", "16"), ("crop", "14"), ("max_pixels", "10000")]);
    ImageClassifier::preprocess(Payload::Raw(RawBody {
        content_type: content_type.into(),
        data: data.to_vec(),
    }))
}

fn refuses(content_type: &str, data: &[u8]) -> bool {
    matches!(made(content_type, data), Err(Error::BadInput(_)))
}

#[test]
fn an_image_becomes_planes() {
    for (kind, name) in [
        ("image/png", "colour.png"),
        ("image/png", "palette.png"),
        ("image/jpeg", "photo.jpg"),
        ("image/jpeg", "progressive.jpg"),
    ] {
        let tensors = made(kind, &file(name)).unwrap();
        assert_eq!(tensors[0].shape, [1, 3, 14, 14], "{name}");
    }
}

#[test]
fn what_is_larger_than_the_bound_is_refused_by_its_header() {
    let png = file("colour.png");
    assert!(decode("image/png", &png, 75 * 50).is_ok());
    assert!(matches!(
        decode("image/png", &png, 75 * 50 - 1),
        Err(Error::BadInput(_))
    ));
    let jpeg = file("photo.jpg");
    assert!(decode("image/jpeg", &jpeg, 96 * 64).is_ok());
    assert!(matches!(
        decode("image/jpeg", &jpeg, 96 * 64 - 1),
        Err(Error::BadInput(_))
    ));
}

#[test]
fn every_cut_is_refused() {
    for (kind, name) in [
        ("image/png", "smaller.png"),
        ("image/png", "palette.png"),
        ("image/jpeg", "photo.jpg"),
        ("image/jpeg", "progressive.jpg"),
    ] {
        let good = file(name);
        for length in (0..good.len()).step_by(3) {
            assert!(refuses(kind, &good[..length]), "{name} cut at {length}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_png_is_refused() {
    let good = file("smaller.png");
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(refuses("image/png", &bytes), "bit {bit}");
    }
}

#[test]
fn no_changed_byte_of_a_jpeg_stops_the_handler() {
    for name in ["photo.jpg", "progressive.jpg", "grey-photo.jpg"] {
        let good = file(name);
        for at in 0..good.len() {
            for value in [0, 0xff, good[at] ^ 1, good[at] ^ 0x80, !good[at]] {
                let mut bytes = good.clone();
                bytes[at] = value;
                let found = made("image/jpeg", &bytes);
                assert!(
                    matches!(found, Ok(_) | Err(Error::BadInput(_))),
                    "{name}, byte {at} as {value}"
                );
            }
        }
    }
}

#[test]
fn two_images_spliced_anywhere_do_not_stop_the_handler() {
    let (one, other) = (file("photo.jpg"), file("progressive.jpg"));
    for at in (2..one.len().min(other.len())).step_by(7) {
        for spliced in [
            [&one[..at], &other[at..]].concat(),
            [&other[..at], &one[at..]].concat(),
            [&one[..at], &one[at / 2..]].concat(),
        ] {
            let found = made("image/jpeg", &spliced);
            assert!(matches!(found, Ok(_) | Err(Error::BadInput(_))), "at {at}");
        }
    }
}
