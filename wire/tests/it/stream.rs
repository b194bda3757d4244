//! Streamed bodies: split at every point, and compared with the decoder of whole bodies.

use tensorgate_policy::contract::{Elements, Part};
use tensorgate_policy::decision::BodyFormat::{self, OipBinary, OipGrpcInfer};
use tensorgate_policy::{Denial, Reason};
use tensorgate_wire::stream_event::Event;
use tensorgate_wire::{BodyStream, decode};

/// What a stream reported, independent of the splits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reported {
    /// The data of every tensor, in the order of the inputs, and which data came after the head.
    tensors: Vec<(String, Vec<u8>, bool)>,
    body_bytes: usize,
}

type Outcome = Result<Reported, (Reason, Option<String>)>;

const ROOM: usize = 1 << 20;

/// Feeds chunks into a stream.
fn play(
    format: BodyFormat,
    pieces: &[&[u8]],
    max_head_bytes: usize,
    declared: Option<u64>,
) -> Outcome {
    let mut stream = BodyStream::new(format, max_head_bytes, declared).unwrap();
    let mut reported = None::<Reported>;
    let mut open = None::<(usize, usize)>;
    let mut coming = Vec::new();
    let mut run = || -> Result<(), Denial> {
        let mut sink = |event: Event<'_>| {
            match event {
                Event::Head {
                    request,
                    elements,
                    body_bytes,
                } => {
                    assert!(reported.is_none(), "one head");
                    let tensors = request
                        .inputs
                        .iter()
                        .zip(elements)
                        .map(|(input, location)| {
                            let data = input.data.clone().unwrap_or_default().into_vec();
                            (input.name.to_string(), data, *location != Elements::Inline)
                        });
                    reported = Some(Reported {
                        tensors: tensors.collect(),
                        body_bytes,
                    });
                    let places = elements.iter().enumerate();
                    coming = places
                        .filter(|(_, location)| **location != Elements::Inline)
                        .map(|(index, _)| index)
                        .rev()
                        .collect();
                }
                Event::Part(Part::Begin { bytes }) => {
                    assert!(open.is_none());
                    open = Some((coming.pop().unwrap(), bytes));
                }
                Event::Part(Part::Chunk(piece)) => {
                    let (tensor, left) = open.as_mut().unwrap();
                    assert!(!piece.is_empty());
                    *left -= piece.len();
                    reported.as_mut().unwrap().tensors[*tensor]
                        .1
                        .extend_from_slice(piece);
                }
                Event::Part(Part::End) => assert_eq!(open.take().unwrap().1, 0),
            }
            Ok(())
        };
        for piece in pieces {
            stream.feed(piece, &mut sink)?;
        }
        stream.end()
    };
    let outcome = run();
    if outcome.is_err() {
        // A rejected stream stays rejected.
        assert!(stream.feed(b"", &mut |_| Ok(())).is_err());
        assert!(stream.end().is_err());
    } else {
        assert!(open.is_none() && coming.is_empty());
    }
    outcome
        .map(|()| reported.unwrap())
        .map_err(|denial| (denial.reason, denial.field))
}

/// Feeds a body whole, byte by byte, and split at every point: the reports must be the same.
fn everywhere(
    name: &str,
    format: BodyFormat,
    body: &[u8],
    max_head_bytes: usize,
    declared: Option<u64>,
) -> Outcome {
    let unsplit = play(format, &[body], max_head_bytes, declared);
    let bytes: Vec<_> = body.chunks(1).collect();
    assert_eq!(
        play(format, &bytes, max_head_bytes, declared),
        unsplit,
        "{name} byte by byte"
    );
    for at in 0..=body.len() {
        let (first, second) = body.split_at(at);
        assert_eq!(
            play(format, &[first, second], max_head_bytes, declared),
            unsplit,
            "{name} cut at {at}"
        );
        assert_eq!(
            play(format, &[first, &[], second, &[]], max_head_bytes, declared),
            unsplit,
            "{name} cut at {at} with nothing between"
        );
    }
    unsplit
}

fn binary(json: &str, blobs: &[u8]) -> (BodyFormat, Vec<u8>) {
    (
        OipBinary {
            json_bytes: json.len(),
        },
        [json.as_bytes(), blobs].concat(),
    )
}

const JSON: &str = r#"{"inputs":[{"name":"a","shape":[3],"datatype":"FP32","parameters":{"binary_data_size":12}},{"name":"j","shape":[1],"datatype":"UINT8","data":[7]},{"name":"z","shape":[0],"datatype":"UINT8","parameters":{"binary_data_size":0}},{"name":"t","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":9}}]}"#;
const BLOBS: &[u8] = b"\0\0\x80\x3f\0\0\0\x40\0\0\x40\x40\x01\0\0\0a\0\0\0\0";

/// A field of a message: number, wire type 2, bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length > 127 {
        out.push((length % 128) as u8 | 0x80);
        length /= 128;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

fn input(name: &[u8], datatype: &[u8], dim: u8) -> Vec<u8> {
    field(
        5,
        &[field(1, name), field(2, datatype), field(3, &[dim])].concat(),
    )
}

