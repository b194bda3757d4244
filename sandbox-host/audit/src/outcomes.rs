//! Joins the two reports on a request: the host's, before it responds, and Envoy's, after the
//! request has ended. They are joined by the request ID, so that one request has one audit record.
//!
//! The host writes its record before it responds. Envoy's entry then only confirms how the request
//! ended, or an amending record says how it did. If the host cannot complete a request (its client
//! left, its body ended early) or cannot write its record, the record waits shortly for Envoy's
//! entry. If Envoy reports first, its record stands, and the host adds no second one. Entries that
//! Envoy lost are detected by the numbers of later ones ([`SequenceTracker`]), and repeated entries
//! are ignored.

mod joining;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::als::Entry;
use crate::listener::GateTimeListener;
use crate::record::{Amend, ArtifactRecord, By, Decision, Event, Verdict};
use crate::sequence::{Marks, SequenceCheck, SequenceTracker};
use crate::writer::{Audit, Unwritten};
use joining::{amend, amendment, joined};

/// The most requests in the table: the last minute at a thousand requests a second.
const MAX_KNOWN: usize = 65_536;
/// How long the host's report waits for Envoy's. Envoy flushes its buffer twenty times in this
/// time.
const JOIN_WAIT: Duration = Duration::from_secs(2);
/// The most waiting reports beside which one of an unproven sender waits, too. A flood of them must
/// not displace requests of others.
const MAX_WAITING_UNPROVEN: usize = 1_024;
/// The most waiting reports that are checked under one lock, because a response may wait for it.
const SWEEP_AT_ONCE: usize = 256;

/// The state of a request.
enum KnownRequest {
    /// Its record is written, or will be. Envoy has not reported it yet.
    Answered {
        verdict: Verdict,
        status: u16,
        grpc_status: Option<u8>,
        total_us: u64,
    },
    /// The host's report, waiting since this time.
    Half {
        decision: Box<Decision>,
        time: SystemTime,
        since: Instant,
    },
    /// Envoy has reported it, and its record is written.
    Told,
}

type Halves = Vec<(SystemTime, Decision)>;

#[derive(Default)]
struct Table {
    known: HashMap<Arc<str>, KnownRequest>,
    /// The request IDs in order of arrival. Some may have been removed.
    order: VecDeque<Arc<str>>,
    /// The waiting reports in order of arrival. Some may have been joined.
    waiting: VecDeque<(Instant, String)>,
    sequence: SequenceTracker,
}

/// Requests with one of two reports, and the audit log for their records.
pub struct Outcomes {
    audit: Audit,
    table: Mutex<Table>,
    /// Whether the filter has accepted or denied a request since this host started.
    filter_seen: AtomicBool,
    /// Whether other hosts get entries of the same gateways, so that a gap proves no loss.
    shared: bool,
    /// Sees how long Envoy had requests.
    gate_times: OnceLock<Arc<dyn GateTimeListener>>,
}

impl std::fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcomes")
            .field("audit", &self.audit)
            .finish_non_exhaustive()
    }
}

impl Outcomes {
    /// Creates the table. `recent` has requests that a previous host has recorded and Envoy may
    /// still report. `received` has the entries that Envoy has reported.
    /// If other hosts get entries of the same gateways (`shared`), no gap counts as lost entries.
    pub fn new(audit: Audit, recent: Vec<Decision>, heard: &Marks, shared: bool) -> Self {
        let mut table = Table {
            sequence: SequenceTracker::new(heard),
            ..Table::default()
        };
        for decision in recent {
            let known = match decision.by {
                By::Host => answered(&decision),
                By::Gate | By::Envoy => KnownRequest::Told,
            };
            if let Some(id) = decision.request_id {
                table.insert(&id, known);
            }
        }
        Self {
            audit,
            table: Mutex::new(table),
            filter_seen: AtomicBool::new(false),
            shared,
            gate_times: OnceLock::new(),
        }
    }

    /// Sets who sees how long Envoy had requests. Only the first call counts.
    pub fn listen_to_gate_times(&self, listener: Arc<dyn GateTimeListener>) {
        let _ = self.gate_times.set(listener);
    }

    /// The audit log.
    pub const fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Whether the filter has accepted or denied a request since this host started.
    pub fn filter_seen(&self) -> bool {
        self.filter_seen.load(Ordering::Relaxed)
    }

