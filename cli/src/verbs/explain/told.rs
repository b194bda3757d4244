//! What `explain` says to people: a verdict in some lines, and every reason there is.

use serde::Serialize;
use tensorgate_policy::Reason;
use tensorgate_policy::denial::Shadowed;

use super::Explained;
use crate::ui::{Ui, printable};

/// A reason.
#[derive(Serialize)]
struct Told {
    reason: &'static str,
    status: u16,
    grpc_status: u8,
    title: &'static str,
}

/// Every reason, a line each.
pub(super) fn tell_all(ui: &Ui) {
    for reason in Reason::ALL {
        let told = Told {
            reason: reason.name(),
            status: reason.http_status(),
            grpc_status: reason.grpc_status() as u8,
            title: reason.title(),
        };
        if ui.json {
            ui.json_line(&told);
        } else {
            let Told {
                reason,
                status,
                grpc_status,
                title,
            } = told;
            ui.line(&format!(
                "{reason:<24} {status}  grpc-status {grpc_status:<2}  {title}"
            ));
        }
    }
}

/// For people.
pub(super) fn tell(ui: &Ui, explained: &Explained) {
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
    for Shadowed { reason, detail } in &explained.shadow {
        let detail = printable(detail);
        ui.line(&format!("  in shadow: {reason}: {detail}"));
    }
    for limit in &explained.shared_limits {
        let limit = printable(limit);
        ui.line(&format!(
            "  for all gateways: limit {limit}, here unspent by others"
        ));
    }
}
