//! `keys`: API keys, made here and shown once, hashed, revoked. Only a key's digest goes into a policy or a list of revoked keys.

mod revoke;

use std::io::Read as _;

use clap::{Args, Subcommand};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tensorgate_identity::api_key::{format_key, parse_key};
use tensorgate_policy::hex;

use crate::Failure;
use crate::ui::Ui;

/// Make, hash and revoke API keys.
#[derive(Args)]
pub struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    New(New),
    Hash(Hash),
    Revoke(revoke::Revoke),
}

/// Make a key of 160 random bits: shown once on standard output, with the policy lines that hold its digest on standard error.
#[derive(Args)]
#[command(
    after_help = "The key is not stored anywhere: hand it to the client at once.\n\nExample: tensorgate keys new ocr-batch --not-after 2027-01-31"
)]
struct New {
    /// The client it is for.
    client: String,
    /// The last day on which it counts, UTC.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = date)]
    not_after: Option<String>,
}

#[derive(Serialize)]
struct Made<'a> {
    client: &'a str,
    key: &'a str,
    sha256: &'a str,
    not_after: Option<&'a str>,
}

/// Print the digest of a key that is read from standard input, with the policy lines that hold it.
#[derive(Args)]
#[command(
    after_help = "The key is read from standard input, so that it stands in no history and no list of processes.\n\nExample: tensorgate keys hash ocr-batch < ocr-batch.key"
)]
struct Hash {
    /// The client it is for.
    #[arg(default_value = "CLIENT")]
    client: String,
}

#[derive(Serialize)]
struct Hashed<'a> {
    sha256: &'a str,
}

impl Keys {
    /// Does what is asked.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        match self.what {
            What::New(new) => new.run(ui),
            What::Hash(hash) => hash.run(ui),
            What::Revoke(revoke) => revoke.run(ui),
        }
    }
}

impl New {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let mut random = [0; 20];
        getrandom::fill(&mut random)
            .map_err(|error| Failure::Failed(format!("no random bytes: {error}")))?;
        let key = format_key(&random);
        let sha256 = hex(&Sha256::digest(key.as_bytes()));
        if ui.json {
            ui.json_line(&Made {
                client: &self.client,
                key: &key,
                sha256: &sha256,
                not_after: self.not_after.as_deref(),
            });
            return Ok(());
        }
        ui.line(&key);
        ui.note("add to the policy (the key itself is shown only now):");
        ui.note(&snippet(&self.client, &sha256, self.not_after.as_deref())?);
        Ok(())
    }
}

impl Hash {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let sha256 = digest_of_input()?;
        if ui.json {
            ui.json_line(&Hashed { sha256: &sha256 });
            return Ok(());
        }
        ui.line(&sha256);
        ui.note("add to the policy:");
        ui.note(&snippet(&self.client, &sha256, None)?);
        Ok(())
    }
}

/// The policy lines that hold a key's digest.
fn snippet(client: &str, sha256: &str, not_after: Option<&str>) -> Result<String, Failure> {
    let client =
        serde_json::to_string(client).map_err(|error| Failure::Input(error.to_string()))?;
    let not_after = not_after
        .map(|day| format!(", not_after: {day}"))
        .unwrap_or_default();
    Ok(format!(
        "clients:\n  {client}:\n    api_keys:\n      - {{sha256: \"{sha256}\"{not_after}}}"
    ))
}

/// The digest of the key on standard input. What is no key is refused: its digest would let nobody in. No message repeats it.
fn digest_of_input() -> Result<String, Failure> {
    /// A key and the end of its line; what is longer is no key.
    const MAX_INPUT_BYTES: u64 = 128;
    let mut text = String::new();
    std::io::stdin()
        .take(MAX_INPUT_BYTES)
        .read_to_string(&mut text)
        .map_err(|error| {
            Failure::Input(format!("cannot read a key from standard input: {error}"))
        })?;
    let key = text.trim();
    parse_key(key).map_err(|fault| {
        Failure::Input(format!(
            "standard input holds no key: {fault}; a key is what `tensorgate keys new` prints"
        ))
    })?;
    Ok(hex(&Sha256::digest(key.as_bytes())))
}

/// A day's form; whether the calendar has it is the policy's question.
fn date(text: &str) -> Result<String, String> {
    let form = |(at, byte): (usize, u8)| {
        if at == 4 || at == 7 {
            byte == b'-'
        } else {
            byte.is_ascii_digit()
        }
    };
    if text.len() == 10 && text.bytes().enumerate().all(form) {
        Ok(text.to_owned())
    } else {
        Err("not of the form YYYY-MM-DD".into())
    }
}
