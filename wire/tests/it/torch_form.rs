//! The framing of a form: it is read in exactly one way, or rejected.

use crate::common;

use common::rules;
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::request::Boundary;
use tensorgate_policy::{Denial, InferRequest, Reason};
use tensorgate_wire::decode;
use tensorgate_wire::limits::{MAX_INPUTS, MAX_PART_HEAD_BYTES};

fn form<'a>(body: &'a [u8], rules: &[TensorRule]) -> Result<InferRequest<'a>, Denial> {
    let boundary = Boundary::new("b").unwrap();
    decode(BodyFormat::TorchForm(boundary), body, rules)
}

/// The reason for the rejection; `None` if it is accepted.
fn reason(read: Result<InferRequest<'_>, Denial>) -> Option<Reason> {
    read.err().map(|denial| denial.reason)
}

/// A form with one part: this head, with line ends, and this content.
fn part(head: &str, content: &str) -> Vec<u8> {
    format!("--b\r\n{head}\r\n{content}\r\n--b--\r\n").into_bytes()
}

/// A part with a name.
fn named(name: &str, more: &str, content: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{content}\r\n")
}

#[test]
fn a_forms_framing_is_read_in_one_way_or_not_at_all() {
    let text = rules(&[("x", "BYTES")]);
    let part = named("x", "", "z");
    assert_eq!(
        reason(form([&part, "--b--"].concat().as_bytes(), &text)),
        None
    );
    for body in [
        String::new(),
        "--b".into(),
        "--b\r\n".into(),
        part.clone(),
        format!("{part}--b"),
        format!("{part}--b-"),
        format!("{part}--b\r\n"),
        // Before, after and around the form.
        format!("\r\n\r\n{part}--b--"),
        format!("preamble\r\n{part}--b--"),
        format!("{part}--b--\r\nepilogue"),
        format!("{part}--b--\r\n\r\n"),
        format!("{part}--b--x"),
        format!("{part}--b-- "),
        format!("{part}--b \r\n\r\n--b--"),
        // Another line end, and a boundary inside a line.
        part.replace("\r\n", "\n") + "--b--",
        format!("{}\n--b--", &part[..part.len() - 2]),
        format!("{}\r--b--", &part[..part.len() - 2]),
        format!("{}--b--", &part[..part.len() - 2]),
        format!("{}--b--", named("x", "", "z--bz")),
        format!("{}--b--", named("x", "", "z\n--b\nz")),
        format!("{}--b--", named("x", "", "z\r\n--bz")),
        // A boundary in different case.
        part.replace("--b", "--c") + "--c--",
        part.replace("--b", "--B") + "--B--",
        // No head, or a head without an end.
        "--b\r\n\r\nz\r\n--b--".into(),
        "--b\r\nz\r\n--b--".into(),
        "--b\r\n--b--".into(),
        "--b\r\nContent-Disposition: form-data; name=\"x\"\r\nz\r\n--b--".into(),
    ] {
        let read = form(body.as_bytes(), &text);
        assert_eq!(reason(read), Some(Reason::Malformed), "{body:?}");
    }
    let many = named("x", "", "z").repeat(MAX_INPUTS + 1) + "--b--";
    assert_eq!(
        reason(form(many.as_bytes(), &text)),
        Some(Reason::Malformed)
    );
    // Every truncated form is rejected, except without the final line end.
    let without_line_end = [&part, "--b--"].concat();
    let complete = [&without_line_end, "\r\n"].concat();
    for end in 0..=complete.len() {
        let read = form(&complete.as_bytes()[..end], &text);
        let is_complete = [without_line_end.len(), complete.len()].contains(&end);
        let expected = (!is_complete).then_some(Reason::Malformed);
        assert_eq!(reason(read), expected, "{end}");
    }
}

