//! Where API keys may be sent, which headers get claims, which proxies are trusted for
//! certificates, and their maximum numbers.

use super::*;

fn keys(value: Value, path: &str, text: &str) {
    check("/listen/api_key", value, path, text);
}

#[test]
fn a_key_location_must_have_no_other_use() {
    for value in [
        json!({}),
        json!({"headers": ["x-api-key"]}),
        json!({"headers": ["authorization", "Api-Key", "x-goog-api-key"]}),
        json!({"headers": ["x-api-key"], "cookie": "__Host-tg.key"}),
        json!({"headers": [], "query": "api_key"}),
    ] {
        accept("/listen/api_key", value);
    }
    let none = json!({"headers": []});
    keys(none, "listen.api_key", "no request could carry an API key");
    for (name, text) in [
        ("host", "is reserved"),
        ("Cookie", "is reserved"),
        ("content-length", "is reserved"),
        ("x-forwarded-client-cert", "is reserved"),
        ("x-tensorgate-key", "is reserved"),
        ("grpc-timeout", "is reserved"),
        ("proxy-authorization", "is reserved"),
        ("x-original-url", "is reserved"),
        (":path", "is not a header field's name"),
        ("x_api_key", "is not a header field's name"),
        ("x api", "is not a header field's name"),
        ("-x", "is not a header field's name"),
        ("", "is not a header field's name"),
        (
            "x-api-key-of-a-very-long-name-of-33",
            "is not a header field's name",
        ),
    ] {
        keys(
            json!({"headers": [name]}),
            "listen.api_key.headers[0]",
            text,
        );
    }
    let twice = json!({"headers": ["x-api-key", "X-API-Key"]});
    keys(twice, "listen.api_key.headers[1]", "is listed twice");
    let many: Vec<String> = (0..9).map(|at| format!("x-key-{at}")).collect();
    keys(
        json!({"headers": many}),
        "listen.api_key.headers",
        "9 are too many",
    );
    for name in ["", "a=b", "a;b", "a b", "a%20", "é", &"a".repeat(65)] {
        for place in ["cookie", "query"] {
            keys(
                json!({place: name}),
                &format!("listen.api_key.{place}"),
                "is not a plain name",
            );
        }
    }
    let text = "is not a plain name";
    keys(json!({"query": "a.b"}), "listen.api_key.query", text);
    let cookie = json!({"cookie": "key"});
    warn(
        "/listen/api_key",
        cookie,
        "listen.api_key.cookie",
        "browsers send cookies",
    );
    let query = json!({"query": "key"});
    warn(
        "/listen/api_key",
        query,
        "listen.api_key.query",
        "appears in the logs",
    );
}

#[test]
fn a_claim_header_must_have_no_other_meaning() {
    const AT: &str = "/issuers/corp/claim_to_headers";
    const PATH: &str = "issuers.corp.claim_to_headers";
    let one = |claim: &str, header: &str| json!([{"claim": claim, "header": header}]);
    for value in [
        json!([]),
        one("groups", "x-user-groups"),
        one("realm_access.roles", "X-Roles"),
        one("https://example.com/tenant", "x-tenant"),
        json!([{"claim": "groups", "header": "x-a"}, {"claim": "groups", "header": "x-b"}]),
    ] {
        accept(AT, value);
    }
    for (header, text) in [
        ("x-api-key", "is a header field for API keys"),
        ("user", "is not a header field for claims"),
        ("x-user-bin", "is not a header field for claims"),
        ("authorization", "is reserved"),
        ("host", "is reserved"),
        ("te", "is reserved"),
        ("x-forwarded-for", "is reserved"),
        ("x-envoy-original-path", "is reserved"),
        ("X-Tensorgate-Context", "is reserved"),
        ("x-request-id", "is reserved"),
        (":authority", "is not a header field's name"),
        ("x_user", "is not a header field's name"),
        ("x-user\r\n", "is not a header field's name"),
    ] {
        check(AT, one("a", header), &format!("{PATH}[0].header"), text);
    }
    let twice = json!([{"claim": "a", "header": "x-a"}, {"claim": "b", "header": "X-A"}]);
    check(AT, twice, &format!("{PATH}[1].header"), "is also set at");
    for claim in [".a", "a.", "a..b", "a.b.c.d.e.f.g.h.i"] {
        let text = "is not the path of a claim";
        check(AT, one(claim, "x-a"), &format!("{PATH}[0].claim"), text);
    }
    check(AT, one("", "x-a"), &format!("{PATH}[0].claim"), "is empty");
    check(
        AT,
        json!([{"header": "x-a"}]),
        &format!("{PATH}[0].claim"),
        "is missing",
    );
    check(
        AT,
        json!([{"claim": "a"}]),
        &format!("{PATH}[0].header"),
        "is missing",
    );
    let many: Vec<Value> = (0..17)
        .map(|at| json!({"claim": "a", "header": format!("x-{at}")}))
        .collect();
    check(AT, json!(many), PATH, "17 are too many");
    let mut document = proven();
    put(&mut document, AT, one("a", "x-goog-api-key"));
    put(
        &mut document,
        "/listen/api_key",
        json!({"headers": ["X-Goog-Api-Key"]}),
    );
    let errors = errors(document);
    assert!(
        errors.len() == 1 && errors[0].contains("is a header field for API keys"),
        "{errors:#?}"
    );
}

