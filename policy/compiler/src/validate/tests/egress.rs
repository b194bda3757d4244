//! Egress that the host provides for handlers.

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
    fetch(json!({}), ".hosts", "is empty");
    fetch(with("hosts", json!(["10.0.0.1"])), ".hosts[0]", "host name");
    fetch(
        with("hosts", json!(["*.com"])),
        ".hosts[0]",
        "top-level domain",
    );
    fetch(with("ports", json!([0])), ".ports[0]", "below the minimum");
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
    fetch(
        with("max_bytes", json!(0)),
        ".max_bytes",
        "below the minimum",
    );
    fetch(
        with("max_bytes", json!("1GiB")),
        ".max_bytes",
        "above the maximum",
    );
    fetch(
        with("timeout_ms", json!(0)),
        ".timeout_ms",
        "below the minimum",
    );
    fetch(
        with("max_requests", json!(17)),
        ".max_requests",
        "above the maximum",
    );
    fetch(
        with("redirects", json!(5)),
        ".redirects",
        "above the maximum",
    );
    fetch(
        with("concurrency", json!(7)),
        ".concurrency",
        "(at least 8)",
    );
    fetch(with("ca", json!("")), ".ca", "is empty");
    for (network, text) in [
        ("0.0.0.0/0", "not a private network"),
        ("8.0.0.0/6", "not a private network"),
        ("169.254.169.254", "not a private network"),
        ("1.1.1.1", "not a private network"),
        ("::/0", "not a private network"),
        ("fe80::/10", "not a private network"),
        ("10.0.0.1/8", "bits beyond its prefix"),
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
fn fetched_files_fit_into_the_memory_budget() {
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

#[test]
fn a_lookup_has_one_url_and_one_protocol() {
    let lookup = |value: Value, path: &str, text: &str| {
        let mut document = with("/lookups", json!({"l": value.clone()}));
        put(&mut document, "/handlers/png/lookups", json!(["l"]));
        let errors = errors(document);
        let [error] = errors.as_slice() else {
            panic!("{value}: {errors:#?}")
        };
        assert!(
            error.starts_with(&format!("lookups.l{path}: ")),
            "{value}: {error}"
        );
        assert!(error.contains(text), "{value}: {error}");
    };
    let good = json!({"kind": "feast", "endpoint": "https://f.example:443", "entity": "id", "features": ["v:a"]});
    let with_field = |field: &str, value: Value| {
        let mut lookup = good.clone();
        lookup[field] = value;
        lookup
    };
    for (field, value, text) in [
        ("endpoint", json!("https://f.example"), "not an endpoint"),
        ("endpoint", json!("https://10.0.0.1:443"), "not an endpoint"),
        (
            "endpoint",
            json!("https://f.example:443/x"),
            "not an endpoint",
        ),
        ("endpoint", json!("ftp://f.example:443"), "not an endpoint"),
        ("entity", json!("a b"), "not a valid name"),
        ("entity", Value::Null, "is missing"),
        ("features", json!([]), "is empty"),
        ("path", json!("/x/{key}"), "not the path of a lookup"),
        ("path", json!("/../x"), "not the path of a lookup"),
        ("path", json!("x"), "not the path of a lookup"),
        ("path", json!("/x y"), "not the path of a lookup"),
        ("max_keys", json!(257), "above the maximum"),
        ("concurrency", json!(7), "at least 8"),
    ] {
        lookup(with_field(field, value), &format!(".{field}"), text);
    }
    let rest = |path: &str| json!({"kind": "rest", "endpoint": "https://f.example:443", "path": path, "features": ["a"]});
    for path in ["/x", "/x{key}", "/{key}/{key}", "/x?k={key}y", "{key}"] {
        lookup(rest(path), ".path", "not the path of a lookup");
    }
    for lookup in [
        good.clone(),
        rest("/v1/{key}"),
        rest("/v1/{key}/features?a=b"),
    ] {
        let mut document = with("/lookups", json!({"l": lookup}));
        put(&mut document, "/handlers/png/lookups", json!(["l"]));
        assert_eq!(errors(document), Vec::<String>::new());
    }
    let mut document = with("/lookups", json!({"customers": good}));
    put(&mut document, "/handlers/png/lookups", json!(["customer"]));
    let errors = errors(document);
    assert!(
        errors[0].contains("there is no lookup \"customer\" (customers)"),
        "{errors:?}"
    );
}
