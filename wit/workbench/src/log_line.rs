//! Lines that handlers log, read from the tracing events that the sandbox emits for them.

use std::fmt::Debug;

use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Target of handlers' lines. Lines of the sandbox about a handler have others.
const TARGET: &str = "tensorgate::handler";

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
    fn of(event: &Event<'_>) -> Self {
        let mut line = Self {
            level: event.metadata().level().as_str().to_lowercase(),
            ..Self::default()
        };
        event.record(&mut line);
        line
    }
}

/// Receives each line of a handler, at every level. Spans are not used.
pub struct LineSubscriber<F> {
    /// The least severe level of other lines that it receives, too.
    pub others: Option<Level>,
    /// Called for each line, on the thread that wrote it.
    pub write: F,
}

impl<F: Fn(LogLine) + 'static> Subscriber for LineSubscriber<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == TARGET || self.others.is_some_and(|most| *metadata.level() <= most)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        (self.write)(LogLine::of(event));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
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
