//! Tests of access log streams: framing, limits, ends.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use super::*;

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat()
}

#[test]
fn messages_are_cut_out_of_a_stream_however_it_arrives() {
    let stream = [framed(0, b"one"), framed(0, b""), framed(0, b"three")].concat();
    for piece in 1..=stream.len() {
        let mut buffer = BytesMut::new();
        let mut read = Vec::new();
        for bytes in stream.chunks(piece) {
            buffer.extend_from_slice(bytes);
            while let Some(message) = take_message(&mut buffer).unwrap() {
                read.push(message);
            }
        }
        assert_eq!(read, [&b"one"[..], b"", b"three"], "{piece}");
        assert!(buffer.is_empty());
    }
}

#[test]
fn what_is_compressed_or_too_long_ends_the_stream_before_it_is_held() {
    let long = u32::try_from(MAX_MESSAGE_BYTES + 1).unwrap().to_be_bytes();
    let mut buffer = BytesMut::from(&[&[0][..], &long].concat()[..]);
    assert!(matches!(
        take_message(&mut buffer),
        Err(StreamFault::TooLong(_))
    ));
    let mut buffer = BytesMut::from(&framed(1, b"x")[..]);
    assert!(matches!(
        take_message(&mut buffer),
        Err(StreamFault::Compressed)
    ));
}
