//! `keys revoke`: a key's digest goes onto the policy's list of revoked keys, and the command waits until the gate
//! that runs here refuses the key. The list is replaced as a whole, so that a gate reads the old one or the new one.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tensorgate_host::admin::DEFAULT_ADDRESS;
use tensorgate_host::sources::Sources;
use tensorgate_policy::hex;
use tensorgate_policy::raw::KeyFormat;
use tokio::time::{Instant, sleep};

use super::{digest_of_input, format};
use crate::Failure;
use crate::lists::{List, lines};
use crate::load::{MAX_FILE_BYTES, read_at_most};
use crate::replace::{Mode, replace};
use crate::source::{parse, tree::Content};
use crate::stack::probe::{Target, ask};
use crate::ui::{Ui, printable, printable_lines};

/// Digits of a digest.
const DIGEST_CHARS: usize = 64;
/// Time for a gate to confirm. It takes a second at most, unless a process hangs.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions to it.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Revoke an API key: append its digest to the policy's `revoked.keys_file`, and wait until the gate confirms.
#[derive(Args)]
#[command(
    after_help = "Without --sha256 the key itself is read from standard input. Without -c the line is printed, to be appended by hand.\n\nExits 0 once the gate at --admin says that its filters and its host refuse the key. If none says so within 10 seconds, the digest is on the list all the same, and the exit code is 1. --no-wait asks no gate: for a policy that no gate on this machine runs.\n\nExample: tensorgate keys revoke -c gate.yaml --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --note \"lost laptop\""
)]
pub struct Revoke {
    /// The policy whose list it goes onto.
    #[arg(short, long, value_name = "GATE_YAML")]
    config: Option<PathBuf>,
    /// The key's digest, 64 hex digits.
    #[arg(long, value_name = "HEX", value_parser = digest)]
    sha256: Option<String>,
    /// How the key on standard input looks: made by tensorgate, or by any system.
    #[arg(long, value_parser = format(), default_value = "tensorgate", conflicts_with = "sha256")]
    format: KeyFormat,
    /// Why, or whose it was; stands behind the digest.
    #[arg(long, value_parser = note)]
    note: Option<String>,
    /// The admin address of the gate that has to confirm, as `tensorgate up --admin` has it.
    #[arg(long, value_name = "ADDR:PORT", env = "TENSORGATE_ADMIN", default_value_t = DEFAULT_ADDRESS)]
    admin: SocketAddr,
    /// Write the list, and ask no gate.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Serialize)]
struct Revoked<'a> {
    sha256: &'a str,
    file: Option<String>,
    /// `false`: it was on the list already.
    added: bool,
    /// Whether the gate refuses the key; `null` if none was asked.
    confirmed: Option<bool>,
    /// The version of the policy in which it does.
    version: Option<&'a str>,
    /// Why nothing was confirmed.
    why: Option<&'a str>,
}

/// What the host says at `/generations`; it says more.
#[derive(Deserialize)]
struct Said {
    #[serde(flatten)]
    sources: Sources,
}

impl Revoke {
    pub(super) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let sha256 = match &self.sha256 {
            Some(sha256) => sha256.clone(),
            None => digest_of_input(self.format)?,
        };
        let line = match self.note.as_deref() {
            Some(note) if !note.is_empty() => format!("{sha256} {note}"),
            _ => sha256.clone(),
        };
        let Some(config) = &self.config else {
            if ui.json {
                told(ui, &sha256, None, true, None);
            } else {
                ui.line(&line);
            }
            return Ok(());
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Failed(format!("cannot start: {error}")))?;
        // A policy that cannot be read is no reason to let a key in: the gate that runs knows its list.
        let file = keys_file(config).or_else(|failure| {
            let asked =
                (!self.no_wait).then(|| runtime.block_on(list_in_force(self.admin, config)));
            asked.flatten().ok_or(failure)
        })?;
        let added = append(&file, &sha256, &line)?;
        let confirmed =
            (!self.no_wait).then(|| runtime.block_on(confirmed(self.admin, &file, &sha256)));
        let name = printable(&file.display().to_string());
        if ui.json {
            told(ui, &sha256, Some(&file), added, confirmed.as_ref());
            return match confirmed {
                Some(Err(_)) => Err(Failure::No),
                _ => Ok(()),
            };
        }
        let is = if added { "added" } else { "was there already" };
        match confirmed {
            None => ui.line(&format!("{name}: {sha256} {is}; no gate was asked")),
            Some(Ok(version)) => ui.line(&format!(
                "{name}: {sha256} revoked, and refused by the gate at {} (policy {version})",
                self.admin
            )),
            Some(Err(why)) => {
                ui.line(&format!("{name}: {sha256} {is}"));
                return Err(Failure::Failed(format!(
                    "no gate confirms that the key is refused: {}",
                    printable_lines(&why)
                )));
            }
        }
        Ok(())
    }
}

fn told(
    ui: &Ui,
    sha256: &str,
    file: Option<&Path>,
    added: bool,
    confirmed: Option<&Result<String, String>>,
) {
    ui.json_line(&Revoked {
        sha256,
        file: file.map(|file| file.display().to_string()),
        added,
        confirmed: confirmed.map(Result::is_ok),
        version: confirmed.and_then(|said| Some(said.as_ref().ok()?.as_str())),
        why: confirmed.and_then(|said| Some(said.as_ref().err()?.as_str())),
    });
}

