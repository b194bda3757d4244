//! The host process: it parses the flags, runs the host until a signal and exits with a code.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use tensorgate_base::{guard, heap};
use tensorgate_host::config::{self, ConfigError, Settings};
use tensorgate_host::host::Secrets;
use tensorgate_host::server::listeners::{AllowedPeers, ServiceAddress};
use tensorgate_host::server::reader_credential::ReaderCredential;
use tensorgate_host::service::ask_servers;
use tensorgate_host::service::install_filters;
use tensorgate_host::service::pod_command;
use tensorgate_host::service::reload;
use tensorgate_host::{Host, StartError};
use tensorgate_judge::context_keys::ContextKeys;
use tensorgate_models::scan::supervisor::{ScannerSupervisor, scanner_supervisor};
use tensorgate_models::scan::worker::scanner_process;
use tensorgate_os_sandbox as os_sandbox;
use tensorgate_os_sandbox::{Access, BaseFolders, OsSandbox, Resource};
use tensorgate_sandbox::{CompilerConfig, CompilerProcess, compiler_process};
use tensorgate_settings::bundle::{BundleError, Candidate, bundle};
use tensorgate_settings::folders::{Folders, RUNTIMES};
use tensorgate_settings::handler_memory;
use tensorgate_settings::permitted::Permitted;
use tensorgate_settings::policy_resources::PolicyResources;
use tensorgate_settings::sources::Sources;
use tensorgate_telemetry::logging::{Log, LogFormat};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The exit code for wrong usage or input, as for every `tensorgate` command.
const BAD_INPUT: u8 = 2;
/// The exit code for a failed start, or for a drain that had to abort requests.
const FAILED: u8 = 1;

/// The time that a shutdown waits for work that cannot be cancelled, such as a compilation. Then
/// the process exits.
const RUNTIME_END: Duration = Duration::from_secs(1);
/// The fewest threads that serve connections.
const MIN_RUNTIME_THREADS: usize = 2;

