//! The host's process: flags in, a host until a signal, an exit code out.

use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use serde_json::Value;
use tensorgate_host::config::{self, Folders, Settings};
use tensorgate_host::logging::{Log, LogFormat};
use tensorgate_host::sandbox::{CompilerProcess, Compiling, compiler_process};
use tensorgate_host::wall::{self, Reach};
use tensorgate_host::{Host, StartError, admin, heap, reload};
use tensorgate_policy::raw::Audit;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of bad use or input, as for every tensorgate verb.
const BAD_INPUT: u8 = 2;
/// Exit code of a start that the machine refused, or of a drain that had to cut requests.
const FAILED: u8 = 1;

/// How long the end waits for what cannot be cancelled, a component that compiles for one; then the process goes all the same.
const RUNTIME_END: Duration = Duration::from_secs(1);

/// Runs tensorgate's sandbox host.
///
/// SIGHUP, or another bundle renamed over the one given, loads that policy: requests that the gate let in under the one before are judged by it
/// to their end. A bundle with faults changes nothing; /generations at the admin says what became of it.
///
/// Example: tensorgate-host --bundle bundle.json --root . --socket run/host.sock --audit-folder /var/lib/tensorgate --context-key-file run/context.key
/// --endpoint cpu=unix:/run/tensorgate/cpu.sock
#[derive(Parser, Debug)]
#[command(version)]
struct Flags {
    /// The policy bundle, JSON, as `tensorgate render` writes it. Replace it by renaming, never in place.
    #[arg(long, env = "TENSORGATE_BUNDLE")]
    bundle: PathBuf,
    /// The folder that component paths are relative to.
    #[arg(long, env = "TENSORGATE_ROOT", default_value = ".")]
    root: PathBuf,
    /// The folder of the components that a policy names as `builtin:NAME`; `builtins` beside this program unless given.
    #[arg(long, env = "TENSORGATE_BUILTINS")]
    builtins: Option<PathBuf>,
    /// The Unix socket on which the gate calls; made with mode 0600.
    #[arg(long, env = "TENSORGATE_SOCKET")]
    socket: PathBuf,
    /// The Unix socket on which Envoy tells its access log, made with mode 0600; `audit.sock` beside --socket unless given.
    #[arg(long, env = "TENSORGATE_AUDIT_SOCKET")]
    audit_socket: Option<PathBuf>,
    /// The Unix socket of the rate limit service, made with mode 0600; `limits.sock` beside --socket unless given.
    #[arg(long, env = "TENSORGATE_LIMITS_SOCKET")]
    limits_socket: Option<PathBuf>,
    /// The folder that a relative path of the policy's audit log is below: one that lasts. The folder of --socket unless given.
    #[arg(long, env = "TENSORGATE_AUDIT_FOLDER")]
    audit_folder: Option<PathBuf>,
    /// A file with the key that gate and host share: 64 hex digits, readable by its owner alone.
    #[arg(long, env = "TENSORGATE_CONTEXT_KEY_FILE")]
    context_key_file: PathBuf,
    /// Where /healthz, /readyz and /metrics are; loopback only unless --admin-public.
    #[arg(long, env = "TENSORGATE_ADMIN", default_value_t = admin::DEFAULT_ADDRESS)]
    admin: SocketAddr,
    /// Lets --admin be an address that others can reach.
    #[arg(long)]
    admin_public: bool,
    /// The address of an embedded backend: NAME=unix:/path or NAME=http://host:port. Repeatable.
    #[arg(long = "endpoint", value_name = "NAME=URI")]
    endpoints: Vec<String>,
    /// How lines of the log look.
    #[arg(long, env = "TENSORGATE_LOG", value_enum, default_value_t = LogFormat::Text)]
    log: LogFormat,
    /// A folder of this host's own in which compiled handlers are kept, made with mode 0700: the next start and the next reload load them in
    /// milliseconds. What others could have written there is not used.
    #[arg(long, env = "TENSORGATE_CACHE_FOLDER")]
    cache_folder: Option<PathBuf>,
    /// A second wall around the process, by the kernel: no privileges, no programs, no files and ports but those that it needs. What is in
    /// force is in the log. `required` ends the start where the kernel lacks any of it.
    #[arg(long, env = "TENSORGATE_HARDEN", value_enum, default_value_t = Harden::Off)]
    harden: Harden,
    /// Seconds that in-flight requests get to end after SIGTERM.
    #[arg(long, default_value_t = 10)]
    drain_s: u64,
}

/// Whether the second wall is raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Harden {
    /// Not at all.
    Off,
    /// As far as the kernel goes.
    BestEffort,
    /// Whole, or the host does not start.
    Required,
}

fn main() -> ExitCode {
    if let Some(code) = compiler_process(std::env::args_os().skip(1)) {
        return code;
    }
    // Where the heap is another one, it has ways of its own.
    let _ = heap::keep();
    let flags = Flags::parse();
    // Before the wall, behind which nothing is started; both before there is a second thread.
    let compiler = CompilerProcess::start(flags.harden == Harden::Required);
    let wall = (flags.harden != Harden::Off).then(|| wall::raise(&reach(&flags)));
    let log = match Log::new(std::io::stderr()) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("tensorgate-host: cannot start the log: {error}");
            return ExitCode::from(FAILED);
        }
    };
    log.install(flags.log);
    if let Some(wall) = wall {
        let (whole, told) = (wall.is_whole(), wall.told());
        if whole {
            tracing::info!(wall = told, "the second wall stands");
        } else if flags.harden == Harden::Required {
            tracing::error!(
                wall = told,
                "cannot start: the second wall is required, and this kernel cannot give all of it"
            );
            log.flush();
            return ExitCode::from(FAILED);
        } else {
            tracing::warn!(wall = told, "the second wall has gaps");
        }
    }
    let process = match compiler {
        Ok(process) => Some(Arc::new(process)),
        Err(error) if flags.harden == Harden::Required => {
            tracing::error!(
                cause = error.to_string(),
                "cannot start: the second wall is required, and compilers have no process of their own"
            );
            log.flush();
            return ExitCode::from(FAILED);
        }
        Err(error) => {
            tracing::warn!(
                cause = error.to_string(),
                "components are compiled in this process"
            );
            None
        }
    };
    let compiling = Compiling {
        folder: flags.cache_folder.clone(),
        process,
    };
    let code = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let code = runtime.block_on(run(flags, compiling, &log));
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