/// The list of revoked keys of the gate that runs with a policy.
async fn list_in_force(admin: SocketAddr, config: &Path) -> Option<PathBuf> {
    let said = ask(&Target::Tcp(admin), "GET", "/generations").await.ok()?;
    let Said { sources } = serde_json::from_str(&said).ok()?;
    let same = sources.policy?.canonicalize().ok()? == config.canonicalize().ok()?;
    let field = List::Keys.field();
    let mut lists = sources.lists.into_iter();
    let list = lists.find(|list| same && list.field == field)?;
    Some(list.file)
}

/// Waits until a gate says that the list is in force as it stands: the version in which it is, or why not.
async fn confirmed(admin: SocketAddr, list: &Path, sha256: &str) -> Result<String, String> {
    let target = Target::Tcp(admin);
    let give_up = Instant::now().checked_add(PATIENCE);
    loop {
        let why = match ask(&target, "GET", "/generations").await {
            Ok(said) => match serde_json::from_str::<Said>(&said) {
                Ok(Said { sources }) => match version(&sources, list, sha256)? {
                    Some(version) => return Ok(version),
                    None => obstacle(admin, &sources),
                },
                Err(_) => format!("what answers at {admin} is no gate"),
            },
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                return Err(format!(
                    "nothing listens at {admin}. Name the admin address of the gate with --admin. A gate that starts later, or elsewhere, refuses the key once it reads this list"
                ));
            }
            Err(error) => format!("{admin} does not answer: {error}"),
        };
        if give_up.is_none_or(|give_up| Instant::now() >= give_up) {
            return Err(why);
        }
        sleep(ASK_EVERY).await;
    }
}

/// The version that has all of the list, as it stands now, if the gate has one.
fn version(sources: &Sources, list: &Path, sha256: &str) -> Result<Option<String>, String> {
    let gone = || format!("{} no longer has it", list.display());
    let bytes = read_at_most(list, MAX_FILE_BYTES).ok().flatten();
    let bytes = bytes.ok_or_else(gone)?;
    let text = String::from_utf8_lossy(&bytes);
    if !lines(&text).any(|line| List::Keys.entry(line) == sha256) {
        return Err(gone());
    }
    let contents = hex(&Sha256::digest(&bytes));
    let in_force = sources.lists.iter().any(|list| list.sha256 == contents);
    Ok(sources.in_force.clone().filter(|_| in_force))
}

/// Why a gate that answers has not confirmed yet.
fn obstacle(admin: SocketAddr, sources: &Sources) -> String {
    let Some(policy) = &sources.policy else {
        return format!(
            "the host at {admin} was not started by `tensorgate up`: it refuses the key once the policy is rendered again"
        );
    };
    let mut why = format!(
        "the gate at {admin}, which follows {}, has not taken up this list within {} seconds",
        policy.display(),
        PATIENCE.as_secs()
    );
    if let Some(refused) = &sources.revocations_held {
        why.push_str(": ");
        why.push_str(refused);
    }
    why
}

/// The policy's list of revoked keys. Only that is read: a key can be revoked in a policy that has faults elsewhere.
fn keys_file(config: &Path) -> Result<PathBuf, Failure> {
    let unreadable = |why: &dyn std::fmt::Display| {
        Failure::Input(format!("cannot read {}: {why}", config.display()))
    };
    let bytes = read_at_most(config, MAX_FILE_BYTES)
        .map_err(|error| unreadable(&error))?
        .ok_or_else(|| unreadable(&"too large"))?;
    let text = String::from_utf8(bytes).map_err(|error| unreadable(&error))?;
    let (tree, faults) = parse::parse(&text);
    let tree = match (tree, faults.first()) {
        (Some(tree), None) => tree,
        (_, fault) => {
            let why = fault.map_or("not YAML", |fault| fault.message.as_str());
            return Err(unreadable(&why));
        }
    };
    let place = crate::source::path::follow(&tree, "revoked.keys_file");
    match tree.get(place.node).map(|node| &node.content) {
        Some(Content::Text(name)) if place.whole => {
            Ok(config.parent().unwrap_or_else(|| Path::new("")).join(name))
        }
        _ => Err(Failure::Input(format!(
            "{} names no list of revoked keys; add\nrevoked:\n  keys_file: revoked-keys.txt",
            config.display()
        ))),
    }
}

/// Adds a line unless the digest is there; `false` if it was.
fn append(file: &Path, sha256: &str, line: &str) -> Result<bool, Failure> {
    let failed = |error: std::io::Error| {
        Failure::Failed(format!("cannot write {}: {error}", file.display()))
    };
    // Two revocations at once: the second waits for the first, so that none is lost.
    let lock = std::fs::File::open(parent(file)).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let mut text = match read_at_most(file, MAX_FILE_BYTES) {
        Ok(Some(bytes)) => String::from_utf8(bytes)
            .map_err(|_| Failure::Input(format!("{} is not UTF-8", file.display())))?,
        Ok(None) => {
            return Err(Failure::Input(format!(
                "{} is larger than {MAX_FILE_BYTES} bytes",
                file.display()
            )));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let known = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .any(|known| known == sha256);
    if known {
        return Ok(false);
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
    replace(file, &text, Mode::Kept).map_err(failed)?;
    Ok(true)
}

/// The folder that a file lies in.
fn parent(file: &Path) -> &Path {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn digest(text: &str) -> Result<String, String> {
    if text.len() == DIGEST_CHARS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("not 64 hex digits".into())
    }
}

fn note(text: &str) -> Result<String, String> {
    if text.contains(char::is_control) {
        Err("one line, without control characters".into())
    } else {
        Ok(text.trim().to_owned())
    }
}