/// Runs tensorgate's sandbox host.
///
/// To load a new policy, rename another bundle over the current one, or send SIGHUP. Requests that
/// the gate admitted under the previous policy end under it. A bundle with faults changes nothing.
/// /generations of the admin server shows the result of each attempt.
///
/// Example: tensorgate-host --bundle bundle.bin --root . --socket run/host.sock
/// --audit-folder /var/lib/tensorgate --context-key-file run/context.key
/// --endpoint cpu=unix:/run/tensorgate/cpu.sock
#[derive(Parser, Debug)]
#[command(version)]
struct Flags {
    /// The policy bundle, as `tensorgate render` compiles it. To replace it, rename another
    /// file over it; never write it in place.
    #[arg(long, env = "TENSORGATE_BUNDLE")]
    bundle: PathBuf,
    /// The folder that component paths are relative to.
    #[arg(long, env = "TENSORGATE_ROOT", default_value = ".")]
    root: PathBuf,
    /// The folder of the bundled handlers, which a policy names as `builtin:NAME`. The default is
    /// `builtins` beside this program.
    #[arg(long, env = "TENSORGATE_BUILTINS")]
    builtins: Option<PathBuf>,
    /// A further folder of runtimes, which handlers in Python name by SHA-256. The first is
    /// `runtimes` in the folder of the bundled handlers. `tensorgate up` names the one that
    /// `tensorgate handler setup` fills.
    #[arg(long, value_name = "FOLDER")]
    runtimes: Option<PathBuf>,
    /// The Unix socket for requests of the gate, created with mode 0600, or 0666 with --peer-uid.
    /// It may be left out with --listen.
    #[arg(long, env = "TENSORGATE_SOCKET", required_unless_present = "listen")]
    socket: Option<PathBuf>,
    /// Another user who may connect to the Unix sockets, such as Istio's proxy (1337). The kernel
    /// reports who connects. This host's own user and root always may. Repeatable.
    #[arg(
        long = "peer-uid",
        env = "TENSORGATE_PEER_UID",
        value_name = "UID",
        value_delimiter = ','
    )]
    peer_uids: Vec<u32>,
    /// The Unix socket for Envoy's access log, with the mode of --socket. The default is
    /// `audit.sock` beside --socket.
    #[arg(long, env = "TENSORGATE_AUDIT_SOCKET")]
    audit_socket: Option<PathBuf>,
    /// The Unix socket of the rate limit service, with the mode of --socket. The default is
    /// `limits.sock` beside --socket.
    #[arg(long, env = "TENSORGATE_LIMITS_SOCKET")]
    limits_socket: Option<PathBuf>,
    /// The TCP address for requests of gates, with mutual TLS (1.3, HTTP/2). It needs --tls-cert,
    /// --tls-key, --tls-client-ca and --gateway.
    #[arg(long, env = "TENSORGATE_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The same for Envoy's access log. It must not be reachable for clients of the gateway.
    #[arg(long, env = "TENSORGATE_AUDIT_LISTEN", value_name = "ADDRESS:PORT")]
    audit_listen: Option<SocketAddr>,
    /// Other hosts receive the access log of the same gateways, as behind a Service. A gap in the
    /// numbers of its entries then proves no loss, and is not reported as one.
    #[arg(long)]
    audit_shared: bool,
    /// The same for the rate limit service. It must not be reachable for clients of the gateway.
    #[arg(long, env = "TENSORGATE_LIMITS_LISTEN", value_name = "ADDRESS:PORT")]
    limits_listen: Option<SocketAddr>,
    /// The certificate for TCP, with its intermediates (PEM). This file, the key and the authority
    /// are read again when they are replaced.
    #[arg(long, env = "TENSORGATE_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The key of the certificate (PEM). Who may read it is as for the context key.
    #[arg(long, env = "TENSORGATE_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// The authorities that sign certificates of gateways (PEM).
    #[arg(long, env = "TENSORGATE_TLS_CLIENT_CA", value_name = "FILE")]
    tls_client_ca: Option<PathBuf>,
    /// The SPIFFE ID or DNS name in the certificate of a gateway that may connect. It must be
    /// exactly equal. Repeatable.
    #[arg(
        long = "gateway",
        env = "TENSORGATE_GATEWAY",
        value_name = "NAME",
        value_delimiter = ','
    )]
    gateways: Vec<String>,
    /// The base folder for a relative audit log path of the policy. Its files should survive a
    /// restart. The default is the folder of --socket.
    #[arg(long, env = "TENSORGATE_AUDIT_FOLDER")]
    audit_folder: Option<PathBuf>,
    /// Also write each line of the audit log to standard output, as with `stdout: true` in
    /// `audit.export`. `tensorgate render` sets it for a cluster where the policy has no
    /// `audit.export`.
    #[arg(long)]
    audit_stdout: bool,
    /// The file with the key that the gate and the host share: 64 hex digits, readable only by its
    /// owner. A secret that Kubernetes mounts may be root's and readable by its group. While keys
    /// are exchanged it has two lines, the new key first: both are accepted. It is read again when
    /// it is replaced.
    #[arg(long, env = "TENSORGATE_CONTEXT_KEY_FILE")]
    context_key_file: PathBuf,
    /// The address of the admin server: the console at /, and /healthz, /readyz and /metrics. It
    /// must be a loopback address unless --admin-public is set.
    #[arg(long, env = "TENSORGATE_ADMIN", default_value_t = tensorgate_settings::admin::DEFAULT_ADDRESS)]
    admin: SocketAddr,
    /// Permits a non-loopback address for --admin. There, /healthz, /readyz and /metrics are
    /// served, and 404 for the rest.
    #[arg(long)]
    admin_public: bool,
    /// A second address of the admin server, on loopback, where all of it is served: for this
    /// machine and for `kubectl port-forward` while --admin is public.
    #[arg(long, env = "TENSORGATE_ADMIN_LOCAL", value_name = "ADDRESS:PORT")]
    admin_local: Option<SocketAddr>,
    /// Serve all of the admin server at --admin to requests with the secret in this file, and at a
    /// loopback address to no others: as a bearer token, or as the password of HTTP's Basic scheme.
    /// At least 32 characters. Who may read the file is as for the context key. Put TLS before the
    /// port: it has none.
    #[arg(long, env = "TENSORGATE_CONSOLE_PUBLIC", value_name = "FILE")]
    console_public: Option<PathBuf>,
    /// The address of an embedded backend: NAME=unix:/path or NAME=http://host:port. Repeatable.
    #[arg(long = "endpoint", value_name = "NAME=URI")]
    endpoints: Vec<String>,
    /// The format of log lines.
    #[arg(long, env = "TENSORGATE_LOG", value_enum, default_value_t = LogFormat::Text)]
    log: LogFormat,
    /// The folder where this host caches compiled handlers, created with mode 0700. The next start
    /// or reload loads them in milliseconds. Files that other users could have written are not
    /// used.
    #[arg(long, env = "TENSORGATE_CACHE_FOLDER")]
    cache_folder: Option<PathBuf>,
    /// Load development builds of handlers, whose calls read the author's code. `tensorgate up
    /// --dev` sets it. A host without it refuses them by the name of their import.
    #[arg(long)]
    development: bool,
    /// Restricts this process by the kernel (Landlock, seccomp): no privileges, no new programs,
    /// and only the files and ports that it needs. The log shows the restrictions in force. With
    /// `required`, the host does not start if the kernel cannot enforce all of them.
    #[arg(long, env = "TENSORGATE_HARDEN", value_enum, default_value_t = Harden::Off)]
    harden: Harden,
    /// Stay unready until the filter has forwarded a request. This is for a supervisor that starts
    /// Envoy and sends that request, as `tensorgate up` and the probe of a pod with an Envoy of its
    /// own do. It is not for a mesh, where no request arrives before the host is ready.
    #[arg(long)]
    wait_for_filter: bool,
    /// The most concurrent calls of one handler, and the threads that serve connections (at least
    /// two). In a container it should be the processors that the container asks for, because its
    /// memory must hold these calls. The default is the processors of the machine, or of the
    /// container if these are limited.
    #[arg(long, env = "TENSORGATE_HANDLER_THREADS", value_name = "N")]
    handler_threads: Option<NonZeroUsize>,
    /// The limit on the memory of all handlers together, such as 512MiB. A policy whose handlers
    /// can need more is not loaded. A call for which there is no more is rejected as overloaded.
    /// The default is half of the memory of the machine, or of the container if that is less.
    #[arg(
        long,
        env = "TENSORGATE_HANDLER_MEMORY",
        value_name = "SIZE",
        value_parser = handler_memory::parse_size,
        // Read before the OS sandbox is applied, which permits none of these files.
        default_value_t = handler_memory::default_limit_bytes(),
        hide_default_value = true
    )]
    handler_memory: usize,
    /// The seconds that in-flight requests have to end after SIGTERM.
    #[arg(long, default_value_t = 10)]
    drain_s: u64,
}

