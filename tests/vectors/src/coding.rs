//! A request whose body is compressed, made from a plain one.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde::Deserialize;

use crate::request::RawRequest;

/// Bytes of a gRPC frame's header.
const FRAME_HEADER: usize = 5;

/// How a client compresses a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950: with zlib's header, as HTTP requires.
    Deflate,
}

impl Coding {
    /// The same request with its body compressed and declared as such. For gRPC this is the one
    /// message in its frame.
    ///
    /// # Errors
    ///
    /// There is no such message.
    pub fn apply(self, request: &mut RawRequest) -> Result<(), String> {
        let field = if request.protocol.is_grpc() {
            let Some((header, message)) = request.body.split_at_checked(FRAME_HEADER) else {
                return Err("there is no frame to compress".into());
            };
            if header.first() != Some(&0) {
                return Err("the frame is no plain one".into());
            }
            let coded = self.compressed(message)?;
            let length = u32::try_from(coded.len()).map_err(|error| error.to_string())?;
            request.body = [&[1], length.to_be_bytes().as_slice(), &coded].concat();
            "grpc-encoding"
        } else {
            request.body = self.compressed(&request.body)?;
            "content-encoding"
        };
        let name = match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        };
        request.headers.push((field.into(), name.into()));
        Ok(())
    }

    fn compressed(self, plain: &[u8]) -> Result<Vec<u8>, String> {
        let done = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(plain).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(plain).and_then(|()| encoder.finish())
            }
        };
        done.map_err(|error| error.to_string())
    }
}
