//! `keys revoke`: a key's digest goes onto the policy's list of revoked keys. The list is replaced as a whole, so that a gate that reads it
//! meanwhile reads the old one or the new one; a gate that runs takes the change up as it does any change of its policy.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::digest_of_input;
use crate::Failure;
use crate::load::{MAX_FILE_BYTES, read_at_most};
use crate::replace::{Mode, replace};
use crate::source::{parse, tree::Content};
use crate::ui::Ui;

/// Digits of a digest.
const DIGEST_CHARS: usize = 64;

/// Revoke an API key: append its digest to the policy's `revoked.keys_file`.
#[derive(Args)]
#[command(
    after_help = "Without --sha256 the key itself is read from standard input. Without -c the line is printed, to be appended by hand.\n\nExample: tensorgate keys revoke -c gate.yaml --sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 --note \"lost laptop\""
)]
pub struct Revoke {
    /// The policy whose list it goes onto.
    #[arg(short, long, value_name = "GATE_YAML")]
    config: Option<PathBuf>,
    /// The key's digest, 64 hex digits.
    #[arg(long, value_name = "HEX", value_parser = digest)]
    sha256: Option<String>,
    /// Why, or whose it was; stands behind the digest.
    #[arg(long, value_parser = note)]
    note: Option<String>,
}

#[derive(Serialize)]
struct Revoked<'a> {
    sha256: &'a str,
    file: Option<String>,
    /// `false`: it was on the list already.
    added: bool,
}

impl Revoke {
    pub(super) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let sha256 = match self.sha256 {
            Some(sha256) => sha256,
            None => digest_of_input()?,
        };
        let line = match self.note.as_deref() {
            Some(note) if !note.is_empty() => format!("{sha256} {note}"),
            _ => sha256.clone(),
        };
        let (file, added) = match &self.config {
            Some(config) => {
                let file = keys_file(config)?;
                let added = append(&file, &sha256, &line)?;
                (Some(file), added)
            }
            None => (None, true),
        };
        let file = file.map(|file| file.display().to_string());
        if ui.json {
            ui.json_line(&Revoked {
                sha256: &sha256,
                file,
                added,
            });
            return Ok(());
        }
        match (file, added) {
            (None, _) => ui.line(&line),
            (Some(file), true) => ui.line(&format!("{file}: {sha256} revoked")),
            (Some(file), false) => ui.line(&format!("{file}: {sha256} was revoked already")),
        }
        Ok(())
    }
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
