//! Envoy: finding its binary, validating configuration, and its admin interface.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tensorgate_cli_common::private_dir::PrivateDir;
use tensorgate_cli_common::{Failure, user_folders};
use tensorgate_filter_core::root::CONTEXT_KEY_VARIABLE;
use tensorgate_policy::hex;

use super::options::Options;
use super::probe::{Target, ask};
use crate::programs;
use crate::render::envoy::control_plane::ControlPlane;
use crate::render::envoy::{Driver, LISTENER, RenderError, release};

/// Maximum number of Envoy's log lines in an error message.
const SHOWN_LINES: usize = 12;

/// Finds the binary: `ENVOY`, the cache of `make setup`, then `PATH`.
pub fn find() -> Result<PathBuf, Failure> {
    if let Some(named) = std::env::var_os("ENVOY").filter(|value| !value.is_empty()) {
        let named = PathBuf::from(named);
        return if named.is_file() {
            Ok(named)
        } else {
            Err(Failure::Input(format!(
                "ENVOY names {}, which is not a file",
                named.display()
            )))
        };
    }
    let cached = user_folders::cache().map(|cache| cache.join("envoy/bin/envoy"));
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&on_path)
        .map(|folder| folder.join("envoy"))
        .collect::<Vec<_>>();
    cached
        .into_iter()
        .chain(on_path)
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            let fix = if programs::in_source_tree() {
                "put envoy into PATH, set ENVOY to its binary, or run `make setup`"
            } else {
                "put envoy into PATH, or set ENVOY to its binary"
            };
            Failure::Failed(format!("no Envoy found: {fix}"))
        })
}

/// Finds the binary, and checks that it is a release that the driver is for. Later releases
/// load the native module with only a warning, and it is not tested there; earlier ones may lack
/// functions that it needs.
pub fn find_for(driver: Driver) -> Result<PathBuf, Failure> {
    let envoy = find()?;
    let Some(releases) = driver.releases() else {
        return Ok(envoy);
    };
    let printed = Command::new(&envoy)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            Failure::Failed(format!("cannot run {} --version: {error}", envoy.display()))
        })?;
    let printed = String::from_utf8_lossy(&printed.stdout);
    let release = printed_release(&printed);
    if release.is_some_and(|release| releases.contains(&release)) {
        return Ok(envoy);
    }
    let found = match release {
        Some((major, minor)) => format!("of release {major}.{minor}"),
        None => "of an unknown release".to_owned(),
    };
    Err(Failure::Input(format!(
        "--driver module is for Envoy {}, and {} is {found}: name another Envoy in ENVOY, or leave out --driver",
        driver.listed_releases(),
        envoy.display()
    )))
}

/// The release that `envoy --version` prints: `envoy  version: <commit>/1.40.0/Clean/RELEASE/…`.
fn printed_release(printed: &str) -> Option<(u32, u32)> {
    let (_, version) = printed.split_once("version: ")?;
    release(version.split('/').nth(1)?)
}

/// Generates a context key of 64 hex digits.
pub fn context_key() -> Result<String, Failure> {
    let mut random = [0; 32];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::Failed(format!("cannot get random bytes: {error}")))?;
    Ok(hex(&random))
}

/// Validates a bootstrap with Envoy. `bootstrap` gets the folder of the secret files. Envoy
/// configures the filter's VM, so the module must exist; certificates need not.
pub fn validate(
    driver: Driver,
    secrets: &[(String, String)],
    bootstrap: impl FnOnce(&Path) -> Result<String, RenderError>,
) -> Result<(), Failure> {
    let envoy = find_for(driver)?;
    let folder = PrivateDir::new()
        .map_err(|error| Failure::Failed(format!("cannot make a private folder: {error}")))?;
    let write = |file: &Path, text: &str| {
        std::fs::write(file, text)
            .map_err(|error| Failure::Failed(format!("cannot write {}: {error}", file.display())))
    };
    for (name, secret) in secrets {
        write(&folder.path().join(name), secret)?;
    }
    let text = bootstrap(folder.path()).map_err(|error| Failure::Input(error.to_string()))?;
    let file = folder.path().join("envoy.yaml");
    write(&file, &text)?;
    let output = Command::new(&envoy)
        .args([
            "--mode",
            "validate",
            "--disable-hot-restart",
            "-l",
            "warning",
            "-c",
        ])
        .arg(&file)
        .env_clear()
        .env(CONTEXT_KEY_VARIABLE, context_key()?)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Failure::Failed(format!("cannot run {}: {error}", envoy.display())))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().rev().take(SHOWN_LINES).collect();
    let lines: Vec<&str> = lines.into_iter().rev().collect();
    Err(Failure::Failed(format!(
        "Envoy rejects the configuration:\n{}",
        lines.join("\n")
    )))
}