#[test]
fn a_parts_head_is_two_fields_in_one_spelling() {
    let text = rules(&[("x", "BYTES")]);
    let disposition = "Content-Disposition: form-data; name=\"x\"\r\n";
    for head in [
        disposition.to_owned(),
        "content-disposition:FORM-DATA;name=x\r\n".into(),
        "Content-Disposition: form-data; filename=\"a;b=c.png\"; name=\"x\"\r\n".into(),
        "Content-Disposition: form-data ; name=x ; filename=a.png\r\n".into(),
        "Content-Disposition: form-data; name=\"x\"; filename=\"\u{e9}.png\"\r\n".into(),
        format!("{disposition}Content-Type: image/png\r\n"),
        format!("Content-Type: image/png; q=1\r\n{disposition}"),
        format!("{disposition}content-length: 1\r\n"),
        format!("{disposition}Content-Transfer-Encoding: binary\r\n"),
        format!("{disposition}content-transfer-encoding: 7BIT\r\n"),
        format!("{disposition}Content-Type: text/plain; charset=ISO-8859-1\r\n"),
    ] {
        assert_eq!(reason(form(&part(&head, "z"), &text)), None, "{head:?}");
    }
    let long = "a".repeat(MAX_PART_HEAD_BYTES);
    for (head, expected) in [
        (String::new(), Reason::Malformed),
        ("Content-Type: image/png\r\n".into(), Reason::Malformed),
        (disposition.repeat(2), Reason::DuplicateKey),
        (
            format!("{disposition}Content-Type: text/plain\r\nContent-Type: text/plain\r\n"),
            Reason::DuplicateKey,
        ),
        (
            format!("{disposition}content-length: 1\r\ncontent-length: 1\r\n"),
            Reason::DuplicateKey,
        ),
        (
            "Content-Disposition: form-data; name=\"x\"; name=\"x\"\r\n".into(),
            Reason::DuplicateKey,
        ),
        (
            "Content-Disposition: form-data; name=x; filename=a; filename=a\r\n".into(),
            Reason::DuplicateKey,
        ),
        // Encodings that one reader decodes and another does not.
        (
            format!("{disposition}Content-Transfer-Encoding: base64\r\n"),
            Reason::Malformed,
        ),
        (
            format!("{disposition}Content-Transfer-Encoding: quoted-printable\r\n"),
            Reason::Malformed,
        ),
        (
            format!("{disposition}Content-Encoding: gzip\r\n"),
            Reason::Malformed,
        ),
        (format!("{disposition}X-Other: 1\r\n"), Reason::Malformed),
        (
            "Content-Disposition: form-data; name*=UTF-8''x\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=x; filename*=UTF-8''x\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name*0=x\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=\"x\\\"\"\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=\"\\x\"\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=x; filename=\"C:\\x.png\"\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=\"x\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=\"x\"y\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=x y\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=\"\"\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=x;\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=x; size=1\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: attachment; name=x\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data, name=x\r\n".into(),
            Reason::Malformed,
        ),
        (
            format!(
                "Content-Disposition: form-data; name=\"{}\"\r\n",
                "n".repeat(257)
            ),
            Reason::Malformed,
        ),
        // Malformed lines, or continued lines.
        (
            "Content-Disposition : form-data; name=x\r\n".into(),
            Reason::Malformed,
        ),
        (
            " Content-Disposition: form-data; name=x\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data;\r\n name=x\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data;\n name=x\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=\"x\0\"\r\n".into(),
            Reason::Malformed,
        ),
        (
            "Content-Disposition: form-data; name=\"x\ry\"\r\n".into(),
            Reason::Malformed,
        ),
        (format!("{disposition}: x\r\n"), Reason::Malformed),
        (format!("{disposition}x\r\n"), Reason::Malformed),
        (
            format!("{disposition}Content-Type: {long}/x\r\n"),
            Reason::Malformed,
        ),
        // Content types of whole bodies, and no content type.
        (
            format!("{disposition}Content-Type: multipart/mixed; boundary=c\r\n"),
            Reason::Malformed,
        ),
        (
            format!("{disposition}Content-Type: multipart/form-data; boundary=c\r\n"),
            Reason::Malformed,
        ),
        (
            format!("{disposition}Content-Type: message/rfc822\r\n"),
            Reason::Malformed,
        ),
        (
            format!("{disposition}Content-Type: application/grpc\r\n"),
            Reason::Malformed,
        ),
        (
            format!("{disposition}Content-Type: image\r\n"),
            Reason::Malformed,
        ),
        (
            format!("{disposition}Content-Type: text/plain; charset=utf-16\r\n"),
            Reason::Malformed,
        ),
        (
            format!("{disposition}content-length: 2\r\n"),
            Reason::Malformed,
        ),
        (
            format!("{disposition}content-length: 01\r\n"),
            Reason::Malformed,
        ),
    ] {
        let body = part(&head, "z");
        let read = form(&body, &text);
        assert_eq!(reason(read), Some(expected), "{head:?}");
    }
    // Images are not numbers, and any JSON text may be a text input.
    let number = rules(&[("x", "UINT8")]);
    for (kind, accepted) in [
        ("image/png", false),
        ("application/x-www-form-urlencoded", false),
        ("text/html", false),
        ("text/plain", true),
        ("application/octet-stream", true),
        ("application/json", true),
    ] {
        let head = format!("{disposition}Content-Type: {kind}\r\n");
        let body = part(&head, "7");
        let read = form(&body, &number);
        assert_eq!(reason(read).is_none(), accepted, "{kind}");
    }
}
