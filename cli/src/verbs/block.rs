//! The verbs `block` and `unblock`: an operator denies a client every request for a time. The
//! record is written to the list beside the gate's bundle, and the gate confirms that it is in
//! force.

mod list_file;
mod lists;
mod unblock;

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_watch::blocks::{BlockAction, BlockRecord, MAX_BLOCK_MS, MAX_REASON_BYTES};

use list_file::{ListFile, ListLocation};
pub use unblock::Unblock;

/// Block a client: for a time, the gate denies each of its requests with 403 and the reason
/// `blocked`. Gateways with shared limits (Redis) share blocks.
#[derive(Args)]
#[command(
    after_help = "A block ends by itself, and `tensorgate unblock` ends it earlier. Open streams of the client end, and requests that are running are completed. A client with several users is blocked for all of them.\n\nExits 0 once the gate confirms that the block is in force, and 1 without a confirmation within 10 seconds; the list has the block anyway.\n\nExample: tensorgate block web-app --for 1h --reason \"extraction of model digits\"\nExample: tensorgate block --list"
)]
pub struct Block {
    /// Name of the client in the policy.
    #[arg(value_name = "CLIENT", required_unless_present = "list")]
    client: Option<String>,
    /// How long: a number with s, m, h or d; at most 30d.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration, required_unless_present = "list")]
    lasts: Option<Duration>,
    /// Why, for the audit log: one line of at most 200 bytes.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    /// List the clients that are blocked or throttled.
    #[arg(long, conflicts_with_all = ["client", "lasts", "reason", "no_wait"])]
    list: bool,
    #[command(flatten)]
    location: ListLocation,
    /// Write the list without waiting for the gate.
    #[arg(long)]
    no_wait: bool,
}

/// The result of a change.
#[derive(Serialize)]
struct Changed<'a> {
    client: &'a str,
    /// `blocked` or `lifted`.
    state: &'a str,
    until: Option<String>,
    by: &'a str,
    reason: &'a str,
    file: String,
    /// Whether the gate confirmed it; `null` if it was not to wait.
    confirmed: Option<bool>,
    /// Why there is no confirmation.
    why: Option<&'a str>,
}

impl Block {
    /// Blocks a client, or lists the blocks.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let list = self.location.find()?;
        if self.list {
            return lists::print(ui, &list);
        }
        let client = self.client.unwrap_or_default();
        list.check_client(&client)?;
        let lasts = self.lasts.unwrap_or_default();
        let lasts_ms = u64::try_from(lasts.as_millis()).unwrap_or(MAX_BLOCK_MS);
        let reason = self.reason.unwrap_or_default();
        change(ui, &list, &client, lasts_ms, &reason, self.no_wait)
    }
}

/// Writes a record and waits for the gate. `lasts_ms` is 0 to lift a block.
fn change(
    ui: &Ui,
    list: &ListFile,
    client: &str,
    lasts_ms: u64,
    reason: &str,
    no_wait: bool,
) -> Result<(), Failure> {
    let record = list.put(client, |earlier, unix_ms| {
        let by = format!("user {}", rustix::process::getuid().as_raw());
        let record = BlockRecord::new(client, BlockAction::Block, lasts_ms, earlier, unix_ms);
        record.made_by(by, reason)
    })?;
    let confirmed = (!no_wait && list.has_gate()).then(|| list.confirm(&record));
    let is = if record.is_lifted() {
        "lifted"
    } else {
        "blocked"
    };
    let why = confirmed
        .as_ref()
        .and_then(|result| result.as_ref().err().map(String::as_str));
    if ui.json {
        ui.json_line(&Changed {
            client,
            state: is,
            until: (!record.is_lifted()).then(|| record.until()),
            by: &record.by,
            reason: &record.reason,
            file: list.file().display().to_string(),
            confirmed: confirmed.as_ref().map(Result::is_ok),
            why,
        });
    } else {
        let name = printable(client);
        let what = if record.is_lifted() {
            format!("{name}: no longer blocked")
        } else {
            format!("{name}: blocked until {}", record.until())
        };
        ui.line(&match &confirmed {
            Some(Ok(())) => format!("{what}; the gate confirms it"),
            _ => format!("{what}; not confirmed by a gate"),
        });
    }
    match why {
        Some(_) if ui.json => Err(Failure::No),
        Some(why) => Err(Failure::Failed(format!(
            "{} has the change, and the gate does not confirm it: {}",
            list.file().display(),
            printable(why)
        ))),
        None => Ok(()),
    }
}

/// Parses a duration of at most 30 days.
fn duration(text: &str) -> Result<Duration, String> {
    let most = Duration::from_millis(MAX_BLOCK_MS);
    crate::duration::parse(text)
        .filter(|duration| !duration.is_zero() && *duration <= most)
        .ok_or_else(|| "expected a duration such as 30s, 10m, 1h or 7d, at most 30d".into())
}

fn reason(text: &str) -> Result<String, String> {
    if text.len() > MAX_REASON_BYTES || text.contains(char::is_control) {
        Err(format!(
            "expected one line of at most {MAX_REASON_BYTES} bytes, without control characters"
        ))
    } else {
        Ok(text.trim().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_a_bound() {
        for (text, seconds) in [("1s", 1), ("10m", 600), ("1h", 3_600), ("30d", 2_592_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "1",
            "h",
            "0s",
            "31d",
            "-1h",
            "1 h",
            "99999999999999999999d",
            "1w",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
