//! Validation of a fetched key set: whether the response is a key set, and which keys are usable.
//! Responses outside the limits are rejected, and redirects are not followed.

use tensorgate_policy::issuer_keys::{Published, TooManyKeys, published};
use tensorgate_policy::policy::Algorithm;
use tensorgate_policy::values::KeySet;

use crate::host::{HostFault, HttpResponse};

/// Maximum size of a key set, in bytes: about 30 RSA keys with certificates, or 140 without.
pub const MAX_DOCUMENT_BYTES: usize = 64 << 10;
/// Maximum length of a parser error in the log, in bytes; such an error may quote the document.
const MAX_CAUSE_BYTES: usize = 200;

/// Why a fetch returned no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchFault {
    /// Envoy could not send the request.
    #[error(transparent)]
    Host(#[from] HostFault),
    /// No connection, an invalid server certificate, a timeout, or a response beyond Envoy's
    /// limits.
    #[error("no response (connection, certificate, timeout or size)")]
    NoAnswer,
    /// A response with another status; a redirect is one.
    #[error("the answer's status is {0}")]
    Status(String),
    /// An encoded response, although none was requested.
    #[error("the answer is compressed")]
    Encoded,
    /// The response is too large for a key set.
    #[error("the answer is larger than {MAX_DOCUMENT_BYTES} bytes")]
    TooLarge,
    /// The response is not a key set.
    #[error("the answer is not a JSON Web Key Set: {0}")]
    NoKeySet(String),
    /// The set has too many keys.
    #[error(transparent)]
    TooManyKeys(#[from] TooManyKeys),
}

/// The document of a response.
pub(crate) fn body(answered: Option<&HttpResponse>) -> Result<&[u8], FetchFault> {
    let answered = answered
        .filter(|answered| !answered.headers.is_empty())
        .ok_or(FetchFault::NoAnswer)?;
    let field = |wanted: &[u8]| {
        let mut fields = answered.headers.iter();
        let found = fields.find(|(name, _)| name.eq_ignore_ascii_case(wanted))?;
        Some(found.1)
    };
    let status = field(b":status").unwrap_or_default();
    if status != b"200" {
        return Err(FetchFault::Status(short(&String::from_utf8_lossy(status))));
    }
    if field(b"content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return Err(FetchFault::Encoded);
    }
    if answered.body.len() > MAX_DOCUMENT_BYTES {
        return Err(FetchFault::TooLarge);
    }
    Ok(&answered.body)
}

/// Keys of a document that are usable with these algorithms.
pub(crate) fn keys(document: &[u8], algorithms: &[Algorithm]) -> Result<Published, FetchFault> {
    let set: KeySet = serde_json::from_slice(document)
        .map_err(|fault| FetchFault::NoKeySet(short(&fault.to_string())))?;
    Ok(published(&set, algorithms)?)
}

fn short(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_CAUSE_BYTES);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Fields;
    use tensorgate_vectors::sign::jwks;

    fn answered(status: &str, fields: &[(&str, &str)], body: &[u8]) -> HttpResponse {
        let status = [(":status", status)];
        HttpResponse {
            headers: status.iter().chain(fields).copied().collect(),
            body: body.to_vec(),
        }
    }

    #[test]
    fn only_a_complete_unencrypted_key_set_is_accepted() {
        let good = jwks().to_string();
        let large = format!("{}{good}", " ".repeat(MAX_DOCUMENT_BYTES));
        let status = |status: &str| Err(FetchFault::Status(status.into()));
        for (answer, expected) in [
            (None, Err(FetchFault::NoAnswer)),
            (
                Some(HttpResponse {
                    headers: Fields::default(),
                    body: good.clone().into(),
                }),
                Err(FetchFault::NoAnswer),
            ),
            (Some(answered("200", &[], good.as_bytes())), Ok(())),
            (
                Some(answered(
                    "200",
                    &[("content-type", "text/html")],
                    good.as_bytes(),
                )),
                Ok(()),
            ),
            (
                Some(answered(
                    "200",
                    &[("Content-Encoding", "identity")],
                    good.as_bytes(),
                )),
                Ok(()),
            ),
            (
                Some(answered(
                    "200",
                    &[("content-encoding", "gzip")],
                    good.as_bytes(),
                )),
                Err(FetchFault::Encoded),
            ),
            (
                Some(answered(
                    "302",
                    &[("location", "https://evil.example/")],
                    good.as_bytes(),
                )),
                status("302"),
            ),
            (Some(answered("204", &[], b"")), status("204")),
            (Some(answered("206", &[], good.as_bytes())), status("206")),
            (Some(answered("304", &[], b"")), status("304")),
            (Some(answered("500", &[], good.as_bytes())), status("500")),
            (Some(answered("2000", &[], good.as_bytes())), status("2000")),
            (
                Some(answered("200", &[], large.as_bytes())),
                Err(FetchFault::TooLarge),
            ),
        ] {
            assert_eq!(body(answer.as_ref()).map(|_| ()), expected, "{answer:.80?}");
        }
    }

    #[test]
    fn a_document_is_a_key_set_to_every_reader_or_to_none() {
        let good = jwks().to_string();
        let key = jwks()
            .pointer("/keys/2")
            .map(ToString::to_string)
            .unwrap_or_default();
        for (document, expected) in [
            (good.clone(), Ok(3)),
            // Members beside the keys are ignored.
            (good.replacen('{', r#"{"x": [1], "#, 1), Ok(3)),
            // The issuer has revoked all keys.
            (r#"{"keys": []}"#.into(), Ok(0)),
            (
                format!(r#"{{"keys": [{key}, {{"kty": "oct", "k": "AA"}}]}}"#),
                Ok(1),
            ),
            // A key that is published twice counts once; two keys with one id are both ignored.
            (format!(r#"{{"keys": [{key}, {key}]}}"#), Ok(1)),
            (good.replacen(r#""kid":"ed""#, r#""kid":"ec""#, 1), Ok(1)),
            (String::new(), Err("not a JSON Web Key Set")),
            ("<html>".into(), Err("not a JSON Web Key Set")),
            ("{}".into(), Err("not a JSON Web Key Set")),
            (
                format!(r#"{{"keys": {key}}}"#),
                Err("not a JSON Web Key Set"),
            ),
            (format!("{good} {good}"), Err("not a JSON Web Key Set")),
            (
                format!(r#"{{"keys": [], "keys": [{key}]}}"#),
                Err("not a JSON Web Key Set"),
            ),
            // What is no key does not hide the others.
            (
                good.replacen(r#""kid":"ed""#, r#""kid":"ed","kid":"ec""#, 1),
                Ok(2),
            ),
            (good.replacen(r#""kid":"ed""#, r#""kid":7"#, 1), Ok(2)),
            (
                format!(r#"{{"keys": [null, 7, "a", [], {{"kty": ["RSA"]}}, {key}]}}"#),
                Ok(1),
            ),
            (
                format!(r#"{{"keys": [{}]}}"#, "[".repeat(30_000)),
                Err("not a JSON Web Key Set"),
            ),
            (
                format!(r#"{{"keys": [{}]}}"#, vec!["{}"; 257].join(",")),
                Err("257 keys are too many"),
            ),
        ] {
            let found = keys(document.as_bytes(), &Algorithm::ALL);
            match (&found, expected) {
                (Ok(found), Ok(count)) => assert_eq!(found.keys.len(), count, "{document:.80}"),
                (Err(fault), Err(text)) => {
                    assert!(fault.to_string().contains(text), "{document:.80}: {fault}");
                }
                _ => assert_eq!(found.is_ok(), expected.is_ok(), "{document:.80}"),
            }
        }
        assert!(keys(b"{\"keys\": [{\"kid\": \"\xff\"}]}", &Algorithm::ALL).is_err());
    }
}
