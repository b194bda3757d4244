//! Reports the outcome of a request to the log, the access log and the counters: one outcome per
//! request, for any number of filters.
//!
//! In the access log the last writer wins, because a filter that rejects is the last one to write.
//! A counter cannot be decremented. In a chain the count therefore waits for the end of the stream,
//! and the last writer counts.

mod counters;
mod log_sequence;
pub mod property;
pub mod record;
pub mod request_id;

use tensorgate_policy::denial::Shadowed;
use tensorgate_policy::policy::Shadow;
use tensorgate_policy::{Decision, Denial, Policy, Reason, SmolStr};

use crate::filter::Filter;
use crate::host::{Level, Proxy, Verdict};
use crate::root::GateRoot;
pub use counters::Counters;
pub use log_sequence::WorkerNumbers;
use log_sequence::set_sequence_number;
use record::{Record, ReportedOutcome};

/// The outcome as far as this filter knows it.
#[derive(Debug)]
pub(crate) struct OutcomeReporter {
    filter: Filter,
    pub(crate) record: Record,
    /// The client of the request's revoked key. The record names it only in a rejection for that
    /// key: a public request with such a key has no client.
    pub(crate) revoked_client: Option<SmolStr>,
    verdict: Option<Verdict>,
    counted: bool,
    numbered: bool,
    /// Whether the grant has a shadow mode, so that a previous filter may have reported shadow
    /// denials.
    shadows: bool,
    /// Number of shadow denials already counted.
    shadowed: usize,
}

impl OutcomeReporter {
    pub(crate) fn new(filter: Filter) -> Self {
        Self {
            filter,
            record: Record::default(),
            revoked_client: None,
            verdict: None,
            counted: false,
            numbered: false,
            shadows: false,
            shadowed: 0,
        }
    }

    /// Records what the decision has established.
    pub(crate) fn note(&mut self, policy: &Policy, decision: &Decision) {
        self.record.client = decision
            .client()
            .and_then(|id| policy.client(id))
            .map(|client| client.name().into());
        self.record.model = decision
            .model()
            .and_then(|id| policy.model(id))
            .map(|model| model.name().into());
        self.record.operation = decision.operation().or(self.record.operation);
        let grant = decision.grant().and_then(|id| policy.grant(id));
        self.record.rule = grant.map(|grant| grant.name().into());
        self.shadows = grant.is_some_and(|grant| grant.shadow() != Shadow::default());
        self.record.shadow = decision.shadowed().iter().map(Shadowed::of).collect();
    }

    /// Records an allowed request. Only shadow denials are logged.
    pub(crate) fn allowed(&mut self, proxy: &mut dyn Proxy, root: &GateRoot) {
        if !self.record.shadow.is_empty() {
            self.log(proxy, root, Verdict::Allow);
        }
        self.decided(proxy, Verdict::Allow);
    }

    /// Records and logs a rejection.
    pub(crate) fn denied(&mut self, proxy: &mut dyn Proxy, root: &GateRoot, denial: &Denial) {
        self.record.reason = Some(denial.reason);
        self.record.overload = denial.overload;
        self.record.detail.clone_from(&denial.cause);
        let verdict = Verdict::Deny(denial.reason);
        if is_for_credential(verdict) && self.record.client.is_none() {
            self.record.client = self.revoked_client.take();
        }
        self.log(proxy, root, verdict);
        self.decided(proxy, verdict);
    }

    /// Logs and counts one message of a stream, as for a request. The stream has its own outcome.
    pub(crate) fn message(
        &mut self,
        proxy: &mut dyn Proxy,
        root: &GateRoot,
        decision: &Decision,
        denial: Option<&Denial>,
        id: String,
    ) {
        let mut one = Self::new(self.filter);
        one.note(root.policy(), decision);
        one.record.request_id = id;
        one.record.credential.clone_from(&self.record.credential);
        let verdict = match denial {
            Some(denial) => {
                one.record.reason = Some(denial.reason);
                one.record.overload = denial.overload;
                one.record.detail.clone_from(&denial.cause);
                Verdict::Deny(denial.reason)
            }
            None => Verdict::Allow,
        };
        if denial.is_some() || !one.record.shadow.is_empty() {
            one.log(proxy, root, verdict);
        }
        one.count_shadows(proxy);
        // In a chain, the rejecting filter counts a message; otherwise the validating filter does.
        if denial.is_some() || self.filter.capabilities().check {
            one.count(proxy, verdict);
        }
        (self.record.model, self.record.rule) = (one.record.model, one.record.rule);
    }