/// Inputs that declare the length of their raw contents, as KServe's client does. The second has
/// none.
fn sized(second: u8) -> Vec<u8> {
    let input = |name: &[u8], datatype: &[u8], dim, size| {
        let parameter = [field(1, b"binary_data_size"), field(2, &[0x10, size])].concat();
        let plain = [field(1, name), field(2, datatype), field(3, &[dim])].concat();
        field(5, &[plain, field(4, &parameter)].concat())
    };
    let (a, z) = (
        input(b"a", b"FP32", 3, 12),
        input(b"z", b"UINT8", 0, second),
    );
    let t = self::input(b"t", b"BYTES", 2);
    frame(&[field(1, b"m"), a, z, t, raws()].concat())
}

fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0][..], &length.to_be_bytes(), message].concat()
}

fn head() -> Vec<u8> {
    [
        field(1, b"m"),
        field(3, b"id"),
        input(b"a", b"FP32", 3),
        input(b"z", b"UINT8", 0),
        input(b"t", b"BYTES", 2),
        field(6, &field(1, b"y")),
    ]
    .concat()
}

fn raws() -> Vec<u8> {
    [
        field(7, &BLOBS[..12]),
        field(7, &[]),
        field(7, &BLOBS[12..]),
    ]
    .concat()
}

#[test]
fn a_stream_reports_what_the_body_decoder_reads_for_every_split() {
    let long = vec![9; 300];
    for (name, (format, body)) in [
        ("binary", binary(JSON, BLOBS)),
        (
            "binary, all in the json",
            binary(
                r#"{"inputs":[{"name":"j","shape":[1],"datatype":"UINT8","data":[7]}]}"#,
                b"",
            ),
        ),
        ("grpc", (OipGrpcInfer, frame(&[head(), raws()].concat()))),
        ("grpc that says sizes", (OipGrpcInfer, sized(0))),
        (
            "grpc, a long length",
            (
                OipGrpcInfer,
                frame(&[field(1, b"m"), input(b"l", b"UINT8", 1), field(7, &long)].concat()),
            ),
        ),
        (
            "grpc without raw contents",
            (OipGrpcInfer, frame(&field(1, b"m"))),
        ),
    ] {
        let reported = everywhere(name, format, &body, ROOM, None).unwrap();
        assert_eq!(reported.body_bytes, body.len(), "{name}");
        assert_eq!(
            everywhere(name, format, &body, ROOM, Some(body.len() as u64)),
            Ok(reported.clone()),
            "{name}, declared"
        );
        let decoded = decode(format, &body, &[]).unwrap();
        let read: Vec<_> = decoded
            .inputs
            .iter()
            .map(|input| {
                (
                    input.name.to_string(),
                    input.data.clone().unwrap().into_vec(),
                )
            })
            .collect();
        let reported: Vec<_> = reported
            .tensors
            .into_iter()
            .map(|(name, data, _)| (name, data))
            .collect();
        assert_eq!(reported, read, "{name}");
    }
}

