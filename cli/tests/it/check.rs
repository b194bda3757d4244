//! `check`: faults, their positions, their fixes.

use crate::program::{Scratch, digits, run, tree};

/// The lines that every policy here needs. A test puts its own before or into them.
const VALID: &str = r#"version: 1
clients:
  app: {api_keys: [{sha256: 6d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7}]}
backends:
  gpu: {kind: open-inference, endpoints: ["http://127.0.0.1:8001"], max_in_flight: 64, queue: 128, timeout_ms: 2000}
models:
  m:
    backend: gpu
    versions: ["1"]
    protocols: [oip-rest]
    inputs:
      - {name: x, datatype: FP32, shape: [{name: n, max: 4}, 2], range: [0, 1]}
    outputs:
      - {name: y, datatype: FP32, shape: [n]}
grants:
  - {name: g, clients: [app], models: [m], operations: [infer], rate: {quota: 6, window_s: 60}}
"#;

/// Line, column, severity, path, message.
type Told = (u64, u64, String, String, String);

fn faults(text: &str) -> (i32, Vec<Told>) {
    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", text);
    let ran = run(&["check".as_ref(), "--json".as_ref(), file.as_os_str()]);
    assert_eq!(ran.stderr, "");
    let faults = ran
        .stdout
        .lines()
        .map(|line| {
            let fault: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(fault["file"], file.to_str().unwrap());
            let text = |key: &str| fault[key].as_str().unwrap_or_default().to_owned();
            (
                fault["line"].as_u64().unwrap(),
                fault["column"].as_u64().unwrap(),
                text("severity"),
                text("path"),
                text("message"),
            )
        })
        .collect();
    (ran.code, faults)
}

#[test]
fn an_unknown_kind_protocol_or_operation_comes_with_all_that_are_known() {
    let scratch = Scratch::new();
    for (from, to, expected) in [
        (
            "kind: open-inference",
            "kind: open-inferense",
            "fix: did you mean `open-inference`? known are: open-inference, tf-serving, torchserve, \
             openai, http-json, embedded",
        ),
        (
            "kind: open-inference",
            "kind: triton",
            "fix: known are: open-inference, tf-serving",
        ),
        (
            "protocols: [oip-rest",
            "protocols: [grpc, oip-rest",
            "fix: one of oip-rest, oip-grpc, tf-serving-rest",
        ),
        (
            "operations: [",
            "operations: [predict, ",
            "fix: one of infer, stream, metadata, ready, statistics",
        ),
    ] {
        let file = scratch.file("gate.yaml", with(from, to));
        let ran = run(&["check".as_ref(), file.as_os_str()]);
        assert_eq!(ran.code, 2, "{to}");
        assert!(ran.stderr.contains(expected), "{to}: {}", ran.stderr);
    }
}

/// `expected`: `line:column path: message`, errors only, in order. A message is compared up to the
/// length of the expected one.
fn check(text: &str, expected: &[&str]) {
    let (code, found) = faults(text);
    let errors: Vec<String> = found
        .iter()
        .filter(|fault| fault.2 == "error")
        .map(|(line, column, _, path, message)| format!("{line}:{column} {path}: {message}"))
        .collect();
    assert_eq!(code, if expected.is_empty() { 0 } else { 2 }, "{errors:#?}");
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (found, expected) in errors.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n  is not\n{expected}");
    }
}

fn with(from: &str, to: &str) -> String {
    assert!(VALID.contains(from), "{from}");
    VALID.replace(from, to)
}

#[test]
fn a_good_policy_has_no_faults() {
    check(VALID, &[]);
}

#[test]
fn a_limit_below_the_largest_request_is_a_fault_at_the_limit() {
    let rate = "rate: {quota: 6, window_s: 60}";
    check(
        &with(rate, "cost: {elements: 7, window_s: 60}"),
        &[
            "16:82 grants[0].cost.elements: a request that model \"m\" accepts can have 8 elements, which would always be rejected",
        ],
    );
    check(
        &with(rate, "budget: {bytes: 31, per: day}"),
        &["16:81 grants[0].budget.bytes: a request that model \"m\" accepts can have 32 bytes"],
    );
    check(
        &with(rate, "cost: {bytes: 32, elements: 8, window_s: 60}"),
        &[],
    );
}

