//! A handler that keeps failing is left alone for a while, so that its calls take no threads from others; a client whose inputs it keeps
//! failing at is, before it can spoil it for all. What is decided is in [`state`]; here it is asked, told and shown.

mod state;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

pub(in crate::sandbox) use self::state::Who;
use self::state::{Leave, Outcome, Refusal, State, Whom};
use super::outcome::{CutOff, FaultCause, HandlerError, Kept};

/// What operators see of a handler's breaker.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Whether everybody is cut off from it; of a handler that several generations have loaded, from how many of them.
    pub cut: Gauge,
    /// How often everybody was.
    pub cuts: Counter,
    /// How often one client was.
    pub client_cuts: Counter,
    /// Who is told each time.
    pub hears: Option<Arc<dyn Hears>>,
}

/// Who hears that a handler is left alone, or is not any more. Nobody waits for it.
pub trait Hears: Send + Sync + std::fmt::Debug {
    /// For one client, or for all; for so long, or no more.
    fn cut_off(&self, handler: &str, client: Option<&str>, long: Option<Duration>);
}

/// One handler's.
#[derive(Debug)]
pub(super) struct Breaker {
    handler: Arc<str>,
    state: Mutex<State>,
    shown: OnceLock<Shown>,
    /// Whether this one counts in what is shown: generations of a handler share it.
    cut: AtomicBool,
}

impl Breaker {
    pub(super) fn new(handler: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            handler,
            state: Mutex::default(),
            shown: OnceLock::new(),
            cut: AtomicBool::new(false),
        })
    }

    /// Where it shows what it does; the first word counts.
    pub(super) fn show(&self, shown: Shown) {
        let _ = self.shown.set(shown);
    }

    /// Leave to make a call for a client.
    pub(super) fn admit(self: &Arc<Self>, client: &Who) -> Result<Call, HandlerError> {
        let refused = |Refusal { whom, left }| {
            HandlerError::CutOff(CutOff {
                client: whom == Whom::Client,
                left,
            })
        };
        let leave = self.lock().admit(client, Instant::now()).map_err(refused)?;
        Ok(Call {
            breaker: Arc::clone(self),
            client: client.clone(),
            leave,
            outcome: Outcome::Void,
        })
    }

    fn over(&self, call: &Call) {
        let change = (self.lock()).over(&call.client, call.leave, call.outcome, Instant::now());
        let shown = self.shown.get();
        let handler = &*self.handler;
        let client = call.client.as_deref().unwrap_or_default();
        let tell = |client, long| {
            let hears = shown.and_then(|shown| shown.hears.as_ref());
            hears.inspect(|hears| hears.cut_off(handler, client, long));
        };
        if change.client.is_some() || change.client_back {
            tell(Some(client), change.client);
        }
        if change.all.is_some() || change.back {
            tell(None, change.all);
        }
        if let Some(long) = change.client {
            shown.inspect(|shown| {
                shown.client_cuts.inc();
            });
            let seconds = long.as_secs();
            tracing::warn!(
                handler,
                client,
                seconds,
                "a handler failed at one client's requests in a row: the client is cut off from it for a while"
            );
        }
        if let Some(long) = change.all {
            self.is_cut(true);
            shown.inspect(|shown| {
                shown.cuts.inc();
            });
            let seconds = long.as_secs();
            tracing::error!(
                handler,
                seconds,
                "a handler failed for several clients in a row: all are cut off from it for a while"
            );
        }
        for (client, long) in &change.wrong {
            shown.inspect(|shown| {
                shown.client_cuts.inc();
            });
            tell(Some(client.as_deref().unwrap_or_default()), Some(*long));
        }
        if change.back {
            self.is_cut(false);
            let clients = change.wrong.len();
            tracing::info!(
                handler,
                clients,
                "a handler answers again: those at whose requests it had failed are cut off by themselves"
            );
        }
    }

    /// Shows it, once for each change.
    fn is_cut(&self, cut: bool) {
        let Some(shown) = self.shown.get() else {
            return;
        };
        match (self.cut.swap(cut, Ordering::Relaxed), cut) {
            (false, true) => {
                shown.cut.inc();
            }
            (true, false) => {
                shown.cut.dec();
            }
            (false, false) | (true, true) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        // Whoever loads the handler anew starts with one that is closed, and shows what becomes of that.
        self.is_cut(false);
    }
}

/// A call that was let through. What became of it is told when this goes; nothing is known unless it was said.
#[derive(Debug)]
pub struct Call {
    breaker: Arc<Breaker>,
    client: Who,
    leave: Leave,
    outcome: Outcome,
}

impl Call {
    /// What the call came to, as far as its handler is to blame.
    pub(super) fn came_to(&mut self, failed: Option<&HandlerError>) {
        self.outcome = match failed {
            None | Some(HandlerError::Rejected { .. }) => Outcome::Answered,
            Some(HandlerError::Fault { cause, .. }) => match cause {
                // The caller's own patience, and a bug on this side.
                FaultCause::RequestDeadline | FaultCause::Input => Outcome::Void,
                _ => Outcome::Fault,
            },
            Some(HandlerError::Overloaded(_) | HandlerError::CutOff(_)) => Outcome::Void,
        };
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.breaker.over(self);
    }
}

/// What a call's answer is worth is for whoever called to say: the handler's breaker hears it when this goes, and who keeps calls does.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    call: Option<Arc<Mutex<Call>>>,
    kept: Option<Arc<dyn Kept>>,
}

impl Standing {
    /// Of a call that is kept.
    pub(super) fn kept(kept: Option<Arc<dyn Kept>>) -> Self {
        Self { call: None, kept }
    }

    /// The same, of a call that was let through.
    pub(super) fn of(self, call: Call) -> Self {
        let call = Some(Arc::new(Mutex::new(call)));
        Self { call, ..self }
    }

    /// The answer breaks the contract, and that is its input's fault: the call is kept as one that does, and an answer to the breaker.
    pub fn unkept(&self) {
        if let Some(kept) = &self.kept {
            kept.broke();
        }
    }

    /// The answer breaks the contract: the call is a fault after all.
    pub fn broke(&self) {
        self.unkept();
        if let Some(call) = &self.call {
            // Nothing panics while it holds the call.
            call.lock().unwrap_or_else(PoisonError::into_inner).outcome = Outcome::Fault;
        }
    }
}
