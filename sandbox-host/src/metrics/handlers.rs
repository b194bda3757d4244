//! What is counted of handlers beside their calls: what they had brought, whose calls were kept, and where they were cut off.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;

use super::{AskLabels, BroughtLabels, CaptureLabels, HandlerLabels, Metrics};
use crate::capture::CaptureCounts;
use crate::sandbox::{Hears, Missing, Role, Shown};

/// What came of asks of one kind by one handler.
#[derive(Clone, Debug)]
pub(crate) struct AskCounts {
    brought: Counter,
    missing: [(Missing, Counter); Missing::ALL.len()],
    abandoned: Counter,
    seconds: Histogram,
}

impl AskCounts {
    /// Counts one that ended so, or that nobody waited for any more.
    pub(crate) fn count(&self, ended: Option<Result<(), Missing>>, seconds: f64) {
        self.seconds.observe(seconds);
        let counter = match ended {
            None => Some(&self.abandoned),
            Some(Ok(())) => Some(&self.brought),
            Some(Err(why)) => {
                let mut missing = self.missing.iter();
                missing.find(|(of, _)| *of == why).map(|(_, it)| it)
            }
        };
        if let Some(counter) = counter {
            counter.inc();
        }
    }
}

impl Metrics {
    pub(super) fn register_handlers(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("tensorgate_host");
        registry.register(
            "captures",
            "Calls of handlers that were to be kept, by what became of them",
            self.captures.clone(),
        );
        registry.register(
            "handler_asks",
            "Fetches and lookups for handlers, by what came of them; a fetch has no lookup",
            self.brought.clone(),
        );
        registry.register(
            "handler_ask_seconds",
            "Fetches and lookups for handlers",
            self.brought_seconds.clone(),
        );
    }

    /// Where a handler's fetches are counted, or those of its asks that are for one lookup.
    pub(crate) fn asks(&self, handler: &str, lookup: &str) -> AskCounts {
        let outcome = |outcome| {
            self.brought.get_or_create_owned(&BroughtLabels {
                handler: handler.to_owned(),
                lookup: lookup.to_owned(),
                outcome,
            })
        };
        let labels = AskLabels {
            handler: handler.to_owned(),
            lookup: lookup.to_owned(),
        };
        AskCounts {
            brought: outcome("ok"),
            missing: Missing::ALL.map(|why| (why, outcome(why.name()))),
            abandoned: outcome("abandoned"),
            seconds: self.brought_seconds.get_or_create_owned(&labels),
        }
    }

    /// Where what becomes of captured calls is counted.
    pub(crate) fn capture_counts(&self) -> CaptureCounts {
        let of = |outcome| {
            let labels = CaptureLabels { outcome };
            self.captures.get_or_create_owned(&labels)
        };
        CaptureCounts {
            kept: of("kept"),
            dropped: of("dropped"),
            too_large: of("too-large"),
            failed: of("failed"),
        }
    }

    /// Where the breaker of a handler shows.
    pub(crate) fn cut_off(&self, handler: &str, role: Role, hears: Arc<dyn Hears>) -> Shown {
        let labels = HandlerLabels {
            handler: handler.to_owned(),
            role: role.export(),
        };
        Shown {
            cut: self.handler_cut_off.get_or_create_owned(&labels),
            cuts: self.handler_cut_offs.get_or_create_owned(&labels),
            client_cuts: self.handler_client_cut_offs.get_or_create_owned(&labels),
            hears: Some(hears),
        }
    }
}
