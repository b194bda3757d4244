//! `render`: the same bytes each time; for Envoy, validated by a real Envoy, and its own replies in
//! the gate's wording.

mod control_planes;
mod examples;
mod gateway;
mod helm;
mod istio;
mod kubernetes;
mod remote_host;
mod tracing;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::program::{Ran, Scratch, digits, filters, free_port, host_policy, key, run, tree};

fn render(policy: &Path, more: &[&str]) -> Ran {
    let mut arguments = vec!["render", "-c", policy.to_str().unwrap(), "envoy"];
    arguments.extend(more);
    run(&arguments)
}

fn policies() -> [PathBuf; 2] {
    [digits(), tree().join("envoy/gate.yaml")]
}

#[test]
fn the_rendered_configuration_equals_the_golden_file() {
    let golden = tree().join("envoy/envoy.yaml");
    let rendered = render(&tree().join("envoy/gate.yaml"), &[]);
    assert_eq!(rendered.code, 0, "{}", rendered.stderr);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &rendered.stdout).unwrap();
    }
    let committed = std::fs::read_to_string(&golden).unwrap();
    let differs = committed
        .lines()
        .zip(rendered.stdout.lines())
        .find(|(a, b)| a != b);
    assert!(
        committed == rendered.stdout,
        "run with UPDATE_GOLDEN=1 and read the difference; the first is {differs:#?}"
    );
}

#[test]
fn every_listener_ignores_offers_of_tls() {
    let golden = std::fs::read_to_string(tree().join("envoy/envoy.yaml")).unwrap();
    let count = |text: &str| golden.matches(text).count();
    let managers = count("v3.HttpConnectionManager");
    assert_eq!(count("ignore_http_11_upgrade:"), managers);
}

#[test]
fn the_folder_of_an_envoy_has_its_source_and_the_output_has_what_to_do_next() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("out");
    let folder = folder.to_str().unwrap();
    let ran = render(&digits(), &["-o", folder]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    for line in [
        "TENSORGATE_CONTEXT_KEY in the environment of Envoy",
        &format!("    envoy -c {folder}/envoy.yaml\n"),
        "this prints 401:\n    curl -s",
    ] {
        assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    }
    let read = |name: &str| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let source = std::fs::read_to_string(digits()).unwrap();
    assert_eq!(read("gate.yaml.txt"), source);
    let generation = host_policy(Path::new(&format!("{folder}/bundle.bin"))).generation;
    let readme = read("README.txt");
    assert!(
        readme.contains(&generation) && !readme.contains(folder),
        "{readme}"
    );
}

#[test]
fn the_same_policy_gives_the_same_bytes() {
    for policy in policies() {
        let first = render(&policy, &[]);
        assert_eq!(first.code, 0, "{}", first.stderr);
        assert_eq!(first.stdout, render(&policy, &[]).stdout);
        let json: serde_json::Value =
            serde_json::from_str(&render(&policy, &["--json"]).stdout).unwrap();
        assert!(json.pointer("/static_resources/listeners/0").is_some());
        // Envoy does not start with this monitor where no cgroup counts its memory.
        assert!(!first.stdout.contains("cgroup_memory"));
    }
}

