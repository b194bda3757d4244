//! Tests of reading request heads, and of ambiguous heads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use tensorgate_policy::RequestHash;
use tensorgate_policy::policy::Templates;
use tensorgate_policy::request::{
    CallerDigests, Coding, ContentType, Credential, Encoding, Head, Identity, Operation,
    Operations, Proofs, Protocol, Route,
};

use super::ReadHead;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn infer(extra: &[(&str, &[u8])]) -> Fields {
    let mut fields: Fields = [
        (":method", "POST"),
        (":path", "/v2/models/m/infer"),
        (":authority", "gate"),
        (":scheme", "https"),
    ]
    .map(|(name, value)| (name.into(), value.into()))
    .to_vec();
    fields.extend(
        extra
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())),
    );
    fields
}

fn head(fields: &Fields, end_of_stream: bool) -> Head<'_> {
    ReadHead::read(fields, end_of_stream).into_head(Identity::Missing, &Templates::default())
}

#[test]
fn a_plain_head_is_read_completely() {
    let fields = infer(&[
        ("Content-Type", b"application/json"),
        ("content-length", b"12"),
        ("X-Request-Id", b"0f3c"),
        ("X-API-Key", b"tg_k"),
        ("cookie", b"\xff\xfe"),
    ]);
    let read = ReadHead::read(&fields, false);
    assert_eq!(
        (read.method, &*read.path, read.request_id),
        ("POST", "/v2/models/m/infer", "0f3c")
    );
    assert_eq!(read.credential, Credential::ApiKey("tg_k"));
    let bytes: usize = fields
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    assert_eq!(
        read.into_head(Identity::Client("c".into()), &Templates::default()),
        Head {
            header_bytes: bytes,
            header_count: 9,
            ambiguous: None,
            identity: Identity::Client("c".into()),
            proofs: Proofs::NONE,
            withheld: Operations::default(),
            caller: CallerDigests::default(),
            request_hash: RequestHash::default(),
            route: Route::Model {
                protocol: Protocol::OipRest,
                operation: Operation::Infer,
                model: Some("m".into()),
                version: None,
            },
            query: None,
            chunked: false,
            content_type: ContentType::Json,
            encoding: Encoding::Identity,
            json_length: None,
            content_length: Some(12),
            end_of_stream: false,
        }
    );
}