#[test]
fn a_fault_is_the_same_for_every_split() {
    let refused = |reason, field: Option<&str>| Err((reason, field.map(str::to_owned)));
    let malformed = |field| refused(Reason::Malformed, field);
    let size = Some("binary_data_size");
    let raw = Some("raw_input_contents");
    let length = Some("inference-header-content-length");
    let no_json = Some(
        "inference-header-content-length is 0, and the name, datatype and shape of the input must be said in JSON",
    );
    let grpc = |message: Vec<u8>| (OipGrpcInfer, frame(&message));
    let with = |more: Vec<u8>| grpc([head(), raws(), more].concat());
    // Raw contents of one input, from their length on.
    let last = |more: Vec<u8>| {
        let before = [field(1, b"m"), input(b"a", b"UINT8", 1), vec![7 << 3 | 2]];
        grpc([before.concat(), more].concat())
    };
    for (name, (format, body), expected) in [
        (
            "one byte missing",
            binary(JSON, &BLOBS[..20]),
            malformed(size),
        ),
        (
            "one byte left over",
            binary(JSON, &[BLOBS, &[0]].concat()),
            malformed(size),
        ),
        ("no blobs", binary(JSON, b""), malformed(size)),
        (
            "a json that does not end",
            (OipBinary { json_bytes: 9999 }, JSON.as_bytes().to_vec()),
            malformed(length),
        ),
        (
            "no json",
            (OipBinary { json_bytes: 0 }, BLOBS.to_vec()),
            malformed(no_json),
        ),
        (
            "no json and no body",
            (OipBinary { json_bytes: 0 }, vec![]),
            malformed(no_json),
        ),
        (
            "an empty body",
            (OipBinary { json_bytes: 5 }, vec![]),
            malformed(length),
        ),
        ("a broken json", binary("{", BLOBS), malformed(None)),
        (
            "an empty grpc body",
            (OipGrpcInfer, vec![]),
            malformed(None),
        ),
        (
            "a frame that goes on",
            (
                OipGrpcInfer,
                [frame(&[head(), raws()].concat()), vec![0]].concat(),
            ),
            malformed(None),
        ),
        (
            "two frames",
            (OipGrpcInfer, frame(&[head(), raws()].concat()).repeat(2)),
            malformed(None),
        ),
        (
            "a frame that ends early",
            (
                OipGrpcInfer,
                frame(&[head(), raws()].concat())[..60].to_vec(),
            ),
            malformed(None),
        ),
        (
            "a compressed frame",
            (
                OipGrpcInfer,
                [vec![1], frame(&head())[1..].to_vec()].concat(),
            ),
            refused(Reason::UnsupportedEncoding, None),
        ),
        (
            "an unknown flag",
            (
                OipGrpcInfer,
                [vec![3], frame(&head())[1..].to_vec()].concat(),
            ),
            malformed(None),
        ),
        (
            "too few raw contents",
            grpc([head(), field(7, &BLOBS[..12])].concat()),
            malformed(raw),
        ),
        (
            "too many raw contents",
            with(field(7, b"x")),
            malformed(raw),
        ),
        (
            "a size that is not that of its raw contents",
            (OipGrpcInfer, sized(1)),
            malformed(size),
        ),
        (
            "a model behind raw contents",
            with(field(2, b"1")),
            malformed(raw),
        ),
        (
            "an input behind raw contents",
            with(input(b"u", b"FP32", 1)),
            malformed(raw),
        ),
        (
            "a padded tag behind raw contents",
            with(vec![0xba, 0, 0]),
            malformed(raw),
        ),
        (
            "a message that ends in a length",
            with(vec![7 << 3 | 2, 0x80]),
            malformed(raw),
        ),
        (
            "a length that ends with the message",
            grpc(
                [
                    field(1, b"m"),
                    input(b"a", b"FP32", 3),
                    vec![7 << 3 | 2, 0x80],
                ]
                .concat(),
            ),
            malformed(None),
        ),
        ("a padded length", last(vec![0x81, 0, 5]), malformed(None)),
        (
            "a length past the message",
            last(vec![2, 5]),
            malformed(None),
        ),
        (
            "a length past everything",
            last([vec![0xff; 9], vec![1]].concat()),
            malformed(None),
        ),
        (
            "a length of eleven bytes",
            last(vec![0xff; 11]),
            malformed(None),
        ),
        (
            "a head's length past the message",
            grpc(vec![1 << 3 | 2, 5, b'm']),
            malformed(None),
        ),
        (
            "a head that ends in a varint",
            grpc(vec![4 << 3 | 2, 0x80]),
            malformed(None),
        ),
        (
            "a group",
            grpc([vec![3 << 3 | 3], head(), raws()].concat()),
            malformed(None),
        ),
        (
            "an unknown field",
            grpc([field(9, b"x"), head(), raws()].concat()),
            malformed(Some("field 9 of ModelInferRequest")),
        ),
        (
            "a model given twice",
            grpc([field(1, b"m"), head(), raws()].concat()),
            refused(Reason::DuplicateKey, Some("field 1 of ModelInferRequest")),
        ),
        (
            "typed contents beside raw ones",
            grpc(
                [
                    field(5, &[field(1, b"a"), field(5, &[])].concat()),
                    field(7, b""),
                ]
                .concat(),
            ),
            malformed(raw),
        ),
    ] {
        let outcome = everywhere(name, format, &body, ROOM, None);
        assert_eq!(outcome, expected, "{name}");
        // The whole-body decoder rejects it too, except for bodies with another field order.
        if !name.contains("behind raw contents") || name.starts_with("a padded") {
            assert!(decode(format, &body, &[]).is_err(), "{name} in one piece");
        }
    }
}

#[test]
fn a_head_must_end_within_its_bound() {
    for (name, (format, body), head_bytes) in [
        ("binary", binary(JSON, BLOBS), JSON.len()),
        (
            "grpc",
            (OipGrpcInfer, frame(&[head(), raws()].concat())),
            5 + head().len() + 1,
        ),
    ] {
        assert!(
            everywhere(name, format, &body, head_bytes, None).is_ok(),
            "{name}"
        );
        let outcome = everywhere(name, format, &body, head_bytes - 1, None);
        assert_eq!(outcome, Err((Reason::BodyTooLarge, None)), "{name}");
    }
}

#[test]
fn a_wrong_declared_length_is_reported_before_any_part_is_accepted() {
    for (name, (format, body)) in [
        ("binary", binary(JSON, BLOBS)),
        ("grpc", (OipGrpcInfer, frame(&[head(), raws()].concat()))),
    ] {
        for declared in [body.len() as u64 - 1, body.len() as u64 + 1] {
            let mut stream = BodyStream::new(format, ROOM, Some(declared)).unwrap();
            let denial = stream
                .feed(&body, &mut |event| panic!("{name}: {event:?}"))
                .unwrap_err();
            assert_eq!(denial.reason, Reason::Malformed, "{name} {declared}");
        }
    }
}
