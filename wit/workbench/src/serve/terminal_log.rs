//! Prints the lines that handlers log, and the sandbox's warnings, on the terminal.

use tensorgate_cli_common::ui::{Ui, printable};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::log_line::{LogLine, TARGET};

/// Prints lines from now on. A second call changes nothing.
pub(super) fn print_handlers_lines(ui: Ui) {
    // Fails only if there is a subscriber already.
    let _ = tracing::subscriber::set_global_default(TerminalLog { ui });
}

struct TerminalLog {
    ui: Ui,
}

impl Subscriber for TerminalLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET || *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let LogLine {
            level,
            handler,
            request_id,
            message,
        } = LogLine::of(event);
        if self.ui.json {
            self.ui.json_line(&serde_json::json!({
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
        let level = self.ui.paint(style, &format!("{level:5}"));
        let from = printable(&format!("{request_id} {handler}"));
        self.ui
            .line(&format!("{level} {from}: {}", printable(&message)));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