/// The processes beside the host: those that compile handlers, and those that scan files of models.
type Processes = (CompilerConfig, Result<Arc<ScannerSupervisor>, String>);

/// Whether the OS sandbox is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Harden {
    /// It is not applied.
    Off,
    /// Apply what the kernel supports.
    BestEffort,
    /// Apply all of it, or do not start.
    Required,
}

fn main() -> ExitCode {
    if let Some(code) = compiler_process(std::env::args_os().skip(1)) {
        return code;
    }
    let scanning = scanner_process(std::env::args_os().skip(1))
        .or_else(|| scanner_supervisor(std::env::args_os().skip(1)));
    if let Some(code) = scanning {
        return code;
    }
    let command = pod_command::run(std::env::args_os().skip(1))
        .or_else(|| install_filters::run(std::env::args_os().skip(1)))
        .or_else(|| ask_servers::run(std::env::args_os().skip(1)));
    if let Some(ended) = command {
        return match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(cause) => {
                eprintln!("tensorgate-host: {cause}");
                ExitCode::from(FAILED)
            }
        };
    }
    // Other allocators than glibc's need no setting.
    let _ = heap::keep_freed_memory();
    let flags = Flags::parse();
    // Start the compiler and the scanner before the OS sandbox forbids new processes. Do all of
    // that before a second thread exists.
    let compiler = CompilerProcess::start(flags.harden == Harden::Required);
    let compiler = compiler.and_then(|compiler| match flags.harden {
        Harden::Off => Ok(compiler),
        Harden::BestEffort | Harden::Required => compiler.with_spares(),
    });
    let scanner = ScannerSupervisor::start(flags.harden == Harden::Required).map(Arc::new);
    // The rules of the OS sandbox are for this policy, so it is not read again.
    let policy = bundle(&flags.bundle);
    let sandbox = (flags.harden != Harden::Off).then(|| confine(&flags, policy.as_ref().ok()));
    let log = match Log::new(std::io::stderr()) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("tensorgate-host: cannot start the log: {error}");
            return ExitCode::from(FAILED);
        }
    };
    log.install(flags.log);
    let flushed = log.clone();
    guard::log_panics(move || flushed.flush());
    if let Some((sandbox, _)) = &sandbox {
        let (is_full, restrictions) = (sandbox.is_full(), sandbox.describe());
        if is_full {
            tracing::info!(restrictions, "OS sandbox active");
        } else if flags.harden == Harden::Required {
            tracing::error!(
                restrictions,
                "cannot start: the OS sandbox is required, and this kernel does not support all of it"
            );
            log.flush();
            return ExitCode::from(FAILED);
        } else {
            tracing::warn!(restrictions, "OS sandbox incomplete");
        }
    }
    let process = match compiler {
        Ok(process) => Some(Arc::new(process)),
        Err(error) if flags.harden == Harden::Required => {
            tracing::error!(
                cause = error.to_string(),
                "cannot start: the OS sandbox is required, and compilation has no separate process"
            );
            log.flush();
            return ExitCode::from(FAILED);
        }
        Err(error) => {
            tracing::warn!(
                cause = error.to_string(),
                "compiling components in this process"
            );
            None
        }
    };
    let builtins = flags.builtins.clone().unwrap_or_else(installed);
    let bundled = [builtins.join(RUNTIMES)].into_iter();
    let compiler_config = CompilerConfig {
        folder: flags.cache_folder.clone(),
        process,
        runtimes: bundled.chain(flags.runtimes.clone()).collect(),
        development: flags.development,
        ..CompilerConfig::default()
    };
    let code = match runtime(flags.handler_threads) {
        Ok(runtime) => {
            let permitted = sandbox.map(|(_, permitted)| permitted);
            let processes = (compiler_config, scanner);
            let code = runtime.block_on(run(flags, policy, processes, permitted, &log));
            runtime.shutdown_timeout(RUNTIME_END);
            code
        }
        Err(error) => {
            tracing::error!(cause = error.to_string(), "cannot start the runtime");
            FAILED
        }
    };
    log.flush();
    ExitCode::from(code)
}

