//! The client of these tests reads replies as they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tensorgate_client::Reply;

fn reply(headers: &[(&str, &str)], body: &str) -> Reply {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
        .collect();
    Reply {
        headers,
        body: body.as_bytes().to_vec(),
        ..Reply::default()
    }
}

#[test]
fn a_reason_is_read_from_problem_details_and_from_error_info() {
    let info = [b"\x0a\x05shape".as_slice(), b"\x12\x0atensorgate"].concat();
    let url = b"type.googleapis.com/google.rpc.ErrorInfo";
    let any = [&[0x0a, 40], url.as_slice(), &[0x12, 19], &info].concat();
    let status = [&[0x08, 3, 0x1a, 63], any.as_slice()].concat();
    let cases = [
        (
            reply(&[], r#"{"type":"urn:tensorgate:malformed"}"#),
            Some("malformed"),
        ),
        (
            reply(
                &[("grpc-status-details-bin", &STANDARD.encode(&status))],
                "",
            ),
            Some("shape"),
        ),
        (
            reply(
                &[(
                    "grpc-status-details-bin",
                    STANDARD.encode(&status).trim_end_matches('='),
                )],
                "",
            ),
            Some("shape"),
        ),
        (reply(&[("grpc-status-details-bin", "AAAA")], ""), None),
        (reply(&[], r#"{"type":"about:blank"}"#), None),
        (reply(&[], ""), None),
    ];
    for (reply, expected) in cases {
        assert_eq!(reply.reason().as_deref(), expected, "{reply:?}");
    }
}

#[test]
fn a_message_is_one_whole_frame() {
    assert_eq!(
        reply(&[], "\0\0\0\0\u{2}ab").message(),
        Some(b"ab".as_slice())
    );
    assert_eq!(reply(&[], "\0\0\0\0\u{3}ab").message(), None);
    assert_eq!(reply(&[], "\0\0").message(), None);
}
