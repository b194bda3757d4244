//! `import`: contracts from metadata, with a fault left at every bound that no server reports.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tensorgate_client::pki::{Authority, Leaf};
use tokio_rustls::rustls::{ServerConnection, StreamOwned};

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
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
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
    for (words, expected) in [
        (
            vec!["oip", "ftp://127.0.0.1:1", "--model", "m"],
            "only http:// and https://",
        ),
        (
            vec!["triton", "http://127.0.0.1:1"],
            "name the model: http://127.0.0.1:1/v2/models/NAME, or --model NAME",
        ),
        (
            vec!["oip", "http://127.0.0.1:1/v2/models/a", "--model", "b"],
            "the URL names model \"a\", --model names \"b\"",
        ),
        (
            vec!["oip", "http://127.0.0.1:1/v2/models/a/versions/1"],
            "expected http://HOST:PORT/v2/models/NAME",
        ),
        (
            vec!["mlserver", "http://127.0.0.1:1"],
            "no kind of source is named \"mlserver\"; known are: triton, oip",
        ),
    ] {
        let ran = run(&[vec!["import"], words.clone()].concat());
        assert_eq!(ran.code, 2, "{words:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{words:?}: {}", ran.stderr);
    }
}

/// A server that answers every request with this body, over TLS if it has a certificate. It closes
/// TLS connections without the message that ends them.
fn server(body: &str, leaf: Option<&Leaf>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let tls = leaf.map(|leaf| leaf.server_config().unwrap());
    std::thread::spawn(move || {
        let reply = |mut stream: Box<dyn ReadWrite>| {
            let mut head = [0; 1024];
            if stream.read(&mut head).is_ok_and(|read| read > 0) {
                let _ = stream.write_all(answer.as_bytes());
                let _ = stream.flush();
            }
        };
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            match &tls {
                None => reply(Box::new(stream)),
                Some(config) => {
                    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                    reply(Box::new(StreamOwned::new(connection, stream)));
                }
            }
        }
    });
    address
}

trait ReadWrite: std::io::Read + std::io::Write {}
impl<S: std::io::Read + std::io::Write> ReadWrite for S {}

#[test]
fn a_model_is_imported_over_https_from_its_own_url() {
    let authority = Authority::new("servers").unwrap();
    let leaf = authority.issue(7, &["ip:127.0.0.1"]).unwrap();
    let metadata = r#"{"name":"digits","versions":["2"],"inputs":[{"name":"x","datatype":"FP32","shape":[8]}],"outputs":[{"name":"y","datatype":"INT64","shape":[1]}]}"#;
    let address = server(metadata, Some(&leaf));
    let url = format!("https://{address}/v2/models/digits");
    let scratch = Scratch::new();
    let ca = scratch.file("ca.pem", &authority.pem);
    let other = scratch.file("other.pem", &Authority::new("others").unwrap().pem);
    let import = |ca: &std::path::Path| {
        run(&[
            "import",
            "oip",
            &url,
            "--json",
            "--ca",
            ca.to_str().unwrap(),
        ])
    };
    let ran = import(&ca);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let value: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(value["models"]["digits"]["inputs"][0]["name"], "x");
    let ran = import(&other);
    assert!(
        ran.code == 2 && ran.stderr.contains("certificate") && ran.stdout.is_empty(),
        "{}",
        ran.stderr
    );
    assert_eq!(import(std::path::Path::new("/nowhere")).code, 2);
}

