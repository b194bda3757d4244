//! The file of header fields that are sent to a receiver, such as a bearer token.

use std::path::Path;

use http::{HeaderName, HeaderValue};
use tensorgate_base::secret_file::{self, SecretFileError};

/// The largest file in bytes.
const MAX_FILE_BYTES: u64 = 16 << 10;
/// The most fields.
const MAX_FIELDS: usize = 32;
/// Fields that a request has already, or that frame it.
const TAKEN: [&str; 9] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "transfer-encoding",
    "user-agent",
];

/// Why a file of header fields cannot be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum HeadersError {
    #[error(transparent)]
    File(#[from] SecretFileError),
    #[error("line {0} of the header fields is not `name: value`")]
    Line(usize),
    #[error("line {0} of the header fields sets a field that the host sets")]
    Taken(usize),
    #[error("there are more than {} header fields", MAX_FIELDS)]
    Count,
}

/// Reads a file of header fields. Empty lines, and lines that start with `#`, are skipped.
///
/// # Errors
/// Returns an error if other users can read the file, or if it has anything else.
pub fn read(path: &Path) -> Result<Vec<(HeaderName, HeaderValue)>, HeadersError> {
    let text = secret_file::read(path, MAX_FILE_BYTES)?;
    parse(&text)
}

fn parse(text: &[u8]) -> Result<Vec<(HeaderName, HeaderValue)>, HeadersError> {
    let mut fields = Vec::new();
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let (name, value) = field(line).ok_or(HeadersError::Line(number))?;
        if TAKEN.contains(&name.as_str()) {
            return Err(HeadersError::Taken(number));
        }
        if fields.len() >= MAX_FIELDS {
            return Err(HeadersError::Count);
        }
        fields.push((name, value));
    }
    Ok(fields)
}

fn field(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    let value = value.strip_prefix(b":")?.trim_ascii();
    let name = HeaderName::from_bytes(name).ok()?;
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use super::*;

    #[test]
    fn a_file_has_one_field_a_line() {
        let text = b"# of the collector\nAuthorization: Bearer a:b\r\n\n x-team: one ";
        let fields = parse(text).unwrap();
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(fields, [("authorization", "Bearer a:b"), ("x-team", "one")]);
    }

    #[test]
    fn a_line_that_is_no_field_is_reported() {
        for text in [
            "x: 1\nno field",
            "x: 1\nx y: 1",
            "x: 1\nx: \u{0}",
            "x: 1\n: 1",
        ] {
            let found = parse(text.as_bytes());
            assert!(matches!(found, Err(HeadersError::Line(2))), "{text:?}");
        }
        let found = parse(b"Content-Length: 1");
        assert!(matches!(found, Err(HeadersError::Taken(1))));
        let many = "x: 1\n".repeat(MAX_FIELDS + 1);
        assert!(matches!(parse(many.as_bytes()), Err(HeadersError::Count)));
    }
}
