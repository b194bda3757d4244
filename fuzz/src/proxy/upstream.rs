//! Checks of what the upstream receives.

use tensorgate_filter_core::host::Field;
use tensorgate_wire::context::verdict::{TRAILER, VerdictSubject};
use tensorgate_wire::context::{Context, EnvelopeCodec, HEADER, Key};
use tensorgate_wire::messages::{Messages, NextMessage};

use crate::support::{MAIN, NOW_UNIX_S, RATES, RAW};

/// Checks the headers that the upstream receives: only fields that the gate allows, and one context
/// that verifies.
pub(super) fn marked(headers: &[Field], context_key: &str) {
    let text = |name: &str| {
        let mut values = headers
            .iter()
            .filter(|(known, _)| known == name.as_bytes())
            .map(|(_, value)| str::from_utf8(value).expect("made by the gate"));
        let first = values.next();
        assert!(values.next().is_none(), "{name} twice");
        first
    };
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
    for name in ["x-api-key", "authorization", "cookie", "x-forwarded-for"] {
        assert_eq!(text(name), None, "a credential is forwarded");
    }
}

/// Checks a forwarded stream: only complete messages in the gate's envelopes.
pub(super) fn behind_marks(headers: &[Field], context_key: &str, sent: &[u8]) {
    if sent.is_empty() {
        return;
    }
    let context = headers.iter().find(|(name, _)| name == HEADER.as_bytes());
    let (_, context) = context.expect("the head was forwarded with a context");
    let context = str::from_utf8(context).expect("made by the gate");
    let key = Key::from_hex(context_key).expect("a key");
    let mut messages = Messages::from_gate(EnvelopeCodec::new(&key, context), usize::MAX);
    let mut rest = sent;
    while let NextMessage::Message { used, .. }
    | NextMessage::Refused { used, .. }
    | NextMessage::Ahead { used } = messages.take(rest).expect("an envelope of the gate")
    {
        rest = &rest[used..];
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
