//! What a request came to, told to the log, the access log and the counters: one outcome a request, however many filters of ours it
//! passed.
//!
//! The access log has a property: whoever speaks last is right, since a filter that refuses is the last to speak. A count cannot be
//! taken back, so in a chain it waits for the stream's end, and the filter that spoke last counts.

use tensorgate_policy::denial::Shadowed;
use tensorgate_policy::policy::Shadow;
use tensorgate_policy::{Decision, Denial, Policy, Reason};

use crate::filter::Filter;
use crate::host::{Level, Proxy};
use crate::record::{Record, Verdict, property, told_in_shadow};

/// A request's outcome as far as this filter knows it.
#[derive(Debug)]
pub(crate) struct Outcome {
    filter: Filter,
    pub(crate) record: Record,
    verdict: Option<Verdict>,
    counted: bool,
    numbered: bool,
    /// Whether the request's grant has anything in shadow, so that a filter before this one may have told of it.
    shadows: bool,
    /// Denials in shadow that are counted.
    shadowed: usize,
}

impl Outcome {
    pub(crate) fn new(filter: Filter) -> Self {
        Self {
            filter,
            record: Record::default(),
            verdict: None,
            counted: false,
            numbered: false,
            shadows: false,
            shadowed: 0,
        }
    }

    /// Names what the decision has established.
    pub(crate) fn note(&mut self, policy: &Policy, decision: &Decision) {
        self.record.client = decision
            .client()
            .and_then(|id| policy.client(id))
            .map(|client| client.name().to_owned());
        self.record.model = decision
            .model()
            .and_then(|id| policy.model(id))
            .map(|model| model.name().to_owned());
        let grant = decision.grant().and_then(|id| policy.grant(id));
        self.record.rule = grant.map(|grant| grant.name().to_owned());
        self.shadows = grant.is_some_and(|grant| grant.shadow() != Shadow::default());
        self.record.shadow = decision.shadowed().iter().map(Shadowed::of).collect();
    }

    /// Sent on, as far as this filter is concerned. What only its mode let pass is worth a line in the log.
    pub(crate) fn allowed(&mut self, proxy: &mut dyn Proxy, request_id: &str) {
        if !self.record.shadow.is_empty() {
            self.log(proxy, Verdict::Allow, request_id);
        }
        self.decided(proxy, Verdict::Allow);
    }

    /// Refused, which is worth a line in the log.
    pub(crate) fn denied(&mut self, proxy: &mut dyn Proxy, denial: &Denial, request_id: &str) {
        self.record.reason = Some(denial.reason);
        self.record.detail.clone_from(&denial.cause);
        let verdict = Verdict::Deny(denial.reason);
        self.log(proxy, verdict, request_id);
        self.decided(proxy, verdict);
    }

    /// What became of one message of a stream, which the stream's own outcome is not: logged and counted as a request is. The names of its model and
    /// its grant.
    pub(crate) fn message(
        &mut self,
        proxy: &mut dyn Proxy,
        policy: &Policy,
        decision: &Decision,
        denial: Option<&Denial>,
        id: &str,
    ) -> (Option<String>, Option<String>) {
        let mut one = Self::new(self.filter);
        one.note(policy, decision);
        one.record.credential.clone_from(&self.record.credential);
        let verdict = match denial {
            Some(denial) => {
                one.record.reason = Some(denial.reason);
                one.record.detail.clone_from(&denial.cause);
                Verdict::Deny(denial.reason)
            }
            None => Verdict::Allow,
        };
        if denial.is_some() || !one.record.shadow.is_empty() {
            one.log(proxy, verdict, id);
        }
        one.count_shadows(proxy);
        // Of a chain, whoever refuses counts, and of what passes whoever holds it against its contract.
        if denial.is_some() || self.filter.duties().check {
            proxy.count(verdict);
        }
        (self.record.model, self.record.rule) = (one.record.model.clone(), one.record.rule.clone());
        (one.record.model, one.record.rule)
    }