#[test]
fn a_limit_of_global_scope_needs_a_rate_limit_service() {
    let shared = with("window_s: 60", "window_s: 60, scope: global");
    check(
        &shared,
        &["16:103 grants[0].rate.scope: is global, and the policy has no rate_limit_service"],
    );
    let with_service = |service: &str| {
        shared.replace(
            "version: 1",
            &format!("version: 1\nrate_limit_service: {service}"),
        )
    };
    check(&with_service("{redis: {url: redis://127.0.0.1}}"), &[]);
    check(
        &with_service("{endpoint: \"http://127.0.0.1:8081\", on_failure: deny}"),
        &[],
    );
    check(
        &with_service("{redis: {url: http://127.0.0.1}, timeout_ms: 5000}"),
        &[
            "2:35 rate_limit_service.redis.url: ",
            "2:66 rate_limit_service.timeout_ms: ",
        ],
    );
    check(
        &with_service("{redis: {url: redis://127.0.0.1}, on_failure: allow}"),
        &["2:67 rate_limit_service.on_failure: "],
    );
}

#[test]
fn a_list_of_faults_ends_with_how_many_there_are() {
    let text = with("quota: 6", "quotaa: 6").replace("version: 1", "version: 1\nextra: 1");
    let (_, found) = faults(&text);
    let count = |severity: &str| found.iter().filter(|fault| fault.2 == severity).count();
    let warnings = match count("warning") {
        0 => String::new(),
        1 => ", 1 warning".to_owned(),
        count => format!(", {count} warnings"),
    };
    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", text);
    let ran = run(&["check".as_ref(), file.as_os_str()]);
    let expected = format!(
        "error: {} has {} faults{warnings}",
        file.display(),
        count("error")
    );
    assert_eq!(count("error"), 2);
    assert_eq!(ran.stderr.lines().next_back(), Some(expected.as_str()));
}

#[test]
fn unknown_keys_are_reported_at_the_key() {
    check(
        &with("quota: 6", "quotaa: 6"),
        &["16:72 grants[0].rate.quotaa: unknown key \"quotaa\""],
    );
    check(
        &with("version: 1", "version: 1\nextra: {a: [1]}"),
        &["2:1 extra: unknown key \"extra\""],
    );
    check(
        &with(
            "shape: [{name: n, max: 4}, 2]",
            "shape: [{name: n, maxx: 4}, 2]",
        ),
        &["12:53 models.m.inputs[0].shape[0].maxx: unknown key \"maxx\""],
    );
}

#[test]
fn values_of_another_type_are_reported_at_the_value() {
    check(
        &with("quota: 6", "quota: six"),
        &["16:79 grants[0].rate.quota: string \"six\" where a whole number"],
    );
    check(
        &with("queue: 128", "queue: -1"),
        &["5:95 backends.gpu.queue: "],
    );
    check(
        &with("max: 4}, 2]", "max: 4}, -1]"),
        &["12:62 models.m.inputs[0].shape[1]: `-1` is not the size of a dim"],
    );
    check(
        &with("kind: open-inference", "kind: open-inferense"),
        &["5:15 backends.gpu.kind: unknown name \"open-inferense\""],
    );
    check(
        &with("range: [0, 1]", "range: [0, 1, 2]"),
        &["12:73 models.m.inputs[0].range: 3 elements"],
    );
    check(
        &with("  app: {", "  zed: 5\n  app: {"),
        &["3:8 clients.zed: integer `5` where a mapping is expected"],
    );
    check(
        "- 1\n- 2\n",
        &["1:1 : sequence where a mapping is expected"],
    );
}

#[test]
fn all_faults_are_reported_at_once_in_document_order() {
    let text = with(
        "version: 1",
        "version: one\nlisten: {adress: x, limits: {headers: many, body_bytes: 8MB}}",
    )
    .replace("[oip-rest]", "[oip-rset]");
    check(
        &text,
        &[
            "1:10 version: ",
            "2:10 listen.adress: unknown key",
            "2:39 listen.limits.headers: ",
            "2:57 listen.limits.body_bytes: ",
            "11:17 models.m.protocols[0]: ",
        ],
    );
}

#[test]
fn faults_of_validation_are_reported_at_their_line() {
    check(
        &with("max: 4", "min: 1"),
        &["12:43 models.m.inputs[0].shape[0]: "],
    );
    check(
        &with("backend: gpu", "backend: cpu"),
        &["8:14 models.m.backend: "],
    );
    check(
        &with("clients: [app]", "clients: [app, unknown]"),
        &["16:30 grants[0].clients[1]: "],
    );
}

#[test]
fn formats_of_a_model_are_checked_and_rejected_at_their_line() {
    let artifact = "backend: gpu\n    artifact: {formats: [onxx, onnx]}";
    check(
        &with("backend: gpu", artifact),
        &[
            "9:5 models.m.artifact: nothing vouches for the files",
            "9:5 models.m.artifact.path: is missing",
            "9:26 models.m.artifact.formats[0]: there is no model format \"onxx\"",
        ],
    );
}

