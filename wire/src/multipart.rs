//! Parser for multipart forms (RFC 7578, framing of RFC 2046). Only unambiguous framing is
//! accepted: at most a line end before the first delimiter and after the last, delimiters at line
//! beginnings only, few header fields without folding or escapes.

use memchr::memmem::{Finder, find};
use tensorgate_policy::request::{Boundary, ContentType};

use crate::fault::{BodyFault, quote};
use crate::headers::{Charset, classify_text, is_token};
use crate::limits::{MAX_INPUTS, MAX_NAME_BYTES, MAX_PART_HEAD_BYTES};
use crate::torch::Named;

const LINE_END: &[u8] = b"\r\n";
const HEAD_END: &[u8] = b"\r\n\r\n";
/// Values of `content-transfer-encoding` for unencoded content (RFC 2045, 6.2), which Java clients
/// send.
const NO_ENCODINGS: [&str; 3] = ["7bit", "8bit", "binary"];

/// Reads all parts of a form.
pub(crate) fn parts<'a>(body: &'a [u8], boundary: &Boundary) -> Result<Vec<Named<'a>>, BodyFault> {
    let delimiter = ["--", boundary.as_str()].concat();
    let delimiters = Finder::new(delimiter.as_bytes());
    let form = |what, rest: &[u8]| BodyFault::Form {
        what,
        at: body.len().saturating_sub(rest.len()),
    };
    let mut parts = Vec::new();
    // Some clients write the line end of every delimiter before the first one, too.
    let mut rest = body
        .strip_prefix(LINE_END)
        .unwrap_or(body)
        .strip_prefix(delimiter.as_bytes())
        .ok_or_else(|| form("the form does not begin with its boundary", body))?;
    loop {
        if let Some(behind) = rest.strip_prefix(b"--") {
            return match behind {
                b"" | LINE_END => Ok(parts),
                _ => Err(form("something follows the form", behind)),
            };
        }
        let part = rest
            .strip_prefix(LINE_END)
            .ok_or_else(|| form("a boundary is no line of its own", rest))?;
        let end = delimiters
            .find(part)
            .ok_or_else(|| form("the form does not end", body))?;
        let (content, behind) = part.split_at_checked(end).unwrap_or_default();
        let content = content
            .strip_suffix(LINE_END)
            .ok_or_else(|| form("a boundary is no line of its own", behind))?;
        if parts.len() >= MAX_INPUTS {
            return Err(BodyFault::TooMany {
                what: "parts",
                max: MAX_INPUTS,
            });
        }
        parts.push(one(content, |what| form(what, part))?);
        rest = behind.get(delimiter.len()..).unwrap_or_default();
    }
}

/// Reads one part: head, empty line, content.
fn one<'a>(
    part: &'a [u8],
    form: impl Fn(&'static str) -> BodyFault,
) -> Result<Named<'a>, BodyFault> {
    let longest = MAX_PART_HEAD_BYTES.saturating_add(HEAD_END.len());
    let looked_at = part.get(..longest.min(part.len())).unwrap_or_default();
    let end = find(looked_at, HEAD_END)
        .ok_or_else(|| form("a part's head is too long, or does not end"))?;
    let (head, content) = part.split_at_checked(end).unwrap_or_default();
    let content = content.get(HEAD_END.len()..).unwrap_or_default();
    let head = str::from_utf8(head).map_err(|_| form("a part's head is not UTF-8"))?;
    let (mut name, mut content_type, mut length, mut encoding) = (None, None, None, None);
    for line in head.split("\r\n") {
        let (field, value) = line
            .split_once(':')
            .filter(|(field, _)| is_token(field))
            .ok_or_else(|| form("a line of a part's head is no field"))?;
        let value = value.trim_matches([' ', '\t']);
        if value.chars().any(char::is_control) {
            return Err(form("a part's head holds control characters"));
        }
        if field.eq_ignore_ascii_case("content-disposition") {
            once(
                &mut name,
                "content-disposition of a part",
                disposition(value)?,
            )?;
        } else if field.eq_ignore_ascii_case("content-type") {
            let known = type_of(value, content)?;
            once(&mut content_type, "content-type of a part", known)?;
        } else if field.eq_ignore_ascii_case("content-transfer-encoding") {
            const FIELD: &str = "content-transfer-encoding of a part";
            let none = |known: &&str| known.eq_ignore_ascii_case(value);
            if !NO_ENCODINGS.iter().any(none) {
                return Err(BodyFault::field(FIELD, "is an encoding"));
            }
            once(&mut encoding, FIELD, ())?;
        } else if field.eq_ignore_ascii_case("content-length") {
            once(&mut length, "content-length of a part", value)?;
        } else {
            return Err(BodyFault::Unknown(format!("{} of a part", quote(field))));
        }
    }
    if length.is_some_and(|length| *length != content.len().to_string()) {
        return Err(BodyFault::field(
            "content-length of a part",
            "is not the length of its content",
        ));
    }
    Ok(Named {
        name: name
            .ok_or_else(|| BodyFault::field("content-disposition of a part", "is missing"))?,
        content_type: content_type.unwrap_or(ContentType::Absent),
        bytes: content,
    })
}

