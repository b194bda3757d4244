//! Tests of the reader of XML: what it follows, and what it refuses.
#![allow(clippy::panic, clippy::unwrap_used, reason = "tests")]

use std::io::Cursor;

use super::*;
use crate::scan::rules;

/// The events of a document in a row: `<a b=c`, `/a`, or the verdict that ends it.
fn events(document: &[u8]) -> Vec<String> {
    let mut input = Cursor::new(document);
    let source = Source::new(&mut input, rules::OPENVINO_TRUNCATED).unwrap();
    let mut document = Document::new(source, rules::OPENVINO_IR);
    let mut events = Vec::new();
    loop {
        match document.event() {
            Ok(None) => return events,
            Ok(Some(Event::Begin(element))) => {
                let attributes = element.attributes.iter();
                let attributes = attributes.map(|(name, value)| format!(" {name}={value}"));
                let attributes: String = attributes.collect();
                events.push(format!("<{}{attributes}", element.name));
            }
            Ok(Some(Event::End(name))) => events.push(format!("/{name}")),
            Err(Stop::Found { verdict, .. }) => {
                events.push(verdict.name().to_owned());
                return events;
            }
            Err(Stop::Io(error)) => panic!("{error}"),
        }
    }
}

/// The last event of a document.
fn end(document: &[u8]) -> String {
    events(document).pop().unwrap_or_default()
}

#[test]
fn a_document_is_followed_to_its_end() {
    for (document, expected) in [
        ("<?xml version=\"1.0\"?>\n<a/>\n", "<a|/a"),
        ("<?xml version='1.0' encoding='UTF-8' ?><a></a >", "<a|/a"),
        (
            "<a b=\"1\"\n\tc=\"'2\"><d-e.f/>x</a>",
            "<a b=1 c='2|<d-e.f|/d-e.f|/a",
        ),
        ("<a b=\"c > d\" e=\"/>\" />", "<a b=c > d e=/>|/a"),
        (
            "<a b=\"&lt;&gt;&amp;&quot;&apos;&#09;&#10;\"/>",
            "<a b=&lt;&gt;&amp;&quot;&apos;&#09;&#10;|/a",
        ),
        ("<a>\u{e9}&#10;\"</a>", "<a|/a"),
    ] {
        assert_eq!(
            events(document.as_bytes()).join("|"),
            expected,
            "{document}"
        );
    }
}

#[test]
fn what_readers_understand_differently_is_malformed() {
    for document in [
        "",
        "text",
        " <?xml version=\"1.0\"?><a/>",
        "<?xml version=\"1.1\"?><a/>",
        "<?xml version=\"1.0\" encoding=\"latin1\"?><a/>",
        "\u{feff}<a/>",
        "<!DOCTYPE a [<!ENTITY b \"c\"><!ENTITY d \"&b;&b;\">]><a>&d;</a>",
        "<a><![CDATA[<b/>]]></a>",
        "<a><?php b ?></a>",
        "<a b=\"<\"/>",
        "<a b=\"1\" b=\"2\"/>",
        "<a b=\"1\"c=\"2\"/>",
        "<a b=1/>",
        "<a b='1'/>",
        "<a b = \"1\"/>",
        "<a b/>",
        "<a b=\"1\" c/>",
        "<a \"1\"/>",
        "<a/ >",
        "<a?>",
        "< a/>",
        "<1/>",
        "<a></b>",
        "<a></a>b",
        "</a>",
        "<a/><b/>",
        "<a>",
        "<a",
        "<a b=\"",
        "<a/><!-- b -->",
        "<a><!-- <b/> --></a>",
        "<a>\u{7}</a>",
        "<a>\u{c}</a>",
        "<a>\0</a>",
    ] {
        assert_eq!(end(document.as_bytes()), "malformed", "{document}");
    }
    let utf16: Vec<u8> = "\u{feff}<a/>"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for bytes in [&utf16[..], b"<a>\xff</a>", b"<a b=\"\xc0\x80\"/>"] {
        assert_eq!(end(bytes), "malformed");
    }
}

#[test]
fn what_programs_do_not_write_is_unknown() {
    for document in [
        "<!-- a --><a/>",
        "<a><!-- b --></a>",
        "<a>&b;</a>",
        "<a b=\"&#0;\"/>",
        "<a b=\"&#65;\"/>",
        "<a b=\"&#x41;\"/>",
        "<a b=\"&#+65;\"/>",
        "<a b=\"&amp\"/>",
        "<&#97;/>",
    ] {
        assert_eq!(end(document.as_bytes()), "unknown", "{document}");
    }
}

#[test]
fn memory_is_bounded() {
    let deep = |depth: usize| "<a>".repeat(depth) + &"</a>".repeat(depth);
    let long = |bytes: usize| format!("<a b=\"{}\"/>", "x".repeat(bytes));
    for (document, is_followed) in [
        (deep(MAX_DEPTH), true),
        (deep(MAX_DEPTH.saturating_add(1)), false),
        (long(1 << 19), true),
        (long(10 << 20), false),
        (format!("<!--{}--><a/>", "x".repeat(2 << 20)), false),
        (format!("<a>{}</a>", " ".repeat(2 << 20)), false),
    ] {
        let is_unknown = end(document.as_bytes()) == "unknown";
        assert_eq!(is_unknown, !is_followed, "{}", document.len());
    }
}
