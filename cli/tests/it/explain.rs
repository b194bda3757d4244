//! `explain`: the filter's own verdicts on raw messages, and Envoy's where Envoy would give them.

use serde_json::Value;

use crate::program::{Scratch, digits, explain_file, explain_json, key, run, tree};

const IMAGE: &str =
    r#"{"inputs":[{"name":"image","datatype":"FP32","shape":[1,1,8,8],"data":[VALUES]}]}"#;

fn image() -> String {
    IMAGE.replace("VALUES", &["1.5"; 64].join(","))
}

fn post(body: &str) -> String {
    format!(
        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: gate\r\nx-api-key: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        key("scorer"),
        body.len()
    )
}

/// A unary call: one uncompressed frame around a message.
fn call(method: &str, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    let head = format!(
        "POST /inference.GRPCInferenceService/{method} HTTP/1.1\r\nHost: gate\r\nx-api-key: {}\r\nContent-Type: application/grpc\r\n\
         TE: trailers\r\nContent-Length: {}\r\n\r\n",
        key("scorer"),
        length + 5
    );
    let mut bytes = head.into_bytes();
    bytes.push(0);
    bytes.extend(length.to_be_bytes());
    bytes.extend(message);
    bytes
}

fn explain(message: impl AsRef<[u8]>) -> (i32, Value) {
    let scratch = Scratch::new();
    let file = scratch.file("m.http", message);
    explain_json(&digits(), &file, &["--now", "1800000000"])
}

/// `expected`: the reason, or `allow`.
fn check(message: impl AsRef<[u8]>, expected: &str) -> Value {
    let (code, line) = explain(message);
    let found = line["reason"].as_str().unwrap_or("allow");
    assert_eq!(found, expected, "{line:#}");
    assert_eq!(
        line["verdict"],
        if expected == "allow" { "allow" } else { "deny" }
    );
    assert_eq!(code, i32::from(expected != "allow"));
    line
}

#[test]
fn explain_shows_client_model_and_grant_of_an_allowed_request() {
    let line = check(post(&image()), "allow");
    for (key, expected) in [
        ("client", "scorer"),
        ("model", "digits"),
        ("rule", "scoring"),
    ] {
        assert_eq!(line[key], expected, "{line:#}");
    }
    assert_eq!(line["status"], 200);
    assert_eq!(line["grpc_status"], Value::Null);
}

#[test]
fn a_detail_says_what_would_be_accepted() {
    let valid = post(&image());
    for (message, reason, part) in [
        (
            valid.replace("/models/digits/", "/models/digit/"),
            "not-granted",
            "model \"digit\" is not in the policy; did you mean \"digits\"?",
        ),
        (
            valid.replace("/models/digits/", "/models/another/"),
            "not-granted",
            "model \"another\" is not in the policy",
        ),
        (
            valid.replace("application/json", "text/plain"),
            "unsupported-media-type",
            "\"text/plain\" is not accepted on this route, which takes application/json",
        ),
        (
            format!("{valid}x"),
            "ambiguous-request",
            "the body is longer than its content-length",
        ),
        (
            image(),
            "ambiguous-request",
            "request line, header fields, an empty line, then the body",
        ),
    ] {
        let line = check(message, reason);
        let detail = line["detail"].as_str().unwrap();
        assert!(detail.contains(part), "{detail}");
        assert!(!detail.contains("another\"; did you mean"), "{detail}");
    }
}

#[test]
fn a_refused_request_has_the_status_of_its_reason() {
    let valid = post(&image());
    let line = check(valid.replace(&key("scorer"), "tg_wrong"), "unauthenticated");
    assert_eq!(
        (&line["status"], &line["client"]),
        (&Value::from(401), &Value::Null)
    );
    assert_eq!(
        check(
            valid.replace(&key("scorer"), &key("stranger")),
            "not-granted"
        )["status"],
        403
    );
    assert_eq!(
        check(
            valid.replace(
                "/v2/models/digits/infer",
                "/v2/repository/models/digits/load"
            ),
            "not-an-inference-route"
        )["status"],
        404
    );
    assert_eq!(
        check(post(&image().replace("1.5,1.5", "1.5,99")), "out-of-range")["status"],
        400
    );
    assert_eq!(check(post("{\"inputs\":["), "malformed")["status"], 400);
}

