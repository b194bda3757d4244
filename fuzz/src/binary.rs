//! Fuzz target: a body in the binary data extension. The first two bytes of the input are the
//! length of the JSON; the blobs follow it.
//!
//! serde_json must accept JSON that the gate accepts. Each input's data must be the blob of its
//! declared size, in order, up to the last byte of the body.

use serde_json::Value;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_wire::decode;

use crate::support::check_body_denial;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((length, body)) = data.split_first_chunk::<2>() else {
        return;
    };
    let json_bytes = usize::from(u16::from_le_bytes(*length));
    let ours = match decode(BodyFormat::OipBinary { json_bytes }, body, &[]) {
        Ok(request) => request,
        Err(denial) => return check_body_denial(&denial),
    };
    let (json, mut blobs) = body
        .split_at_checked(json_bytes)
        .expect("JSON past the body's end was accepted");
    let theirs: Value = match serde_json::from_slice(json) {
        Ok(value) => value,
        Err(error) if error.to_string().starts_with("number out of range") => return,
        Err(error) => panic!("accepted a text that serde_json rejects: {error}"),
    };
    let inputs = theirs.get("inputs").and_then(Value::as_array);
    let inputs = inputs.map(Vec::as_slice).unwrap_or_default();
    assert_eq!(ours.inputs.len(), inputs.len());
    for (ours, theirs) in ours.inputs.iter().zip(inputs) {
        let size = theirs
            .pointer("/parameters/binary_data_size")
            .and_then(Value::as_u64);
        let Some(size) = size else { continue };
        let size = usize::try_from(size).expect("a size beyond the body was accepted");
        let (blob, rest) = blobs
            .split_at_checked(size)
            .expect("a blob past the body's end was accepted");
        blobs = rest;
        if let Ok(data) = &ours.data {
            assert_eq!(&**data, blob);
        }
    }
    assert!(blobs.is_empty(), "{} unread bytes", blobs.len());
}