async fn run(flags: Flags, compiling: Compiling, log: &Log) -> u8 {
    // Before anything else, so that a signal during the start ends the start in order.
    let (mut term, mut interrupt, hangup) = match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
        signal(SignalKind::hangup()),
    ) {
        (Ok(term), Ok(interrupt), Ok(hangup)) => (term, interrupt, hangup),
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
            tracing::error!(cause = error.to_string(), "cannot listen for signals");
            return FAILED;
        }
    };
    let bundle = flags.bundle.clone();
    let settings = match settings(flags, compiling) {
        Ok(settings) => settings,
        Err(error) => {
            let cause = wall::told_of(&error.to_string());
            tracing::error!(cause, "bad input");
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
            let cause = wall::told_of(&error.to_string());
            tracing::error!(cause, "cannot start");
            return if matches!(
                error,
                StartError::Socket(_) | StartError::Audit(_) | StartError::Admin { .. }
            ) {
                FAILED
            } else {
                BAD_INPUT
            };
        }
    };
    tracing::info!(generation, models, socket = %host.socket().display(), admin = %host.admin(), "tensorgate-host is ready");
    let reloading = tokio::spawn(reload::follow(Arc::clone(host.reloader()), bundle, hangup));
    either(&mut term, &mut interrupt).await;
    reloading.abort();
    tracing::info!("draining");
    let ended = host.shutdown().await;
    tracing::info!(all_ended = ended, "stopped");
    if ended { 0 } else { FAILED }
}

/// What the host reaches when it stands behind its wall.
fn reach(flags: &Flags) -> Reach {
    // Another bundle is renamed over this one; the key is read once.
    let mut read = vec![
        flags.root.clone(),
        flags.builtins.clone().unwrap_or_else(installed),
        wall::beside(&flags.bundle),
        flags.context_key_file.clone(),
    ];
    let sockets = [
        Some(&flags.socket),
        flags.audit_socket.as_ref(),
        flags.limits_socket.as_ref(),
    ];
    // A bundle that is none is told of when it is read to be used.
    let bundle: Value = std::fs::read(&flags.bundle)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    let below = (flags.audit_folder.clone()).unwrap_or_else(|| wall::beside(&flags.socket));
    let named =
        |member| (bundle.pointer(member).and_then(Value::as_str)).map(|file| below.join(file));
    let log = named("/policy/audit/path").unwrap_or_else(|| below.join(Audit::default().path));
    let mut write: Vec<_> = (sockets.into_iter().flatten())
        .map(|socket| wall::beside(socket))
        // Not the whole folder that logs are below, which may hold others' files.
        .chain([wall::beside(&log)])
        .collect();
    match named("/policy/audit/key_file") {
        Some(key) if key.exists() => read.push(key),
        // It is about to be made.
        Some(key) => write.push(wall::beside(&key)),
        None => {}
    }
    // A folder that is not there has no rule. Whether it can be used is told when it is.
    for folder in &write {
        let _ = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder);
    }
    let captures = bundle
        .pointer("/policy/capture/folder")
        .and_then(Value::as_str)
        .map(|folder| flags.root.join(folder));
    let private: Vec<_> = flags
        .cache_folder
        .clone()
        .into_iter()
        .chain(captures)
        .collect();
    for folder in &private {
        let _ = std::fs::DirBuilder::new().mode(0o700).create(folder);
    }
    let write = write.into_iter().chain(private);
    Reach::of_host(
        &flags.root,
        read,
        write,
        &bundle,
        &flags.endpoints,
        flags.admin.port(),
    )
}

fn settings(flags: Flags, compiling: Compiling) -> Result<Settings, config::ConfigError> {
    let admin = config::admin(flags.admin, flags.admin_public)?;
    let key = config::context_key(&flags.context_key_file)?;
    let policy = config::bundle(&flags.bundle)?;
    let endpoints = config::endpoints(&flags.endpoints, &policy.policy)?;
    let drain = Duration::from_secs(flags.drain_s);
    let builtins = flags.builtins.unwrap_or_else(installed);
    Ok(Settings {
        policy,
        key,
        root: flags.root,
        builtins,
        socket: flags.socket.clone(),
        audit_socket: flags
            .audit_socket
            .unwrap_or_else(|| flags.socket.with_file_name("audit.sock")),
        limits_socket: flags
            .limits_socket
            .unwrap_or_else(|| flags.socket.with_file_name("limits.sock")),
        audit_folder: (flags.audit_folder).unwrap_or_else(|| wall::beside(&flags.socket)),
        admin,
        endpoints,
        drain,
        compiling,
    })
}

/// Where builtin components are unless told otherwise.
fn installed() -> PathBuf {
    Folders::below(Path::new("")).builtins
}

async fn either(term: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
}