#[test]
fn ambiguous_heads_are_rejected_with_a_cause() {
    let long = [b'i'; 129];
    for (extra, expected) in [
        (
            &[
                ("content-type", b"application/json".as_slice()),
                ("Content-Type", b"application/json"),
            ][..],
            "content-type is repeated",
        ),
        (
            &[("content-type", b"application/json,application/json")],
            "content-type is repeated",
        ),
        (
            &[("content-length", b"1"), ("content-length", b"1")],
            "content-length is repeated",
        ),
        (
            &[
                ("content-encoding", b"identity"),
                ("content-encoding", b"gzip"),
            ],
            "content-encoding is repeated",
        ),
        (
            &[
                ("authorization", b"Bearer tg_a"),
                ("authorization", b"Bearer tg_a"),
            ],
            "authorization is repeated",
        ),
        (
            &[("x-api-key", b"tg_a"), ("X-Api-Key", b"tg_b")],
            "a field for keys is repeated",
        ),
        (
            &[("x-request-id", b"1"), ("x-request-id", b"2")],
            "x-request-id is repeated",
        ),
        (&[("host", b"gate"), ("host", b"gate")], "host is repeated"),
        (
            &[("grpc-encoding", b"identity"), ("grpc-encoding", b"gzip")],
            "grpc-encoding is repeated",
        ),
        (
            &[
                ("transfer-encoding", b"chunked"),
                ("transfer-encoding", b"chunked"),
            ],
            "transfer-encoding is repeated",
        ),
        (&[(":path", b"/v2")], ":path is repeated"),
        (&[(":Method", b"GET")], ":method is repeated"),
        (&[(":scheme", b"http")], ":scheme is repeated"),
        (&[(":authority", b"gate")], ":authority is repeated"),
        (&[(":protocol", b"websocket")], "a pseudo-header is unknown"),
        (&[(":status", b"200")], "a pseudo-header is unknown"),
        (
            &[(":a-pseudo-header-longer-than-any-known", b"")],
            "a pseudo-header is unknown",
        ),
        (&[("host", b"elsewhere")], "host and :authority differ"),
        (&[(":authority", b"gate,gate")], ":authority is repeated"),
        (&[("content-length", b"")], "a length is not made of digits"),
        (
            &[("content-length", b"+1")],
            "a length is not made of digits",
        ),
        (
            &[("content-length", b"-1")],
            "a length is not made of digits",
        ),
        (
            &[("content-length", b"1, 1")],
            "a length is not made of digits",
        ),
        (
            &[("content-length", b" 1")],
            "a length is not made of digits",
        ),
        (
            &[("content-length", b"0x1")],
            "a length is not made of digits",
        ),
        (
            &[("content-length", b"18446744073709551616")],
            "a length is beyond 64 bits",
        ),
        (
            &[("content-length", b"1"), ("transfer-encoding", b"chunked")],
            "both content-length and transfer-encoding are set",
        ),
        (
            &[("transfer-encoding", b"gzip, chunked")],
            "transfer-encoding is not chunked",
        ),
        (
            &[("transfer-encoding", b" chunked")],
            "transfer-encoding is not chunked",
        ),
        (
            &[
                ("inference-header-content-length", b"99999999999"),
                ("content-length", b"9"),
            ],
            "inference-header-content-length is past the body",
        ),
        (
            &[("inference-header-content-length", b"-1")],
            "a length is not made of digits",
        ),
        (
            &[("inference-header-content-length", b"5 ")],
            "a length is not made of digits",
        ),
        (
            &[("x-api-key", b"tg_a"), ("authorization", b"Bearer tg_a")],
            "two credentials were sent",
        ),
        (
            &[("x-api-key", b""), ("authorization", b"Basic x")],
            "two credentials were sent",
        ),
        (
            &[("x-tensorgate-context", b"v1.a.b")],
            "a header field that is reserved for tensorgate was sent",
        ),
        (
            &[("X-TensorGate-Client", b"admin")],
            "a header field that is reserved for tensorgate was sent",
        ),
        (&[("x-api-key", b"tg_\xff")], "a field value is not UTF-8"),
        (
            &[("x-api-key", b"tg_\x07")],
            "a field value holds control characters",
        ),
        (
            &[("content-type", b"application/json\t")],
            "a field value holds control characters",
        ),
        (
            &[("x-anything", b"a\r\nx-tensorgate-context: v1")],
            "a field value holds NUL, CR or LF",
        ),
        (
            &[("x-anything", b"a\0b")],
            "a field value holds NUL, CR or LF",
        ),
        (&[("content-length ", b"1")], "a field name is not a token"),
        (&[("", b"1")], "a field name is not a token"),
        (&[(":", b"1")], "a field name is not a token"),
        (&[("x\ny", b"1")], "a field name is not a token"),
        (&[("upgrade", b"h2c")], "an upgrade is requested"),
        (&[("http2-settings", b"AAM")], "an upgrade is requested"),
        (
            &[("x-http-method-override", b"DELETE")],
            "a method override is requested",
        ),
        (&[("expect", b"200-ok")], "expect is not 100-continue"),
        (&[("x-request-id", b"")], "x-request-id is not an id"),
        (&[("x-request-id", b"a b")], "x-request-id is not an id"),
        (
            &[("x-request-id", "é".as_bytes())],
            "x-request-id is not an id",
        ),
        (&[("x-request-id", &long)], "x-request-id is not an id"),
    ] {
        assert_eq!(
            head(&infer(extra), false).ambiguous,
            Some(expected),
            "{extra:?}"
        );
    }
}

#[test]
fn unusual_heads_are_not_ambiguous() {
    for (extra, end_of_stream) in [
        (&[("host", b"gate".as_slice())][..], false),
        (&[("transfer-encoding", b"Chunked")], false),
        (
            &[("expect", b"100-continue"), ("content-length", b"9")],
            false,
        ),
        (&[("content-length", b"0")], true),
        (&[("content-length", b"007")], false),
        (
            &[
                ("x-tensorgat", b"1"),
                ("x-forwarded-for", b"10.0.0.1"),
                ("x-forwarded-for", b"10.0.0.2"),
            ],
            false,
        ),
        (
            &[
                ("accept", b"caf\xe9"),
                ("a-name-that-is-longer-than-every-name-known-here", b"1"),
            ],
            false,
        ),
        (&[], false),
    ] {
        assert_eq!(
            head(&infer(extra), end_of_stream).ambiguous,
            None,
            "{extra:?}"
        );
    }
}