/// The runtime that serves connections. Without a number it has a thread for each processor.
fn runtime(threads: Option<NonZeroUsize>) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads {
        // Each thread keeps freed memory. A slow task must not stop the only one.
        builder.worker_threads(threads.get().max(MIN_RUNTIME_THREADS));
    }
    builder.enable_all().build()
}

async fn run(
    flags: Flags,
    policy: Result<Candidate, BundleError>,
    processes: Processes,
    permitted: Option<Permitted>,
    log: &Log,
) -> u8 {
    // Install the handlers first, so that a signal during the start ends the start in order.
    let (mut term, mut interrupt, hangup, for_secrets) = match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
        signal(SignalKind::hangup()),
    ) {
        (Ok(term), Ok(interrupt), Ok(hangup), Ok(another)) => (term, interrupt, hangup, another),
        (Err(error), ..) | (_, Err(error), ..) | (_, _, Err(error), _) | (.., Err(error)) => {
            tracing::error!(cause = error.to_string(), "cannot listen for signals");
            return FAILED;
        }
    };
    let bundle = flags.bundle.clone();
    let settings = policy.map_err(ConfigError::from).and_then(|policy| {
        policy.log_warnings();
        settings(flags, policy, processes, permitted)
    });
    let settings = match settings {
        Ok(settings) => settings,
        Err(error) => {
            let cause = os_sandbox::with_hint(&error.to_string());
            tracing::error!(cause, "invalid arguments or configuration");
            return BAD_INPUT;
        }
    };
    let first = settings.policy.clone();
    let (generation, models) = (first.generation, first.policy.models().len());
    let lost = log.clone();
    let started = tokio::select! {
        started = Host::start(settings, Arc::new(move || lost.dropped())) => started,
        () = either(&mut term, &mut interrupt) => {
            tracing::info!("stopped before it was ready");
            return 0;
        }
    };
    let host = match started {
        Ok(host) => host,
        Err(error) => {
            let cause = os_sandbox::with_hint(&error.to_string());
            tracing::error!(cause, "cannot start");
            return if matches!(
                error,
                StartError::Listen(_)
                    | StartError::Audit(_)
                    | StartError::Watch(_)
                    | StartError::Artifacts(_)
                    | StartError::Admin { .. }
            ) {
                FAILED
            } else {
                BAD_INPUT
            };
        }
    };
    let socket = host.socket().map(|socket| socket.display().to_string());
    let [listen, audit_listen, limits_listen] =
        (host.tcp_addresses()).map(|address| address.map(|address| address.to_string()));
    tracing::info!(
        generation,
        models,
        socket,
        listen,
        audit_listen,
        limits_listen,
        admin = %host.admin(),
        "tensorgate-host is ready"
    );
    let reloading = tokio::spawn(reload::follow(Arc::clone(host.reloader()), bundle, hangup));
    let rereading = tokio::spawn(reread_on(for_secrets, host.secrets().clone()));
    either(&mut term, &mut interrupt).await;
    reloading.abort();
    rereading.abort();
    tracing::info!("draining");
    let ended = host.shutdown().await;
    tracing::info!(all_ended = ended, "stopped");
    if ended { 0 } else { FAILED }
}