/// Envoy's command-line arguments.
pub fn arguments(bootstrap: &Path, options: &Options) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["-c".into(), bootstrap.into()];
    // Without hot restart, several Envoys can run without shared memory.
    arguments.push("--disable-hot-restart".into());
    let (general, own) = if options.dev {
        ("info", "debug")
    } else {
        ("warning", "info")
    };
    let own = format!("{}:{own}", options.driver.logger());
    arguments.extend(["-l", general, "--component-log-level", &own].map(OsString::from));
    if let Some(workers) = options.concurrency {
        arguments.extend(["--concurrency".into(), workers.to_string().into()]);
    }
    arguments
}

/// Drain settings of a control plane. Connections of a changed listener end with their next
/// response, or after this time.
pub fn drain_arguments(plane: ControlPlane) -> Vec<OsString> {
    let Some(seconds) = plane.drain_s() else {
        return Vec::new();
    };
    let seconds = seconds.to_string();
    ["--drain-strategy", "immediate", "--drain-time-s", &seconds]
        .map(OsString::from)
        .into()
}

/// The gate's address according to Envoy. The policy may leave the port to the system.
pub async fn gate_address(admin: &Target) -> Option<SocketAddr> {
    let listeners: serde_json::Value =
        serde_json::from_str(&ask(admin, "GET", "/listeners?format=json").await.ok()?).ok()?;
    let mut statuses = listeners.get("listener_statuses")?.as_array()?.iter();
    let gate = statuses.find(|status| status.get("name").is_some_and(|name| name == LISTENER))?;
    let socket = gate.pointer("/local_address/socket_address")?;
    let ip = socket.get("address")?.as_str()?.parse().ok()?;
    Some(SocketAddr::new(
        ip,
        socket.get("port_value")?.as_u64()?.try_into().ok()?,
    ))
}

/// Parts of the configuration that Envoy rejected. It continues without them.
pub async fn rejected(admin: &Target) -> Vec<String> {
    let said = ask(admin, "GET", "/stats?filter=\\.update_rejected$").await;
    let said = said.unwrap_or_default();
    let counters = said.lines().filter_map(|line| line.split_once(": "));
    let rejected = counters.filter(|(_, count)| *count != "0");
    let names = rejected.filter_map(|(counter, _)| {
        let subject = counter.strip_suffix(".update_rejected")?;
        let filter = subject.strip_prefix("extension_config_discovery.http_filter.");
        match (subject, filter) {
            (_, Some(filter)) => Some(format!("the filter {filter}")),
            ("listener_manager.lds", None) => Some("the listener".to_owned()),
            ("cluster_manager.cds", None) => Some("the clusters".to_owned()),
            // Secrets are handled in `certificates`.
            _ => None,
        }
    });
    names.collect()
}

/// Envoy's update counters for a secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SecretCounts {
    /// Successful updates.
    pub taken: u64,
    /// Rejected updates.
    pub rejected: u64,
}

/// Queries Envoy's counters for a secret.
pub async fn secret_counts(admin: &Target, name: &str) -> Option<SecretCounts> {
    // The name is a constant of letters and dashes.
    let path = format!("/stats?filter=^sds\\.{name}\\.update_");
    let said = ask(admin, "GET", &path).await.ok()?;
    let count = |what: &str| {
        let prefix = format!("sds.{name}.update_{what}: ");
        said.lines()
            .find_map(|line| line.strip_prefix(&prefix)?.parse().ok())
    };
    Some(SecretCounts {
        taken: count("success")?,
        rejected: count("rejected")?,
    })
}

/// Number of requests in flight.
pub async fn active_requests(admin: &Target) -> Option<u64> {
    let stats: serde_json::Value = serde_json::from_str(
        &ask(
            admin,
            "GET",
            "/stats?format=json&filter=^http\\.gate\\.downstream_rq_active$",
        )
        .await
        .ok()?,
    )
    .ok()?;
    stats.pointer("/stats/0/value")?.as_u64()
}
