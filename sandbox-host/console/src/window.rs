//! What the requests of the last five minutes came to, by client, by model and by rejection. All of
//! it is bounded: names beyond the bounds are counted together.

use std::collections::BTreeMap;
use std::sync::Arc;

use tensorgate_audit::record::{Amend, Decision, Verdict};
use tensorgate_watch::recent_buckets::RecentBuckets;

use crate::latency::Latency;

/// The most clients, and the most models, of a bucket.
const MAX_NAMES: usize = 64;
/// The most kinds of rejections of a bucket.
const MAX_REJECTIONS: usize = 128;
/// The name of those beyond a bound.
pub const OTHERS: &str = "(others)";
/// The name of requests without a client or model.
pub const NONE: &str = "(none)";

/// What requests came to, and what they cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Those that were answered.
    pub allow: u64,
    /// Those that were denied.
    pub deny: u64,
    /// Those that ended before their response was complete.
    pub aborted: u64,
    /// Those of `allow` that ended otherwise, as was found later.
    pub amended: u64,
    /// Bytes of requests.
    pub request_bytes: u64,
    /// Bytes of responses.
    pub response_bytes: u64,
    /// Tokens that language models have read.
    pub prompt_tokens: u64,
    /// Tokens that they have generated.
    pub completion_tokens: u64,
    /// Fuel of handlers.
    pub fuel: u64,
    /// Time at backends without the wait for a permit, in microseconds.
    pub backend_us: u64,
}

/// A kind of rejection: the reason, the client and the model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RejectionKey {
    /// The reason.
    pub reason: String,
    /// The client, or [`NONE`].
    pub client: String,
    /// The model, or [`NONE`].
    pub model: String,
}

/// The counts of the window.
#[derive(Clone, Debug, Default)]
pub struct WindowCounts {
    /// By client.
    pub clients: BTreeMap<String, Usage>,
    /// By model.
    pub models: BTreeMap<String, Usage>,
    /// The latency by model, of answered inferences.
    pub latency: BTreeMap<String, Latency>,
    /// Rejections.
    pub rejections: BTreeMap<RejectionKey, u64>,
}

/// The window, with the time in seconds as an argument.
#[derive(Debug, Default)]
pub(crate) struct Window(RecentBuckets<WindowCounts>);

/// The buckets of the window at one moment, the oldest first.
#[derive(Debug)]
pub(crate) struct Buckets(Vec<Arc<WindowCounts>>);

impl Usage {
    /// Those that were answered to their end.
    pub const fn answered(&self) -> u64 {
        self.allow.saturating_sub(self.amended)
    }

    /// All requests.
    pub const fn requests(&self) -> u64 {
        self.answered()
            .saturating_add(self.deny)
            .saturating_add(self.aborted)
    }

    fn count(&mut self, decision: &Decision) {
        let count = match decision.verdict {
            Verdict::Allow => &mut self.allow,
            Verdict::Deny => &mut self.deny,
            Verdict::Aborted => &mut self.aborted,
        };
        *count = count.saturating_add(1);
        let tokens = |tokens: Option<u64>| tokens.unwrap_or_default();
        let waited_us = decision.queue_us.unwrap_or_default();
        let at_backend_us = decision.dispatch_us.unwrap_or_default();
        self.add(&Self {
            request_bytes: decision.request_bytes,
            response_bytes: decision.response_bytes,
            prompt_tokens: tokens(decision.prompt_tokens),
            completion_tokens: tokens(decision.completion_tokens),
            fuel: decision.fuel.unwrap_or_default(),
            backend_us: at_backend_us.saturating_sub(waited_us),
            ..Self::default()
        });
    }