#[test]
fn a_repeated_key_is_reported_with_the_line_of_the_first() {
    check(
        &with(
            "    versions: [\"1\"]\n",
            "    versions: [\"1\"]\n    backend: gpu\n",
        ),
        &["10:5 models.m.backend: key \"backend\" is already set on line 8"],
    );
}

#[test]
fn a_repeated_client_is_found_among_a_hundred_thousand() {
    let named = |more: &str| {
        let clients: String = (0..100_000)
            .map(|number| format!("  app-{number}: {{api_keys: [{{sha256: '{number:064}'}}]}}\n"))
            .collect();
        let names: Vec<_> = (0..100_000).map(|number| format!("app-{number}")).collect();
        with("clients: [app]", "clients: [app, group:all]").replace(
            "clients:\n",
            &format!(
                "groups: {{all: [{}]}}\nclients:\n{clients}{more}",
                names.join(", ")
            ),
        )
    };
    check(&named(""), &[]);
    check(
        &named("  app-7: {}\n"),
        &["100004:3 clients.app-7: key \"app-7\" is already set on line 11"],
    );
}

#[test]
fn yaml_with_hidden_or_expanding_content_is_rejected() {
    check(
        &with("version: 1", "version: !!int 1"),
        &["1:10 version: tags are not allowed"],
    );
    check(
        &format!("{VALID}---\nversion: 1\n"),
        &["17:1 : a second document"],
    );
    check(
        &with("version: 1", "version: 1\n? [a]\n: 1"),
        &["2:3 : a key must be text"],
    );
    check("version: [1\n", &["2:1 : not YAML: "]);
    let nested = format!("version: {}1{}\n", "[".repeat(60), "]".repeat(60));
    check(&nested, &["1:41 version"]);
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        bomb.push_str(&format!("a{level}: &a{level} [{before}]\n"));
    }
    let (code, found) = faults(&bomb);
    assert_eq!(code, 2);
    assert!(
        found
            .iter()
            .any(|fault| fault.4.contains("nodes, aliases expanded")),
        "{found:#?}"
    );
}

#[test]
fn an_alias_has_the_value_of_its_anchor() {
    let text = with("shape: [n]}", "shape: &s [n]}")
        .replace("    protocols", "    backend_model: &b m2\n    protocols");
    check(&text, &[]);
    check(
        &with("operations: [infer]", "operations: &o [infer]")
            .replace("models: [m]", "models: [*unset]"),
        &["16:40 : not YAML: "],
    );
}

#[test]
fn a_number_where_text_is_expected_is_its_own_characters() {
    check(
        &with("[\"1\"]", "[1.10]").replace("models: [m]", "models: [m@1.10]"),
        &[],
    );
    let digits = "0".repeat(63) + "1";
    check(
        &with(
            "6d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7",
            &digits,
        ),
        &[],
    );
}

#[test]
fn a_file_that_is_not_utf8_is_reported_at_the_first_invalid_byte() {
    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", b"version: 1\nlisten: \xff\n");
    let ran = run(&["check".as_ref(), file.as_os_str()]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains(&format!("{}:2:9", file.display())),
        "{}",
        ran.stderr
    );
}

#[test]
fn a_file_that_is_too_large_or_absent_is_bad_input() {
    let scratch = Scratch::new();
    let large = scratch.file("large.yaml", vec![b'#'; (16 << 20) + 1]);
    let ran = run(&["check".as_ref(), large.as_os_str()]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("is larger than"), "{}", ran.stderr);
    assert_eq!(
        run(&["check".as_ref(), scratch.path().join("none").as_os_str()]).code,
        2
    );
    assert_eq!(run(&["check"]).code, 2);
}

#[test]
fn a_folder_and_an_empty_file_are_named_by_every_verb_that_reads_a_policy() {
    let scratch = Scratch::new();
    let folder = scratch.path().to_owned();
    let empty = scratch.file("empty.yaml", "");
    let comments = scratch.file("comments.yaml", "# nothing\n---\n\n");
    let as_file = format!(
        "is a folder: name a file in it, such as {}/",
        folder.display()
    );
    let is_empty = "is empty: write a policy with `tensorgate init`";
    for verb in [&["check"][..], &["up"], &["render", "envoy"]] {
        for (file, expected) in [
            (&folder, as_file.as_str()),
            (&empty, is_empty),
            (&comments, is_empty),
        ] {
            let ran = run(&[verb, &["-c", file.to_str().unwrap()]].concat());
            assert_eq!(ran.code, 2, "{verb:?}");
            assert!(ran.stderr.contains(expected), "{verb:?}: {}", ran.stderr);
            assert_eq!(ran.stderr.trim_end().lines().count(), 1, "{}", ran.stderr);
        }
    }
}

