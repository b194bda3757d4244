//! What the host brings for handlers.

use super::*;

#[test]
fn a_fetch_is_from_named_hosts_and_bounded() {
    let fetch = |value: Value, path: &str, text: &str| {
        let at = "/handlers/png/fetch";
        check(at, value, &format!("handlers.png.fetch{path}"), text)
    };
    let with = |field: &str, value: Value| {
        let mut fetch = json!({"hosts": ["a.example.com"]});
        fetch[field] = value;
        fetch
    };
    fetch(json!({}), ".hosts", "lists nothing");
    fetch(with("hosts", json!(["10.0.0.1"])), ".hosts[0]", "host name");
    fetch(with("hosts", json!(["*.com"])), ".hosts[0]", "everybody");
    fetch(with("ports", json!([0])), ".ports[0]", "too little");
    fetch(
        with("content_types", json!(["image"])),
        ".content_types[0]",
        "media type",
    );
    fetch(
        with("content_types", json!(["image/png", "image/png"])),
        ".content_types[1]",
        "twice",
    );
    fetch(with("max_bytes", json!(0)), ".max_bytes", "too little");
    fetch(with("max_bytes", json!("1GiB")), ".max_bytes", "too much");
    fetch(with("timeout_ms", json!(0)), ".timeout_ms", "too little");
    fetch(with("max_requests", json!(17)), ".max_requests", "too much");
    fetch(with("redirects", json!(5)), ".redirects", "too much");
    fetch(
        with("concurrency", json!(7)),
        ".concurrency",
        "(at least 8)",
    );
    fetch(with("ca", json!("")), ".ca", "is empty");
    for (network, text) in [
        ("0.0.0.0/0", "no part of one private network"),
        ("8.0.0.0/6", "no part of one private network"),
        ("169.254.169.254", "no part of one private network"),
        ("1.1.1.1", "no part of one private network"),
        ("::/0", "no part of one private network"),
        ("fe80::/10", "no part of one private network"),
        ("10.0.0.1/8", "bits behind its prefix"),
        ("metadata", "is not a network"),
    ] {
        let at = ".allow_private[0]";
        fetch(with("allow_private", json!([network])), at, text);
    }
    for (field, value) in [
        ("allow_private", json!(["10.1.0.0/16", "fd00::/8", "::1"])),
        ("content_types", json!(["application/json"])),
        ("hosts", json!(["*.cdn.example.com"])),
        ("concurrency", json!(8)),
    ] {
        accept("/handlers/png/fetch", with(field, value));
    }
}

#[test]
fn what_is_brought_has_room_among_what_requests_hold() {
    let mut document = with(
        "/handlers/png/fetch",
        json!({"hosts": ["a.example"], "max_bytes": "64MiB", "max_requests": 16, "concurrency": 32}),
    );
    let [error] = &errors(document.clone())[..] else {
        panic!("{document}")
    };
    assert!(error.contains("1073741824 bytes"), "{error}");
    put(&mut document, "/handlers/png/fetch/max_requests", json!(2));
    assert_eq!(errors(document), Vec::<String>::new());
}
