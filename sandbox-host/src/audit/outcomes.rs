//! Two tell of one request: the host, before it answers, and Envoy, once all is over. Here they meet by our request id, so
//! that one request is one line.
//!
//! What the host answered is written before it is answered; Envoy's entry then only settles whether it ended that way, and if
//! not, one amending line says how. A request that was cut off in the host, or that Envoy tells of before the host does, waits
//! a moment for the other half.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::als::Entry;
use super::record::{Amend, By, Decision, Event, Verdict};
use super::writer::{Audit, Dropped};

/// Requests that are remembered: of a thousand a second, the last minute.
const MAX_KNOWN: usize = 65_536;
/// How long one half waits for the other: Envoy's buffer is flushed ten times in it.
const HALF_WAIT: Duration = Duration::from_secs(2);

/// What is known of a request.
enum Known {
    /// Its line is written; Envoy has not told of it yet.
    Answered {
        status: u16,
        grpc_status: Option<u8>,
    },
    /// One half, and since when it waits.
    Half {
        decision: Box<Decision>,
        time: SystemTime,
        since: Instant,
    },
}

#[derive(Default)]
struct Table {
    known: HashMap<String, Known>,
    /// Ids in the order in which they came; some may have left.
    order: VecDeque<String>,
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
    /// Into a log. `recent`: requests whose lines a former host has written, and of which Envoy may yet tell.
    pub fn new(audit: Audit, recent: Vec<Decision>) -> Self {
        let outcomes = Self {
            audit,
            table: Mutex::new(Table::default()),
        };
        for decision in recent.into_iter().filter(|it| it.by == By::Host) {
            outcomes.remember(&decision);
        }
        outcomes
    }

    /// The log.
    pub const fn audit(&self) -> &Audit {
        &self.audit
    }

    fn table(&self) -> std::sync::MutexGuard<'_, Table> {
        // Nothing panics while it holds the table.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, decision: &Decision) {
        let Some(id) = &decision.request_id else {
            return;
        };
        let known = Known::Answered {
            status: decision.status,
            grpc_status: decision.grpc_status,
        };
        let displaced = self.table().insert(id, known);
        self.write_halves(displaced);
    }

    /// The host is about to answer: returns once the line is written.
    ///
    /// # Errors
    /// It is not, and the request must not be answered so.
    pub async fn answered(&self, time: SystemTime, decision: Decision) -> Result<(), Dropped> {
        // Known before it is written: Envoy can tell of it the moment it is answered.
        self.remember(&decision);
        let id = decision.request_id.clone();
        let event = Event::Decision(Box::new(decision));
        let written = self.audit.written(time, event).await;
        if let (Err(Dropped), Some(id)) = (&written, id) {
            self.table().known.remove(&id);
        }
        written
    }

    /// The host has refused, or could not wait: the line is handed over, or counted as dropped.
    pub fn told(&self, time: SystemTime, decision: Decision) {
        self.remember(&decision);
        self.audit.write(time, Event::Decision(Box::new(decision)));
    }

    /// The request was cut off in the host. Why, Envoy knows.
    pub fn gone(&self, time: SystemTime, decision: Decision) {
        let Some(id) = decision.request_id.clone() else {
            self.audit.write(time, Event::Decision(Box::new(decision)));
            return;
        };
        let mut table = self.table();
        let displaced = match table.known.remove(&id) {
            Some(Known::Half {
                decision: envoys, ..
            }) => vec![(time, joined(decision, &envoys))],
            Some(answered @ Known::Answered { .. }) => table.insert(&id, answered),
            None => table.insert(
                &id,
                Known::Half {
                    decision: Box::new(decision),
                    time,
                    since: Instant::now(),
                },
            ),
        };
        drop(table);
        self.write_halves(displaced);
    }

    /// Envoy tells how a request ended.
    pub async fn ended(&self, entry: Entry) {
        let Entry {
            time,
            decision,
            forwarded,
        } = entry;
        // An id is ours only on requests that the gate let through: on others it may be what a client sent.
        let known = match &decision.request_id {
            Some(id) if forwarded => self.table().known.remove(id),
            _ => None,
        };
        match known {
            Some(Known::Answered {
                status,
                grpc_status,
            }) => {
                if let Some(amend) = amendment(&decision, status, grpc_status) {
                    self.audit.write_when_room(time, Event::Amend(amend)).await;
                }
            }
            Some(Known::Half {
                decision: hosts,
                time,
                ..
            }) => {
                let decision = joined(*hosts, &decision);
                self.audit
                    .write_when_room(time, Event::Decision(Box::new(decision)))
                    .await;
            }
            None if forwarded && decision.request_id.is_some() && decision.by != By::Gate => {
                // It may have reached the host, which then has more to say.
                let id = decision.request_id.clone().unwrap_or_default();
                let half = Known::Half {
                    decision: Box::new(decision),
                    time,
                    since: Instant::now(),
                };
                let displaced = self.table().insert(&id, half);
                self.write_halves(displaced);
            }
            None => {
                self.audit
                    .write_when_room(time, Event::Decision(Box::new(decision)))
                    .await;
            }
        }
    }

    /// Writes halves that have waited long enough; `all` of them at the end.
    pub fn sweep(&self, all: bool) {
        let mut table = self.table();
        let late: Vec<String> = table
            .known
            .iter()
            .filter_map(|(id, known)| match known {
                Known::Half { since, .. } if all || since.elapsed() >= HALF_WAIT => {
                    Some(id.clone())
                }
                Known::Half { .. } | Known::Answered { .. } => None,
            })
            .collect();
        let mut halves = Vec::new();
        for id in late {
            if let Some(Known::Half { decision, time, .. }) = table.known.remove(&id) {
                halves.push((time, *decision));
            }
        }
        drop(table);
        self.write_halves(halves);
    }

    fn write_halves(&self, halves: Vec<(SystemTime, Decision)>) {
        for (time, decision) in halves {
            self.audit.write(time, Event::Decision(Box::new(decision)));
        }
    }
}

