//! Prints the lines that handlers log, and the sandbox's warnings, on the terminal.

use tensorgate_cli_common::ui::{Ui, printable};
use tracing::Level;

use crate::log_line::{LineSubscriber, LogLine};

/// Prints lines from now on. A second call changes nothing.
pub(super) fn print_handlers_lines(ui: Ui) {
    // Fails only if there is a subscriber already.
    let _ = tracing::subscriber::set_global_default(LineSubscriber {
        others: Some(Level::WARN),
        write: move |line| print(ui, line),
    });
}

fn print(ui: Ui, line: LogLine) {
    let LogLine {
        level,
        handler,
        request_id,
        message,
    } = line;
    if ui.json {
        ui.json_line(&serde_json::json!({
            "log": message,
            "level": level,
            "handler": handler,
            "request_id": request_id,
        }));
        return;
    }
    let style = match level.as_str() {
        "error" => "1;31",
        "warn" => "1;33",
        _ => "2",
    };
    let level = level.to_uppercase();
    let level = ui.paint(style, &format!("{level:5}"));
    let from = printable(&format!("{request_id} {handler}"));
    ui.line(&format!("{level} {from}: {}", printable(&message)));
}
