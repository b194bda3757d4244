//! `init`: a first policy from what a server says, with a key, and never over an existing file.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::Value;

use crate::program::{Ran, Scratch, run_in};

const TRITON: &str = r#"{"name": "triton", "version": "2.70.0", "extensions": []}"#;
const OTHER: &str = r#"{"name": "mlserver", "version": "1.6.1", "extensions": []}"#;
const INDEX: &str = r#"[{"name":"resnet","version":"1","state":"READY"},
    {"name":"resnet","version":"2","state":"READY"},{"name":"old","state":"UNAVAILABLE"}]"#;
const METADATA: &str = r#"{"name":"resnet","versions":["1","2"],
    "inputs":[{"name":"image","datatype":"FP32","shape":[-1,3,-1]}],
    "outputs":[{"name":"scores","datatype":"FP32","shape":[-1,1000]}]}"#;
const CONFIG: &str = r#"{"name":"resnet","max_batch_size":8,
    "input":[{"name":"image","data_type":"TYPE_FP32","dims":[3,224]}],
    "output":[{"name":"scores","data_type":"TYPE_FP32","dims":[1000]}]}"#;

/// A server that answers as many requests as there are answers. Returns its port, and what was
/// asked.
fn server(answers: &[&'static str]) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let answers = answers.to_vec();
    let asked = std::thread::spawn(move || {
        let asked = answers.into_iter().map(|answer| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).unwrap();
            let length = answer.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}"
            )
            .unwrap();
            let request = String::from_utf8_lossy(&bytes[..read]).into_owned();
            request.split(" HTTP").next().unwrap().to_owned()
        });
        asked.collect()
    });
    (port, asked)
}

fn init(scratch: &Scratch, more: &[&str]) -> Ran {
    run_in(scratch.path(), &[&["init"], more].concat())
}

