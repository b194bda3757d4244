//! The Envoys that are compared: a bare one, the same with other filters in it, and a gate as `tensorgate render` writes it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::lab::{Envoy, Lab, Server};
use crate::load::Address;
use crate::outcome::{Failure, Outcome};
use crate::tls::Identity;

const BOOTSTRAP: &str = include_str!("../envoy/bootstrap.yaml");
const ROUTER: &str = include_str!("../envoy/router.yaml");
const SERVICE_CLUSTER: &str = include_str!("../envoy/service-cluster.yaml");
const EXT_AUTHZ: &str = include_str!("../envoy/ext-authz.yaml");
const EXT_PROC: &str = include_str!("../envoy/ext-proc.yaml");
const WITH_BODY: &str = include_str!("../envoy/with-body.yaml");
const LUA: &str = include_str!("../envoy/lua.yaml");
const MODULE: &str = include_str!("../envoy/module.yaml");
const TRANSPORT_SOCKET: &str = include_str!("../envoy/transport-socket.yaml");
const NATIVE: &str = include_str!("../envoy/native.yaml");

/// The filters fused, as `render` has them by default.
pub const GATE: &str = "gate";
/// The same work in three filters.
pub const CHAIN: &str = "auth,rate-limit,tensor-guard";

/// What is in front of the router.
pub enum Filters<'a> {
    /// Nothing.
    None,
    /// jwt_authn with a cache, local_ratelimit, rbac.
    Native {
        /// A JWKS document.
        jwks: &'a str,
    },
    /// ext_authz, asking that service.
    ExtAuthz(&'a Server),
    /// The same, with the whole body in the question.
    ExtAuthzWithBody(&'a Server),
    /// ext_proc, asking that service.
    ExtProc(&'a Server),
    /// A script.
    Lua {
        /// What it says.
        script: &'a str,
    },
    /// A module of proxy-wasm, with no configuration.
    Module(&'a Path),
    /// These, as JSON: the gate's, taken from what was rendered.
    Json(&'a Value),
}

/// Which way the upstream is.
pub enum Upstream<'a> {
    /// A Unix socket, as the sandbox host's.
    Unix(&'a Path),
    /// A TCP port, as an inference server's.
    Tcp(std::net::SocketAddr),
}

/// Starts an Envoy that is bare but for the filters, with one worker.
pub async fn start(
    lab: &Lab,
    name: &str,
    filters: Filters<'_>,
    upstream: Upstream<'_>,
) -> Outcome<Envoy> {
    start_with(lab, name, filters, upstream, &Mode::default()).await
}

/// How an Envoy runs.
pub struct Mode<'a> {
    /// Its workers.
    pub workers: usize,
    /// TLS on the listener, with this identity.
    pub tls: Option<&'a Identity>,
}

impl Default for Mode<'_> {
    fn default() -> Self {
        Self {
            workers: 1,
            tls: None,
        }
    }
}

/// The same in another mode.
pub async fn start_with(
    lab: &Lab,
    name: &str,
    filters: Filters<'_>,
    upstream: Upstream<'_>,
    mode: &Mode<'_>,
) -> Outcome<Envoy> {
    let mut more_clusters = String::new();
    let mut service = |server: &Server| {
        more_clusters =
            SERVICE_CLUSTER.replace("SERVICE_SOCKET", &server.socket.display().to_string());
    };
    let filters = match filters {
        Filters::None => ROUTER.to_owned(),
        Filters::Native { jwks } => NATIVE.replace("JWKS", &Value::from(jwks).to_string()) + ROUTER,
        Filters::ExtAuthz(server) => {
            service(server);
            EXT_AUTHZ.to_owned() + ROUTER
        }
        Filters::ExtAuthzWithBody(server) => {
            service(server);
            EXT_AUTHZ.to_owned() + WITH_BODY + ROUTER
        }
        Filters::Lua { script } => LUA.replace("SCRIPT", &Value::from(script).to_string()) + ROUTER,
        Filters::Module(path) => MODULE.replace("MODULE", &path.display().to_string()) + ROUTER,
        Filters::ExtProc(server) => {
            service(server);
            EXT_PROC.to_owned() + ROUTER
        }
        Filters::Json(filters) => filters.to_string(),
    };
    let address = match upstream {
        Upstream::Unix(path) => format!("{{pipe: {{path: {}}}}}", path.display()),
        Upstream::Tcp(address) => format!(
            "{{socket_address: {{address: {}, port_value: {}}}}}",
            address.ip(),
            address.port()
        ),
    };
    let admin = lab.path("admin.sock");
    let transport_socket = mode.tls.map(|identity| {
        TRANSPORT_SOCKET
            .trim_end()
            .replace("CERTIFICATE", &identity.certificate.display().to_string())
            .replace("PRIVATE_KEY", &identity.private_key.display().to_string())
    });
    let bootstrap = BOOTSTRAP
        .replace(
            "TRANSPORT_SOCKET",
            transport_socket.as_deref().unwrap_or("name: plain"),
        )
        .replace("HTTP_FILTERS", &block(&filters, 18))
        .replace("    MORE_CLUSTERS", &block(&more_clusters, 4))
        .replace("UPSTREAM_ADDRESS", &address)
        .replace("ADMIN_SOCKET", &admin.display().to_string());
    let mut envoy = lab.envoy(name, &bootstrap, &admin, mode.workers).await?;
    if let (Some(identity), Address::Tcp(address)) = (mode.tls, &envoy.address) {
        envoy.address = Address::Tls(*address, identity.trust.clone());
    }
    Ok(envoy)
}

/// Lines of YAML on lines of their own, indented.
fn block(text: &str, indent: usize) -> String {
    text.lines()
        .map(|line| format!("\n{}{line}", " ".repeat(indent)))
        .collect()
}

/// A policy as Envoy and host read it.
pub struct Rendered {
    /// The bootstrap.
    pub bootstrap: Value,
    /// Where `bundle.json` is.
    pub bundle: PathBuf,
    /// The policy's folder.
    pub folder: PathBuf,
    /// The bootstrap's admin socket.
    pub admin: PathBuf,
    /// The host's socket.
    pub socket: PathBuf,
    /// The host's socket for the access log.
    pub audit: PathBuf,
}

impl Rendered {
    /// Renders a policy for the gate's filter. The upstream at `socket` takes the requests, and the access log as well.
    pub fn new(lab: &Lab, folder: PathBuf, policy: &Value, socket: &Path) -> Outcome<Self> {
        Self::with_chain(lab, folder, policy, socket, GATE)
    }

    /// The same with these filters.
    pub fn with_chain(
        lab: &Lab,
        folder: PathBuf,
        policy: &Value,
        socket: &Path,
        chain: &str,
    ) -> Outcome<Self> {
        Self::of(lab, folder, policy, (socket, socket), chain)
    }

    /// The same in front of a sandbox host, which takes requests and access log on sockets of its own.
    pub fn with_host(lab: &Lab, folder: PathBuf, policy: &Value) -> Outcome<Self> {
        let (socket, audit) = (folder.join("host.sock"), folder.join("audit.sock"));
        Self::of(lab, folder, policy, (&socket, &audit), GATE)
    }

    fn of(
        lab: &Lab,
        folder: PathBuf,
        policy: &Value,
        (socket, audit): (&Path, &Path),
        chain: &str,
    ) -> Outcome<Self> {
        let file = folder.join("gate.yaml");
        std::fs::write(&file, crate::policy::text(policy))?;
        let admin = folder.join("admin.sock");
        let mut arguments: Vec<&OsStr> = vec![
            "--json".as_ref(),
            "render".as_ref(),
            "-c".as_ref(),
            file.as_ref(),
            "envoy".as_ref(),
            "-o".as_ref(),
            folder.as_ref(),
            "--whole".as_ref(),
            "--filters".as_ref(),
            lab.filters.as_ref(),
            "--host-socket".as_ref(),
            socket.as_ref(),
            "--audit-socket".as_ref(),
            audit.as_ref(),
            "--admin-socket".as_ref(),
            admin.as_ref(),
        ];
        if chain != GATE {
            arguments.extend([OsStr::new("--chain"), chain.as_ref()]);
        }
        lab.tensorgate(&arguments)?;
        Ok(Self {
            bootstrap: serde_json::from_slice(&std::fs::read(folder.join("envoy.yaml"))?)?,
            bundle: folder.join("bundle.json"),
            folder,
            admin,
            socket: socket.to_owned(),
            audit: audit.to_owned(),
        })
    }

    /// The filters in front of the router, and the router.
    pub fn filters(&self) -> Outcome<&Value> {
        self.bootstrap
            .pointer(
                "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/http_filters",
            )
            .ok_or_else(|| Failure::from("the rendered bootstrap has no http_filters"))
    }

    /// Starts the gate as it was rendered.
    pub async fn start(&self, lab: &Lab, name: &str, workers: usize) -> Outcome<Envoy> {
        let bootstrap = self.bootstrap.to_string();
        lab.envoy(name, &bootstrap, &self.admin, workers).await
    }
}
