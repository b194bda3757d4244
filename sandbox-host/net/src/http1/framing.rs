//! How the head of an answer says where its body ends, and whether all readers would agree.
//! Pure: it decides by the head alone.
//!
//! hyper reads a body with `Transfer-Encoding` beside `Content-Length` by the former, accepts
//! repeated equal lengths, and passes on codings before `chunked`. Another reader may differ.

use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, StatusCode, Version};

/// The server may close this much earlier than it says: the answer travels meanwhile.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_secs(1);

/// Why an answer is not used at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmbiguousHead {
    /// RFC 9112, 6.1: it may be an attempt at response splitting.
    #[error("it has both transfer-encoding and content-length")]
    TwoFramings,
    /// A coding that is not decoded here, or `chunked` twice.
    #[error("its transfer-encoding is not just chunked")]
    OtherCoding,
    /// No request asks for another protocol.
    #[error("it switches protocols")]
    SwitchesProtocols,
}

/// What the head says about the connection after this answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterAnswer {
    /// The body's end is certain. The server may close after being idle for so long.
    Keep(Option<Duration>),
    /// The server closes, or says that it does.
    ServerCloses,
    /// The body's end is not certain.
    UncertainEnd,
    /// The request was to be the only one.
    SingleUse,
}

/// Judges a head.
///
/// # Errors
/// Returns an error if two readers may disagree about the body.
pub(super) fn judge(
    version: Version,
    status: StatusCode,
    headers: &HeaderMap,
) -> Result<AfterAnswer, AmbiguousHead> {
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(AmbiguousHead::SwitchesProtocols);
    }
    let has_length = headers.contains_key(CONTENT_LENGTH);
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    if has_length && is_chunked {
        return Err(AmbiguousHead::TwoFramings);
    }
    if is_chunked && !is_only(headers, &TRANSFER_ENCODING, "chunked") {
        return Err(AmbiguousHead::OtherCoding);
    }
    // Neither has a body, whatever its fields say. A server that writes one disagrees.
    let has_no_body = matches!(status.as_u16(), 204 | 304);
    let is_certain = if has_no_body {
        !is_chunked && (!has_length || is_only(headers, &CONTENT_LENGTH, "0"))
    } else {
        is_chunked || one_length(headers)
    };
    if !is_certain {
        return Ok(AfterAnswer::UncertainEnd);
    }
    let announces_more = headers.contains_key(UPGRADE)
        || (headers.contains_key(CONNECTION) && !is_only(headers, &CONNECTION, "keep-alive"));
    if version != Version::HTTP_11 || announces_more {
        return Ok(AfterAnswer::ServerCloses);
    }
    Ok(match idle_timeout(headers) {
        Some(timeout) if timeout.is_zero() => AfterAnswer::ServerCloses,
        timeout => AfterAnswer::Keep(timeout),
    })
}

/// Whether a field occurs once, with this value.
fn is_only(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|first| first.as_bytes().trim_ascii());
    first.is_some_and(|first| first.eq_ignore_ascii_case(value.as_bytes()))
        && values.next().is_none()
}

/// Whether there is one length, once: digits only.
fn one_length(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let digits = |value: &http::HeaderValue| {
        let value = value.as_bytes().trim_ascii();
        !value.is_empty() && value.iter().all(u8::is_ascii_digit)
    };
    values.next().is_some_and(digits) && values.next().is_none()
}

/// `timeout` of `Keep-Alive` in seconds, less the margin. It can only shorten the own limit.
fn idle_timeout(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("keep-alive").iter();
    let parameters = values.filter_map(|value| value.to_str().ok());
    let parameters = parameters.flat_map(|text| text.split(','));
    let seconds = parameters.filter_map(|parameter| {
        let (name, seconds) = parameter.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        is_timeout.then(|| seconds.trim().parse::<u64>().unwrap_or(0))
    });
    let least = seconds.min()?;
    Some(Duration::from_secs(least).saturating_sub(KEEP_ALIVE_MARGIN))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn check(status: u16, fields: &[(&str, &str)]) -> Result<AfterAnswer, AmbiguousHead> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::try_from(*name).unwrap();
            headers.append(name, value.parse().unwrap());
        }
        judge(
            Version::HTTP_11,
            StatusCode::from_u16(status).unwrap(),
            &headers,
        )
    }

    #[test]
    fn only_one_certain_framing_keeps_a_connection() {
        use AfterAnswer::{Keep, ServerCloses, UncertainEnd};
        let keep = Ok(Keep(None));
        let length = ("content-length", "2");
        let chunked = ("transfer-encoding", "chunked");
        for (status, fields, expected) in [
            (200, vec![length], keep),
            (200, vec![chunked], keep),
            (200, vec![("transfer-encoding", "Chunked")], keep),
            (200, vec![length, ("connection", "Keep-Alive")], keep),
            (204, vec![], keep),
            (204, vec![("content-length", "0")], keep),
            (200, vec![], Ok(UncertainEnd)),
            (200, vec![length, length], Ok(UncertainEnd)),
            (200, vec![("content-length", "2, 2")], Ok(UncertainEnd)),
            (204, vec![length], Ok(UncertainEnd)),
            (304, vec![chunked], Ok(UncertainEnd)),
            (200, vec![length, ("connection", "close")], Ok(ServerCloses)),
            (
                200,
                vec![length, ("connection", "keep-alive, close")],
                Ok(ServerCloses),
            ),
            (200, vec![length, ("upgrade", "h2c")], Ok(ServerCloses)),
            (
                200,
                vec![length, ("keep-alive", "timeout=1")],
                Ok(ServerCloses),
            ),
            (
                200,
                vec![length, ("keep-alive", "timeout=x")],
                Ok(ServerCloses),
            ),
            (
                200,
                vec![length, ("keep-alive", "max=9, timeout=5")],
                Ok(Keep(Some(Duration::from_secs(4)))),
            ),
            (101, vec![], Err(AmbiguousHead::SwitchesProtocols)),
            (200, vec![length, chunked], Err(AmbiguousHead::TwoFramings)),
            (204, vec![length, chunked], Err(AmbiguousHead::TwoFramings)),
            (200, vec![chunked, chunked], Err(AmbiguousHead::OtherCoding)),
            (
                200,
                vec![("transfer-encoding", "gzip, chunked")],
                Err(AmbiguousHead::OtherCoding),
            ),
            (
                200,
                vec![("transfer-encoding", "identity")],
                Err(AmbiguousHead::OtherCoding),
            ),
        ] {
            assert_eq!(check(status, &fields), expected, "{status} {fields:?}");
        }
    }
}