#[test]
fn a_server_without_inputs_is_named_with_the_model_and_the_next_step() {
    let address = server(r#"{"name":"m","inputs":[],"outputs":[]}"#, None);
    for kind in ["oip", "triton"] {
        let url = format!("http://{address}/v2/models/m");
        let ran = run(&["import", kind, &url]);
        assert_eq!(ran.code, 2, "{kind}");
        for piece in [
            address.to_string().as_str(),
            "publishes no inputs of model \"m\"",
            "model-settings.json",
            "models.m.inputs by hand",
        ] {
            assert!(ran.stderr.contains(piece), "{kind}: {}", ran.stderr);
        }
    }
}

#[test]
fn everything_that_check_rejects_is_marked() {
    let scratch = Scratch::new();
    let import = |metadata: &str| {
        let file = scratch.file("metadata.json", metadata);
        let ran = run(&["import".as_ref(), "oip".as_ref(), file.as_os_str()]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran
    };
    let tensor = |name: &str, shape: &str| {
        format!(r#"{{"name":"{name}","datatype":"FP32","shape":{shape}}}"#)
    };
    let model = |name: &str, inputs: &str| {
        let outputs = tensor("y", "[1]");
        format!(r#"{{"name":"{name}","inputs":[{inputs}],"outputs":[{outputs}]}}"#)
    };
    let deep = format!("[{}]", ["2"; 17].join(","));
    let twice = [tensor("x", "[1]"), tensor("x", "[1]")].join(",");
    for (metadata, line) in [
        (model("m", &tensor("x", &deep)), "shape: [2, 2"),
        (model("m", &twice), "- name: x"),
        (model("..", &tensor("x", "[-1]")), "  \"..\":"),
    ] {
        let ran = import(&metadata);
        let marked: Vec<_> = (ran.stdout.lines())
            .filter(|line| line.contains("# check: "))
            .collect();
        assert!(
            marked.len() == 1 && marked[0].contains(line),
            "{}",
            ran.stdout
        );
        assert!(
            ran.stderr.contains("`check` will reject models"),
            "{}",
            ran.stderr
        );
    }
    let good = import(&model("m", &tensor("x", "[-1]")));
    assert!(!good.stdout.contains("# check"), "{}", good.stdout);
}

#[test]
fn a_decoupled_model_is_imported_as_one() {
    let scratch = Scratch::new();
    let plain = "    protocols: [oip-rest, oip-grpc]\n    inputs:";
    let decoupled = "    protocols: [oip-grpc]\n    decoupled: {max_answers: 64, max_bytes: 4MiB}";
    for (policy, expected) in [
        ("model_transaction_policy { decoupled: true }", decoupled),
        ("model_transaction_policy: { decoupled: True }", decoupled),
        ("model_transaction_policy { decoupled: false }", plain),
        ("model_transaction_policy { }", plain),
    ] {
        let file = scratch.file("config.pbtxt", format!("{CONFIG}{policy}\n"));
        let ran = run(&["import".as_ref(), "triton".as_ref(), file.as_os_str()]);
        assert_eq!(ran.code, 0, "{policy}: {}", ran.stderr);
        assert!(ran.stdout.contains(expected), "{policy}: {}", ran.stdout);
    }
    for policy in [
        "model_transaction_policy: true",
        "model_transaction_policy { decoupled: 2 }",
    ] {
        let file = scratch.file("config.pbtxt", format!("{CONFIG}{policy}\n"));
        let ran = run(&["import".as_ref(), "triton".as_ref(), file.as_os_str()]);
        assert_eq!(ran.code, 2, "{policy}: {}", ran.stdout);
    }
}

#[test]
fn hints_fit_the_model() {
    let scratch = Scratch::new();
    for (datatype, dim, policy, expected) in [
        (
            "FP32",
            8,
            "",
            "servers do not report sensible values: add a range to each numeric input; name the model in a grant",
        ),
        ("BOOL", 8, "", "name the model in a grant"),
        (
            "BOOL",
            -1,
            "",
            "1 bound is missing; name the model in a grant",
        ),
        (
            "BOOL",
            8,
            "model_transaction_policy { decoupled: true }",
            "adjust `decoupled` of m and grant it `stream`, not `infer`",
        ),
    ] {
        let text = format!(
            "name: \"m\"
            input {{ name: \"x\" data_type: TYPE_{datatype} dims: [ {dim} ] }}
            output {{ name: \"y\" data_type: TYPE_BOOL dims: [ 1 ] }}
            {policy}"
        );
        let file = scratch.file("config.pbtxt", text);
        let ran = run(&["import".as_ref(), "triton".as_ref(), file.as_os_str()]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.stderr.trim(), expected, "{datatype} {dim} {policy}");
    }
}
