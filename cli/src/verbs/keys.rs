//! `keys`: API keys, made here and shown once, hashed, revoked. Only a key's digest goes into a policy or a list of revoked keys.

mod revoke;

use std::io::Read as _;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tensorgate_identity::api_key::{MAX_FOREIGN_CHARS, format_key, parse_foreign, parse_key};
use tensorgate_policy::hex;
use tensorgate_policy::raw::KeyFormat;

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
    after_help = "The key is read from standard input, so that it stands in no history and no list of processes.\n\n\
With --format any the key may be one that another system has made, as long as it is random: 20 to 512 visible ASCII characters. \
Letters of both cases and digits need 20, hex digits 28.\n\nExample: tensorgate keys hash ocr-batch < ocr-batch.key"
)]
struct Hash {
    /// The client it is for.
    #[arg(default_value = "CLIENT")]
    client: String,
    /// How the key looks: made by tensorgate, or by any system.
    #[arg(long, value_parser = format(), default_value = "tensorgate")]
    format: KeyFormat,
}

#[derive(Serialize)]
struct Hashed<'a> {
    sha256: &'a str,
    #[serde(skip_serializing_if = "KeyFormat::is_tensorgate")]
    format: KeyFormat,
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
        let not_after = self.not_after.map(|day| format!(", not_after: {day}"));
        let more = not_after.unwrap_or_default();
        ui.note(&snippet(&self.client, &sha256, &more)?);
        Ok(())
    }
}

impl Hash {
    fn run(self, ui: &Ui) -> Result<(), Failure> {
        let Self { client, format } = self;
        let sha256 = digest_of_input(format)?;
        if ui.json {
            ui.json_line(&Hashed {
                sha256: &sha256,
                format,
            });
            return Ok(());
        }
        ui.line(&sha256);
        ui.note("add to the policy:");
        let more = match format {
            KeyFormat::Tensorgate => "",
            KeyFormat::Any => ", format: any",
        };
        ui.note(&snippet(&client, &sha256, more)?);
        Ok(())
    }
}

/// The policy lines that hold a key's digest, with more members behind it.
fn snippet(client: &str, sha256: &str, more: &str) -> Result<String, Failure> {
    let client =
        serde_json::to_string(client).map_err(|error| Failure::Input(error.to_string()))?;
    Ok(format!(
        "clients:\n  {client}:\n    api_keys:\n      - {{sha256: \"{sha256}\"{more}}}"
    ))
}

/// The digest of the key on standard input. A text that is no key of that format is refused, since
/// its digest would let no client in. No message repeats the text.
fn digest_of_input(format: KeyFormat) -> Result<String, Failure> {
    /// Twice the longest key: the end of its line, and enough to see that a text is too long.
    const MAX_INPUT_BYTES: usize = 2 * MAX_FOREIGN_CHARS;
    let mut text = String::new();
    std::io::stdin()
        .take(u64::try_from(MAX_INPUT_BYTES).unwrap_or(u64::MAX))
        .read_to_string(&mut text)
        .map_err(|error| {
            Failure::Input(format!("cannot read a key from standard input: {error}"))
        })?;
    let key = text.trim();
    let fault = match format {
        KeyFormat::Tensorgate => parse_key(key).err().map(|fault| {
            format!(
                "{fault}; a key is what `tensorgate keys new` prints, or with --format any one that another system has made"
            )
        }),
        KeyFormat::Any => parse_foreign(key).err().map(|fault| fault.to_string()),
    };
    if let Some(fault) = fault {
        return Err(Failure::Input(format!(
            "standard input holds no key: {fault}"
        )));
    }
    Ok(hex(&Sha256::digest(key.as_bytes())))
}

/// Reads the value of `--format`, as a policy spells it.
fn format() -> impl TypedValueParser<Value = KeyFormat> {
    PossibleValuesParser::new(["tensorgate", "any"]).map(|name| match name.as_str() {
        "any" => KeyFormat::Any,
        _ => KeyFormat::Tensorgate,
    })
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