#[test]
fn a_missing_or_empty_pseudo_header_is_ambiguous() {
    for (fields, expected) in [
        (&[][..], ":method is missing"),
        (&[(":path", "/v2")], ":method is missing"),
        (&[(":method", ""), (":path", "/v2")], ":method is missing"),
        (&[(":method", "GET")], ":path is missing"),
        (&[(":method", "GET"), (":path", "")], ":path is missing"),
    ] {
        let read = ReadHead::read(fields, true).into_head(Identity::Missing, &Templates::default());
        assert_eq!(read.ambiguous, Some(expected), "{fields:?}");
    }
}

#[test]
fn a_length_without_a_body_is_ambiguous() {
    let fields = infer(&[("content-length", b"1")]);
    assert_eq!(
        head(&fields, true).ambiguous,
        Some("content-length declares a body that is not sent")
    );
}

#[test]
fn one_coding_in_the_field_of_its_protocol_is_known() {
    use Encoding::{Coded, Identity, Unknown};
    let (gzip, deflate) = (Coded(Coding::Gzip), Coded(Coding::Deflate));
    for (name, value, over_rest, over_grpc) in [
        ("content-encoding", "identity", Identity, Identity),
        ("content-encoding", " Identity ", Identity, Identity),
        ("content-encoding", "gzip", gzip, Unknown),
        ("content-encoding", "GZip", gzip, Unknown),
        ("content-encoding", "deflate", deflate, Unknown),
        ("content-encoding", "x-gzip", Unknown, Unknown),
        ("content-encoding", "br", Unknown, Unknown),
        ("content-encoding", "identity, gzip", Unknown, Unknown),
        ("content-encoding", "gzip, gzip", Unknown, Unknown),
        ("content-encoding", "gzip;q=1", Unknown, Unknown),
        ("content-encoding", "", Unknown, Unknown),
        ("grpc-encoding", "identity", Identity, Identity),
        ("grpc-encoding", "gzip", Unknown, gzip),
        ("grpc-encoding", "deflate", Unknown, deflate),
        ("grpc-encoding", "snappy", Unknown, Unknown),
        ("grpc-accept-encoding", "gzip", Identity, Identity),
        ("accept-encoding", "gzip", Identity, Identity),
        ("inference-header-content-length", "5", Identity, Identity),
    ] {
        let field = (name, value.as_bytes());
        let encoding = head(&infer(&[field]), false).encoding;
        assert_eq!(encoding, over_rest, "{name}: {value}, REST");
        let mut fields = infer(&[("content-type", b"application/grpc"), field]);
        for (name, value) in &mut fields {
            if name == b":path" {
                *value = b"/inference.GRPCInferenceService/ModelInfer".to_vec();
            }
        }
        assert_eq!(
            head(&fields, false).encoding,
            over_grpc,
            "{name}: {value}, gRPC"
        );
    }
}

#[test]
fn the_length_of_json_is_a_number_within_the_body() {
    for (length, body, end_of_stream, expected) in [
        ("5", None, false, Ok(Some(5))),
        ("0", None, true, Ok(Some(0))),
        (
            "005",
            Some("5"),
            false,
            Err("inference-header-content-length begins with a zero"),
        ),
        (
            "00",
            None,
            true,
            Err("inference-header-content-length begins with a zero"),
        ),
        (
            "5",
            Some("4"),
            false,
            Err("inference-header-content-length is past the body"),
        ),
        (
            "5",
            None,
            true,
            Err("inference-header-content-length is past the body"),
        ),
        (
            "18446744073709551616",
            None,
            false,
            Err("a length is beyond 64 bits"),
        ),
        ("5, 5", None, false, Err("a length is not made of digits")),
    ] {
        let mut fields = infer(&[("inference-header-content-length", length.as_bytes())]);
        fields
            .extend(body.map(|body| ("content-length".to_owned().into(), body.as_bytes().into())));
        let head = head(&fields, end_of_stream);
        let read = head.ambiguous.map_or(Ok(head.json_length), Err);
        assert_eq!(read, expected, "{length} of {body:?}");
    }
}

#[test]
fn an_unknown_path_is_answered_in_the_protocol_of_its_type() {
    for (content_type, expected) in [
        ("application/grpc", Protocol::OipGrpc),
        ("application/grpc-web", Protocol::OipGrpc),
        ("application/json", Protocol::OipRest),
    ] {
        let fields = [
            (":method", "POST"),
            (":path", "/x"),
            ("content-type", content_type),
        ];
        let read =
            ReadHead::read(&fields, false).into_head(Identity::Missing, &Templates::default());
        assert_eq!(
            read.route,
            Route::Unknown { protocol: expected },
            "{content_type}"
        );
    }
}

