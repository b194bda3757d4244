//! An Envoy of a user's own with our filters, and any server behind it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tensorgate_policy::FilterConfiguration;
use tensorgate_tests::ask::VALID;
use tensorgate_tests::programs::{envoy, free_address, program, target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

use super::JWKS;

/// How long Envoy may take to compile its modules and listen.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server that answers every request, and records the heads.
pub async fn upstream() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let heads = Arc::clone(&heads);
            tokio::spawn(async move {
                let mut request = Vec::new();
                let mut piece = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut piece).await {
                    request.extend_from_slice(&piece[..read]);
                    let text = String::from_utf8_lossy(&request).into_owned();
                    let Some((head, body)) = text.split_once("\r\n\r\n") else {
                        continue;
                    };
                    if body.len() < VALID.len() {
                        continue;
                    }
                    heads.lock().unwrap().push(head.to_owned());
                    request.clear();
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
                    if stream.write_all(answer).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, seen)
}

/// The connection manager of a bootstrap.
pub fn manager(bootstrap: &mut Value) -> &mut Value {
    &mut bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
}

/// Changes the bytes of the compiled policy of the first filter.
pub fn edit_compiled(bootstrap: &mut Value, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let filter = &mut manager(bootstrap)["http_filters"][0];
    let configuration = &mut filter["typed_config"]["config"]["configuration"]["value"];
    let text = configuration.as_str().unwrap().to_owned();
    let encoded: FilterConfiguration<'_> = serde_json::from_str(&text).unwrap();
    let bytes = edit(encoded.decode().unwrap());
    let edited = FilterConfiguration::new(&bytes, FilterConfiguration::MAX_PLAIN_BYTES).unwrap();
    *configuration = json!(serde_json::to_string(&edited).unwrap());
}

/// Makes Envoy write a line of this format for each request, to `access.log` in this folder.
pub fn log_access(bootstrap: &mut Value, folder: &Path, format: &str) {
    manager(bootstrap)["access_log"] = json!([{
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": folder.join("access.log"),
            "log_format": {"text_format_source": {"inline_string": format}}
        }
    }]);
}

/// Puts `jwt_authn` in front of our filters.
pub fn meshed(bootstrap: &mut Value, ours: &[&str]) {
    let filters = manager(bootstrap)["http_filters"].as_array_mut().unwrap();
    let names: Vec<_> = filters
        .iter()
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let (last, first) = names.split_last().unwrap();
    assert_eq!((first, *last), (ours, "envoy.filters.http.router"));
    let authn = json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"mesh": {
                "issuer": "https://mesh.example",
                "audiences": ["tensorgate"],
                "local_jwks": {"inline_string": JWKS},
                "payload_in_metadata": "jwt",
            }},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "mesh"}}],
        },
    });
    filters.insert(0, authn);
}

/// Puts another server behind our filters.
pub fn before(bootstrap: &mut Value, upstream: SocketAddr) {
    // Another server sends no data for an audit record.
    let routes = manager(bootstrap)["route_config"].as_object_mut().unwrap();
    assert!(routes.remove("request_headers_to_add").is_some());
    let cluster = &mut bootstrap["static_resources"]["clusters"][0];
    cluster
        .as_object_mut()
        .unwrap()
        .remove("typed_extension_protocol_options");
    cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = json!({
        "socket_address": {"address": upstream.ip().to_string(), "port_value": upstream.port()}
    });
}

/// An Envoy of a user's own with our filters. Stops when dropped.
pub struct Mesh {
    pub gate: SocketAddr,
    pub folder: PathBuf,
    sockets: PathBuf,
    proxy: tokio::process::Child,
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.sockets);
    }
}

impl Mesh {
    /// Renders a chain for a policy, changes the result, and starts an Envoy with it. A context key
    /// is given if the server behind reads a context.
    pub async fn start(
        name: &str,
        policy: &Value,
        chain: &str,
        context_key: Option<&str>,
        change: impl FnOnce(&mut Value, &Path),
    ) -> Self {
        let mut mesh = Self::launch(name, policy, chain, context_key, change).await;
        let end = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(mesh.gate).await.is_err() {
            assert!(mesh.proxy.try_wait().unwrap().is_none(), "{}", mesh.log());
            assert!(Instant::now() < end, "{}", mesh.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        mesh
    }

    /// The same for an Envoy that does not start: its log after it has ended.
    pub async fn refused(
        name: &str,
        policy: &Value,
        chain: &str,
        context_key: Option<&str>,
        change: impl FnOnce(&mut Value, &Path),
    ) -> String {
        let mut mesh = Self::launch(name, policy, chain, context_key, change).await;
        let ended = tokio::time::timeout(PATIENCE, mesh.proxy.wait()).await;
        let ended = ended.unwrap_or_else(|_| panic!("it runs: {}", mesh.log()));
        assert!(!ended.unwrap().success(), "{}", mesh.log());
        mesh.log()
    }

    /// What Envoy has written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("envoy.log")).unwrap()
    }

    async fn launch(
        name: &str,
        policy: &Value,
        chain: &str,
        context_key: Option<&str>,
        change: impl FnOnce(&mut Value, &Path),
    ) -> Self {
        let target = target();
        let folder = target.join(format!("e2e/{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("gate.yaml");
        std::fs::write(&file, serde_json::to_vec(policy).unwrap()).unwrap();
        let gate = free_address();
        let sockets = std::env::temp_dir().join(format!("tg-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&sockets).unwrap();
        let rendered = Command::new(program("tensorgate"))
            .args(["--json", "render", "-c"])
            .arg(&file)
            .args(["envoy", "--chain", chain, "--stats", "127.0.0.1:0"])
            .args(["--listen", &gate.to_string(), "--filters"])
            .arg(target.join("filters"))
            .arg("--admin-socket")
            .arg(sockets.join("admin.sock"))
            .output()
            .await
            .unwrap();
        assert!(
            rendered.status.success(),
            "{}",
            String::from_utf8_lossy(&rendered.stderr)
        );
        let mut bootstrap: Value = serde_json::from_slice(&rendered.stdout).unwrap();
        change(&mut bootstrap, &folder);
        let started = folder.join("envoy.json");
        std::fs::write(&started, serde_json::to_vec(&bootstrap).unwrap()).unwrap();
        let log = std::fs::File::create(folder.join("envoy.log")).unwrap();
        let mut command = Command::new(envoy());
        command
            .args(["--disable-hot-restart", "--concurrency", "2", "-c"])
            .arg(&started)
            .env_remove("TENSORGATE_CONTEXT_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true);
        if let Some(key) = context_key {
            command.env("TENSORGATE_CONTEXT_KEY", key);
        }
        let proxy = command.spawn().unwrap();
        Self {
            gate,
            folder,
            sockets,
            proxy,
        }
    }
}