    /// One line.
    fn log(&self, proxy: &mut dyn Proxy, verdict: Verdict, request_id: &str) {
        let level = match verdict {
            Verdict::Deny(Reason::Overloaded) => Level::Warn,
            _ => Level::Info,
        };
        let source = proxy.source_address();
        let line = self
            .record
            .to_log_line(verdict, request_id, source.as_deref());
        proxy.log(level, &line);
    }

    /// The head goes on, and the verdict is still to come.
    pub(crate) fn forwarded(&self, proxy: &mut dyn Proxy) {
        if let Err(fault) = proxy.set_property(property::FORWARDED, "1") {
            proxy.log(
                Level::Error,
                &format!("property {}: {fault}", property::FORWARDED),
            );
        }
    }

    /// The request is over, as far as the access log goes.
    pub(crate) fn number(&mut self, proxy: &mut dyn Proxy) {
        if !core::mem::replace(&mut self.numbered, true) {
            crate::entry::number(proxy, self.filter.shares());
        }
    }

    /// The request ended before its verdict, held or passing. The access log is told; it may be written more than once in a request's life.
    pub(crate) fn aborted(&mut self, proxy: &mut dyn Proxy) {
        self.verdict = Some(Verdict::Aborted);
        self.tell(proxy, Verdict::Aborted);
    }

    /// The stream ended before its head came here. Of a chain, the first to hear of it says so, unless a filter has said something.
    pub(crate) fn unheard(&mut self, proxy: &mut dyn Proxy) {
        if !self.filter.shares() || matches!(proxy.property(&[property::FILTER]), Ok(None)) {
            self.aborted(proxy);
        }
    }

    /// The stream is over: whatever was not counted is counted now, if it is this filter's to count.
    pub(crate) fn done(&mut self, proxy: &mut dyn Proxy) {
        let Some(verdict) = self.verdict else { return };
        self.count_shadows(proxy);
        if self.filter.shares() {
            match proxy.property(&[property::FILTER]) {
                Ok(Some(last)) if last == self.filter.name().as_bytes() => {}
                Ok(_) => return,
                Err(fault) => {
                    proxy.log(
                        Level::Error,
                        &format!("property {}: {fault}", property::FILTER),
                    );
                    return;
                }
            }
        }
        self.count(proxy, verdict);
    }

    fn decided(&mut self, proxy: &mut dyn Proxy, verdict: Verdict) {
        self.verdict = Some(verdict);
        self.tell(proxy, verdict);
        self.count_shadows(proxy);
        if !self.filter.shares() {
            self.count(proxy, verdict);
        }
    }

    fn count_shadows(&mut self, proxy: &mut dyn Proxy) {
        let shadow = self.record.shadow.iter().skip(self.shadowed);
        shadow.for_each(|denial| proxy.count_shadow(&denial.reason));
        self.shadowed = self.record.shadow.len();
    }

    fn count(&mut self, proxy: &mut dyn Proxy, verdict: Verdict) {
        if !self.counted {
            self.counted = true;
            proxy.count(verdict);
        }
    }

    fn tell(&self, proxy: &mut dyn Proxy, verdict: Verdict) {
        let filter = self.filter.shares().then(|| self.filter.name());
        let outcome = if self.filter.shares() && self.shadows {
            self.record_with_those_before(proxy).to_property(verdict)
        } else {
            self.record.to_property(verdict)
        };
        let properties = [
            (property::FILTER, filter),
            (property::OUTCOME, Some(outcome.as_str())),
        ];
        for (name, value) in properties {
            let Some(value) = value else { continue };
            if let Err(fault) = proxy.set_property(name, value) {
                proxy.log(Level::Error, &format!("property {name}: {fault}"));
            }
        }
    }

    /// What filters before this one let pass is told with what this one did: it speaks last.
    fn record_with_those_before(&self, proxy: &mut dyn Proxy) -> Record {
        let mut record = self.record.clone();
        if let Ok(Some(told)) = proxy.property(&[property::OUTCOME]) {
            let mut shadow = told_in_shadow(&told);
            shadow.retain(|before| {
                let mut own = record.shadow.iter();
                own.all(|own| own.reason != before.reason)
            });
            shadow.append(&mut record.shadow);
            record.shadow = shadow;
        }
        record
    }
}