#[test]
fn a_real_envoy_validates_every_shipped_policy() {
    let filters = filters();
    for policy in policies() {
        let ran = render(
            &policy,
            &["--filters", filters.to_str().unwrap(), "--validate"],
        );
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
}

#[test]
fn a_policy_change_leaves_the_bootstrap_unchanged() {
    let scratch = Scratch::new();
    let text = std::fs::read_to_string(digits()).unwrap();
    let changed = scratch.file(
        "gate.yaml",
        text.replace("quota: 600", "quota: 700")
            .replace("header_bytes: 16KiB", "header_bytes: 8KiB"),
    );
    let path_of = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
    let (one, two, whole) = (path_of("one"), path_of("two"), path_of("whole"));
    for (policy, more) in [
        (&digits(), ["-o", &one, "--dynamic", "/there"].as_slice()),
        (&changed, &["-o", &two, "--dynamic", "/there"]),
        (&digits(), &["-o", &whole, "--whole"]),
    ] {
        let ran = render(policy, more);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    let read = |file: String| std::fs::read_to_string(file).unwrap();
    let parts = ["cds.yaml", "lds.yaml", "ecds-tensorgate.gate.yaml"];
    let bootstrap = read(format!("{one}/envoy.yaml"));
    assert_eq!(bootstrap, read(format!("{two}/envoy.yaml")));
    assert!(bootstrap.contains("path: /there/lds.yaml") && !bootstrap.contains("clients"));
    for part in parts {
        let differ = read(format!("{one}/dynamic/{part}")) != read(format!("{two}/dynamic/{part}"));
        assert!(differ, "{part} carries its policy's name at least");
    }
    assert!(!Path::new(&whole).join("dynamic").exists());
    assert_eq!(
        read(format!("{whole}/envoy.yaml")),
        render(&digits(), &[]).stdout
    );
}

#[test]
fn a_configuration_that_envoy_rejects_is_not_rendered() {
    let scratch = Scratch::new();
    scratch.file("gate.wasm", "not a module");
    let out = scratch.path().join("out");
    let ran = render(
        &digits(),
        &[
            "--filters",
            scratch.path().to_str().unwrap(),
            "--validate",
            "-o",
            out.to_str().unwrap(),
        ],
    );
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("Envoy rejects the configuration"),
        "{}",
        ran.stderr
    );
    assert!(!out.exists());
}

#[test]
fn a_socket_path_longer_than_the_kernels_limit_is_rejected() {
    let long = format!("/{}", "x".repeat(107));
    let ran = render(&digits(), &["--host-socket", &long]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}

#[test]
fn the_gates_address_is_not_that_of_the_counters() {
    let address = ["--listen", "127.0.0.1:7000", "--stats", "127.0.0.1:7000"];
    let ran = render(&digits(), &address);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("--stats"), "{}", ran.stderr);
}

#[test]
fn a_public_address_of_the_counters_needs_a_flag() {
    let public = ["--json", "--stats", "0.0.0.0:9903"];
    let ran = render(&digits(), &public);
    assert_eq!(ran.code, 2, "{}", ran.stdout);
    assert!(ran.stderr.contains("--admin-public"), "{}", ran.stderr);
    let ran = render(&digits(), &[&public[..], &["--admin-public"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

/// A real Envoy with the demo's policy, and no host behind it.
struct Gate {
    envoy: Child,
    port: u16,
    scratch: Scratch,
}

impl Gate {
    fn start() -> Self {
        let (scratch, port) = (Scratch::new(), free_port());
        let path_of = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
        let (listen, filters) = (format!("127.0.0.1:{port}"), filters());
        let mut more = vec!["--listen", &listen, "--filters", filters.to_str().unwrap()];
        let (host, admin, access, out) = (
            path_of("h"),
            path_of("a"),
            path_of("audit.sock"),
            path_of("out"),
        );
        more.extend([
            "--host-socket",
            &host,
            "--admin-socket",
            &admin,
            "--audit-socket",
            &access,
            "--stats",
            "127.0.0.1:0",
            "-o",
            &out,
        ]);
        // A short time limit for bodies, so that a slow one is rejected within a test.
        let policy = scratch.file(
            "gate.yaml",
            std::fs::read_to_string(digits())
                .unwrap()
                .replace("stream_ms: 30000", "stream_ms: 5000"),
        );
        let ran = render(&policy, &more);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let log = std::fs::File::create(scratch.path().join("envoy.log")).unwrap();
        let envoy = Command::new(envoy())
            .args([
                "-c",
                &format!("{out}/envoy.yaml"),
                "--disable-hot-restart",
                "--concurrency",
                "1",
                "-l",
                "warning",
            ])
            .env("TENSORGATE_CONTEXT_KEY", "ab".repeat(31) + "f0")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut gate = Self {
            envoy,
            port,
            scratch,
        };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = gate.envoy.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < Duration::from_secs(60),
                "{}",
                gate.log()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        gate
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("envoy.log")).unwrap_or_default()
    }

    /// The reply to raw bytes: head and body.
    fn send(&self, bytes: &[u8]) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = field(head, "content-length")
                    .and_then(|length| length.parse().ok())
                    .unwrap_or(0);
                if body.len() >= length {
                    return (head.to_owned(), body.to_owned());
                }
            }
            match stream.read(&mut piece) {
                Ok(read) if read > 0 => answer.extend(&piece[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                outcome => panic!("no whole answer ({outcome:?}): {text}\n{}", self.log()),
            }
        }
    }

    /// Checks an answer's reason, status and form.
    fn check(&self, bytes: impl AsRef<[u8]>, expected: &str, status: u16) -> (String, String) {
        let (head, body) = self.send(bytes.as_ref());
        let problem: serde_json::Value =
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {head}\n\n{body}"));
        assert_eq!(
            problem["type"],
            format!("urn:tensorgate:{expected}"),
            "{head}\n\n{body}"
        );
        assert_eq!(
            (&problem["status"], &problem["error"]),
            (&status.into(), &problem["error"])
        );
        assert!(
            problem["error"].is_string() && head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{head}\n\n{body}"
        );
        assert_eq!(
            field(&head, "content-type"),
            Some("application/problem+json")
        );
        let said = format!("{head}{body}").to_lowercase();
        assert!(
            !said.contains("envoy")
                && !said.contains("upstream")
                && field(&head, "server").is_none(),
            "{head}\n\n{body}"
        );
        (head, body)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.envoy.kill();
        let _ = self.envoy.wait();
    }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        line.split_once(": ")
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    })
}

/// The Envoy that the program itself would use.
fn envoy() -> PathBuf {
    let named = std::env::var_os("ENVOY").map(PathBuf::from);
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    named
        .or_else(|| cache.map(|cache| cache.join("tensorgate/envoy/bin/envoy")))
        .filter(|file| file.is_file())
        .expect("no Envoy: run `make setup`")
}

/// One gate for all that needs the real filter, because Envoy takes seconds to compile it.
#[test]
fn envoys_own_replies_have_the_gates_form_and_the_filters_are_unchanged() {
    let gate = Gate::start();
    replies_have_the_gates_wording(&gate);
    a_grpc_caller_gets_trailers(&gate);
    a_clients_own_request_id_is_replaced_even_from_loopback(&gate);
}

fn replies_have_the_gates_wording(gate: &Gate) {
    let key = key("scorer");
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: g\r\n{more}\r\n");
    let ready = "/v2/models/digits/ready";
    let known = format!("x-api-key: {key}\r\n");

    // The filter's own rejection.
    gate.check(get(ready, ""), "unauthenticated", 401);
    gate.check(
        get("/v2//models/digits/ready", &known),
        "not-an-inference-route",
        404,
    );
    gate.check(
        get("/v2/models/digits%2fready", &known),
        "not-an-inference-route",
        404,
    );
    gate.check(
        get("/", &format!("a: {}\r\n", "x".repeat(20 << 10))),
        "header-too-large",
        431,
    );

    // Envoy's own: no upstream, no valid request, too large, too slow.
    gate.check(get(ready, &known), "backend-unavailable", 503);
    gate.check(
        get("/", &format!("a: {}\r\n", "x".repeat(40 << 10))),
        "header-too-large",
        431,
    );
    gate.check(
        get(
            "/",
            &(0..200).map(|n| format!("h{n}: 1\r\n")).collect::<String>(),
        ),
        "header-too-large",
        431,
    );
    gate.check(get("/", "x_api_key: 1\r\n"), "ambiguous-request", 400);
    gate.check(get("/#x", ""), "ambiguous-request", 400);
    gate.check("GET / HTTP/1.0\r\n\r\n", "http-version", 426);
    gate.check("GET / HTTP/1.1\r\n\r\n", "ambiguous-request", 400);
    gate.check(
        get("/", "Content-Length: 1\r\nContent-Length: 2\r\n"),
        "ambiguous-request",
        400,
    );
    gate.check(
        get("/", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        "ambiguous-request",
        400,
    );
    gate.check(
        get("/", "Transfer-Encoding: gzip\r\n"),
        "ambiguous-request",
        400,
    );
    gate.check(
        get("/", "Connection: upgrade\r\nUpgrade: websocket\r\n"),
        "ambiguous-request",
        400,
    );
    gate.check(
        "FROB / HTTP/1.1\r\nHost: g\r\n\r\n",
        "ambiguous-request",
        400,
    );
    gate.check(
        "OPTIONS * HTTP/1.1\r\nHost: g\r\n\r\n",
        "not-an-inference-route",
        404,
    );
    let slow = format!(
        "POST /v2/models/digits/infer HTTP/1.1\r\nHost: g\r\n{known}content-type: application/json\r\nContent-Length: 9\r\n\r\n{{"
    );
    gate.check(slow, "malformed", 400);
}

fn a_grpc_caller_gets_trailers(gate: &Gate) {
    let head = format!(
        "POST /inference.GRPCInferenceService/ServerReady HTTP/1.1\r\nHost: g\r\nx-api-key: {}\r\ncontent-type: application/grpc\r\nContent-Length: 5\r\n\r\n",
        key("scorer")
    );
    let (head, body) = gate.send(&[head.as_bytes(), &[0; 5]].concat());
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(field(&head, "grpc-status"), Some("14"), "{head}");
    assert_eq!(
        field(&head, "grpc-message"),
        Some("the model is unavailable"),
        "{head}"
    );
    assert!(
        field(&head, "grpc-status-details-bin").is_some() && body.is_empty(),
        "{head}\n\n{body}"
    );
}

fn a_clients_own_request_id_is_replaced_even_from_loopback(gate: &Gate) {
    for theirs in ["7f000000-0000-4000-8000-000000000001", "\"},{"] {
        let (head, body) = gate.check(
            format!("GET /v2 HTTP/1.1\r\nHost: g\r\nx-request-id: {theirs}\r\n\r\n"),
            "unauthenticated",
            401,
        );
        let ours = field(&head, "x-request-id").unwrap();
        assert_ne!(ours, theirs);
        assert!(body.contains(&format!("\"instance\":\"{ours}\"")), "{body}");
    }
}