#[test]
fn a_grpc_call_is_the_same_spelling_with_a_framed_body() {
    let line = check(call("ModelReady", b"\x0a\x06digits"), "allow");
    assert_eq!(line["grpc_status"], 0);
    let line = check(call("ModelReady", b"\x0a\x07private"), "not-granted");
    assert_eq!(
        (&line["status"], &line["grpc_status"]),
        (&Value::from(200), &Value::from(7))
    );
    let line = check(call("RepositoryModelLoad", b""), "not-an-inference-route");
    assert_eq!(line["grpc_status"], 12);
}

#[test]
fn a_chunked_body_is_the_same_body() {
    let body = image();
    let (first, second) = body.split_at(20);
    let chunked = |end: &str| {
        let head = post("").replace("Content-Length: 0", "Transfer-Encoding: chunked");
        format!(
            "{head}{:x}\r\n{first}\r\n{:X};ext=1\r\n{second}\r\n{end}",
            first.len(),
            second.len()
        )
    };
    check(chunked("0\r\n\r\n"), "allow");
    check(chunked("0\r\nx-trailer: 1\r\n\r\n"), "allow");
    check(chunked("0\r\n\r\nGET / HTTP/1.1\r\n"), "ambiguous-request");
    check(chunked("zz\r\n\r\n"), "ambiguous-request");
    check(chunked("-1\r\n\r\n"), "ambiguous-request");
    check(chunked("ffffffffffffffff\r\n\r\n"), "ambiguous-request");
    check(chunked("5\r\nab"), "malformed");
    check(chunked("1\r\nabc\r\n0\r\n\r\n"), "ambiguous-request");
}

#[test]
fn framing_that_can_be_read_in_two_ways_is_refused() {
    let valid = post(&image());
    let add =
        |field: &str| valid.replacen("Host: gate\r\n", &format!("Host: gate\r\n{field}\r\n"), 1);
    check(add("Transfer-Encoding: chunked"), "ambiguous-request");
    check(add("Content-Length: 5"), "ambiguous-request");
    check(
        valid.replace("Content-Length: ", "Content-Length: +"),
        "ambiguous-request",
    );
    check(
        valid.replace("Content-Length: ", "Content-Length: 99999999999999999999"),
        "ambiguous-request",
    );
    check(
        valid.replace("Content-Length", "Content_Length"),
        "ambiguous-request",
    );
    check(
        valid.replacen("Content-Length", "Transfer-Encoding: gzip, chunked\r\nX", 1),
        "ambiguous-request",
    );
    check(valid.replace("Host: gate\r\n", ""), "ambiguous-request");
    check(valid.replace("HTTP/1.1", "HTTP/1.0"), "http-version");
    check(valid.replace("POST ", "FROB "), "ambiguous-request");
    check(
        valid.replace("/infer HTTP", "/infer#x HTTP"),
        "ambiguous-request",
    );
    check(
        add("Connection: upgrade\r\nUpgrade: websocket"),
        "ambiguous-request",
    );
    check(
        add("Connection: upgrade\r\nUpgrade: TLS/1.2, websocket"),
        "ambiguous-request",
    );
    check(add("Connection: Upgrade\r\nUpgrade: TLS/1.2"), "allow");
    check(add("x: a\u{1}b"), "ambiguous-request");
    check(add("x : a"), "ambiguous-request");
    check(
        format!("{valid}GET / HTTP/1.1\r\n\r\n"),
        "ambiguous-request",
    );
    check(&valid[..valid.len() - 1], "malformed");
    check("POST / HTTP/1.1\r\nHost: gate\r\n", "malformed");
    check("", "malformed");
    check(b"\x16\x03\x01\x00\xff", "ambiguous-request");
}

