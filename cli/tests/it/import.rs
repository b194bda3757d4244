//! `import`: contracts from metadata, with a fault left at every bound that no server reports.

use std::io::{Read as _, Write as _};

use crate::program::{Scratch, run};

const CONFIG: &str = r#"
name: "resnet" # a comment
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  { name: "image" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, -1, 224 ] },
  { name: "mode", data_type: TYPE_STRING, dims: 1, optional: true }
]
output { name: "scores" data_type: TYPE_FP32 dims: [ 1000 ] label_filename: "labels.txt" }
instance_group [ { count: 1 kind: KIND_GPU } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
parameters: { key: "x" value: { string_value: "y" } }
"#;

const RESNET: &str = r#"models:
  resnet:
    backend: triton
    versions: ["1", "3"]
    protocols: [oip-rest, oip-grpc]
    inputs:
      - name: image
        datatype: FP32
        shape:
          - {name: batch, max: 8}
          - 3
          - {min: 1}  # no bound is known: give it a max
          - 224
      - name: mode
        datatype: BYTES  # no bound is known: add max_item_bytes
        shape: [{name: batch, max: 8}, 1]
        optional: true
    outputs:
      - name: scores
        datatype: FP32
        shape: [{name: batch, max: 8}, 1000]
"#;

#[test]
fn a_model_folder_becomes_a_contract_and_check_reports_its_missing_bounds() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("repo/resnet");
    for version in ["1", "3", "notes"] {
        std::fs::create_dir_all(folder.join(version)).unwrap();
    }
    std::fs::write(folder.join("config.pbtxt"), CONFIG).unwrap();
    for source in [
        folder.clone(),
        folder.join("config.pbtxt"),
        scratch.path().join("repo"),
    ] {
        let ran = run(&[
            "import".as_ref(),
            "triton".as_ref(),
            source.as_os_str(),
            "--backend".as_ref(),
            "triton".as_ref(),
        ]);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (0, RESNET),
            "{}",
            ran.stderr
        );
        assert!(
            ran.stderr.starts_with("2 bounds are missing"),
            "{}",
            ran.stderr
        );
    }
    let policy = |models: &str| {
        let rest = r#"version: 1
clients:
  app: {api_keys: [{sha256: 6d2a01c45dbd39db4fbeaf28ef2a8cd52b26b3efb2d2f4d46c4aa3b6f1f1b0e7}]}
backends:
  triton: {kind: open-inference, endpoints: ["http://127.0.0.1:8001"], max_in_flight: 1, queue: 1, timeout_ms: 9}
grants:
  - {name: g, clients: [app], models: [resnet], operations: [infer], rate: {quota: 6, window_s: 60}}
"#;
        let file = scratch.file("gate.yaml", format!("{rest}{models}"));
        run(&["check".as_ref(), file.as_os_str(), "--json".as_ref()])
    };
    let faulty = policy(RESNET);
    assert_eq!(faulty.code, 2);
    let errors: Vec<_> = faulty
        .stdout
        .lines()
        .filter(|line| line.contains("\"severity\":\"error\""))
        .collect();
    assert_eq!(errors.len(), 2, "{}", faulty.stdout);
    assert!(
        errors[0].contains("\"line\":19") && errors[0].contains("inputs[0].shape[2]"),
        "{}",
        errors[0]
    );
    assert!(errors[1].contains("inputs[1]"), "{}", errors[1]);
    let filled = RESNET.replace("{min: 1}", "{min: 1, max: 224}").replace(
        "datatype: BYTES",
        "max_item_bytes: 8\n        datatype: BYTES",
    );
    let good = policy(&filled);
    assert_eq!(good.code, 0, "{}", good.stdout);
}

#[test]
fn metadata_of_a_server_is_read_over_http() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let metadata = r#"{"name":"digits","versions":["2"],"platform":"x","inputs":[{"name":"0","datatype":"FP32","shape":[-1,8]}],"outputs":[{"name":"y","datatype":"INT64","shape":[1]}]}"#;
        let mut asked = Vec::new();
        for chunked in [false, true] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).unwrap();
            asked.push(
                String::from_utf8_lossy(&bytes[..read])
                    .lines()
                    .next()
                    .unwrap()
                    .to_owned(),
            );
            let answer = if chunked {
                format!(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{metadata}\r\n0\r\n\r\n",
                    metadata.len()
                )
            } else {
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{metadata}",
                    metadata.len()
                )
            };
            stream.write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    let url = format!("http://{address}");
    for _ in 0..2 {
        let ran = run(&["import", "oip", &url, "--model", "digits", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        let digits = &value["models"]["digits"];
        assert_eq!(digits["versions"], serde_json::json!(["2"]));
        assert_eq!(digits["inputs"][0]["name"], "0");
        assert_eq!(
            digits["inputs"][0]["shape"],
            serde_json::json!([{"min": 1}, 8])
        );
    }
    assert_eq!(
        server.join().unwrap(),
        [
            "GET /v2/models/digits HTTP/1.1",
            "GET /v2/models/digits HTTP/1.1"
        ]
    );
}

#[test]
fn invalid_metadata_is_rejected_with_its_position() {
    let scratch = Scratch::new();
    let check = |kind: &str, text: &str, expected: &str| {
        let file = scratch.file("source", text);
        let ran = run(&["import".as_ref(), kind.as_ref(), file.as_os_str()]);
        assert_eq!(ran.code, 2, "{kind} {text}");
        assert!(ran.stderr.contains(expected), "{text}: {}", ran.stderr);
    };
    check("triton", "input {\n", "source:2: a brace is not closed");
    check("triton", "name: \"m\"", "lists no inputs");
    check(
        "triton",
        &CONFIG.replace("TYPE_FP32 format", "TYPE_FP8 format"),
        "datatype \"FP8\"",
    );
    check(
        "triton",
        &CONFIG.replace("[ 3, -1", "[ 0, -1"),
        "0 is not a valid dimension",
    );
    check(
        "triton",
        &CONFIG.replace("[ 3, -1", "[ 3.5, -1"),
        "are not numbers",
    );
    check(
        "triton",
        &CONFIG.replace("max_batch_size: 8", "max_batch_size: 8 max_batch_size: 9"),
        "occurs twice",
    );
    check("oip", "{}", "is not a model's metadata");
    let ran = run(&["import", "oip", "https://127.0.0.1:1", "--model", "m"]);
    assert!(
        ran.code == 2 && ran.stderr.contains("only http://"),
        "{}",
        ran.stderr
    );
    assert_eq!(run(&["import", "triton", "http://127.0.0.1:1"]).code, 2);
}
