//! Prints the lines that handlers log, and the sandbox's warnings, on the terminal.

use std::fmt::Debug;

use tensorgate_cli_common::ui::{Ui, printable};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// The target of handlers' lines.
const TARGET: &str = "tensorgate::handler";

/// Prints lines from now on. A second call changes nothing.
pub(super) fn print_handlers_lines(ui: Ui) {
    // Fails only if there is a subscriber already.
    let _ = tracing::subscriber::set_global_default(TerminalLog { ui });
}

struct TerminalLog {
    ui: Ui,
}

/// The fields of a line.
#[derive(Debug, Default)]
struct Line {
    message: String,
    handler: String,
    request_id: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        let text = match field.name() {
            "message" => &mut self.message,
            "handler" => &mut self.handler,
            "request_id" => &mut self.request_id,
            _ => return,
        };
        value.clone_into(text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
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
        let mut line = Line::default();
        event.record(&mut line);
        let level = *event.metadata().level();
        let Line {
            message,
            handler,
            request_id,
        } = line;
        if self.ui.json {
            self.ui.json_line(&serde_json::json!({
                "log": message,
                "level": level.as_str().to_ascii_lowercase(),
                "handler": handler,
                "request_id": request_id,
            }));
            return;
        }
        let style = match level {
            Level::ERROR => "1;31",
            Level::WARN => "1;33",
            _ => "2",
        };
        let level = self.ui.paint(style, &format!("{:5}", level.as_str()));
        let from = printable(&format!("{request_id} {handler}"));
        self.ui
            .line(&format!("{level} {from}: {}", printable(&message)));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
