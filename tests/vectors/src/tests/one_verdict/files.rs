//! Pictures and recordings, as far as their headers go: valid ones, and ones that no rule here
//! allows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Random;

/// The most bytes of a file.
pub const MAX_BYTES: usize = 120;
/// The most pixels of a side.
const MAX_SIDE: u16 = 64;
/// The most samples a second, and in all.
const RATE: u32 = 8;
const MAX_SAMPLES: u32 = 16;

/// The contract's rule for a file.
pub fn rule() -> Value {
    json!({
        "types": ["png", "jpeg", "wav"],
        "max_width": MAX_SIDE, "max_height": MAX_SIDE, "max_pixels": 1 << 20,
        "max_duration_ms": MAX_SAMPLES / RATE * 1_000,
    })
}

/// A valid file.
pub fn good(random: &mut Random) -> Value {
    let side = |random: &mut Random| 1 + random.below(usize::from(MAX_SIDE)) as u16;
    let (width, height) = (side(random), side(random));
    said(&match random.below(3) {
        0 => png(width, height),
        1 => jpeg(width, height),
        _ => wav(1 + random.below(MAX_SAMPLES as usize) as u32),
    })
}

/// An invalid file: too large, too long, of another kind, truncated, or no file at all.
pub fn bad(random: &mut Random) -> Value {
    let cut = |file: Vec<u8>| file[..file.len() / 3].to_vec();
    said(&match random.below(8) {
        0 => png(MAX_SIDE + 1, 1),
        1 => jpeg(1, MAX_SIDE + 1),
        2 => wav(MAX_SAMPLES + 1),
        3 => [&b"GIF89a\x01\0\x01\0\0\0\0"[..], b";"].concat(),
        4 => cut(png(1, 1)),
        5 => cut(wav(1)),
        6 => b"a text".to_vec(),
        _ => Vec::new(),
    })
}

fn said(file: &[u8]) -> Value {
    json!({"b64": STANDARD.encode(file)})
}

fn png(width: u16, height: u16) -> Vec<u8> {
    let chunk = |name: &[u8; 4], data: &[u8]| {
        let length = (data.len() as u32).to_be_bytes();
        [&length[..], name, data, b"crc!"].concat()
    };
    let [width, height] = [width, height].map(|side| u32::from(side).to_be_bytes());
    let head = [&width[..], &height, &[8, 2, 0, 0, 0]].concat();
    let chunks = [
        chunk(b"IHDR", &head),
        chunk(b"IDAT", b"data"),
        chunk(b"IEND", b""),
    ];
    [&b"\x89PNG\r\n\x1a\n"[..], &chunks.concat()].concat()
}

fn jpeg(width: u16, height: u16) -> Vec<u8> {
    let segment = |marker: u8, data: &[u8]| {
        let length = (data.len() as u16 + 2).to_be_bytes();
        [&[0xff, marker][..], &length, data].concat()
    };
    let frame = [&[8][..], &height.to_be_bytes(), &width.to_be_bytes(), &[3]].concat();
    let segments = [
        segment(0xe0, b"JFIF\0"),
        segment(0xc0, &frame),
        segment(0xda, b"scans"),
    ];
    [&[0xff, 0xd8][..], &segments.concat(), b"data"].concat()
}

/// A recording with one channel of bytes.
fn wav(samples: u32) -> Vec<u8> {
    let chunk = |name: &[u8; 4], data: &[u8]| {
        let padding = vec![0; data.len() % 2];
        [
            &name[..],
            &(data.len() as u32).to_le_bytes(),
            data,
            &padding,
        ]
        .concat()
    };
    let rate = RATE.to_le_bytes();
    let format = [&[1, 0, 1, 0][..], &rate, &rate, &[1, 0, 8, 0]].concat();
    let samples = vec![128; samples as usize];
    let body = [
        &b"WAVE"[..],
        &chunk(b"fmt ", &format),
        &chunk(b"data", &samples),
    ]
    .concat();
    chunk(b"RIFF", &body)
}