#[test]
fn all_loaded_models_of_a_triton_are_served_at_once() {
    let (port, asked) = server(&[TRITON, INDEX, CONFIG, METADATA]);
    let scratch = Scratch::new();
    let ran = init(&scratch, &[&format!("http://127.0.0.1:{port}")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected = [
        "GET /v2",
        "POST /v2/repository/index",
        "GET /v2/models/resnet/config",
        "GET /v2/models/resnet",
    ];
    assert_eq!(asked.join().unwrap(), expected);
    assert!(!ran.stderr.contains("complete what"), "{}", ran.stderr);
    let request = "printf '{\"inputs\":[{\"name\":\"image\",\"datatype\":\"FP32\",\"shape\":[1,3,224],\"data\":[%s]}]}' \"$(yes '0' | head -n 672 | paste -sd, -)\" | curl";
    assert!(ran.stderr.contains(request), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("/v2/models/resnet/infer"),
        "{}",
        ran.stderr
    );
    let policy = std::fs::read_to_string(scratch.path().join("gate.yaml")).unwrap();
    let endpoint = format!("http://127.0.0.1:{}", port + 1);
    assert!(policy.contains(&endpoint), "{policy}");
    assert!(policy.contains(r#"versions: ["1", "2"]"#), "{policy}");
    let key = ran.stdout.trim();
    assert!(key.starts_with("tg_") && !policy.contains(key) && !ran.stderr.contains(key));
    let check = run_in(scratch.path(), &["check"]);
    assert_eq!(check.code, 0, "{}", check.stderr);
    let message =
        format!("GET /v2/models/resnet/versions/1 HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\n\r\n");
    scratch.file("m.http", message);
    let explain = run_in(scratch.path(), &["explain", "--http", "m.http"]);
    assert_eq!(explain.code, 0, "{}{}", explain.stdout, explain.stderr);

    let again = init(&scratch, &[]);
    assert_eq!((again.code, again.stdout.as_str()), (2, ""));
    assert!(again.stderr.contains("not overwritten"), "{}", again.stderr);
    let after = std::fs::read_to_string(scratch.path().join("gate.yaml")).unwrap();
    assert_eq!(after, policy);
}

#[test]
fn a_decoupled_model_is_served_over_streams_of_grpc_alone() {
    let decoupled = r#"{"name":"repeat","model_transaction_policy":{"decoupled":true},
        "input":[{"name":"x","data_type":"TYPE_INT32","dims":[8]}],
        "output":[{"name":"y","data_type":"TYPE_INT32","dims":[1]}]}"#;
    let index = r#"[{"name":"resnet","state":"READY"},{"name":"repeat","state":"READY"}]"#;
    let described = r#"{"name":"repeat","versions":["1"]}"#;
    let (port, _) = server(&[TRITON, index, decoupled, described, CONFIG, METADATA]);
    let scratch = Scratch::new();
    let ran = init(&scratch, &[&format!("http://127.0.0.1:{port}")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("/v2/models/resnet"), "{}", ran.stderr);
    let hint = "model repeat is decoupled";
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    let policy = std::fs::read_to_string(scratch.path().join("gate.yaml")).unwrap();
    for lines in [
        "models: [repeat]\n    operations: [stream, metadata, ready]",
        "models: [resnet]\n    operations: [infer, metadata, ready]",
        "protocols: [oip-grpc]\n    decoupled: {max_answers: 64, max_bytes: 4MiB}",
    ] {
        assert!(policy.contains(lines), "{lines}: {policy}");
    }
    let check = run_in(scratch.path(), &["check"]);
    assert_eq!(check.code, 0, "{}", check.stderr);

    let index = r#"[{"name":"repeat","state":"READY"}]"#;
    let (port, _) = server(&[TRITON, index, decoupled, described]);
    let url = format!("http://127.0.0.1:{port}");
    let ran = init(&scratch, &["-c", "streams.yaml", &url]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.stderr.contains("curl"), "REST: {}", ran.stderr);
}

/// A server that answers this to `GET /v1/models`, and 404 to everything else.
fn text_server(list: String) -> u16 {
    server_of(vec![("/v1/models", list)])
}

/// A server that answers to `GET` of these paths, and 404 to everything else.
fn server_of(answers: Vec<(&'static str, String)>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).unwrap();
            let request = String::from_utf8_lossy(&bytes[..read]);
            let is_for = |path: &str| request.starts_with(&format!("GET {path} HTTP"));
            let found = answers.iter().find(|(path, _)| is_for(path));
            let (status, body) = match found {
                Some((_, body)) => ("200 OK", body.as_str()),
                None => ("404 Not Found", "{\"detail\":\"Not Found\"}"),
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n");
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    port
}

#[test]
fn models_of_an_openai_server_get_a_policy_and_a_request_each() {
    let list = serde_json::json!({"object": "list", "data": [
        {"id": "meta-llama/Llama-3.1-8B", "object": "model", "max_model_len": 8192},
        {"id": "llama3.2:3b", "object": "model", "max_model_len": "long"},
        {"id": "BAAI/bge-m3", "object": "model"},
        {"id": "/models/qwen"},
        {"id": "a\n  admin: \"x\"; rm -rf $HOME"},
    ]});
    let port = text_server(list.to_string());
    for (file, url) in [
        ("gate.yaml", format!("http://127.0.0.1:{port}")),
        ("v1.yaml", format!("http://127.0.0.1:{port}/v1/")),
    ] {
        let scratch = Scratch::new();
        let ran = init(&scratch, &["-c", file, &url]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let policy = std::fs::read_to_string(scratch.path().join(file)).unwrap();
        let endpoint = format!("kind: openai, endpoints: [\"http://127.0.0.1:{port}\"]");
        for text in [
            endpoint.as_str(),
            "models: [BAAI/bge-m3, llama3.2-3b, meta-llama/Llama-3.1-8B]",
            "operations: [infer, stream, metadata]",
            "backend_model: \"llama3.2:3b\"",
            "max_prompt_bytes: 32768\n        max_tokens: 2048",
            "max_prompt_bytes: 131072\n        max_tokens: 1024",
            "      context_tokens: 8192    #",
            "tools: {max: 64, max_bytes: 64KiB}",
            "profile: sdk",
        ] {
            assert!(policy.contains(text), "{text}: {policy}");
        }
        assert!(
            !policy.contains("admin") && !policy.contains("qwen"),
            "{policy}"
        );
        for text in [
            "model /models/qwen is left out",
            "rm -rf $HOME is left out",
            "clients call model llama3.2:3b llama3.2-3b",
            "'{\"model\":\"BAAI/bge-m3\",\"input\":\"hello\"}' http://127.0.0.1:8080/v1/embeddings",
            "'{\"model\":\"llama3.2-3b\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}'",
        ] {
            assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
        }
        let check = run_in(scratch.path(), &["check", file]);
        assert_eq!(check.code, 0, "{}", check.stderr);
    }
    let url = format!("http://127.0.0.1:{port}");
    let scratch = Scratch::new();
    let ran = init(&scratch, &["--from", "openai", "--model", "other", &url]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("lists no model \"other\""),
        "{}",
        ran.stderr
    );
    let none = text_server("{\"data\":[{\"id\":\"/models/qwen\"}]}".to_owned());
    let ran = init(&scratch, &[&format!("http://127.0.0.1:{none}")]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("--served-model-name"), "{}", ran.stderr);
    assert!(!scratch.path().join("gate.yaml").exists());
}

#[test]
fn an_embedding_model_gets_no_chat() {
    for (model, embeds) in [
        (r#"{"id": "sentence-transformers/all-MiniLM-L6-v2"}"#, true),
        (r#"{"id": "nomic-embed-text:latest"}"#, true),
        (r#"{"id": "m", "capabilities": ["embed"]}"#, true),
        (r#"{"id": "m", "type": "text-embedding"}"#, true),
        (r#"{"id": "m", "task": "EMBEDDING"}"#, true),
        (r#"{"id": "m", "capabilities": ["chat", "embed"]}"#, false),
        (r#"{"id": "m", "type": 7, "capabilities": {"a": 1}}"#, false),
    ] {
        let port = text_server(format!("{{\"data\": [{model}]}}"));
        let scratch = Scratch::new();
        let ran = init(&scratch, &[&format!("http://127.0.0.1:{port}")]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let policy = std::fs::read_to_string(scratch.path().join("gate.yaml")).unwrap();
        let routes = ["embeddings: {", "      chat:\n"].map(|route| policy.contains(route));
        assert_eq!(routes, [embeds, !embeds], "{model}: {policy}");
    }
}

#[test]
fn a_server_that_compiles_every_schema_is_found() {
    let context = r#"{"default_generation_settings":{"n_ctx":8192}}"#;
    let port = server_of(vec![
        ("/v1/models", r#"{"data":[{"id":"qwen"}]}"#.to_owned()),
        ("/props", context.to_owned()),
    ]);
    let scratch = Scratch::new();
    let ran = init(&scratch, &[&format!("http://127.0.0.1:{port}")]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let file = scratch.path().join("gate.yaml");
    let policy = std::fs::read_to_string(&file).unwrap();
    assert!(policy.contains("64KiB, compiled: true}"), "{policy}");
    let warning = "the server compiles the schema of every function";
    let check = run_in(scratch.path(), &["check", "--live"]);
    assert!(!check.stderr.contains(warning), "{}", check.stderr);
    std::fs::write(&file, policy.replace(", compiled: true", "")).unwrap();
    let check = run_in(scratch.path(), &["check", "--live"]);
    assert!(check.stderr.contains(warning), "{}", check.stderr);
}

#[test]
fn the_cost_that_check_suggests_for_a_first_policy_is_accepted() {
    for (model, expected) in [
        (
            r#"{"id": "m", "max_model_len": 8192}"#,
            "cost: {tokens: 100000, window_s: 60}",
        ),
        (
            r#"{"id": "m", "max_model_len": 200000}"#,
            "cost: {tokens: 200000, window_s: 60}",
        ),
        // Without a context, the bytes of the longest prompt count.
        (r#"{"id": "m"}"#, "cost: {tokens: "),
    ] {
        let port = text_server(format!("{{\"data\": [{model}]}}"));
        let scratch = Scratch::new();
        let ran = init(&scratch, &[&format!("http://127.0.0.1:{port}")]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let checked = run_in(scratch.path(), &["check", "--json"]);
        let fixes = checked.stdout.lines().map(|line| {
            let fault: Value = serde_json::from_str(line).unwrap();
            fault["fix"].as_str().unwrap_or_default().to_owned()
        });
        let fixes: Vec<_> = fixes.filter(|fix| fix.starts_with("cost: ")).collect();
        let [fix] = fixes.as_slice() else {
            panic!("{}", checked.stdout)
        };
        assert!(fix.starts_with(expected), "{fix}");
        let file = scratch.path().join("gate.yaml");
        let policy = std::fs::read_to_string(&file).unwrap();
        let fixed = policy.replace("\n    rate:", &format!("\n    {fix}\n    rate:"));
        assert_ne!(fixed, policy);
        std::fs::write(&file, fixed).unwrap();
        let checked = run_in(scratch.path(), &["check", "--json"]);
        assert_eq!((checked.code, checked.stdout.as_str()), (0, ""));
    }
}

#[test]
fn a_tokenizer_gives_the_model_its_own_special_tokens() {
    let list = r#"{"data": [{"id": "m"}, {"id": "other"}]}"#;
    let url = format!("http://127.0.0.1:{}", text_server(list.to_owned()));
    let scratch = Scratch::new();
    let tokens = r#"{"added_tokens": [{"content": "<|im_end|>", "special": true}]}"#;
    scratch.file("tokenizer.json", tokens);
    scratch.file("chat_template.jinja", "{{ '<|im_start|>' + message.role }}");
    let ran = init(&scratch, &["--tokenizer", "tokenizer.json", &url]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let expected = "--tokenizer is for one model of OpenAI's API";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    let named = [
        "--tokenizer",
        "tokenizer.json",
        "--model",
        "m",
        url.as_str(),
    ];
    let ran = init(&scratch, &named);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let policy = std::fs::read_to_string(scratch.path().join("gate.yaml")).unwrap();
    let expected = r#"only_special_tokens:
        - "<|im_end|>"
        - "<|im_start|>"
"#;
    assert!(policy.contains(expected), "{policy}");
    let checked = run_in(scratch.path(), &["check"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    let hint = "only_special_tokens";
    assert!(!checked.stderr.contains(hint), "{}", checked.stderr);
}

#[test]
fn the_first_key_can_be_revoked_at_once() {
    let scratch = Scratch::new();
    let ran = init(&scratch, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let list = scratch.path().join("revoked-keys.txt");
    let empty = std::fs::read_to_string(&list).unwrap();
    assert!(empty.lines().all(|line| line.starts_with('#')), "{empty}");
    let revoke = ["keys", "revoke", "--client", "app", "--no-wait"];
    let ran = run_in(scratch.path(), &revoke);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let revoked = std::fs::read_to_string(&list).unwrap();
    assert!(revoked.len() > empty.len(), "{revoked}");
    let check = run_in(scratch.path(), &["check"]);
    assert_eq!(check.code, 0, "{}", check.stderr);

    // Another policy in this folder has the same list, whose entries stay.
    let ran = init(&scratch, &["-c", "other.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(std::fs::read_to_string(&list).unwrap(), revoked);
}

#[test]
fn bounds_that_a_server_does_not_report_are_listed_by_line() {
    let (port, asked) = server(&[OTHER, METADATA]);
    let scratch = Scratch::new();
    let url = format!("http://127.0.0.1:{port}");
    let ran = init(&scratch, &["--model", "resnet", &url]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected = ["GET /v2", "GET /v2/models/resnet"];
    assert_eq!(asked.join().unwrap(), expected);
    let policy = std::fs::read_to_string(scratch.path().join("gate.yaml")).unwrap();
    let numbers = policy
        .lines()
        .zip(1..)
        .filter(|(line, _)| line.contains("no bound is known"));
    let numbers: Vec<u64> = numbers.map(|(_, number)| number).collect();
    assert_eq!(numbers.len(), 3, "{policy}");
    for number in &numbers {
        let line = format!("gate.yaml:{number}: models.resnet.");
        assert!(ran.stderr.contains(&line), "{line}{}", ran.stderr);
    }
    assert_eq!(run_in(scratch.path(), &["check"]).code, 2);
    std::fs::remove_file(scratch.path().join("gate.yaml")).unwrap();
    let (port, _) = server(&[OTHER, METADATA]);
    let url = format!("http://127.0.0.1:{port}");
    let json = init(&scratch, &["--model", "resnet", &url, "--json"]);
    let said: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(said["fill_in"], serde_json::json!(numbers));
}

#[test]
fn without_a_server_the_policy_is_a_valid_example() {
    let scratch = Scratch::new();
    let ran = init(&scratch, &["--client", "web-app", "-c", "my.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("tensorgate up my.yaml"),
        "{}",
        ran.stderr
    );
    let check = run_in(scratch.path(), &["check", "my.yaml"]);
    assert_eq!(check.code, 0, "{}", check.stderr);
    let listed = run_in(scratch.path(), &["keys", "list", "my.yaml"]);
    assert!(listed.stdout.starts_with("web-app "), "{}", listed.stdout);
}

#[test]
fn nothing_is_written_if_the_server_or_the_client_is_unusable() {
    let scratch = Scratch::new();
    let (empty, _) = server(&[OTHER, "[]"]);
    let empty = format!("http://127.0.0.1:{empty}");
    let (misnamed, _) = server(&[OTHER, METADATA]);
    let misnamed = format!("http://127.0.0.1:{misnamed}");
    let (misconfigured, _) = server(&[CONFIG]);
    let misconfigured = format!("http://127.0.0.1:{misconfigured}");
    let other_name = "asked for model \"bert\" and describes model \"resnet\"";
    for (arguments, why) in [
        (&["http://127.0.0.1:1"][..], "is the server up?"),
        (&[&*empty], "--model NAME"),
        (&["--model", "bert", &*misnamed], other_name),
        (
            &["--from", "triton", "--model", "bert", &*misconfigured],
            other_name,
        ),
        (&["--client", "a b"], "a b"),
        (&["--from", "triton"], "URL"),
    ] {
        let ran = init(&scratch, arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(ran.stderr.contains(why), "{arguments:?}: {}", ran.stderr);
        assert!(!scratch.path().join("gate.yaml").exists());
    }
}
