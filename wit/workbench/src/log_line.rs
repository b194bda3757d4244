//! A line that a handler logged, read from the tracing event that the sandbox emits for it.

use std::fmt::Debug;

use serde::Serialize;
use tracing::Event;
use tracing::field::{Field, Visit};

/// Target of handlers' lines. Lines of the host about a handler have others.
pub const TARGET: &str = "tensorgate::handler";

/// One line of a handler.
#[derive(Debug, Default, Serialize)]
pub struct LogLine {
    /// `debug`, `info`, `warn` or `error`.
    pub level: String,
    /// Name of the handler.
    pub handler: String,
    /// Request ID of the call.
    pub request_id: String,
    /// The text, escaped and cut by the sandbox.
    pub message: String,
}

impl LogLine {
    /// The line of an event. Fields that the event lacks are empty.
    pub fn of(event: &Event<'_>) -> Self {
        let mut line = Self {
            level: event.metadata().level().as_str().to_lowercase(),
            ..Self::default()
        };
        event.record(&mut line);
        line
    }
}

impl Visit for LogLine {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "handler" => self.handler = value.to_owned(),
            "request_id" => self.request_id = value.to_owned(),
            "message" => self.message = value.to_owned(),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // The message is recorded as format arguments, whose debug form is the text itself.
        self.record_str(field, &format!("{value:?}"));
    }
}