/// Applies the OS sandbox. Returns what it permits, too.
fn confine(flags: &Flags, policy: Option<&Candidate>) -> (OsSandbox, Permitted) {
    let (access, folders) = access(flags, policy);
    let sandbox = os_sandbox::apply(&access);
    let permitted = Permitted::new(&access, folders, &sandbox);
    (sandbox, permitted)
}

/// The files and ports that the host may access in its OS sandbox, and the folders of its policy's
/// relative paths.
fn access(flags: &Flags, policy: Option<&Candidate>) -> (Access, BaseFolders) {
    // A new bundle is renamed over this one, so the folder is needed.
    let mut read = vec![
        flags.root.clone(),
        flags.builtins.clone().unwrap_or_else(installed),
        os_sandbox::beside(&flags.bundle),
    ];
    read.extend(flags.runtimes.clone());
    let secrets = [
        Some(&flags.context_key_file),
        flags.tls_cert.as_ref(),
        flags.tls_key.as_ref(),
        flags.tls_client_ca.as_ref(),
        flags.console_public.as_ref(),
    ];
    let renewed = secrets.into_iter().flatten();
    read.extend(renewed.flat_map(|file| os_sandbox::renewed(file)));
    let sockets = [&flags.socket, &flags.audit_socket, &flags.limits_socket];
    let sockets = sockets.into_iter().flatten();
    let mut write: Vec<_> = sockets.map(|socket| os_sandbox::beside(socket)).collect();
    let folders = BaseFolders {
        root: flags.root.clone(),
        audit: audit_folder(flags),
    };
    // A bundle that cannot be read is reported later.
    let policy = policy.map(|candidate| PolicyResources::of(&candidate.policy));
    let policy = policy.unwrap_or_default();
    let resources: Vec<_> = (policy.resolve(&folders).into_iter())
        .map(|(_, resource)| resource)
        .collect();
    // Landlock has no rule for a folder that does not exist. Errors are reported on first use.
    let written = resources.iter().filter_map(|resource| match resource {
        Resource::Write(folder) => Some(folder),
        Resource::Read(_) | Resource::Port(_) => None,
    });
    for folder in write.iter().chain(written) {
        let _ = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
    }
    if let Some(folder) = &flags.cache_folder {
        let _ = std::fs::DirBuilder::new().mode(0o700).create(folder);
        write.push(folder.clone());
    }
    let ports = [flags.listen, flags.audit_listen, flags.limits_listen];
    let ports = (ports.into_iter().flatten())
        .chain([flags.admin])
        .chain(flags.admin_local);
    let access = Access::of_host(
        read,
        write,
        &resources,
        &flags.endpoints,
        ports.map(|address| address.port()),
    );
    (access, folders)
}

