//! Fuzz target: a compressed body, compared with flate2's reader of several members. The gate's
//! output must be the same and within the bounds. A body that the target compresses itself must
//! come back complete.

use std::io::Read as _;

use flate2::Compression;
use flate2::bufread::{GzEncoder, MultiGzDecoder, ZlibDecoder, ZlibEncoder};
use tensorgate_policy::Reason;
use tensorgate_policy::decision::{BodyFormat, BodyPlan, Expansion};
use tensorgate_policy::request::Coding;
use tensorgate_wire::expand;

use crate::support::frame;

/// Runs one input. The first byte selects the coding, the bounds and whether the body is in a gRPC
/// frame.
pub fn run(data: &[u8]) {
    let Some((&choice, body)) = data.split_first() else {
        return;
    };
    let coding = if choice & 1 == 0 {
        Coding::Gzip
    } else {
        Coding::Deflate
    };
    let framed = choice & 2 != 0;
    let expansion = Expansion {
        coding,
        max_bytes: 64 << (choice >> 4),
        max_ratio: 1 + usize::from(choice >> 2 & 3) * 16,
        free_bytes: 32 << (choice >> 5),
    };
    check(&expansion, framed, body);
    let coded = compressed(coding, body);
    let generous = Expansion {
        max_bytes: usize::MAX,
        max_ratio: 2_000,
        ..expansion
    };
    let plain = expanded(&generous, framed, &coded).expect("what was compressed expands");
    assert_eq!(plain, body);
}

fn check(expansion: &Expansion, framed: bool, body: &[u8]) {
    match expanded(expansion, framed, body) {
        Ok(plain) => {
            assert!(
                plain.len() <= expansion.most(body.len()),
                "beyond its bound"
            );
            assert_eq!(theirs(expansion.coding, body), plain);
        }
        Err(Reason::Malformed) => {}
        Err(Reason::BodyTooLarge) => {
            // With larger bounds, the result is another error or a larger body.
            let generous = Expansion {
                max_bytes: 1 << 22,
                max_ratio: usize::MAX,
                ..*expansion
            };
            if let Ok(plain) = expanded(&generous, framed, body) {
                assert!(
                    plain.len() > expansion.most(body.len()),
                    "rejected within its bounds"
                );
            }
        }
        Err(reason) => panic!("unexpected reason for a compressed body: {reason:?}"),
    }
}

fn expanded(expansion: &Expansion, framed: bool, body: &[u8]) -> Result<Vec<u8>, Reason> {
    if body.is_empty() {
        return Err(Reason::Malformed);
    }
    let mut coded = body.to_vec();
    let mut format = BodyFormat::OipJson;
    if framed {
        coded = frame(body);
        coded[0] = 1;
        format = BodyFormat::OipGrpcInfer;
    }
    let plan = BodyPlan {
        max_bytes: usize::MAX,
        hold_bytes: usize::MAX,
        format,
        expansion: Some(*expansion),
    };
    let plain = expand(&plan, &coded).map_err(|denial| denial.reason)?;
    if !framed {
        return Ok(plain.into_owned());
    }
    let (header, message) = plain.split_at(5);
    assert_eq!(
        frame(message)[..5],
        *header,
        "the frame is not its message's"
    );
    Ok(message.to_vec())
}

/// The output of the other reader. Data after the end is ignored.
fn theirs(coding: Coding, body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        Coding::Gzip => MultiGzDecoder::new(body).read_to_end(&mut plain),
        Coding::Deflate => ZlibDecoder::new(body).read_to_end(&mut plain),
    }
    .expect("another reader reads what the gate does");
    plain
}

fn compressed(coding: Coding, plain: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    match coding {
        Coding::Gzip => GzEncoder::new(plain, Compression::fast()).read_to_end(&mut coded),
        Coding::Deflate => ZlibEncoder::new(plain, Compression::fast()).read_to_end(&mut coded),
    }
    .expect("memory can be read");
    coded
}