    /// Writes one log line. Those about callers without a valid credential have a quota.
    fn log(&self, proxy: &mut dyn Proxy, root: &GateRoot, verdict: Verdict) {
        let is_fault = matches!(verdict, Verdict::Deny(Reason::Overloaded));
        let is_unknown = self.record.client.is_none() || is_for_credential(verdict);
        if is_unknown && !root.log_quotas.admits(proxy, is_fault) {
            return;
        }
        let level = if is_fault { Level::Warn } else { Level::Info };
        let source = proxy.source_address();
        let line = self.record.to_log_line(verdict, source.as_deref());
        proxy.log(level, &line);
    }

    /// Records that the head is forwarded and the verdict is still pending.
    pub(crate) fn forwarded(&self, proxy: &mut dyn Proxy) {
        if let Err(fault) = proxy.set_property(property::FORWARDED, &self.record.request_id) {
            proxy.log(
                Level::Error,
                &format!("property {}: {fault}", property::FORWARDED),
            );
        }
    }

    /// Numbers the finished request in the access log.
    pub(crate) fn number(&mut self, proxy: &mut dyn Proxy) {
        if !core::mem::replace(&mut self.numbered, true) {
            set_sequence_number(proxy);
        }
    }

    /// Records a request that ended before its verdict, and what its decision has established. The
    /// access log may be written more than once.
    pub(crate) fn aborted(
        &mut self,
        proxy: &mut dyn Proxy,
        policy: &Policy,
        decision: Option<&Decision>,
    ) {
        if let Some(decision) = decision {
            self.note(policy, decision);
        }
        self.report_aborted(proxy);
    }

    fn report_aborted(&mut self, proxy: &mut dyn Proxy) {
        if self.filter.shares_identity() && self.already_reported(proxy) {
            return;
        }
        self.verdict = Some(Verdict::Aborted);
        self.report(proxy, Verdict::Aborted);
    }

    /// Whether another filter of the chain has rejected the request or reported its end. Several
    /// filters may see the end when headers are forwarded before the verdict.
    fn already_reported(&self, proxy: &mut dyn Proxy) -> bool {
        let other = proxy.property(&[property::FILTER]);
        let other = matches!(other, Ok(Some(last)) if last != self.filter.name().as_bytes());
        let Ok(Some(outcome_json)) = proxy.property(&[property::OUTCOME]) else {
            return false;
        };
        let reported = ReportedOutcome::parse(&outcome_json);
        other && reported.verdict.is_some() && !reported.is_allowed()
    }

    /// Records a stream that ended before its head arrived here, unless a filter before this one
    /// has reported an outcome.
    pub(crate) fn ended_before_head(&mut self, proxy: &mut dyn Proxy) {
        if !matches!(proxy.property(&[property::OUTCOME]), Ok(Some(_))) {
            self.report_aborted(proxy);
        }
    }

    /// Counts the outcome at the end of the stream, if this filter has to.
    pub(crate) fn done(&mut self, proxy: &mut dyn Proxy) {
        let Some(verdict) = self.verdict else { return };
        self.count_shadows(proxy);
        if self.filter.shares_identity() {
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
        self.report(proxy, verdict);
        self.count_shadows(proxy);
        if !self.filter.shares_identity() {
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
            if let (Verdict::Deny(_), Some(cause)) = (verdict, self.record.overload) {
                proxy.count_overload(cause);
            }
        }
    }

    fn report(&self, proxy: &mut dyn Proxy, verdict: Verdict) {
        let filter = self.filter.shares_identity().then(|| self.filter.name());
        let outcome = if self.filter.shares_identity() && self.shadows {
            self.merged_record(proxy).to_property(verdict)
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

    /// Adds shadow denials of previous filters, because this filter writes last.
    fn merged_record(&self, proxy: &mut dyn Proxy) -> Record {
        let mut record = self.record.clone();
        if let Ok(Some(outcome_json)) = proxy.property(&[property::OUTCOME]) {
            let mut shadow = ReportedOutcome::parse(&outcome_json).shadow;
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

/// Whether a verdict rejects the credential, so that the client of the record is not the caller.
const fn is_for_credential(verdict: Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Deny(Reason::Unauthenticated | Reason::LockedOut)
    )
}
