//! TorchServe's predictions, as JSON, as a form and as a message: the decoded tensors or file.
//! `torch_form.rs` tests the framing of forms. The decision vectors
//! (`policy/vectors/torchserve*.json`) contain whole requests with their verdicts.

use crate::common;

use common::{Proto, TensorList, rules, tensors_of};
use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::decision::BodyFormat;
use tensorgate_policy::request::Boundary;
use tensorgate_policy::{Denial, InferRequest, Reason};
use tensorgate_wire::limits::MAX_INPUTS;
use tensorgate_wire::{addressee, decode};

fn ok(name: &str, shape: &[i64], data: &[u8]) -> (String, Vec<i64>, Told1) {
    (name.to_owned(), shape.to_vec(), Ok(data.to_vec()))
}

type Told1 = Result<Vec<u8>, tensorgate_policy::tensor::DataFault>;

fn json<'a>(body: &'a str, rules: &[TensorRule]) -> Result<InferRequest<'a>, Denial> {
    decode(BodyFormat::TorchJson, body.as_bytes(), rules)
}

fn form<'a>(body: &'a [u8], rules: &[TensorRule]) -> Result<InferRequest<'a>, Denial> {
    let boundary = Boundary::new("b").unwrap();
    decode(BodyFormat::TorchForm(boundary), body, rules)
}

/// The reason for the rejection; `None` if it is accepted.
fn reason(read: Result<InferRequest<'_>, Denial>) -> Option<Reason> {
    read.err().map(|denial| denial.reason)
}

/// A part with a name.
fn named(name: &str, more: &str, content: &str) -> String {
    format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{content}\r\n")
}