/// The same repeated fields go to a real Envoy in `tests/e2e/tests/it/headers.rs`.
#[test]
fn repeated_fields_are_refused_for_the_reason_that_a_gate_gives() {
    let valid = post(&image());
    let add =
        |fields: &str| valid.replacen("Host: gate\r\n", &format!("Host: gate\r\n{fields}"), 1);
    let line = check(
        add("Content-Type: application/json\r\n"),
        "ambiguous-request",
    );
    assert_eq!(line["detail"], "content-type is repeated");
    let codings = "Content-Encoding: identity\r\nContent-Encoding: gzip\r\n";
    check(add(codings), "unsupported-encoding");
    check(
        add(&format!("X-API-Key: {}\r\n", key("scorer"))),
        "ambiguous-request",
    );
    let expect = "Expect: 100-continue\r\nExpect: 100-continue\r\n";
    check(add(expect), "ambiguous-request");
}

#[test]
fn headers_beyond_what_envoy_reads_are_refused_as_envoy_refuses_them() {
    let valid = post(&image());
    let add =
        |field: String| valid.replacen("Host: gate\r\n", &format!("Host: gate\r\n{field}"), 1);
    check(
        add(format!("a: {}\r\n", "x".repeat(40 << 10))),
        "header-too-large",
    );
    check(
        add((0..3000).map(|n| format!("h{n}: 1\r\n")).collect()),
        "header-too-large",
    );
}

#[test]
fn paths_are_judged_as_they_came() {
    let valid = post(&image());
    for path in [
        "/v2//models/digits/infer",
        "/v2/x/../models/digits/infer",
        "/v2/models/digits%2finfer",
        "/v2/models/digits/infer/",
    ] {
        check(
            valid.replace("/v2/models/digits/infer", path),
            "not-an-inference-route",
        );
    }
    check(valid.replace("POST /v2", "POST http://gate/v2"), "allow");
    check(
        valid.replace("POST /v2/models/digits/infer", "OPTIONS *"),
        "not-an-inference-route",
    );
}

#[test]
fn line_ends_after_a_message_are_no_second_message() {
    check(format!("{}\r\n\n", post(&image())), "allow");
}