impl Table {
    /// Remembers a request; says which halves had to leave for it.
    fn insert(&mut self, id: &str, known: Known) -> Vec<(SystemTime, Decision)> {
        self.known.insert(id.to_owned(), known);
        self.order.push_back(id.to_owned());
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
}

/// What both say of a request that the host could not end: who and what is the host's to say, how it ended is Envoy's.
fn joined(hosts: Decision, envoys: &Decision) -> Decision {
    Decision {
        by: envoys.by,
        verdict: envoys.verdict,
        reason: envoys.reason.clone(),
        source: hosts.source.or_else(|| envoys.source.clone()),
        http: hosts.http.or_else(|| envoys.http.clone()),
        detail: hosts.detail.or_else(|| envoys.detail.clone()),
        status: envoys.status,
        grpc_status: envoys.grpc_status,
        response_bytes: envoys.response_bytes,
        total_us: envoys.total_us,
        flags: envoys.flags.clone(),
        envoy: envoys.envoy.clone(),
        ..hosts
    }
}

/// How a request ended, if not in the way that its line says.
fn amendment(envoys: &Decision, status: u16, grpc_status: Option<u8>) -> Option<Amend> {
    // An answer's trailers are lost with the rest of it: where there is no gRPC status, the flags say why.
    let same_grpc = envoys.grpc_status.is_none() || envoys.grpc_status == grpc_status;
    let ended_well = envoys.verdict != Verdict::Aborted && envoys.flags.is_empty();
    if envoys.status == status && same_grpc && ended_well {
        return None;
    }
    Some(Amend {
        request_id: envoys.request_id.clone().unwrap_or_default(),
        status: envoys.status,
        grpc_status: envoys.grpc_status,
        response_bytes: envoys.response_bytes,
        total_us: envoys.total_us,
        flags: envoys.flags.clone(),
        envoy: envoys.envoy.clone(),
    })
}
