//! Rows on alerts: an attack, and the alert that the anomaly rules raise about it. Those on single
//! requests and on sources are live. A rule on classes needs windows of minutes, so its row is a
//! replay.

mod replay;
mod sources;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tensorgate_client::http1::{self, Framing};
use tokio::process::Command;

use crate::processes::{ours, run};
use crate::split::Split;
use crate::table::{Answer, Table};

/// The time from an attack to its alert in the audit log.
const ALERT_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two looks at the alerts.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the rows are about.
pub struct Alerts<'a> {
    /// The state folder of the attacked gate.
    pub state: &'a Path,
    /// When the demo started. Earlier alerts are those of earlier runs.
    pub started: Instant,
    /// The key of the client `scorer`.
    pub scorer: &'a str,
    /// The digits whose labels are replayed.
    pub split: &'a Split,
}

impl Alerts<'_> {
    /// Plays and prints the rows. `gate`: the address of the attacked gate.
    pub async fn play(&self, gate: SocketAddr, table: &mut Table) {
        let management = async {
            self.request_management(gate).await?;
            self.alert("management", "client scorer").await
        };
        add(
            table,
            "alert: a client tries to load a model",
            "management",
            management.await,
        );
        let spraying = async {
            sources::guess_keys(gate).await?;
            self.alert("spraying-sources", "the gateway").await
        };
        add(
            table,
            "alert: wrong keys from 256 sources",
            "spraying-sources",
            spraying.await,
        );
        add(
            table,
            "alert: replay of an hour that ends with one class",
            "class-dominance",
            replay::class_dominance(self.split),
        );
    }

    async fn request_management(&self, gate: SocketAddr) -> Result<()> {
        let path = "/v2/repository/models/digits/load";
        let fields = [("x-api-key", self.scorer)];
        let reply = http1::send(gate, "POST", path, &fields, b"{}", Framing::Length).await?;
        ensure!(
            reply.status == 404,
            "the request was answered {}",
            reply.status
        );
        Ok(())
    }

    /// Waits for an alert of a rule about a subject, which it returns.
    async fn alert(&self, rule: &str, subject: &str) -> Result<String> {
        let raised = async {
            while !self.list(rule).await?.iter().any(|it| it == subject) {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(subject.to_owned())
        };
        tokio::time::timeout(ALERT_LIMIT, raised)
            .await
            .context("no alert in time")?
    }

    /// The subjects of a rule's alerts, as `tensorgate alerts` lists them.
    async fn list(&self, rule: &str) -> Result<Vec<String>> {
        let since = format!("{}s", self.started.elapsed().as_secs());
        let mut command = Command::new(ours("tensorgate")?);
        command.args(["alerts", "--json", "--rule", rule, "--since", &since]);
        command.arg("--state").arg(self.state);
        let lines = run(command).await?;
        let subject = |line: &str| {
            let alert: Value = serde_json::from_str(line).ok()?;
            alert.get("subject")?.as_str().map(str::to_owned)
        };
        Ok(lines.lines().filter_map(subject).collect())
    }
}

/// Prints a row. `raised`: the subject of the alert.
fn add(table: &mut Table, title: &str, rule: &str, raised: Result<String>) {
    let answer = match raised {
        Ok(subject) => Answer {
            answer: "alert".to_owned(),
            reason: subject,
            is_expected: true,
        },
        Err(error) => Answer::none(&error),
    };
    table.add(title, rule, &answer);
}
