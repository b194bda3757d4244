//! gRPC framing of a unary body: exactly one message, with a compressed flag.

use tensorgate_policy::decision::BodyFormat;

use crate::fault::BodyFault;

/// Flag byte and big-endian length.
pub(crate) const HEADER_BYTES: usize = 5;

/// The header of a frame around an empty plain message.
pub(crate) const PLAIN_FRAME: [u8; HEADER_BYTES] = [0; HEADER_BYTES];

/// Whether a body of this format is a frame.
pub(crate) const fn is_framed(format: BodyFormat) -> bool {
    match format {
        BodyFormat::OipGrpcInfer
        | BodyFormat::OipGrpcModel
        | BodyFormat::TfGrpcPredict
        | BodyFormat::TfGrpcModel { .. }
        | BodyFormat::TorchGrpc => true,
        BodyFormat::OipJson
        | BodyFormat::OipBinary { .. }
        | BodyFormat::TfJson
        | BodyFormat::OpenAi(_)
        | BodyFormat::TorchJson
        | BodyFormat::TorchForm(_)
        | BodyFormat::Template
        | BodyFormat::Raw
        | BodyFormat::Empty => false,
    }
}

/// The compressed message of a framed body; `None` if its flag says plain.
pub(crate) fn compressed(body: &[u8]) -> Result<Option<&[u8]>, BodyFault> {
    let Some((&[1, a, b, c, d], message)) = body.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    if usize::try_from(u32::from_be_bytes([a, b, c, d])) == Ok(message.len()) {
        Ok(Some(message))
    } else {
        Err(NOT_THE_BODY)
    }
}

/// The message of a framed body.
pub(crate) fn open(body: &[u8]) -> Result<&[u8], BodyFault> {
    let length = plain(body)?.ok_or(BodyFault::Form {
        what: "the body ends inside a frame's header",
        at: body.len(),
    })?;
    let message = body.get(HEADER_BYTES..).unwrap_or_default();
    if length == message.len() {
        Ok(message)
    } else {
        Err(NOT_THE_BODY)
    }
}

/// A body that does not end with its frame.
pub(crate) const NOT_THE_BODY: BodyFault = BodyFault::Form {
    what: "the frame's length is not the body's",
    at: 1,
};

/// Length of the plain message in a frame's header; `None` until the header is complete.
pub(crate) fn plain(body: &[u8]) -> Result<Option<usize>, BodyFault> {
    let Some((&[flag, a, b, c, d], _)) = body.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    match flag {
        0 => usize::try_from(u32::from_be_bytes([a, b, c, d]))
            .map(Some)
            .map_err(|_| NOT_THE_BODY),
        1 => Err(BodyFault::Compressed),
        _ => Err(BodyFault::Form {
            what: "unknown frame flag",
            at: 0,
        }),
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