#[test]
fn an_authority_names_one_host() {
    for (authority, ambiguous) in [
        ("gate", false),
        ("gate.example:8080", false),
        ("[::1]:8080", false),
        ("gate,elsewhere", true),
        ("user@gate", true),
        ("gate/v2", true),
        ("gate elsewhere", true),
    ] {
        let mut fields = infer(&[]);
        for (name, value) in &mut fields {
            if name == b":authority" {
                *value = authority.into();
            }
        }
        let expected = ambiguous.then_some("the authority is not one host");
        assert_eq!(head(&fields, false).ambiguous, expected, "{authority}");
    }
}

#[test]
fn what_describes_a_body_is_ignored_on_a_request_without_one() {
    let at = |path: &str, name: &str, value: &str| -> Fields {
        [(":method", "GET"), (":path", path), (name, value)]
            .map(|(name, value)| (name.into(), value.into()))
            .to_vec()
    };
    let get = |name: &str, value: &str| at("/v2/models/m/ready", name, value);
    for (name, value) in [
        ("content-type", "application/json"),
        ("content-type", ";;"),
        ("content-encoding", "gzip"),
        ("content-encoding", "br"),
        ("grpc-encoding", "gzip"),
        ("inference-header-content-length", "12"),
        ("inference-header-content-length", "012"),
        ("inference-header-content-length", "x"),
        ("content-length", "0"),
    ] {
        // Statistics, and an unknown path, which looks the same.
        for path in ["/v2/models/m/ready", "/v2/models/m/stats", "/v2/nowhere"] {
            let fields = at(path, name, value);
            let read = head(&fields, true);
            assert_eq!(read.ambiguous, None, "{name}: {value}");
            assert_eq!(read.content_type, ContentType::Absent, "{name}: {value}");
            assert_eq!(read.encoding, Encoding::Identity, "{name}: {value}");
            assert_eq!(read.json_length, None, "{name}: {value}");
        }
        let fields = get(name, value);
        assert_eq!(head(&fields, true).content_length, None, "{name}: {value}");
        // With a body they describe it.
        let fields = at("/v2/models/m/stats", "content-encoding", "gzip");
        let coded = Encoding::Coded(Coding::Gzip);
        assert_eq!(head(&fields, false).encoding, coded);
    }
    // What could be read as a body is not ignored.
    for (name, value, length, chunked) in [
        ("content-length", "2", Some(2), false),
        ("transfer-encoding", "chunked", None, true),
    ] {
        let fields = get(name, value);
        let read = head(&fields, false);
        assert_eq!((read.content_length, read.chunked), (length, chunked));
    }
    let grpc = get("content-type", "application/grpc");
    assert_eq!(head(&grpc, true).content_type, ContentType::Grpc);
}

#[test]
fn an_ignored_query_is_not_part_of_the_path() {
    let fields = [(":method", "GET"), (":path", "/v1/models?client_version=1")];
    let read = ReadHead::read(&fields, true);
    assert_eq!((&*read.path, read.query_ignored), ("/v1/models", true));
    let fields = [(":method", "POST"), (":path", "/v2/models/m/infer?trace=1")];
    let read = ReadHead::read(&fields, false);
    assert_eq!(&*read.path, "/v2/models/m/infer?trace=1");
    let head = read.into_head(Identity::Missing, &Templates::default());
    assert_eq!(head.query, Some("trace"));
}

#[test]
fn a_form_is_json_for_tf_serving_if_no_page_of_another_site_can_have_sent_it() {
    let form = "application/x-www-form-urlencoded";
    let type_of = |path: &str, name: &str, value: &str| {
        let fields: Fields = [
            (":method", "POST"),
            (":path", path),
            ("content-type", &*format!("{form}; charset=UTF-8")),
            (name, value),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .to_vec();
        let declared = head(&fields, false).content_type;
        if declared == ContentType::Json {
            return "json".to_owned();
        }
        declared.name().unwrap_or_default().to_owned()
    };
    let predict = "/v1/models/m:predict";
    for (path, name, value, expected) in [
        (predict, "x-api-key", "tg_k", "json"),
        (predict, "authorization", "Bearer a.b.c", "json"),
        // A browser adds these to what any page sends.
        (predict, "cookie", "k=tg_k", form),
        (predict, "x-forwarded-client-cert", "Hash=00", form),
        ("/v2/models/m/infer", "x-api-key", "tg_k", form),
        ("/v1/chat/completions", "x-api-key", "tg_k", form),
    ] {
        assert_eq!(type_of(path, name, value), expected, "{path} {name}");
    }
}
