//! What the upstream may see, whatever was sent.

use tensorgate_glue::host::Field;
use tensorgate_wire::context::{Context, HEADER, Key, Marker};
use tensorgate_wire::messages::{Messages, Taken};

use crate::support::{MAIN, NOW_UNIX_S, RATES, RAW};

/// What the upstream sees of a request: fields that the gate allows, one context that verifies.
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
        assert_eq!(text(name), None, "a credential goes on");
    }
}

/// What goes on of a stream is messages behind marks of the gate's, whole ones and nothing beside them.
pub(super) fn behind_marks(headers: &[Field], context_key: &str, sent: &[u8]) {
    if sent.is_empty() {
        return;
    }
    let context = headers.iter().find(|(name, _)| name == HEADER.as_bytes());
    let (_, context) = context.expect("the head went on with a context");
    let context = str::from_utf8(context).expect("made by the gate");
    let key = Key::from_hex(context_key).expect("a key");
    let mut messages = Messages::marked(Marker::new(&key, context), usize::MAX);
    let mut rest = sent;
    loop {
        match messages.take(rest).expect("a mark of the gate's own") {
            Taken::Message { used, .. } | Taken::Refused { used, .. } => rest = &rest[used..],
            Taken::Wants(_) => break,
        }
    }
    assert!(rest.is_empty(), "a piece of a message goes on");
}
