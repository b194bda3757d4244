//! A reply, and the rejection reason in it, whichever protocol carried it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::Fields;

/// Padding is optional in a gRPC `-bin` field.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A reply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Fields,
    /// The body, chunks joined; for gRPC, frames as they came.
    pub body: Vec<u8>,
    /// Trailer fields.
    pub trailers: Fields,
}

impl Reply {
    /// The first header or trailer field of this name, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers
            .iter()
            .chain(&self.trailers)
            .find(|(field, _)| field == name.as_bytes())
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// `grpc-status`, from the headers or the trailers.
    pub fn grpc_status(&self) -> Option<u8> {
        self.header("grpc-status")?.parse().ok()
    }

    /// The body as JSON.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The reason of a rejection: from `type` of problem details, or from `ErrorInfo` of a gRPC
    /// status.
    pub fn reason(&self) -> Option<String> {
        if let Some(details) = self.header("grpc-status-details-bin") {
            let status = LENIENT
                .decode(details.trim())
                .or_else(|_| STANDARD.decode(details.trim()))
                .ok()?;
            return error_info_reason(&status);
        }
        let problem = self.json()?;
        let text = |pointer| problem.pointer(pointer).and_then(|text| text.as_str());
        // An answer in Anthropic's form has a type of its own.
        let reason = match text("/type")? {
            "error" => text("/error/code")?,
            kind => kind.strip_prefix("urn:tensorgate:")?,
        };
        Some(reason.to_owned())
    }

    /// One gRPC message: the body without its frame.
    pub fn message(&self) -> Option<&[u8]> {
        let (header, message) = self.body.split_at_checked(5)?;
        let length = u32::from_be_bytes(header.get(1..)?.try_into().ok()?);
        (usize::try_from(length).ok()? == message.len()).then_some(message)
    }
}

/// `reason` of the first `google.rpc.ErrorInfo` among the details of a `google.rpc.Status`.
fn error_info_reason(status: &[u8]) -> Option<String> {
    let any = fields(status).into_iter().find(|(number, any)| {
        *number == 3
            && fields(any)
                .iter()
                .any(|(number, url)| *number == 1 && url.ends_with(b"google.rpc.ErrorInfo"))
    })?;
    let info = fields(any.1).into_iter().find(|(number, _)| *number == 2)?;
    let reason = fields(info.1)
        .into_iter()
        .find(|(number, _)| *number == 1)?;
    String::from_utf8(reason.1.to_vec()).ok()
}

/// The length-delimited fields of a protobuf message. It stops at the first field that it cannot
/// read.
fn fields(mut message: &[u8]) -> Vec<(u64, &[u8])> {
    let mut found = Vec::new();
    while let Some((key, rest)) = varint(message) {
        let Some((value, rest)) = varint(rest) else {
            break;
        };
        message = rest;
        if key & 7 == 2 {
            let Some((bytes, rest)) = usize::try_from(value)
                .ok()
                .and_then(|length| message.split_at_checked(length))
            else {
                break;
            };
            found.push((key >> 3, bytes));
            message = rest;
        } else if key & 7 != 0 {
            break;
        }
    }
    found
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        let shift = u32::try_from(index).ok()?.checked_mul(7)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index.checked_add(1)?..)?));
        }
    }
    None
}
