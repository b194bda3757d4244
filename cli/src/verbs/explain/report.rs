//! Text output of `explain`: a verdict in several lines, and the list of all reasons.

use serde::Serialize;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::Reason;
use tensorgate_policy::denial::Shadowed;

use super::Explained;

/// A reason, for the list.
#[derive(Serialize)]
struct ReasonRow {
    reason: &'static str,
    status: u16,
    grpc_status: u8,
    title: &'static str,
}

/// Prints every reason, one per line.
pub(super) fn list_reasons(ui: &Ui) {
    for reason in Reason::ALL {
        let row = ReasonRow {
            reason: reason.name(),
            status: reason.http_status(),
            grpc_status: reason.grpc_status() as u8,
            title: reason.title(),
        };
        if ui.json {
            ui.json_line(&row);
        } else {
            let ReasonRow {
                reason,
                status,
                grpc_status,
                title,
            } = row;
            ui.line(&format!(
                "{reason:<24} {status}  grpc-status {grpc_status:<2}  {title}"
            ));
        }
    }
}

/// Prints a result as text.
pub(super) fn print(ui: &Ui, explained: &Explained) {
    let verdict = match explained.reason {
        Some(reason) => ui.paint("1;31", &format!("deny {reason}")),
        None => ui.paint("1;32", "allow"),
    };
    let status = match explained.grpc_status {
        Some(code) => format!("grpc-status {code}"),
        None => explained.status.to_string(),
    };
    ui.line(&format!(
        "{}: {verdict} ({status})",
        printable(&explained.file)
    ));
    let facts = [
        ("client", &explained.client),
        ("model", &explained.model),
        ("grant", &explained.rule),
    ];
    for (name, value) in facts {
        if let Some(value) = value {
            ui.line(&format!("  {name}: {}", printable(value)));
        }
    }
    if !explained.detail.is_empty() {
        ui.line(&format!("  cause: {}", printable(&explained.detail)));
    }
    if explained.escaped {
        ui.line("  changed: special tokens in texts are escaped (`only_special_tokens` names the model's)");
    }
    for Shadowed { reason, detail } in &explained.shadow {
        let detail = printable(detail);
        ui.line(&format!("  in shadow: {reason}: {detail}"));
    }
    for limit in &explained.shared_limits {
        let limit = printable(limit);
        ui.line(&format!(
            "  for all gateways: limit {limit}, here unused by other clients"
        ));
    }
    for limit in &explained.divided_limits {
        ui.line(&format!(
            "  divided by the number of pods in `render`: {limit}, here undivided"
        ));
    }
}
