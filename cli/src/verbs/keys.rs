//! `keys`: API keys, made here and shown once. Only a key's digest goes into a policy.

use clap::{Args, Subcommand};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tensorgate_identity::api_key::format_key;

use crate::Failure;
use crate::load::hex;
use crate::ui::Ui;

/// Make API keys.
#[derive(Args)]
pub struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    New(New),
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

impl Keys {
    /// Makes one.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let What::New(new) = self.what;
        let mut random = [0; 20];
        getrandom::fill(&mut random)
            .map_err(|error| Failure::Failed(format!("no random bytes: {error}")))?;
        let key = format_key(&random);
        let sha256 = hex(&Sha256::digest(key.as_bytes()));
        if ui.json {
            ui.json_line(&Made {
                client: &new.client,
                key: &key,
                sha256: &sha256,
                not_after: new.not_after.as_deref(),
            });
            return Ok(());
        }
        ui.line(&key);
        let client = serde_json::to_string(&new.client)
            .map_err(|error| Failure::Input(error.to_string()))?;
        let not_after = new
            .not_after
            .map(|day| format!(", not_after: {day}"))
            .unwrap_or_default();
        ui.note("add to the policy (the key itself is shown only now):");
        ui.note(&format!(
            "clients:\n  {client}:\n    api_keys:\n      - {{sha256: \"{sha256}\"{not_after}}}"
        ));
        Ok(())
    }
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