#[test]
fn only_a_limit_of_each_gateway_is_divided_among_pods() {
    let divided = with("window_s: 60", "window_s: 60, local_share: replicas");
    check(&divided, &[]);
    let shared = divided.replace("window_s: 60", "window_s: 60, scope: global");
    let service = "version: 1\nrate_limit_service: {redis: {url: redis://127.0.0.1}}";
    check(
        &shared.replace("version: 1", service),
        &["17:124 grants[0].rate.local_share: divides a limit that gateways share already"],
    );
    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", &divided);
    let ran = run(&["check".as_ref(), file.as_os_str()]);
    let expected = "1 limit that `render` divides by the number of pods";
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
}

#[test]
fn a_policy_that_is_too_large_for_a_filter_is_bad_input() {
    const FILE_BYTES: usize = 8 << 20;
    let scratch = Scratch::new();
    // Entries that are listed twice count once.
    let digests = (0..FILE_BYTES / 65).map(|number| format!("{number:064x}\n"));
    scratch.file("keys", digests.collect::<String>());
    let tokens = (0..FILE_BYTES / 16).map(|number| format!("token-{number:09}\n"));
    scratch.file("tokens", tokens.collect::<String>());
    let policy = std::fs::read_to_string(tree().join("envoy/gate.yaml")).unwrap();
    let file = |name: &str, revoked: &str| {
        scratch.file(name, format!("{policy}\nrevoked: {{{revoked}}}\n"))
    };
    let small = file("small.yaml", "keys_file: keys");
    assert_eq!(run(&["check".as_ref(), small.as_os_str()]).code, 0);
    let lists = "keys_file: keys, certificates_file: keys, jti_file: tokens";
    let large = file("large.yaml", lists);
    let large = large.to_str().unwrap();
    for command in [&["check", large][..], &["render", "-c", large, "envoy"]] {
        let ran = run(command);
        assert_eq!(ran.code, 2, "{command:?}: {}", ran.stderr);
        assert!(
            ran.stderr.contains("a gate takes at most 12582900"),
            "{command:?}: {}",
            ran.stderr
        );
    }
}

#[test]
fn text_output_shows_the_line_a_mark_under_it_and_a_fix() {
    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", with("quota: 6", "quotaa: 6"));
    let ran = run(&["check".as_ref(), file.as_os_str()]);
    assert_eq!(ran.code, 2);
    assert_eq!(ran.stdout, "");
    let shown: Vec<&str> = ran
        .stderr
        .lines()
        .skip_while(|line| !line.contains("unknown key"))
        .take(6)
        .collect();
    assert_eq!(shown[0], "error: unknown key \"quotaa\"");
    assert!(shown[3].starts_with("16 |   - {name: g"), "{shown:#?}");
    assert_eq!(
        shown[3].find("quotaa"),
        shown[4].find("^^^^^^"),
        "{shown:#?}"
    );
    assert!(
        shown[5].ends_with("fix: did you mean `quota`?"),
        "{shown:#?}"
    );
}

#[test]
fn colour_is_printed_only_when_requested() {
    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", "version: x\n");
    let ran = |color: &str| {
        run(&[
            "check".as_ref(),
            "--color".as_ref(),
            color.as_ref(),
            file.as_os_str(),
        ])
        .stderr
    };
    assert!(ran("always").contains("\u{1b}[1;31merror"));
    assert!(!ran("never").contains('\u{1b}'));
    assert!(!ran("auto").contains('\u{1b}'));
}

#[test]
fn an_invisible_character_is_rejected_at_its_position() {
    for (odd, name) in [
        ("\u{2}", "U+0002"),
        ("\r", "U+000D"),
        ("\u{1b}[2K", "U+001B"),
        ("\u{85}", "U+0085"),
        ("\u{2028}", "U+2028"),
        ("\u{202e}", "U+202E"),
    ] {
        let fault = format!("2:3 : an invisible character: {name}");
        check(
            &VALID.replacen("clients:", &format!("# {odd}x\nclients:"), 1),
            &[&fault],
        );
    }
    check(&VALID.replace('\n', "\r\n"), &[]);
    check(&format!("\u{feff}{VALID}"), &[]);
}

