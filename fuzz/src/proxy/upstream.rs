//! Checks of what the upstream receives.

use tensorgate_filter_core::host::Field;
use tensorgate_wire::context::verdict::{TRAILER, VerdictSubject};
use tensorgate_wire::context::{Context, HEADER, Key};
use tensorgate_wire::messages::{Messages, NextMessage};

use crate::support::{MAIN, NOW_UNIX_S, RATES, RAW};

/// Checks the headers that the upstream receives: only fields that the gate allows. A host gets one
/// context that verifies, and another upstream none.
pub(super) fn marked(headers: &[Field], context_key: &str, has_host: bool) {
    let text = |name: &str| {
        let mut values = headers
            .iter()
            .filter(|(known, _)| known == name.as_bytes())
            .map(|(_, value)| str::from_utf8(value).expect("made by the gate"));
        let first = values.next();
        assert!(values.next().is_none(), "{name} twice");
        first
    };
    for name in ["x-api-key", "authorization", "cookie", "x-forwarded-for"] {
        assert_eq!(text(name), None, "a credential is forwarded");
    }
    if !has_host {
        assert_eq!(text(HEADER), None, "a context is forwarded without a host");
        return;
    }
    let key = Key::from_hex(context_key).expect("a key");
    let context = Context::verify(
        text(HEADER).expect("a context"),
        &key,
        text(":method").expect("a method"),
        text(":path").expect("a path"),
        NOW_UNIX_S,
        0,
    )
    .expect("the gate's own context");
    for client in context.client.iter() {
        assert!(MAIN.contains(client) || RATES.contains(client) || RAW.contains(client));
    }
}

/// Checks what was forwarded of a stream: a beginning of what was received, unchanged. Without a
/// host these are complete messages. `is_accepted`: the stream has ended without a rejection, so
/// that nothing of it may be missing.
pub(super) fn unchanged(received: &[u8], sent: &[u8], has_host: bool, is_accepted: bool) {
    assert!(received.starts_with(sent), "a stream is changed");
    let is_whole = received.len() == sent.len();
    assert!(is_whole || !is_accepted, "a part of a stream is missing");
    if has_host {
        return;
    }
    let (messages, mut rest) = (Messages::new(usize::MAX), sent);
    while let NextMessage::Message { frame } = messages.take(rest).expect("an accepted message") {
        rest = &rest[frame.len()..];
    }
    assert!(rest.is_empty(), "an incomplete message is forwarded");
}

/// Checks what the host accepts as a complete request: each verdict that the context announces.
pub(super) fn with_verdicts(headers: &[Field], context_key: &str, trailers: &[Field], sent: &[u8]) {
    let text = |name: &str| {
        let mut values = headers.iter().filter(|(known, _)| known == name.as_bytes());
        let (_, value) = values.next().expect("made by the gate");
        str::from_utf8(value).expect("made by the gate")
    };
    let (method, path) = (text(":method"), text(":path"));
    let key = Key::from_hex(context_key).expect("a key");
    let context = Context::verify(text(HEADER), &key, method, path, NOW_UNIX_S, 0);
    let context = context.expect("the gate's own context");
    let request = VerdictSubject {
        client: context.client.as_deref(),
        request_id: &context.request_id,
        method,
        path,
        generation: &context.generation,
    };
    let verdicts = trailers
        .iter()
        .filter(|(name, _)| name == TRAILER.as_bytes());
    let verdicts: Vec<_> = verdicts.map(|(_, value)| value.as_slice()).collect();
    assert_eq!(
        verdicts.len(),
        trailers.len(),
        "a trailer of the client is forwarded"
    );
    let read = request.read_all(&key, context.verdicts, &verdicts, sent);
    assert!(read.is_ok(), "{read:?}");
}