#[test]
fn every_form_of_json_becomes_tensors_of_the_contracts_datatypes() {
    let two = rules(&[("a", "INT16"), ("b", "BYTES")]);
    let one = rules(&[("x", "UINT8")]);
    let text = rules(&[("x", "BYTES")]);
    let data = rules(&[("data", "UINT8"), ("instances", "UINT8")]);
    let both: TensorList = vec![ok("a", &[1], &[1, 0]), ok("b", &[1], b"\x01\0\0\0z")];
    for (body, rules, expected, by_column) in [
        ("[1,2]", &one, vec![ok("x", &[2], &[1, 2])], true),
        ("7", &one, vec![ok("x", &[], &[7])], true),
        (" [[7]] ", &one, vec![ok("x", &[1, 1], &[7])], true),
        (
            r#"{"b64":"eg=="}"#,
            &text,
            vec![ok("x", &[], b"\x01\0\0\0z")],
            true,
        ),
        (r#"{"data":[7]}"#, &one, vec![ok("x", &[1], &[7])], true),
        (r#"{"body":7}"#, &one, vec![ok("x", &[], &[7])], true),
        (
            r#"{"data":{"x":[7]}}"#,
            &one,
            vec![ok("x", &[1], &[7])],
            true,
        ),
        (r#"{"x":[7]}"#, &one, vec![ok("x", &[1], &[7])], true),
        (r#"{"a":[1],"b":["z"]}"#, &two, both.clone(), true),
        (r#"{"data":{"a":[1],"b":["z"]}}"#, &two, both.clone(), true),
        (
            r#"{"instances":[{"a":1,"b":{"b64":"eg=="}}]}"#,
            &two,
            both.clone(),
            false,
        ),
        (
            r#"{"instances":[[7],[8]]}"#,
            &one,
            vec![ok("x", &[2, 1], &[7, 8])],
            false,
        ),
        // An input's own name has priority over an envelope's.
        (
            r#"{"data":[1],"instances":[2]}"#,
            &data,
            vec![ok("data", &[1], &[1]), ok("instances", &[1], &[2])],
            true,
        ),
        (
            r#"{"body":{"data":[1],"instances":[2]}}"#,
            &data,
            vec![ok("data", &[1], &[1]), ok("instances", &[1], &[2])],
            true,
        ),
        ("{}", &two, vec![], true),
    ] {
        let request = json(body, rules).unwrap_or_else(|denial| panic!("{body}: {denial:?}"));
        assert_eq!(tensors_of(&request), expected, "{body}");
        assert_eq!(request.by_column, by_column, "{body}");
    }
}

#[test]
fn an_envelope_is_all_of_a_request() {
    let one = rules(&[("x", "UINT8")]);
    let two = rules(&[("a", "INT16"), ("b", "BYTES")]);
    for (body, rules, expected) in [
        (r#"{"data":[7],"x":[7]}"#, &one, Reason::Malformed),
        (r#"{"x":[7],"data":[7]}"#, &one, Reason::Malformed),
        (r#"{"data":[7],"body":[7]}"#, &one, Reason::Malformed),
        (r#"{"instances":[7],"data":[7]}"#, &one, Reason::Malformed),
        (r#"{"data":[7],"data":[7]}"#, &one, Reason::DuplicateKey),
        (
            r#"{"data":[7],"d\u0061ta":[7]}"#,
            &one,
            Reason::DuplicateKey,
        ),
        (r#"{"x":[7],"x":[7]}"#, &one, Reason::DuplicateKey),
        (r#"{"instances":7}"#, &one, Reason::Malformed),
        ("[7]", &two, Reason::Malformed),
        (r#"{"data":[7]}"#, &two, Reason::Malformed),
        ("[7] [7]", &one, Reason::Malformed),
        ("", &one, Reason::Malformed),
        ("\u{feff}[7]", &one, Reason::Malformed),
        (&"[".repeat(40), &one, Reason::TooDeep),
    ] {
        assert_eq!(reason(json(body, rules)), Some(expected), "{body}");
    }
}

#[test]
fn a_part_is_an_element_of_bytes_or_the_json_of_anything_else() {
    let two = rules(&[("a", "INT16"), ("b", "BYTES")]);
    let expected: TensorList = vec![ok("a", &[1], &[1, 0]), ok("b", &[1], b"\x02\0\0\0\xff\"")];
    let octets = "\r\ncontent-type: application/octet-stream";
    let file = "; filename=\"C:x.png\"\r\nContent-Type: image/png";
    for (a, b) in [
        ("", ""),
        (octets, file),
        ("\r\nCONTENT-TYPE:text/plain", octets),
    ] {
        let mut body = named("a", a, "[1]").into_bytes();
        let (head, _) = named("b", b, "")
            .split_once("\r\n\r\n")
            .map(|(head, _)| (head.to_owned(), ()))
            .unwrap();
        body.extend(head.into_bytes());
        body.extend(b"\r\n\r\n\xff\"\r\n--b--");
        for end in ["", "\r\n"] {
            let body = [body.as_slice(), end.as_bytes()].concat();
            let request = form(&body, &two).unwrap_or_else(|denial| panic!("{denial:?}"));
            assert_eq!(tensors_of(&request), expected);
            assert!(request.by_column);
        }
    }
    // JSON by its content type, whatever the datatype. The order is that of the parts.
    let json = "\r\ncontent-type: application/json; charset=utf-8";
    let body = [
        named("b", json, r#"["x",{"b64":"eg=="}]"#),
        named("a", json, "1"),
        "--b--".into(),
    ]
    .concat();
    let request = form(body.as_bytes(), &two).unwrap();
    let expected = vec![
        ok("b", &[2], b"\x01\0\0\0x\x01\0\0\0z"),
        ok("a", &[], &[1, 0]),
    ];
    assert_eq!(tensors_of(&request), expected);
    // An empty part is an empty element.
    let text = rules(&[("x", "BYTES")]);
    let body = [named("x", "", ""), "--b--\r\n".into()].concat();
    let request = form(body.as_bytes(), &text).unwrap();
    assert_eq!(tensors_of(&request), vec![ok("x", &[1], &[0; 4])]);
    // Content that looks like the end of a line or of a part ends it only with the boundary.
    let body = [named("x", "", "\r\n\r\n--\r\n--c--\r\n"), "--b--".into()].concat();
    let request = form(body.as_bytes(), &text).unwrap();
    let item = b"\r\n\r\n--\r\n--c--\r\n";
    let framed = [&(item.len() as u32).to_le_bytes(), item.as_slice()].concat();
    assert_eq!(tensors_of(&request), vec![ok("x", &[1], &framed)]);
}

#[test]
fn a_part_of_no_inputs_name_is_the_body() {
    let one = rules(&[("x", "UINT8")]);
    let two = rules(&[("a", "INT16"), ("b", "BYTES")]);
    let text = rules(&[("x", "BYTES")]);
    let read = |parts: &[String], rules: &[TensorRule]| {
        let body = [&parts.concat(), "--b--"].concat();
        form(body.as_bytes(), rules).map(|request| (tensors_of(&request), request.by_column))
    };
    for name in ["data", "body"] {
        let only = |content: &str| [named(name, "", content)];
        assert_eq!(
            read(&only("[7]"), &one),
            Ok((vec![ok("x", &[1], &[7])], true))
        );
        assert_eq!(
            read(&only(r#"{"instances":[7]}"#), &one),
            Ok((vec![ok("x", &[1], &[7])], false))
        );
        assert_eq!(
            read(&only("z"), &text),
            Ok((vec![ok("x", &[1], b"\x01\0\0\0z")], true))
        );
        assert_eq!(
            read(&only(r#"{"a":[1],"b":["z"]}"#), &two),
            Ok((
                vec![ok("a", &[1], &[1, 0]), ok("b", &[1], b"\x01\0\0\0z")],
                true
            ))
        );
        let beside = [named(name, "", "[7]"), named("x", "", "[7]")];
        assert_eq!(read(&beside, &one).unwrap_err().reason, Reason::Malformed);
    }
    let twice = [named("data", "", "[7]"), named("body", "", "[7]")];
    assert_eq!(read(&twice, &one).unwrap_err().reason, Reason::Malformed);
}

#[test]
fn a_model_without_tensors_gets_the_one_file() {
    let png = "; filename=\"a.png\"\r\nContent-Type: Image/PNG";
    let body = [named("data", png, "PNG"), "--b--\r\n".into()].concat();
    let request = form(body.as_bytes(), &[]).unwrap();
    assert_eq!(
        (request.body, request.body_type.as_deref()),
        (Some(&b"PNG"[..]), Some("image/png"))
    );
    assert!(request.inputs.is_empty() && request.by_column);
    let body = [named("body", "", ""), "--b--".into()].concat();
    let request = form(body.as_bytes(), &[]).unwrap();
    assert_eq!((request.body, request.body_type), (Some(&b""[..]), None));
    for parts in [
        vec![],
        vec![named("file", png, "PNG")],
        vec![named("data", png, "PNG"), named("x", png, "PNG")],
        vec![named("data", png, "PNG"), named("data", png, "PNG")],
    ] {
        let body = [&parts.concat(), "--b--"].concat();
        let read = form(body.as_bytes(), &[]);
        assert_eq!(reason(read), Some(Reason::Malformed), "{parts:?}");
    }
    let message = |entries: &[(&str, &[u8])]| {
        let message = Proto::default().bytes(1, "m").bytes(2, "1.0");
        let entry = |(name, value): &(&str, &[u8])| Proto::default().bytes(1, name).bytes(2, value);
        entries
            .iter()
            .fold(message, |message, one| message.message(3, entry(one)))
            .frame()
    };
    let body = message(&[("data", b"PNG")]);
    let request = decode(BodyFormat::TorchGrpc, &body, &[]).unwrap();
    assert_eq!((request.body, request.body_type), (Some(&b"PNG"[..]), None));
    assert_eq!(
        (request.model.as_deref(), request.version.as_deref()),
        (Some("m"), Some("1.0"))
    );
    let whom = addressee(BodyFormat::TorchGrpc, &body).unwrap().unwrap();
    assert_eq!((&*whom.model, whom.version.as_deref()), ("m", Some("1.0")));
    for entries in [
        &[][..],
        &[("x", &b"PNG"[..])],
        &[("data", b"PNG"), ("data", b"PNG")],
    ] {
        let read = decode(BodyFormat::TorchGrpc, &message(entries), &[]).map(drop);
        assert_eq!(read.unwrap_err().reason, Reason::Malformed, "{entries:?}");
    }
}

#[test]
fn an_entry_is_what_a_part_is() {
    let two = rules(&[("a", "INT16"), ("b", "BYTES")]);
    let entry = |name: &str, value: &[u8]| Proto::default().bytes(1, name).bytes(2, value);
    let body = Proto::default()
        .message(3, entry("b", b"\xff{"))
        .bytes(1, "m")
        .message(3, entry("a", b"[1,2]"))
        .frame();
    let request = decode(BodyFormat::TorchGrpc, &body, &two).unwrap();
    let expected = vec![
        ok("b", &[1], b"\x02\0\0\0\xff{"),
        ok("a", &[2], &[1, 0, 2, 0]),
    ];
    assert_eq!(tensors_of(&request), expected);
    for (message, expected) in [
        (
            Proto::default().bytes(1, "m").bytes(1, "n"),
            Reason::DuplicateKey,
        ),
        (
            Proto::default().bytes(2, "1").bytes(2, "1"),
            Reason::DuplicateKey,
        ),
        (
            Proto::default().message(3, entry("a", b"1").bytes(2, "1")),
            Reason::DuplicateKey,
        ),
        (
            Proto::default().message(3, entry("a", b"1").bytes(1, "a")),
            Reason::DuplicateKey,
        ),
        (
            Proto::default().message(3, entry("a", b"1").bytes(3, "")),
            Reason::Malformed,
        ),
        // A field of a stream, and an unknown field.
        (Proto::default().bytes(4, "s"), Reason::Malformed),
        (Proto::default().bytes(5, ""), Reason::Malformed),
        (Proto::default().varint(3, 1), Reason::Malformed),
        (
            Proto::default().bytes(1, "m").message(3, entry("a", b"")),
            Reason::Malformed,
        ),
        (
            Proto::default().bytes(1, "m").message(3, entry("a", b"[1")),
            Reason::Malformed,
        ),
        (
            Proto::default()
                .bytes(1, "m")
                .message(3, entry("a", b"1 1")),
            Reason::Malformed,
        ),
        (
            Proto::default()
                .bytes(1, "m")
                .message(3, entry("a", b"\xff")),
            Reason::Malformed,
        ),
        (
            Proto::default()
                .bytes(1, "m")
                .message(3, entry("a", "[".repeat(40).as_bytes())),
            Reason::TooDeep,
        ),
        (
            (0..=MAX_INPUTS).fold(Proto::default(), |message, index| {
                message.message(3, entry(&index.to_string(), b"1"))
            }),
            Reason::Malformed,
        ),
    ] {
        let body = message.frame();
        let read = decode(BodyFormat::TorchGrpc, &body, &two);
        assert_eq!(reason(read), Some(expected), "{body:x?}");
    }
    // The contract checks duplicate names.
    let twice = Proto::default()
        .bytes(1, "m")
        .message(3, entry("a", b"1"))
        .message(3, entry("a", b"2"))
        .frame();
    let request = decode(BodyFormat::TorchGrpc, &twice, &two).unwrap();
    assert_eq!(request.inputs.len(), 2);
    // An unnamed model has no contract.
    let unnamed = Proto::default().message(3, entry("a", b"{")).frame();
    let request = decode(BodyFormat::TorchGrpc, &unnamed, &[]).unwrap();
    assert_eq!((request.model, request.inputs), (None, vec![]));
}