#[test]
fn trusted_proxies_are_named() {
    const AT: &str = "/listen/tls/forwarded_by";
    const PATH: &str = "listen.tls.forwarded_by";
    let gateway = json!({"spiffe": "spiffe://mesh/ns/ingress/sa/gateway"});
    let mut document = proven();
    put(&mut document, "/listen/trusted_hops", json!(1));
    put(
        &mut document,
        AT,
        json!([gateway, {"dns": "lb.example.com"}]),
    );
    assert_eq!(errors(document.clone()), Vec::<String>::new());
    assert_eq!(
        policy(document.clone())
            .listen()
            .tls()
            .unwrap()
            .forwarders()
            .len(),
        2
    );
    let fault = |change: &dyn Fn(&mut Value), path: &str, text: &str| {
        let mut document = document.clone();
        change(&mut document);
        let errors = errors(document);
        let found = errors
            .iter()
            .any(|it| it.starts_with(&format!("{path}: ")) && it.contains(text));
        assert!(found, "{path} {text}: {errors:#?}");
    };
    fault(
        &|it| put(it, "/listen/trusted_hops", json!(0)),
        PATH,
        "listen.trusted_hops is 0: no proxy is in front",
    );
    fault(
        &|it| put(it, "/listen/tls/client_ca", Value::Null),
        PATH,
        "no proxy can authenticate by certificate",
    );
    fault(
        &|it| put(it, AT, json!([gateway, gateway])),
        &format!("{PATH}[1]"),
        "is listed twice",
    );
    fault(
        &|it| put(it, AT, json!([{}])),
        &format!("{PATH}[0]"),
        "needs exactly one",
    );
    let odd = json!([{"spiffe": "gateway"}]);
    fault(
        &|it| put(it, AT, odd.clone()),
        &format!("{PATH}[0].spiffe"),
        "is not a SPIFFE ID",
    );
    let many: Vec<Value> = (0..17)
        .map(|at| json!({"dns": format!("lb{at}.example.com")}))
        .collect();
    fault(&|it| put(it, AT, json!(many)), PATH, "17 are too many");
    let own = json!([{"spiffe": "spiffe://prod/ns/a/sa/b"}]);
    fault(
        &|it| put(it, AT, own.clone()),
        "clients.reader.mtls",
        "is the name of a proxy in listen.proxies",
    );
}

#[test]
fn a_serial_number_is_of_one_authority_or_of_any() {
    const AT: &str = "/revoked";
    let list = |entries: &[&str]| json!({"serials": entries});
    for entries in [&[][..], &["0a"], &["0a", "000b 0102", "0a 0102", "0a"]] {
        accept(AT, list(entries));
    }
    let held = |serial: &[u8], key: &[u8]| {
        let mut document = proven();
        put(&mut document, AT, list(&["000b 0102", "0a"]));
        let policy = policy(document);
        policy.revoked().serials().unwrap().hold(serial, Some(key))
    };
    assert!(held(&[0x0b], &[1, 2]) && held(&[0x0a], &[9]));
    assert!(!held(&[0x0b], &[1, 3]) && !held(&[0x0c], &[1, 2]));
    let long = "0".repeat(44);
    for entry in [
        "",
        "a",
        "0A",
        "0x0a",
        "0a:0b",
        "0a ",
        " 0a",
        "0a 0",
        "0a 0102 03",
        "lost",
        &long,
    ] {
        check(
            AT,
            list(&[entry]),
            "revoked.serials[0]",
            "is not a certificate's serial number",
        );
    }
    let unread = json!({"serials_file": "f"});
    check(AT, unread, "revoked.serials_file", "the file was not read");
    assert!(policy(proven()).revoked().serials().is_none());
}
