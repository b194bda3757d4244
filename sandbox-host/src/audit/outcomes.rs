//! Two tell of one request: the host, before it answers, and Envoy, once all is over. Here they meet by our request id, so
//! that one request is one line.
//!
//! What the host answered is written before it is answered; Envoy's entry then only settles whether it ended that way, and if
//! not, one amending line says how. What the host could not end (its caller left, its body broke off) or could not write waits a moment for
//! Envoy's word. Where Envoy tells first, its line stands, and what the host says later adds no second one. Entries that Envoy lost are
//! told as lost by the numbers of those that came ([`super::heard`]), and entries that it sends again are passed over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::als::Entry;
use super::heard::{Heard, Marks, Told};
use super::record::{Amend, By, Decision, Event, Verdict};
use super::writer::{Audit, Unwritten};

/// Requests that are remembered: of a thousand a second, the last minute.
const MAX_KNOWN: usize = 65_536;
/// How long the host's half waits for Envoy's: Envoy's buffer is flushed twenty times in it.
const HALF_WAIT: Duration = Duration::from_secs(2);
/// Halves that are looked at while the table is held: an answer may wait for it.
const SWEEP_AT_ONCE: usize = 256;

/// What is known of a request.
enum Known {
    /// Its line is written, or about to be; Envoy has not told of it yet.
    Answered {
        status: u16,
        grpc_status: Option<u8>,
    },
    /// The host's half, and since when it waits.
    Half {
        decision: Box<Decision>,
        time: SystemTime,
        since: Instant,
    },
    /// Envoy has told of it, and its line is written.
    Told,
}

type Halves = Vec<(SystemTime, Decision)>;

#[derive(Default)]
struct Table {
    known: HashMap<Arc<str>, Known>,
    /// Ids in the order in which they came; some may have left.
    order: VecDeque<Arc<str>>,
    /// Halves in the order in which they came; some may have been joined.
    waiting: VecDeque<(Instant, String)>,
    heard: Heard,
}

/// Requests between their two halves, and the log that they end in.
pub struct Outcomes {
    audit: Audit,
    table: Mutex<Table>,
}

impl std::fmt::Debug for Outcomes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcomes")
            .field("audit", &self.audit)
            .finish_non_exhaustive()
    }
}

impl Outcomes {
    /// Into a log. `recent`: requests whose lines a former host has written, and of which Envoy may yet tell. `heard`: what Envoy has told
    /// of.
    pub fn new(audit: Audit, recent: Vec<Decision>, heard: &Marks) -> Self {
        let mut table = Table {
            heard: Heard::new(heard),
            ..Table::default()
        };
        for decision in recent {
            let known = match decision.by {
                By::Host => answered(&decision),
                By::Gate | By::Envoy => Known::Told,
            };
            if let Some(id) = decision.request_id {
                table.insert(&id, known);
            }
        }
        Self {
            audit,
            table: Mutex::new(table),
        }
    }

