//! An issuer of the policy from its discovery document.
//!
//! The document provides the URL of the keys and the algorithms. Whom the tokens are for is never
//! guessed: the audience is an argument, or a text that no token has.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::Severity;
use tensorgate_policy_load::load::faults;

use super::discovery::{self, Discovered, authority, is_elsewhere};
use super::fetch::{Reach, check_reach};
use super::{bad, write::plain};

/// Maximum lifetime of a token: a default, because documents have none.
const MAX_LIFETIME_S: u64 = 86_400;
/// The algorithm that every issuer has (OpenID Connect Core 1.0, 15.1).
const USUAL_ALGORITHM: &str = "RS256";
/// Stands for the audience where none is named. No token is for it.
const NO_AUDIENCE: &str = "CHANGE-ME";
/// What a policy needs beside the issuer, so that `check` judges the issuer alone.
const REST: &str = "version: 1\n";

/// From an issuer's OpenID Connect discovery document, over https.
#[derive(Args)]
#[command(
    after_help = "Reads ISSUER/.well-known/openid-configuration. The document must be of this issuer. Keys on another host are shown; review that host before you copy it into the policy. Nothing is discovered when the gate runs.\n\nExample: tensorgate import issuer https://accounts.google.com --audience my-client\nExample: tensorgate import issuer https://sso.corp.example/realms/ml --audience tensorgate --ca ca.pem --allow-private"
)]
pub(in crate::verbs) struct Issuer {
    /// `iss` of its tokens, an https URL, character for character.
    issuer: String,
    /// Value of `aud` for this gate; may be given several times.
    #[arg(long = "audience", value_name = "TEXT", default_value = NO_AUDIENCE, hide_default_value = true)]
    audiences: Vec<String>,
    /// Name of the issuer in the policy.
    #[arg(long, value_name = "NAME", default_value = "idp")]
    name: String,
    /// Trusted certificate authorities instead of the system's, PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Also accept private addresses of the issuer and of its keys.
    #[arg(long)]
    allow_private: bool,
}

impl Issuer {
    /// Prints the `issuers` section, as YAML or as one JSON value.
    pub(super) fn run(self, ui: &Ui) -> Result<(), Failure> {
        let reach = Reach::of_documents(self.allow_private);
        let bytes = discovery::fetch(&self.issuer, self.ca.as_deref(), reach)?;
        let found = discovery::read(&self.issuer, &bytes).map_err(|why| bad(&self.issuer, &why))?;
        check_reach(&found.jwks_url, reach)?;
        let section = self.section(&found);
        let faults = faults(&format!("{REST}{section}"));
        if let Some(fault) = faults.iter().find(|it| it.severity == Severity::Error) {
            return Err(bad(
                &self.issuer,
                &format!("`check` would reject {}: {}", fault.path, fault.message),
            ));
        }
        if ui.json {
            let issuer = json!({
                "issuer": self.issuer,
                "audiences": self.audiences,
                "algorithms": [algorithm(&found)],
                "jwks": {"url": found.jwks_url},
                "max_lifetime_s": MAX_LIFETIME_S,
            });
            let section: Map<String, Value> = [(self.name.clone(), issuer)].into_iter().collect();
            ui.json_line(&json!({"issuers": section}));
        } else {
            ui.line(section.trim_end());
        }
        if is_elsewhere(&self.issuer, &found.jwks_url) {
            ui.note(&format!(
                "its keys are on another host, {}: that host decides who the callers are",
                printable(authority(&found.jwks_url))
            ));
        }
        if self.audiences == [NO_AUDIENCE] {
            ui.note(&format!(
                "replace {NO_AUDIENCE} by the `aud` of the tokens for this gate; until then, every token is rejected"
            ));
        }
        ui.note("name the issuer in a client: jwt: {issuer: …, subject: …}");
        Ok(())
    }

    /// The section as YAML.
    fn section(&self, found: &Discovered) -> String {
        let audiences: Vec<_> = self.audiences.iter().map(|it| plain(it)).collect();
        let chosen = algorithm(found);
        let others = found.algorithms.iter().map(|it| it.name());
        let others: Vec<_> = others.filter(|name| *name != chosen).collect();
        let also = match others.as_slice() {
            [] => String::new(),
            others => format!("  # the issuer also offers {}", others.join(", ")),
        };
        let elsewhere = if is_elsewhere(&self.issuer, &found.jwks_url) {
            "  # on another host than the issuer"
        } else {
            ""
        };
        format!(
            "issuers:\n  {}:\n    issuer: {}\n    audiences: [{}]\n    algorithms: [{chosen}]{also}\n    jwks: {{url: {}}}{elsewhere}\n    max_lifetime_s: {MAX_LIFETIME_S}  # a default: lower it to the lifetime of the issuer's tokens\n",
            plain(&self.name),
            plain(&self.issuer),
            audiences.join(", "),
            plain(&found.jwks_url),
        )
    }
}

/// The usual algorithm if the issuer offers it or says nothing, or else its first one.
fn algorithm(found: &Discovered) -> &'static str {
    let mut offered = found.algorithms.iter().map(|it| it.name());
    if offered.clone().any(|name| name == USUAL_ALGORITHM) {
        return USUAL_ALGORITHM;
    }
    offered.next().unwrap_or(USUAL_ALGORITHM)
}