    fn add(&mut self, more: &Self) {
        for (sum, more) in [
            (&mut self.allow, more.allow),
            (&mut self.deny, more.deny),
            (&mut self.aborted, more.aborted),
            (&mut self.amended, more.amended),
            (&mut self.request_bytes, more.request_bytes),
            (&mut self.response_bytes, more.response_bytes),
            (&mut self.prompt_tokens, more.prompt_tokens),
            (&mut self.completion_tokens, more.completion_tokens),
            (&mut self.fuel, more.fuel),
            (&mut self.backend_us, more.backend_us),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

impl RejectionKey {
    pub(crate) fn new(decision: &Decision) -> Self {
        let name = |name: &Option<String>| name.as_deref().unwrap_or(NONE).to_owned();
        Self {
            reason: decision.reason.clone(),
            client: name(&decision.client),
            model: name(&decision.model),
        }
    }

    fn others() -> Self {
        Self {
            reason: OTHERS.to_owned(),
            client: OTHERS.to_owned(),
            model: OTHERS.to_owned(),
        }
    }
}

impl WindowCounts {
    fn count(&mut self, decision: &Decision) {
        let client = decision.client.as_deref().unwrap_or(NONE);
        let model = decision.model.as_deref().unwrap_or(NONE);
        update(&mut self.clients, client, |it| it.count(decision));
        update(&mut self.models, model, |it| it.count(decision));
        match decision.verdict {
            Verdict::Deny => self.add_rejections(RejectionKey::new(decision), 1),
            Verdict::Allow if decision.dispatch_us.is_some() => {
                update(&mut self.latency, model, |it| it.count(decision));
            }
            Verdict::Allow | Verdict::Aborted => {}
        }
    }

    /// Adds what is known only after the response: the tokens of a stream, and how it ended. A
    /// request that was denied counts once, whatever becomes of its response.
    fn amend(&mut self, amend: &Amend) {
        let verdict = amend.late_verdict();
        let is = |expected| u64::from(verdict == Some(expected));
        let (deny, aborted) = (is(Verdict::Deny), is(Verdict::Aborted));
        let more = Usage {
            deny,
            aborted,
            amended: deny.saturating_add(aborted),
            prompt_tokens: amend.prompt_tokens.unwrap_or_default(),
            completion_tokens: amend.completion_tokens.unwrap_or_default(),
            ..Usage::default()
        };
        if more != Usage::default() {
            let client = amend.client.as_deref().unwrap_or(NONE);
            let model = amend.model.as_deref().unwrap_or(NONE);
            update(&mut self.clients, client, |it| it.add(&more));
            update(&mut self.models, model, |it| it.add(&more));
        }
    }

    fn add_rejections(&mut self, key: RejectionKey, count: u64) {
        let is_known = self.rejections.contains_key(&key);
        let key = match is_known || self.rejections.len() < MAX_REJECTIONS {
            true => key,
            false => RejectionKey::others(),
        };
        let sum = self.rejections.entry(key).or_default();
        *sum = sum.saturating_add(count);
    }

    fn merge(&mut self, other: &Self) {
        for (name, usage) in &other.clients {
            update(&mut self.clients, name, |it| it.add(usage));
        }
        for (name, usage) in &other.models {
            update(&mut self.models, name, |it| it.add(usage));
        }
        for (name, latency) in &other.latency {
            update(&mut self.latency, name, |it| it.merge(latency));
        }
        for (key, count) in &other.rejections {
            self.add_rejections(key.clone(), *count);
        }
    }
}

/// Changes the entry of a name, or of [`OTHERS`] where there is no room.
fn update<T: Default>(entries: &mut BTreeMap<String, T>, name: &str, change: impl FnOnce(&mut T)) {
    // Most names are known, and then none is copied.
    if let Some(known) = entries.get_mut(name) {
        return change(known);
    }
    let name = match entries.len() < MAX_NAMES {
        true => name,
        false => OTHERS,
    };
    change(entries.entry(name.to_owned()).or_default());
}

impl Window {
    pub(crate) fn count(&mut self, now_s: u64, decision: &Decision) {
        self.0.current(now_s).count(decision);
    }

    pub(crate) fn amend(&mut self, now_s: u64, amend: &Amend) {
        self.0.current(now_s).amend(amend);
    }

    /// Adds the time that a request of a model spent in Envoy and its filter.
    pub(crate) fn add_gate_time(&mut self, now_s: u64, model: &str, gate_us: u64) {
        update(&mut self.0.current(now_s).latency, model, |it| {
            it.add_gate_time(gate_us);
        });
    }

    /// The buckets of the last five minutes. Only the current one is copied.
    pub(crate) fn buckets(&self, now_s: u64) -> Buckets {
        Buckets(self.0.recent(now_s))
    }
}

impl Buckets {
    /// The counts of all of them.
    pub(crate) fn total(&self) -> WindowCounts {
        let mut total = WindowCounts::default();
        for counts in &self.0 {
            total.merge(counts);
        }
        total
    }
}

#[cfg(test)]
mod tests;