    /// The log.
    pub const fn audit(&self) -> &Audit {
        &self.audit
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics while it holds the table.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host is about to answer: returns once the line is written.
    ///
    /// # Errors
    /// It is not written. The caller decides what the request gets then, and says so: by [`Self::waits`] if the line never will be
    /// written, by [`Self::ends_otherwise`] if it will be and says something else.
    pub async fn answered(&self, time: SystemTime, decision: Decision) -> Result<(), Unwritten> {
        let id = decision.request_id.clone();
        if let Some(id) = &id {
            // Known before it is written: Envoy can tell of it the moment it is answered.
            let mut table = self.table();
            if let Some(Known::Told) = table.known.get(id.as_str()) {
                // Envoy gave up on it first; nobody waits for the answer any more.
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
            if let Some(Known::Answered { .. }) = table.known.get(id.as_str()) {
                table.known.remove(id.as_str());
            }
        }
        written
    }

    /// The host is about to answer a message of a stream, of which nobody else tells: returns once the line is written.
    ///
    /// # Errors
    /// As [`Self::answered`].
    pub async fn message(&self, time: SystemTime, decision: Decision) -> Result<(), Unwritten> {
        let event = Event::Decision(Box::new(decision));
        self.audit.written(time, event).await
    }

    /// A stream is over, after so many messages. Its line was written when it was opened.
    pub fn closed(&self, decision: &Decision, messages: u64) {
        if let Some(id) = &decision.request_id
            && let Some(known @ Known::Answered { .. }) = self.table().known.get_mut(id.as_str())
        {
            *known = answered(decision);
        }
        let amend = Amend {
            messages: Some(messages),
            ..amend(decision)
        };
        self.audit.write(SystemTime::now(), Event::Amend(amend));
    }

    /// A message's several answers are over, so many of them. Its line was written before the first.
    pub fn answers(&self, decision: &Decision, answers: u64) {
        let amend = Amend {
            answers: Some(answers),
            ..amend(decision)
        };
        self.audit.write(SystemTime::now(), Event::Amend(amend));
    }

    /// The host could not end the request, or not write its line: what it says waits for Envoy's word.
    pub fn waits(&self, time: SystemTime, decision: Decision) {
        let Some(id) = decision.request_id.clone() else {
            self.audit.write(time, Event::Decision(Box::new(decision)));
            return;
        };
        let mut table = self.table();
        let displaced = match table.known.get(id.as_str()) {
            // Its line is there.
            Some(Known::Told | Known::Answered { .. }) => Vec::new(),
            Some(Known::Half { .. }) | None => {
                let since = Instant::now();
                table.waiting.push_back((since, id.clone()));
                let decision = Box::new(decision);
                let half = Known::Half {
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

    /// The request's line is in the writer's hands and says something else than what its caller gets.
    pub fn ends_otherwise(&self, decision: Decision) {
        let Some(id) = decision.request_id.clone() else {
            return;
        };
        if let Some(known @ Known::Answered { .. }) = self.table().known.get_mut(id.as_str()) {
            *known = answered(&decision);
        }
        let amend = Event::Amend(amend(&decision));
        self.audit.write(SystemTime::now(), amend);
    }

    /// Envoy tells how a request ended.
    pub async fn ended(&self, entry: Entry) {
        let told = match &entry.decision.entry {
            Some(number) => self.table().heard.take(number),
            None => Told::Next,
        };
        match told {
            Told::Next => {}
            Told::Again => return,
            Told::After { first, count } => self.lost(&entry.decision, first, count).await,
        }
        let (time, event, displaced) = self.joined(entry);
        self.write_halves(displaced);
        if let Some(event) = event {
            self.audit.write_when_room(time, event).await;
        }
    }

    /// What an entry adds to the log.
    fn joined(&self, entry: Entry) -> (SystemTime, Option<Event>, Halves) {
        let Entry {
            time,
            decision,
            forwarded,
            from_host,
        } = entry;
        let line = |decision| Some(Event::Decision(Box::new(decision)));
        // An id is ours only on requests that the gate let through: on others it may be what a client sent.
        let Some(id) = decision.request_id.clone().filter(|_| forwarded) else {
            return (time, line(decision), Vec::new());
        };
        let mut table = self.table();
        let Some(known) = table.known.get_mut(id.as_str()) else {
            // What the host answers, it tells itself or counts; what it refuses before it can read it, it does not know.
            if from_host && decision.status < 400 {
                return (time, None, Vec::new());
            }
            let displaced = table.insert(&id, Known::Told);
            return (time, line(decision), displaced);
        };
        match std::mem::replace(known, Known::Told) {
            Known::Answered {
                status,
                grpc_status,
            } => {
                let amend = amendment(&decision, status, grpc_status);
                (time, amend.map(Event::Amend), Vec::new())
            }
            Known::Half {
                decision: hosts,
                time,
                ..
            } => (time, line(joined(*hosts, decision, from_host)), Vec::new()),
            Known::Told => (time, None, Vec::new()),
        }
    }

    /// Entries before this one never came.
    async fn lost(&self, after: &Decision, first: u64, count: u64) {
        let number = after.entry.as_deref().and_then(super::heard::read);
        let vm = number.map_or_else(String::new, |(vm, _)| vm.to_owned());
        tracing::error!(vm, first, count, "entries of Envoy's access log were lost");
        self.audit.count_lost(count);
        let event = Event::Lost { vm, first, count };
        self.audit.write_when_room(SystemTime::now(), event).await;
    }

    /// Writes halves that have waited long enough; `all` of them at the end.
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
}

impl Table {
    /// Remembers a request; says which halves had to leave for it.
    fn insert(&mut self, id: &str, known: Known) -> Halves {
        let id: Arc<str> = id.into();
        self.known.insert(Arc::clone(&id), known);
        self.order.push_back(id);
        let mut left = Vec::new();
        while self.order.len() > MAX_KNOWN {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if let Some(Known::Half { decision, time, .. }) = self.known.remove(&oldest) {
                left.push((time, *decision));
            }
        }
        left
    }

    /// Halves that have waited long enough, at most [`SWEEP_AT_ONCE`], and whether there may be more.
    fn late(&mut self, all: bool) -> (Halves, bool) {
        let mut late = Vec::new();
        for _ in 0..SWEEP_AT_ONCE {
            let due = |(since, _): &mut (Instant, String)| all || since.elapsed() >= HALF_WAIT;
            let Some((since, id)) = self.waiting.pop_front_if(due) else {
                return (late, false);
            };
            match self.known.get_mut(id.as_str()) {
                Some(known) if known.is_since(since) => {
                    if let Known::Half { decision, time, .. } =
                        std::mem::replace(known, Known::Told)
                    {
                        // Envoy may still tell of it, and of another end.
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

impl Known {
    fn is_since(&self, then: Instant) -> bool {
        matches!(self, Self::Half { since, .. } if *since == then)
    }
}

fn answered(decision: &Decision) -> Known {
    Known::Answered {
        status: decision.status,
        grpc_status: decision.grpc_status,
    }
}

/// What both say of a request: who and what is the host's to say as far as it came, how it ended is Envoy's. Only where the caller got the
/// host's own answer does the host say that too.
fn joined(hosts: Decision, envoys: Decision, from_host: bool) -> Decision {
    let (by, verdict, reason) = if from_host {
        (hosts.by, hosts.verdict, hosts.reason)
    } else {
        (envoys.by, envoys.verdict, envoys.reason)
    };
    Decision {
        by,
        verdict,
        reason,
        client: hosts.client.or(envoys.client),
        credential: hosts.credential.or(envoys.credential),
        source: hosts.source.or(envoys.source),
        http: hosts.http.or(envoys.http),
        model: hosts.model.or(envoys.model),
        rule: hosts.rule.or(envoys.rule),
        detail: envoys.detail.or(hosts.detail),
        shadow: if hosts.shadow.is_empty() {
            envoys.shadow
        } else {
            hosts.shadow
        },
        status: envoys.status,
        grpc_status: envoys.grpc_status,
        request_bytes: envoys.request_bytes.max(hosts.request_bytes),
        response_bytes: envoys.response_bytes,
        total_us: envoys.total_us,
        flags: envoys.flags,
        envoy: envoys.envoy,
        entry: envoys.entry,
        ..hosts
    }
}

/// How a request ended, if not in the way that its line says.
fn amendment(envoys: &Decision, status: u16, grpc_status: Option<u8>) -> Option<Amend> {
    // An answer's trailers are lost with the rest of it: where there is no gRPC status, the flags say why.
    let same_grpc = envoys.grpc_status.is_none() || envoys.grpc_status == grpc_status;
    let ended_well = envoys.verdict != Verdict::Aborted && envoys.flags.is_empty();
    // A numbered entry is one of a request that did not get the host's answer; its number must be in the log.
    if envoys.entry.is_none() && envoys.status == status && same_grpc && ended_well {
        return None;
    }
    Some(amend(envoys))
}

fn amend(decision: &Decision) -> Amend {
    Amend {
        request_id: decision.request_id.clone().unwrap_or_default(),
        by: Some(decision.by),
        verdict: Some(decision.verdict),
        reason: Some(decision.reason.clone()),
        status: decision.status,
        grpc_status: decision.grpc_status,
        response_bytes: decision.response_bytes,
        total_us: decision.total_us,
        flags: decision.flags.clone(),
        envoy: decision.envoy.clone(),
        entry: decision.entry.clone(),
        messages: None,
        answers: None,
    }
}

#[cfg(test)]
mod tests;
