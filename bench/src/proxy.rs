//! The Envoys to compare: a bare one, one with other filters, and a gate as `tensorgate render`
//! configures it.

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
const NATIVE_MODULE: &str = include_str!("../envoy/native-module.yaml");
const TRANSPORT_SOCKET: &str = include_str!("../envoy/transport-socket.yaml");
const NATIVE: &str = include_str!("../envoy/native.yaml");

/// Options of `render`: the gate's wasm module, which is its default.
pub const GATE: &[&str] = &[];
/// The same work in three filters.
pub const CHAIN: &[&str] = &["--chain", "auth,rate-limit,tensor-guard"];
/// The gate's native module, which is built beside the programs.
pub const NATIVE_GATE: &[&str] = &["--driver", "module"];

/// The HTTP filters in front of the router.
pub enum Filters<'a> {
    /// Nothing.
    None,
    /// jwt_authn with a cache, local_ratelimit, rbac.
    Native {
        /// A JWKS document.
        jwks: &'a str,
    },
    /// ext_authz, which calls that service.
    ExtAuthz(&'a Server),
    /// ext_authz with the whole body in the request to the service.
    ExtAuthzWithBody(&'a Server),
    /// ext_proc, which calls that service.
    ExtProc(&'a Server),
    /// A Lua script.
    Lua {
        /// Its text.
        script: &'a str,
    },
    /// A proxy-wasm module without configuration.
    Module(&'a Path),
    /// A native module without configuration.
    NativeModule {
        /// Its file.
        path: &'a Path,
        /// The name of one of its filters.
        filter: &'a str,
    },
    /// Filters as JSON: the gate's, taken from a rendered policy.
    Json(&'a Value),
}

/// The address of the upstream.
pub enum Upstream<'a> {
    /// A Unix socket, as the sandbox host has.
    Unix(&'a Path),
    /// A TCP port, as an inference server has.
    Tcp(std::net::SocketAddr),
}

/// Starts an Envoy with these filters and one worker.
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
    /// Number of workers.
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

/// Starts an Envoy in another mode.
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
        Filters::NativeModule { path, filter } => {
            let path = path.display().to_string();
            NATIVE_MODULE
                .replace("MODULE", &path)
                .replace("FILTER", filter)
                + ROUTER
        }
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

/// Lines of YAML as an indented block.
fn block(text: &str, indent: usize) -> String {
    text.lines()
        .map(|line| format!("\n{}{line}", " ".repeat(indent)))
        .collect()
}

/// A rendered policy: what Envoy and the host read.
pub struct Rendered {
    /// The bootstrap.
    pub bootstrap: Value,
    /// The path of `bundle.bin`.
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
    /// Renders a policy for the gate's filter. The upstream at `socket` receives the requests and
    /// the access log.
    pub fn new(lab: &Lab, folder: PathBuf, policy: &Value, socket: &Path) -> Outcome<Self> {
        Self::with_options(lab, folder, policy, socket, GATE)
    }

    /// The same with these options.
    pub fn with_options(
        lab: &Lab,
        folder: PathBuf,
        policy: &Value,
        socket: &Path,
        options: &[&str],
    ) -> Outcome<Self> {
        Self::of(lab, folder, policy, (socket, socket), options)
    }

    /// Renders a policy for a gate with a sandbox host, which has separate sockets for requests and
    /// the access log.
    pub fn with_host(lab: &Lab, folder: PathBuf, policy: &Value) -> Outcome<Self> {
        let (socket, audit) = (folder.join("host.sock"), folder.join("audit.sock"));
        Self::of(lab, folder, policy, (&socket, &audit), GATE)
    }

    fn of(
        lab: &Lab,
        folder: PathBuf,
        policy: &Value,
        (socket, audit): (&Path, &Path),
        options: &[&str],
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
            if options == NATIVE_GATE {
                lab.bin.as_ref()
            } else {
                lab.filters.as_ref()
            },
            "--host-socket".as_ref(),
            socket.as_ref(),
            "--audit-socket".as_ref(),
            audit.as_ref(),
            "--admin-socket".as_ref(),
            admin.as_ref(),
            "--stats".as_ref(),
            "127.0.0.1:0".as_ref(),
        ];
        arguments.extend(options.iter().map(OsStr::new));
        lab.tensorgate(&arguments)?;
        Ok(Self {
            bootstrap: serde_json::from_slice(&std::fs::read(folder.join("envoy.yaml"))?)?,
            bundle: folder.join("bundle.bin"),
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

    /// Starts Envoy with the rendered bootstrap.
    pub async fn start(&self, lab: &Lab, name: &str, workers: usize) -> Outcome<Envoy> {
        let bootstrap = self.bootstrap.to_string();
        lab.envoy(name, &bootstrap, &self.admin, workers).await
    }
}
