//! One tensor in three encodings gives the same request: JSON, typed contents, raw contents. No
//! damaged body makes the decoder panic.

use crate::common;

use common::{Proto, Random, accepted, tensor};
use tensorgate_policy::decision::BodyFormat::{OipGrpcInfer, OipJson};
use tensorgate_policy::{Datatype, Reason, Tensor};

/// Random elements of one tensor in every form.
struct Elements {
    json: Vec<String>,
    typed: Proto,
    raw: Vec<u8>,
}

fn elements(random: &mut Random, datatype: Datatype, count: usize) -> Elements {
    let mut all = Elements {
        json: Vec::new(),
        typed: Proto::default(),
        raw: Vec::new(),
    };
    let mut varints = Vec::new();
    let mut field = 0;
    for _ in 0..count {
        // Small and large magnitudes alike.
        let bits = random.next() >> random.below(64);
        let mut integer = |number: u64, text: i128, le: &[u8]| {
            varints.push(number);
            all.json.push(text.to_string());
            all.raw.extend_from_slice(le);
        };
        match datatype {
            Datatype::Bool => {
                field = 1;
                let value = bits & 1;
                varints.push(value);
                all.json.push((value == 1).to_string());
                all.raw.push(value as u8);
            }
            Datatype::Int8 | Datatype::Int16 | Datatype::Int32 | Datatype::Int64 => {
                field = if datatype == Datatype::Int64 { 3 } else { 2 };
                let size = datatype.size_bytes().unwrap();
                let value = (bits as i64) << (64 - 8 * size) >> (64 - 8 * size);
                integer(value as u64, value.into(), &value.to_le_bytes()[..size]);
            }
            Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 | Datatype::Uint64 => {
                field = if datatype == Datatype::Uint64 { 5 } else { 4 };
                let size = datatype.size_bytes().unwrap();
                let value = bits & (u64::MAX >> (64 - 8 * size));
                integer(value, value.into(), &value.to_le_bytes()[..size]);
            }
            Datatype::Fp32 => {
                let value = Some(f32::from_bits(bits as u32))
                    .filter(|value| value.is_finite())
                    .unwrap_or(0.1);
                all.json.push(format!("{value:?}"));
                all.raw.extend_from_slice(&value.to_le_bytes());
            }
            Datatype::Fp64 => {
                let value = Some(f64::from_bits(bits))
                    .filter(|value| value.is_finite())
                    .unwrap_or(0.1);
                all.json.push(format!("{value:?}"));
                all.raw.extend_from_slice(&value.to_le_bytes());
            }
            Datatype::Bytes => {
                let item: String = (0..random.below(5))
                    .map(|_| char::from_u32(random.below(0x300) as u32).unwrap())
                    .collect();
                all.json.push(serde_json::to_string(&item).unwrap());
                all.raw
                    .extend_from_slice(&(item.len() as u32).to_le_bytes());
                all.raw.extend_from_slice(item.as_bytes());
                all.typed = all.typed.bytes(8, item);
            }
            Datatype::Fp16 | Datatype::Bf16 => unreachable!("raw only"),
        }
    }
    let packed = random.below(2) == 0;
    if field > 0 {
        all.typed = if packed {
            Proto::default().packed(field, varints)
        } else {
            varints
                .into_iter()
                .fold(Proto::default(), |contents, value| {
                    contents.varint(field, value)
                })
        };
    } else if datatype == Datatype::Fp32 {
        all.typed = if packed {
            Proto::default().bytes(6, &all.raw)
        } else {
            all.raw
                .as_chunks::<4>()
                .0
                .iter()
                .fold(Proto::default(), |contents, chunk| {
                    contents.fixed32(6, *chunk)
                })
        };
    } else if datatype == Datatype::Fp64 {
        all.typed = if packed {
            Proto::default().bytes(7, &all.raw)
        } else {
            all.raw
                .as_chunks::<8>()
                .0
                .iter()
                .fold(Proto::default(), |contents, chunk| {
                    contents.fixed64(7, *chunk)
                })
        };
    }
    all
}

/// Nested according to the shape.
fn nest(items: &[String], shape: &[i64]) -> String {
    match shape {
        [] | [_] => format!("[{}]", items.join(",")),
        [outer, rest @ ..] => {
            let each = items.len() / (*outer as usize).max(1);
            let rows: Vec<String> = (0..*outer as usize)
                .map(|row| nest(&items[row * each..(row + 1) * each], rest))
                .collect();
            format!("[{}]", rows.join(" , "))
        }
    }
}