fn settings(
    flags: Flags,
    policy: Candidate,
    (compiler_config, scanner): Processes,
    permitted: Option<Permitted>,
) -> Result<Settings, ConfigError> {
    let admin = config::admin(flags.admin, flags.admin_public)?;
    let admin_local = config::admin_local(flags.admin_local)?;
    let console_public = flags.console_public.as_deref().map(ReaderCredential::read);
    let console_public = console_public.transpose()?;
    let context_keys = ContextKeys::read(&flags.context_key_file)?;
    let audit_folder = audit_folder(&flags).ok_or(ConfigError::AuditFolder)?;
    let beside = |name: &str| Some(flags.socket.as_ref()?.with_file_name(name));
    let access_log = ServiceAddress {
        socket: flags.audit_socket.or_else(|| beside("audit.sock")),
        tcp: flags.audit_listen,
    };
    if access_log.socket.is_none() && access_log.tcp.is_none() {
        tracing::warn!(
            "no --audit-listen: the audit log will have no requests that the gate rejects"
        );
    }
    let rate_limits = ServiceAddress {
        socket: flags.limits_socket.or_else(|| beside("limits.sock")),
        tcp: flags.limits_listen,
    };
    let data_plane = ServiceAddress {
        socket: flags.socket,
        tcp: flags.listen,
    };
    let services = [&data_plane, &access_log, &rate_limits];
    let files = [flags.tls_cert, flags.tls_key, flags.tls_client_ca];
    let allowed_peers = AllowedPeers {
        uids: config::peer_uids(flags.peer_uids)?,
        tls: config::server_tls(&services, files, &flags.gateways)?,
    };
    let endpoints = config::endpoints(&flags.endpoints, &policy.policy)?;
    let drain = Duration::from_secs(flags.drain_s);
    let builtins = flags.builtins.unwrap_or_else(installed);
    Ok(Settings {
        policy,
        context_keys,
        root: flags.root,
        builtins,
        data_plane,
        access_log,
        audit_shared: flags.audit_shared,
        rate_limits,
        allowed_peers,
        audit_folder,
        audit_stdout: flags.audit_stdout,
        admin,
        admin_local,
        console_public,
        endpoints,
        drain,
        compiler: compiler_config,
        handler_threads: flags.handler_threads,
        handler_memory: flags.handler_memory,
        scanner,
        wait_for_filter: flags.wait_for_filter,
        sources: Sources::beside(&flags.bundle),
        permitted,
    })
}

/// The base folder of the audit log, if a flag names it or a socket has one.
fn audit_folder(flags: &Flags) -> Option<PathBuf> {
    let beside = || Some(os_sandbox::beside(flags.socket.as_ref()?));
    flags.audit_folder.clone().or_else(beside)
}

/// The default folder of the bundled handlers.
fn installed() -> PathBuf {
    Folders::below(Path::new("")).builtins
}

/// Reads the keys and certificates again at each of these signals, forever.
async fn reread_on(mut signals: Signal, secrets: Secrets) {
    while signals.recv().await.is_some() {
        secrets.refresh(true).await;
    }
}

async fn either(term: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn connections_are_served_by_the_threads_that_a_container_asks_for() {
        for (threads, expected) in [(1, MIN_RUNTIME_THREADS), (8, 8)] {
            let runtime = runtime(NonZeroUsize::new(threads)).unwrap();
            assert_eq!(runtime.metrics().num_workers(), expected);
        }
    }
}
