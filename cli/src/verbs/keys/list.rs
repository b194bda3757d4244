//! The `keys list` verb: the API keys of a policy, with what is known of each.

use clap::Args;
use serde::Serialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::clock::today;
use tensorgate_cli_common::policy_file::PolicyFile;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::values::KeyFormat;
use tensorgate_policy_load::load::load;

use super::has_expired;

/// Hex digits of a digest in the text output.
const SHORT: usize = 12;

/// List the API keys of a policy: client, digest, last valid day, and whether the key is expired or
/// revoked.
#[derive(Args)]
#[command(
    after_help = "Keys are listed by their SHA-256 digest, because a policy does not contain the keys. With --json, digests are complete.\n\nExample: tensorgate keys list gate.yaml"
)]
pub struct List {
    #[command(flatten)]
    policy: PolicyFile,
}

#[derive(Serialize)]
struct Listed<'a> {
    client: &'a str,
    sha256: &'a str,
    not_after: Option<&'a str>,
    expired: bool,
    #[serde(skip_serializing_if = "KeyFormat::is_tensorgate")]
    format: KeyFormat,
    revoked: bool,
}

impl List {
    pub(super) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let policy = load(&self.policy.find()?)?.version.raw;
        let today = today();
        for (client, entry) in &policy.clients {
            for key in &entry.api_keys {
                let sha256 = key.sha256.as_deref().unwrap_or_default();
                let listed = Listed {
                    client,
                    sha256,
                    not_after: key.not_after.as_deref(),
                    expired: has_expired(key, &today),
                    format: key.format,
                    revoked: policy.revoked.keys.iter().any(|revoked| revoked == sha256),
                };
                if ui.json {
                    ui.json_line(&listed);
                } else {
                    ui.line(&listed.row());
                }
            }
        }
        Ok(())
    }
}

impl Listed<'_> {
    fn row(&self) -> String {
        let short = self.sha256.get(..SHORT).unwrap_or(self.sha256);
        let valid = if self.expired { "expired" } else { "until" };
        let until = self.not_after.map(|day| format!(" {valid} {day}"));
        let revoked = if self.revoked { " revoked" } else { "" };
        format!(
            "{} {short}{}{revoked}",
            printable(self.client),
            until.unwrap_or_default()
        )
    }
}
