//! Checks of what the upstream receives.

use tensorgate_filter_core::host::Field;
use tensorgate_wire::context::{Context, HEADER, Key};
use tensorgate_wire::messages::{Messages, NextMessage};

use crate::support::{MAIN, NOW_UNIX_S, RATES, RAW};

/// Checks the headers that the upstream receives: only fields that the gate allows, and one context
/// that verifies with this key. Without a key no host reads a context, and there is none.
pub(super) fn marked(headers: &[Field], context_key: Option<&str>) {
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
    let Some(context_key) = context_key else {
        assert_eq!(text(HEADER), None, "no host reads it");
        return;
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