fn once<T>(slot: &mut Option<T>, field: &str, value: T) -> Result<(), BodyFault> {
    if slot.replace(value).is_some() {
        return Err(BodyFault::Duplicate(field.to_owned()));
    }
    Ok(())
}

/// Type of a part. Another charset than UTF-8 is allowed for ASCII content.
fn type_of<'a>(value: &'a str, content: &[u8]) -> Result<ContentType<'a>, BodyFault> {
    let nested = |name: &str| name.starts_with("multipart/") || name.starts_with("message/");
    let (known, charset) = classify_text(value);
    if charset == Charset::Ascii {
        let is_text = match &known {
            ContentType::Json => true,
            ContentType::Other(name) => name.starts_with("text/"),
            ContentType::Absent
            | ContentType::Grpc
            | ContentType::Form(_)
            | ContentType::Malformed => false,
        };
        if !is_text || !content.is_ascii() {
            return Err(BodyFault::field(
                "content-type of a part",
                "has a character set that does not fit its content",
            ));
        }
    }
    match known {
        ContentType::Other(name) if nested(&name) => Err(BodyFault::field(
            "content-type of a part",
            "is the type of a whole body",
        )),
        known @ (ContentType::Json | ContentType::Other(_)) => Ok(known),
        ContentType::Absent | ContentType::Grpc | ContentType::Form(_) | ContentType::Malformed => {
            Err(BodyFault::field(
                "content-type of a part",
                "is not a type that a part can have",
            ))
        }
    }
}

/// The name in `form-data; name="…"`; a file name is ignored. Values are quoted or plain tokens;
/// escapes are ambiguous and rejected. So are charset parameters (`name*`, `filename*`), which RFC
/// 7578, 4.2, forbids and parsers treat differently.
fn disposition(value: &str) -> Result<&str, BodyFault> {
    const FIELD: &str = "content-disposition of a part";
    let wrong = |what| BodyFault::field(FIELD, what);
    let (kind, mut rest) = value.split_at(value.find(';').unwrap_or(value.len()));
    if !kind.trim_matches(' ').eq_ignore_ascii_case("form-data") {
        return Err(wrong("is not form-data"));
    }
    let (mut name, mut file) = (None, None);
    while !rest.is_empty() {
        let parameter = rest
            .strip_prefix(';')
            .ok_or_else(|| wrong("has something behind a value"))?;
        let (key, text) = parameter
            .split_once('=')
            .ok_or_else(|| wrong("has a parameter without a value"))?;
        let (text, behind) = match text.strip_prefix('"') {
            Some(quoted) => quoted
                .split_once('"')
                .filter(|(text, _)| !text.contains('\\'))
                .ok_or_else(|| wrong("has a value with escapes, or without its end"))?,
            None => {
                let (text, behind) = text.split_at(text.find(';').unwrap_or(text.len()));
                let text = text.trim_end_matches(' ');
                if !is_token(text) {
                    return Err(wrong("has a value that must be quoted"));
                }
                (text, behind)
            }
        };
        let key = key.trim_matches(' ');
        if key.eq_ignore_ascii_case("name") {
            once(&mut name, "name of a part", text)?;
        } else if key.eq_ignore_ascii_case("filename") {
            once(&mut file, "filename of a part", ())?;
        } else {
            return Err(BodyFault::Unknown(format!("{} of a part", quote(key))));
        }
        rest = behind.trim_start_matches(' ');
    }
    match name {
        None | Some("") => Err(wrong("has no name")),
        Some(name) if name.len() > MAX_NAME_BYTES => {
            Err(BodyFault::field("name of a part", "is too long"))
        }
        Some(name) => Ok(name),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const PART: &str = "--x\r\ncontent-disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x--";

    #[test]
    fn only_a_line_end_may_stand_before_the_form() {
        let boundary = Boundary::new("x").unwrap();
        for (before, expected) in [
            ("", true),
            ("\r\n", true),
            ("\r\n\r\n", false),
            ("\n", false),
            ("a\r\n", false),
            ("--y\r\n", false),
        ] {
            let body = [before, PART].concat();
            let read = parts(body.as_bytes(), &boundary);
            assert_eq!(read.is_ok(), expected, "{before:?}");
        }
    }
}