    /// Records that a request passed the filter.
    pub fn saw_filter(&self) {
        // Read first, because all requests share this cache line.
        if !self.filter_seen() {
            self.filter_seen.store(true, Ordering::Relaxed);
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // No code panics while it holds this lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the record of a request before the host responds. Returns once the record is written.
    ///
    /// # Errors
    /// Returns an error if it is not written. The caller then decides about the request and reports
    /// it: with [`Self::wait_for_envoy`] if the record will never be written, with
    /// [`Self::amend_outcome`] if it will be and is wrong.
    pub async fn record_response(
        &self,
        time: SystemTime,
        decision: Decision,
    ) -> Result<(), Unwritten> {
        let id = decision.request_id.clone();
        if let Some(id) = &id {
            // Inserted before the record is written, because Envoy may report the request at once.
            let mut table = self.table();
            if let Some(KnownRequest::Told) = table.known.get(id.as_str()) {
                // Envoy gave up on the request first, and the response is not needed any more.
                return Ok(());
            }
            let displaced = table.insert(id, answered(&decision));
            drop(table);
            self.write_halves(displaced);
        }
        let event = Event::Decision(Box::new(decision));
        let written = self.audit.written(time, event).await;
        if let (Err(Unwritten::Never), Some(id)) = (&written, id) {
            let mut table = self.table();
            if let Some(KnownRequest::Answered { .. }) = table.known.get(id.as_str()) {
                table.known.remove(id.as_str());
            }
        }
        written
    }

    /// Writes the record of a stream's message before the host responds. Envoy does not report
    /// messages. Returns once the record is written.
    ///
    /// # Errors
    /// As [`Self::record_response`].
    pub async fn message(&self, time: SystemTime, decision: Decision) -> Result<(), Unwritten> {
        let event = Event::Decision(Box::new(decision));
        self.audit.written(time, event).await
    }

    /// Records the end of a stream and the number of its messages. Its first record was written
    /// when it was opened.
    pub fn closed(&self, decision: &Decision, messages: u64) {
        let amend = Amend {
            messages: Some(messages),
            recorded: self.replace_answered(decision),
            ..amend(decision)
        };
        self.audit.write(SystemTime::now(), Event::Amend(amend));
    }

    /// Records the end of a message with several responses, and their number. Its first record was
    /// written before the first response.
    pub fn answers(&self, decision: &Decision, answers: u64) {
        let amend = Amend {
            answers: Some(answers),
            ..amend(decision)
        };
        self.audit.write(SystemTime::now(), Event::Amend(amend));
    }

    /// The host could not complete the request or write its record. The report waits for Envoy's
    /// entry.
    pub fn wait_for_envoy(&self, time: SystemTime, decision: Decision) {
        self.wait(time, decision, true);
    }

    /// As [`Self::wait_for_envoy`], for a sender that has proven nothing and only claims the ID. If
    /// the ID is in use, the record is written at once and without it, so that a false claim
    /// neither changes nor loses a record.
    pub fn wait_for_envoy_unproven(&self, time: SystemTime, decision: Decision) {
        self.wait(time, decision, false);
    }

    fn wait(&self, time: SystemTime, decision: Decision, is_proven: bool) {
        let Some(id) = decision.request_id.clone() else {
            self.audit.write(time, Event::Decision(Box::new(decision)));
            return;
        };
        let mut table = self.table();
        let is_in_use = table.known.contains_key(id.as_str());
        if !is_proven && (is_in_use || table.waiting.len() >= MAX_WAITING_UNPROVEN) {
            drop(table);
            let decision = Decision {
                request_id: None,
                ..decision
            };
            self.audit.write(time, Event::Decision(Box::new(decision)));
            return;
        }
        let displaced = match table.known.get(id.as_str()) {
            // Its record is written.
            Some(KnownRequest::Told | KnownRequest::Answered { .. }) => Vec::new(),
            Some(KnownRequest::Half { .. }) | None => {
                let since = Instant::now();
                table.waiting.push_back((since, id.clone()));
                let decision = Box::new(decision);
                let half = KnownRequest::Half {
                    decision,
                    time,
                    since,
                };
                table.insert(&id, half)
            }
        };
        drop(table);
        self.write_halves(displaced);
    }

    /// Amends a record that the writer has already taken and that differs from what the client
    /// gets.
    pub fn amend_outcome(&self, decision: Decision) {
        if decision.request_id.is_none() {
            return;
        }
        let amend = Amend {
            recorded: self.replace_answered(&decision),
            ..amend(&decision)
        };
        self.audit.write(SystemTime::now(), Event::Amend(amend));
    }

    /// Notes how a request has ended otherwise than its record says. Returns the verdict of the
    /// record so far, if Envoy has not reported the request yet.
    fn replace_answered(&self, decision: &Decision) -> Option<Verdict> {
        let mut table = self.table();
        let known = table.known.get_mut(decision.request_id.as_deref()?)?;
        let KnownRequest::Answered { verdict, .. } = *known else {
            return None;
        };
        *known = answered(decision);
        Some(verdict)
    }

    /// Handles Envoy's entry of how a request ended.
    pub async fn ended(&self, entry: Entry) {
        let told = match &entry.decision.entry {
            Some(number) => {
                // Only the filter numbers entries, with filter state that no client can set.
                self.saw_filter();
                self.table().sequence.observe(number)
            }
            None => SequenceCheck::Next,
        };
        match told {
            SequenceCheck::Next => {}
            SequenceCheck::Again => return,
            SequenceCheck::After { .. } if self.shared => {}
            SequenceCheck::After { first, count } => self.lost(&entry.decision, first, count).await,
        }
        let (time, event, displaced) = self.joined(entry);
        self.write_halves(displaced);
        if let Some(event) = event {
            self.audit.write_when_room(time, event).await;
        }
    }

    /// The record that an entry adds to the log.
    fn joined(&self, entry: Entry) -> (SystemTime, Option<Event>, Halves) {
        let Entry {
            time,
            decision,
            forwarded,
            from_host,
        } = entry;
        let line = |decision| Some(Event::Decision(Box::new(decision)));
        // There is one report of a request without the filter's ID, or that the gate rejected.
        let Some(id) = decision.request_id.clone().filter(|_| forwarded) else {
            return (time, line(decision), Vec::new());
        };
        let mut table = self.table();
        let Some(known) = table.known.get_mut(id.as_str()) else {
            // The host records its own responses. It does not know requests that it rejected before
            // it could read them.
            if from_host && decision.status < 400 {
                return (time, None, Vec::new());
            }
            let displaced = table.insert(&id, KnownRequest::Told);
            return (time, line(decision), displaced);
        };
        match std::mem::replace(known, KnownRequest::Told) {
            KnownRequest::Answered {
                verdict,
                status,
                grpc_status,
                total_us,
            } => {
                // Requests wait for the table, and the listener may wait for a lock of its own.
                drop(table);
                if let Some(listener) = self.gate_times.get() {
                    let gate_us = decision.total_us.saturating_sub(total_us);
                    listener.completed(decision.model.as_deref(), gate_us);
                }
                let amend = amendment(&decision, status, grpc_status).map(|amend| Amend {
                    recorded: Some(verdict),
                    ..amend
                });
                (time, amend.map(Event::Amend), Vec::new())
            }
            KnownRequest::Half {
                decision: hosts,
                time,
                ..
            } => (time, line(joined(*hosts, decision, from_host)), Vec::new()),
            KnownRequest::Told => (time, None, Vec::new()),
        }
    }

    /// Records that entries before this one were lost.
    async fn lost(&self, after: &Decision, first: u64, count: u64) {
        let number = after.entry.as_deref().and_then(crate::sequence::read);
        let vm = number.map_or_else(String::new, |(vm, _)| vm.to_owned());
        tracing::error!(vm, first, count, "entries of Envoy's access log were lost");
        self.audit.count_lost(count);
        let event = Event::Lost { vm, first, count };
        self.audit.write_when_room(SystemTime::now(), event).await;
    }

    /// Writes reports that have waited long enough, or all of them at the end.
    pub fn sweep(&self, all: bool) {
        loop {
            let (halves, more) = self.table().late(all);
            self.write_halves(halves);
            if !more {
                return;
            }
        }
    }

    fn write_halves(&self, halves: Halves) {
        for (time, decision) in halves {
            self.audit.write(time, Event::Decision(Box::new(decision)));
        }
    }

    /// Records that a policy is active from here on.
    pub fn policy(&self, generation: &str) {
        let event = Event::Policy {
            generation: generation.to_owned(),
        };
        self.audit().write(SystemTime::now(), event);
    }

    /// Records changes of artifacts, in order.
    pub fn artifacts(&self, records: impl IntoIterator<Item = ArtifactRecord>) {
        for record in records {
            let event = Event::Artifact(record);
            self.audit().write(SystemTime::now(), event);
        }
    }
}

impl Table {
    /// Inserts a request. Returns the waiting reports that were removed for it.
    fn insert(&mut self, id: &str, known: KnownRequest) -> Halves {
        let id: Arc<str> = id.into();
        self.known.insert(Arc::clone(&id), known);
        self.order.push_back(id);
        let mut left = Vec::new();
        while self.order.len() > MAX_KNOWN {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(KnownRequest::Half { decision, time, .. }) = self.known.remove(&oldest) {
                left.push((time, *decision));
            }
        }
        left
    }

    /// Reports that have waited long enough, at most [`SWEEP_AT_ONCE`], and whether there may be
    /// more.
    fn late(&mut self, all: bool) -> (Halves, bool) {
        let mut late = Vec::new();
        for _ in 0..SWEEP_AT_ONCE {
            let due = |(since, _): &mut (Instant, String)| all || since.elapsed() >= JOIN_WAIT;
            let Some((since, id)) = self.waiting.pop_front_if(due) else {
                return (late, false);
            };
            match self.known.get_mut(id.as_str()) {
                Some(known) if known.is_older_than(since) => {
                    if let KnownRequest::Half { decision, time, .. } =
                        std::mem::replace(known, KnownRequest::Told)
                    {
                        // Envoy may still report the request, with another outcome.
                        *known = answered(&decision);
                        late.push((time, *decision));
                    }
                }
                _ => {}
            }
        }
        (late, true)
    }
}

impl KnownRequest {
    fn is_older_than(&self, then: Instant) -> bool {
        matches!(self, Self::Half { since, .. } if *since == then)
    }
}

fn answered(decision: &Decision) -> KnownRequest {
    KnownRequest::Answered {
        verdict: decision.verdict,
        status: decision.status,
        grpc_status: decision.grpc_status,
        total_us: decision.total_us,
    }
}

#[cfg(test)]
mod tests;
