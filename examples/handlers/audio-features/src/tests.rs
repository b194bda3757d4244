//! Sounds become as many frames as they have hops. Other bodies are rejected as bad input.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

use tensorgate_handler::RawBody;
use tensorgate_handler::testing::set_config;

use super::*;

const RATE: u32 = 16_000;

fn chunk(id: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len()).unwrap().to_le_bytes();
    let mut chunk = [id.as_slice(), &size, body].concat();
    chunk.resize(chunk.len().next_multiple_of(2), 0);
    chunk
}

fn fmt(tag: u16, channels: u16, rate: u32, bits: u16) -> Vec<u8> {
    let frame = channels * (bits / 8);
    let mut body = Vec::new();
    body.extend(tag.to_le_bytes());
    body.extend(channels.to_le_bytes());
    body.extend(rate.to_le_bytes());
    body.extend((rate * u32::from(frame)).to_le_bytes());
    body.extend(frame.to_le_bytes());
    body.extend(bits.to_le_bytes());
    chunk(b"fmt ", &body)
}

fn wav(chunks: &[Vec<u8>]) -> Vec<u8> {
    chunk(b"RIFF", &[b"WAVE".as_slice(), &chunks.concat()].concat())
}

fn pcm(samples: usize) -> Vec<u8> {
    let data: Vec<u8> = (0..samples)
        .flat_map(|at| i16::try_from(at * 37 % 20_000).unwrap().to_le_bytes())
        .collect();
    wav(&[fmt(1, 1, RATE, 16), chunk(b"data", &data)])
}

fn made(data: Vec<u8>) -> Result<Vec<Tensor>, Error> {
    AudioFeatures::preprocess(Payload::Raw(RawBody {
        content_type: "audio/wav".into(),
        data,
    }))
}

#[test]
fn a_sound_has_one_frame_more_than_it_has_hops() {
    set_config([]);
    for (samples, frames) in [(1, 1), (159, 1), (160, 2), (16_000, 101)] {
        let tensors = made(pcm(samples)).unwrap();
        assert_eq!(tensors[0].shape, [1, 64, frames], "{samples}");
        let view = tensors[0].view::<f32>().unwrap();
        assert!(view.iter().all(|value| value.is_finite()));
    }
}

#[test]
fn channels_are_averaged_and_floats_are_read() {
    let one = samples(&pcm(300), RATE, 1000).unwrap();
    let both: Vec<u8> = one
        .iter()
        .flat_map(|value| [(*value * 2.0) as f32, 0.0])
        .flat_map(f32::to_le_bytes)
        .collect();
    let stereo = wav(&[
        fmt(3, 2, RATE, 32),
        chunk(b"LIST", b"odd"),
        chunk(b"data", &both),
    ]);
    assert_eq!(samples(&stereo, RATE, 1000).unwrap(), one);
}

#[test]
fn every_other_body_is_the_callers_fault() {
    set_config([("max_seconds", "1")]);
    let data = || chunk(b"data", &[0; 320]);
    let lying = |at: usize, bytes: &[u8]| {
        let mut file = pcm(160);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let float = |value: f32| wav(&[fmt(3, 1, RATE, 32), chunk(b"data", &value.to_le_bytes())]);
    for (name, file) in [
        ("nothing", Vec::new()),
        ("text", b"not a sound".to_vec()),
        ("no chunks", wav(&[])),
        ("no data", wav(&[fmt(1, 1, RATE, 16)])),
        ("no fmt", wav(&[data()])),
        ("data first", wav(&[data(), fmt(1, 1, RATE, 16)])),
        ("data twice", wav(&[fmt(1, 1, RATE, 16), data(), data()])),
        (
            "no samples",
            wav(&[fmt(1, 1, RATE, 16), chunk(b"data", b"")]),
        ),
        (
            "a part of a sample",
            wav(&[fmt(1, 2, RATE, 16), chunk(b"data", &[0; 6])]),
        ),
        ("another rate", wav(&[fmt(1, 1, 44_100, 16), data()])),
        ("8 bits", wav(&[fmt(1, 1, RATE, 8), data()])),
        ("24 bits", wav(&[fmt(1, 1, RATE, 24), data()])),
        ("A-law", wav(&[fmt(6, 1, RATE, 8), data()])),
        ("no channels", wav(&[fmt(1, 0, RATE, 16), data()])),
        ("nine channels", wav(&[fmt(1, 9, RATE, 16), data()])),
        ("too long", pcm(16_001)),
        ("a length beyond the file", lying(4, &[0xff; 4])),
        ("a length short of the file", lying(4, &[9, 0, 0, 0])),
        ("a fmt beyond the file", lying(16, &[0xff; 4])),
        ("a short fmt", wav(&[chunk(b"fmt ", &[1, 0, 1, 0]), data()])),
        ("data beyond the file", lying(40, &[0xff, 0xff, 0xff, 0x7f])),
        ("bytes a second that lie", lying(28, &[1, 0, 0, 0])),
        ("a frame's bytes that lie", lying(32, &[4, 0])),
        ("no number", float(f32::NAN)),
        ("infinite", float(f32::INFINITY)),
        ("as loud as can be", float(f32::MAX)),
        ("many chunks", wav(&vec![chunk(b"junk", b""); 1000])),
    ] {
        let refused = made(file);
        assert!(
            matches!(refused, Err(Error::BadInput(_))),
            "{name}: {refused:?}"
        );
    }
}

#[test]
fn every_cut_is_refused_and_every_flipped_bit_survived() {
    set_config([]);
    let good = pcm(40);
    for length in 0..good.len() {
        let cut = made(good[..length].to_vec());
        assert!(matches!(cut, Err(Error::BadInput(_))), "cut at {length}");
    }
    for bit in 0..44 * 8 {
        let mut file = good.clone();
        file[bit / 8] ^= 1 << (bit % 8);
        assert!(!matches!(made(file), Err(Error::Fault(_))), "bit {bit}");
    }
}

#[test]
fn settings_that_cannot_be_are_the_policys_fault() {
    for config in [
        [("n_fft", "500")],
        [("win_length", "513")],
        [("hop_length", "0")],
        [("f_min", "8000")],
        [("f_max", "8001")],
        [("n_mels", "0")],
    ] {
        set_config(config);
        assert!(matches!(made(pcm(160)), Err(Error::Fault(_))), "{config:?}");
    }
}