#[test]
fn a_folder_gives_one_line_per_file_in_name_order_each_with_its_own_buckets() {
    let scratch = Scratch::new();
    for number in 0..8 {
        let message = post(&image()).replace(&key("scorer"), &key("burst"));
        scratch.file(&format!("{number}.http"), message);
    }
    scratch.file("9.http", "GET / HTTP/1.1\r\nHost: gate\r\n\r\n");
    let digits = digits();
    let ran = run(&[
        "explain".as_ref(),
        "-c".as_ref(),
        digits.as_os_str(),
        "--http-dir".as_ref(),
        scratch.path().as_os_str(),
    ]);
    assert_eq!(ran.code, 1);
    let verdicts: Vec<(String, String)> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| {
            (
                line["file"].as_str().unwrap().to_owned(),
                line["verdict"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected: Vec<(String, String)> = (0..8)
        .map(|number| (number, "allow"))
        .chain([(9, "deny")])
        .map(|(number, verdict)| {
            (
                scratch
                    .path()
                    .join(format!("{number}.http"))
                    .display()
                    .to_string(),
                verdict.to_owned(),
            )
        })
        .collect();
    assert_eq!(verdicts, expected);
}

#[test]
fn text_output_shows_the_verdict_and_the_cause() {
    let scratch = Scratch::new();
    let file = scratch.file("m.http", post(&image().replace("[1,1,8,8]", "[1,1,8,9]")));
    let ran = explain_file(&digits(), &file, &[]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stdout.starts_with(&format!(
            "{}: deny shape (400)\n  client: scorer\n  model: digits\n  grant: scoring\n  cause: ",
            file.display()
        )),
        "{}",
        ran.stdout
    );
}

#[test]
fn shadow_denials_are_shown_beside_the_verdict() {
    let scratch = Scratch::new();
    let policy = std::fs::read_to_string(digits()).unwrap();
    let rate = "    rate: {quota: 600, window_s: 60, burst: 100}";
    assert!(policy.contains(rate), "{policy}");
    let policy = policy.replace(rate, &format!("{rate}\n    mode: {{values: shadow}}"));
    let policy = scratch.file("gate.yaml", policy);
    let file = scratch.file("m.http", post(&image().replacen("1.5", "99", 1)));
    let ran = explain_file(&policy, &file, &[]);
    let told = "  in shadow: out-of-range: input \"image\": element 0 is out of range";
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("allow (200)") && ran.stdout.contains(told),
        "{}",
        ran.stdout
    );
    let (_, line) = explain_json(&policy, &file, &[]);
    assert_eq!(line["verdict"], "allow");
    assert_eq!(line["shadow"][0]["reason"], "out-of-range");
}

#[test]
fn limits_that_gateways_share_are_named() {
    let scratch = Scratch::new();
    let policy = std::fs::read_to_string(digits()).unwrap();
    let service = "version: 1\nrate_limit_service: {redis: {url: redis://127.0.0.1}}";
    let policy = policy.replacen("version: 1", service, 1).replace(
        "rate: {quota: 600, window_s: 60, burst: 100}",
        "rate: {quota: 600, window_s: 60, burst: 100, scope: global}",
    );
    let policy = scratch.file("gate.yaml", policy);
    let file = scratch.file("m.http", post(&image()));
    let ran = explain_file(&policy, &file, &[]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let told = "  for all gateways: limit scoring, here unused by other clients";
    assert!(ran.stdout.contains(told), "{}", ran.stdout);
    let (_, line) = explain_json(&policy, &file, &[]);
    assert_eq!(line["shared_limits"], serde_json::json!(["scoring"]));
}

/// A stream with one message for `model`: 64 elements as raw bytes.
fn stream(model: &str, element: f32) -> Vec<u8> {
    let mut message = vec![0x0a, u8::try_from(model.len()).unwrap()];
    message.extend(model.as_bytes());
    message.extend(b"\x2a\x13\x0a\x05image\x12\x04FP32\x1a\x04\x01\x01\x08\x08");
    message.extend(b"\x3a\x80\x02");
    message.extend(element.to_le_bytes().repeat(64));
    call("ModelStreamInfer", &message)
}

#[test]
fn a_message_of_a_stream_has_model_grant_and_limits_whether_allowed_or_denied() {
    let scratch = Scratch::new();
    let policy = std::fs::read_to_string(digits()).unwrap();
    let service = "version: 1\nrate_limit_service: {redis: {url: redis://127.0.0.1}}";
    let grant = "operations: [infer, metadata, ready]\n    \
                 rate: {quota: 600, window_s: 60, burst: 100}\n    \
                 cost: {bytes: 64MiB, window_s: 60}";
    assert!(policy.contains(grant), "{policy}");
    let limits = grant
        .replace("[infer,", "[infer, stream,")
        .replace("burst: 100}", "burst: 100, scope: global}")
        .replace("window_s: 60}", "window_s: 60, local_share: replicas}");
    let policy = policy
        .replacen("version: 1", service, 1)
        .replace(grant, &limits);
    let shadow = limits.clone() + "\n    mode: {values: shadow}";
    let in_shadow = scratch.file("shadow.yaml", policy.replace(&limits, &shadow));
    let policy = scratch.file("gate.yaml", policy);
    let ask = |policy: &std::path::Path, message: Vec<u8>| {
        let file = scratch.file("m.http", message);
        explain_json(policy, &file, &[]).1
    };
    let allowed = ask(&policy, stream("digits", 1.5));
    let denied = ask(&policy, stream("digits", 99.0));
    assert_eq!(allowed["verdict"], "allow", "{allowed:#}");
    assert_eq!(denied["reason"], "out-of-range", "{denied:#}");
    for line in [&allowed, &denied] {
        assert_eq!(line["client"], "scorer", "{line:#}");
        assert_eq!(line["model"], "digits", "{line:#}");
        assert_eq!(line["rule"], "scoring", "{line:#}");
        assert_eq!(line["shared_limits"], serde_json::json!(["scoring"]));
        assert_eq!(line["divided_limits"], serde_json::json!(["cost"]));
    }
    let noted = ask(&in_shadow, stream("digits", 99.0));
    assert_eq!(noted["verdict"], "allow", "{noted:#}");
    assert_eq!(noted["shadow"][0]["reason"], "out-of-range");
    let unknown = ask(&policy, stream("private", 1.5));
    assert_eq!(unknown["reason"], "not-granted", "{unknown:#}");
    assert_eq!(
        (&unknown["model"], &unknown["rule"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn limits_that_render_divides_are_named() {
    let scratch = Scratch::new();
    let policy = std::fs::read_to_string(digits()).unwrap();
    let rate = "rate: {quota: 600, window_s: 60, burst: 100";
    let policy = policy.replace(rate, &format!("{rate}, local_share: replicas"));
    let policy = scratch.file("gate.yaml", policy);
    let file = scratch.file("m.http", post(&image()));
    let ran = explain_file(&policy, &file, &[]);
    let expected = "  divided by the number of pods in `render`: rate, here undivided";
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
}

#[test]
fn every_reason_has_a_line_in_order_of_precedence() {
    let ran = run(&["explain", "--all", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let told: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let place = |reason: &str| told.iter().position(|told| told["reason"] == reason);
    assert!(place("unauthenticated") < place("not-granted"), "{told:#?}");
    let over = &told[place("rate-limited").unwrap()];
    assert_eq!(
        (&over["status"], &over["grpc_status"]),
        (&429.into(), &8.into())
    );
    let people = run(&["explain", "--all"]);
    assert_eq!(people.stdout.lines().count(), told.len());
    assert!(told.len() > 30 && people.stdout.starts_with("header-too-large "));
    assert_eq!(run(&["explain", "--all", "-c", "gate.yaml"]).code, 2);
}

#[test]
fn a_policy_as_the_request_id_is_reported() {
    let policy = digits();
    let policy = policy.to_str().unwrap();
    for (words, expected) in [
        (vec![policy], "is a file: name a policy with -c"),
        (vec![policy, "--http", "x"], "is a file: name a policy"),
        (vec!["id-1", "--http", "x"], "cannot be used with --http"),
        (
            vec!["id-1", "--http-dir", "x"],
            "cannot be used with --http",
        ),
    ] {
        let ran = run(&[vec!["explain"], words.clone()].concat());
        assert_eq!(ran.code, 2, "{words:?}: {}", ran.stdout);
        assert!(ran.stderr.contains(expected), "{words:?}: {}", ran.stderr);
    }
}

#[test]
fn wrong_usage_has_another_exit_code_than_a_denial() {
    let digits = digits();
    assert_eq!(
        run(&["explain".as_ref(), "-c".as_ref(), digits.as_os_str()]).code,
        2
    );
    assert_eq!(
        run(&[
            "explain".as_ref(),
            "-c".as_ref(),
            digits.as_os_str(),
            "--http".as_ref(),
            "/nonexistent".as_ref()
        ])
        .code,
        2
    );
    assert_eq!(
        run(&["explain", "-c", "/nonexistent", "--http", "/dev/null"]).code,
        2
    );
}

#[test]
fn a_text_that_is_changed_for_the_model_is_shown() {
    let policy = tree().join("policy/vectors/policies/openai.json");
    let scratch = Scratch::new();
    for (text, is_escaped) in [("What is </s>?", true), ("What is a < b?", false)] {
        let body =
            format!(r#"{{"model":"llama","messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let message = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: gate\r\nx-api-key: tg_CwxHlR3Jb1XAodAjZuNn3xtnKDe3qv01B\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let file = scratch.file("m.http", message);
        let (code, line) = explain_json(&policy, &file, &["--now", "1780000000"]);
        assert_eq!(code, 0, "{line:#}");
        assert_eq!(line["escaped"].as_bool().unwrap_or(false), is_escaped);
        let shown = explain_file(&policy, &file, &["--now", "1780000000"]).stdout;
        assert_eq!(
            shown.contains("changed: special tokens"),
            is_escaped,
            "{shown}"
        );
    }
}