/// The bodies of a request: JSON nested, JSON flat, gRPC typed, gRPC raw.
fn bodies(random: &mut Random) -> (Vec<u8>, [Vec<u8>; 4]) {
    let datatypes: Vec<_> = Datatype::ALL
        .into_iter()
        .filter(|datatype| !matches!(datatype, Datatype::Fp16 | Datatype::Bf16))
        .collect();
    let datatype = datatypes[random.below(datatypes.len())];
    let shape: Vec<i64> = (0..random.below(4))
        .map(|_| random.below(4) as i64)
        .collect();
    let count = shape.iter().product::<i64>() as usize;
    let all = elements(random, datatype, count);
    let json = |data: String| {
        format!(r#"{{"id":"i","inputs":[{{"data":{data},"shape":{shape:?},"name":"x","datatype":"{datatype}","parameters":{{"p":1}}}}]}}"#).into_bytes()
    };
    let parameter = Proto::default()
        .bytes(1, "p")
        .message(2, Proto::default().varint(2, 1));
    let input = tensor("x", datatype.name(), &shape).message(4, parameter);
    let grpc = Proto::default().bytes(3, "i");
    let typed = grpc
        .clone()
        .message(5, input.clone().message(5, all.typed))
        .frame();
    let raw = grpc.message(5, input).bytes(7, &all.raw).frame();
    (
        all.raw,
        [
            json(nest(&all.json, &shape)),
            json(format!("[{}]", all.json.join(","))),
            typed,
            raw,
        ],
    )
}

#[test]
fn one_tensor_in_every_encoding_is_one_request() {
    let mut random = Random::new(7);
    for round in 0..20_000 {
        let (elements, [nested, flat, typed, raw]) = bodies(&mut random);
        let request = accepted(OipGrpcInfer, &raw);
        let [Tensor { data, .. }] = &*request.inputs else {
            panic!("one input")
        };
        assert_eq!(data.as_deref(), Ok(&*elements), "round {round}");
        for (format, body) in [(OipJson, &nested), (OipJson, &flat), (OipGrpcInfer, &typed)] {
            assert_eq!(
                accepted(format, body),
                request,
                "round {round}: {}",
                String::from_utf8_lossy(body)
            );
        }
    }
}

#[test]
fn a_damaged_body_is_decoded_or_refused() {
    let mut random = Random::new(11);
    let allowed = [
        Reason::Malformed,
        Reason::DuplicateKey,
        Reason::TooDeep,
        Reason::UnsupportedEncoding,
    ];
    let mut refused = 0;
    for _ in 0..5_000 {
        let (_, bodies) = bodies(&mut random);
        for (index, body) in bodies.into_iter().enumerate() {
            let format = if index < 2 { OipJson } else { OipGrpcInfer };
            for _ in 0..4 {
                let mut damaged = body.clone();
                for _ in 0..=random.below(3) {
                    damage(&mut random, &mut damaged);
                }
                if format == OipGrpcInfer && random.below(4) > 0 && damaged.len() >= 5 {
                    // After the frame header, so that the message is damaged.
                    let length = (damaged.len() as u32 - 5).to_be_bytes();
                    damaged[0] = 0;
                    damaged[1..5].copy_from_slice(&length);
                }
                if let Err(denial) = tensorgate_wire::decode(format, &damaged, &[]) {
                    refused += 1;
                    assert!(allowed.contains(&denial.reason), "{denial:?}");
                    assert!(denial.field.is_none_or(
                        |field| field.len() < 1024 && !field.contains(char::is_control)
                    ));
                }
            }
        }
    }
    assert!(
        refused > 10_000,
        "the damage is too small to test anything: {refused}"
    );
}

fn damage(random: &mut Random, body: &mut Vec<u8>) {
    let at = random.below(body.len().max(1));
    let tokens = [
        &b"["[..],
        b"]",
        b"{",
        b"}",
        b"\"",
        b",",
        b":",
        b"-",
        b"0",
        b"1e999",
        b"null",
        b"\\u",
        b"\\",
        b"\xff",
        b"\x80\0",
        b"\x0a",
    ];
    match random.below(6) {
        0 => body.truncate(at),
        1 if !body.is_empty() => body[at] ^= 1 << random.below(8),
        2 if !body.is_empty() => body[at] = random.next() as u8,
        3 if !body.is_empty() => drop(body.remove(at)),
        4 => {
            // A part is repeated.
            let end = (at + random.below(16)).min(body.len());
            let piece = body.get(at..end).unwrap_or_default().to_vec();
            drop(body.splice(at..at, piece).collect::<Vec<_>>());
        }
        _ => drop(
            body.splice(
                at.min(body.len())..at.min(body.len()),
                tokens[random.below(tokens.len())].iter().copied(),
            )
            .collect::<Vec<_>>(),
        ),
    }
}