#[test]
fn handlers_that_can_need_more_memory_than_the_host_gives_them_are_named() {
    let digest = "0".repeat(64);
    let handler = |name: &str, memory: &str| {
        format!(
            "  {name}: {{component: {name}.wasm, sha256: \"{digest}\", memory_bytes: {memory}}}\n"
        )
    };
    let handlers = format!(
        "handlers:\n{}{}",
        handler("big", "512MiB"),
        handler("small", "16MiB")
    );
    let used = "    preprocess: big
    postprocess: small
    accepts:
      inputs:
        - {name: x, datatype: FP32, shape: [{name: n, max: 4}, 2], range: [0, 1]}
    returns:
      outputs:
        - {name: y, datatype: FP32, shape: [n]}
";
    let text = VALID.replacen("models:\n", &format!("{handlers}models:\n"), 1);
    let text = text.replacen(
        "    backend: gpu\n",
        &format!("    backend: gpu\n{used}"),
        1,
    );
    let scratch = Scratch::new();
    let file = scratch.file("gate.yaml", text);
    let ran = |memory: &str| {
        run(&[
            "check".as_ref(),
            "--no-files".as_ref(),
            "--handler-threads".as_ref(),
            "1".as_ref(),
            "--handler-memory".as_ref(),
            memory.as_ref(),
            file.as_os_str(),
        ])
    };
    let beyond = ran("256MiB");
    assert_eq!(beyond.code, 2, "{}", beyond.stdout);
    for part in [
        "handlers can need 536 MiB of memory together, and the host gives them 256 MiB",
        "the largest handlers are big 512 MiB, small 16 MiB",
        "lower memory_bytes of the largest handlers or --handler-threads (1)",
        "or raise --handler-memory",
    ] {
        assert!(beyond.stderr.contains(part), "{part} in {}", beyond.stderr);
    }
    // Each handler's thread has a stack of 4 MiB.
    let within = ran("536MiB");
    assert_eq!(within.code, 0, "{}", within.stderr);
}

#[test]
fn the_shipped_policies_are_valid() {
    for file in [digits(), tree().join("envoy/gate.yaml")] {
        // Their components may be built with other tools than the pinned ones.
        let arguments = ["check".as_ref(), "--no-files".as_ref(), file.as_os_str()];
        let ran = run(&arguments);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.contains("ok, generation "), "{}", ran.stdout);
    }
}

#[test]
fn connections_that_clients_share_have_a_note() {
    let of = |clients: &str, backend: &str| {
        format!(
            r#"version: 1
clients:
  app: {{api_keys: [{{sha256: {}}}]}}
  batch: {{api_keys: [{{sha256: {}}}]}}
backends:
  gpu: {{{backend}, endpoints: ["http://127.0.0.1:8000"]}}
models:
  m:
    backend: gpu
    versions: ["1"]
    protocols: [openai]
    openai:
      chat: {{max_messages: 8, max_message_bytes: 4KiB, max_prompt_bytes: 8KiB, max_tokens: 64}}
grants:
  - {{name: g, clients: [{clients}], models: [m], operations: [infer]}}
"#,
            "0a".repeat(32),
            "0b".repeat(32)
        )
    };
    let note = "note: backends.gpu: 2 clients share its connections, and a server that answers";
    for (clients, backend, has_note) in [
        ("app, batch", "kind: openai", true),
        ("app", "kind: openai", false),
        ("app, batch", "kind: openai, connections: shared", true),
        ("app, batch", "kind: openai, connections: per-client", false),
        (
            "app, batch",
            "kind: openai, connections: one-request",
            false,
        ),
    ] {
        let scratch = Scratch::new();
        let file = scratch.file("gate.yaml", &of(clients, backend));
        let ran = run(&["check".as_ref(), file.as_os_str()]);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.stderr.contains(note), has_note, "{}", ran.stderr);
    }
}

#[test]
fn messages_of_streams_that_wait_for_shared_limits_have_a_note_about_the_host() {
    let service = "version: 1\nrate_limit_service: {redis: {url: redis://127.0.0.1}}";
    let shared = VALID
        .replacen("version: 1", service, 1)
        .replace("window_s: 60}", "window_s: 60, scope: global}");
    let streams = shared
        .replace("[oip-rest]", "[oip-grpc]")
        .replace("[infer]", "[infer, stream]");
    let note = "note: messages of streams wait for limits of scope global (g): the filter needs a \
                sandbox host";
    for (text, has_note) in [(shared, false), (streams, true)] {
        let scratch = Scratch::new();
        let file = scratch.file("gate.yaml", &text);
        let ran = run(&["check".as_ref(), file.as_os_str()]);
        assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.stderr.contains(note), has_note, "{}", ran.stderr);
    }
}
