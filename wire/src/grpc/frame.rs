//! gRPC's framing of a unary body: exactly one message, not compressed.

use crate::fault::BodyFault;

/// Flag byte and big-endian length.
pub(crate) const HEADER_BYTES: usize = 5;

/// The message of a body that is one frame.
pub(crate) fn open(body: &[u8]) -> Result<&[u8], BodyFault> {
    let Some((&[flag, a, b, c, d], message)) = body.split_first_chunk::<HEADER_BYTES>() else {
        return Err(BodyFault::Form {
            what: "the body ends inside a frame's header",
            at: body.len(),
        });
    };
    match flag {
        0 => {}
        1 => return Err(BodyFault::Compressed),
        _ => {
            return Err(BodyFault::Form {
                what: "unknown frame flag",
                at: 0,
            });
        }
    }
    if usize::try_from(u32::from_be_bytes([a, b, c, d])) == Ok(message.len()) {
        Ok(message)
    } else {
        Err(BodyFault::Form {
            what: "the frame's length is not the body's",
            at: 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unary_body_is_exactly_one_plain_frame() {
        let form = |what, at| Err(BodyFault::Form { what, at });
        for (body, expected) in [
            (&b"\0\0\0\0\0"[..], Ok(&b""[..])),
            (b"\0\0\0\0\x02ab", Ok(b"ab")),
            (b"", form("the body ends inside a frame's header", 0)),
            (
                b"\0\0\0\0",
                form("the body ends inside a frame's header", 4),
            ),
            (
                b"\0\0\0\0\x02a",
                form("the frame's length is not the body's", 1),
            ),
            (
                b"\0\0\0\0\x02abc",
                form("the frame's length is not the body's", 1),
            ),
            (
                b"\0\x02\0\0\0ab",
                form("the frame's length is not the body's", 1),
            ),
            (
                b"\0\0\0\0\x02ab\0\0\0\0\x02ab",
                form("the frame's length is not the body's", 1),
            ),
            (
                b"\0\xff\xff\xff\xffab",
                form("the frame's length is not the body's", 1),
            ),
            (b"\x01\0\0\0\x02ab", Err(BodyFault::Compressed)),
            (b"\x02\0\0\0\x02ab", form("unknown frame flag", 0)),
            (b"\x80\0\0\0\x02ab", form("unknown frame flag", 0)),
        ] {
            assert_eq!(open(body), expected, "{body:?}");
        }
    }
}
