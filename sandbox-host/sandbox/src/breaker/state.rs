//! The state of a handler's circuit breaker: outcomes of calls in, permits out. Time is an
//! argument.
//!
//! | a call ends with | circuit of the client | circuit of all clients |
//! |---|---|---|
//! | success | count restarts | count restarts |
//! | fault | opens after [`CLIENT_FAULTS`] in a row | opens after those of [`MIN_CLIENTS`] |
//! | unknown | unchanged | unchanged |
//!
//! - Success is an output, a rejected input, or invalid values that are the input's fault
//!   (`pipeline/attribution`).
//! - The circuit of all clients opens only if there was no success between the faults.
//! - The result is unknown if the call never ran, or if the caller's own deadline passed.
//!
//! So a client with inputs that the handler cannot process stops only itself. Several colluding
//! clients can open the circuit for all, but gain little:
//! - A success of any client between their faults restarts the count.
//! - A client without faults may make the probe call, the first one at once.
//! - If the probe succeeds, the clients whose faults opened the circuit are stopped themselves,
//!   each time for longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tensorgate_base::circuit::{self, MAX_OPEN_TIME, OpenCircuit, Permit, Rejection};
use tokio::time::Instant;

/// The consecutive faults that open a client's circuit.
pub(super) const CLIENT_FAULTS: u32 = 5;
/// The number of different clients with a fault, without a success between, that opens the circuit
/// for all.
pub(super) const MIN_CLIENTS: u32 = 3;
/// The initial open time. It doubles each time the probe fails.
pub(super) const OPEN_TIME: Duration = Duration::from_secs(5);
/// Older faults do not count as consecutive.
pub(super) const FAULT_WINDOW: Duration = Duration::from_secs(60);
/// How long it is remembered that a client's faults opened the circuit for all without cause.
pub(super) const PENALTY_MEMORY: Duration = Duration::from_secs(600);
/// The most clients in the table: those whose last call was a fault, or whose faults opened the
/// circuit for all. The latest are kept.
pub(super) const MAX_CLIENTS: usize = 1_024;

/// A client's name, `None` for a client without one.
pub(crate) type ClientName = Option<Arc<str>>;

/// A client whose last call was a fault, or whose faults opened the circuit for all.
#[derive(Clone, Copy, Debug)]
struct ClientFaults {
    faults: u32,
    last: Instant,
    circuit: Option<OpenCircuit>,
    /// The round of the shared count in which the client's fault was counted.
    round: u64,
    /// How often its faults opened the circuit for all although another client succeeded.
    false_openings: u32,
}

impl ClientFaults {
    const fn new(now: Instant) -> Self {
        Self {
            faults: 0,
            last: now,
            circuit: None,
            // No round has this number.
            round: u64::MAX,
            false_openings: 0,
        }
    }

    /// Opens the client's circuit as a penalty, each time for twice as long.
    fn penalize(&mut self, now: Instant) -> Duration {
        let times = 1_u32.checked_shl(self.false_openings).unwrap_or(u32::MAX);
        self.false_openings = self.false_openings.saturating_add(1);
        self.last = now;
        let long = OPEN_TIME.saturating_mul(times).min(MAX_OPEN_TIME);
        self.circuit = Some(OpenCircuit::new(now, long));
        long
    }

    /// How long the entry is kept after the last event.
    const fn retention(&self) -> Duration {
        if self.false_openings == 0 {
            FAULT_WINDOW
        } else {
            PENALTY_MEMORY
        }
    }
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandlerOutcome {
    /// The handler did its work, or rejected its input.
    Answered,
    /// The handler exceeded a limit, trapped, failed, or broke the contract.
    Fault,
    /// The outcome is unknown.
    Unknown,
}

/// The changes that a call caused, to be reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Transitions {
    /// The client's circuit opened for this long.
    pub(super) client_opened: Option<Duration>,
    /// The circuit for all opened for this long.
    pub(super) opened: Option<Duration>,
    /// The circuit for all closed.
    pub(super) closed: bool,
    /// The clients whose circuits opened as a penalty, because the circuit for all had opened
    /// without cause.
    pub(super) penalized: Vec<(ClientName, Duration)>,
    /// The client's circuit closed.
    pub(super) client_closed: bool,
}

/// The breaker state of one handler.
#[derive(Debug, Default)]
pub(super) struct BreakerState {
    clients: HashMap<ClientName, ClientFaults>,
    shared: Option<OpenCircuit>,
    /// The round of the count that opened the circuit for all.
    opening_round: u64,
    /// The number of the current round. A round ends when the shared count restarts.
    round: u64,
    /// The clients with faults in this round.
    clients_in_round: u32,
    /// The time of the round's last fault.
    last: Option<Instant>,
}

impl BreakerState {
    /// Permits a call of a client, or rejects it.
    pub(super) fn admit(&mut self, client: &ClientName, now: Instant) -> Result<Permit, Rejection> {
        let row = self.clients.get_mut(client);
        // A client whose last call was a fault waits twice as long. A probe of another client says
        // more.
        let later = match (&row, self.shared) {
            (Some(_), Some(open)) => open.open_time(),
            (Some(_) | None, _) => Duration::ZERO,
        };
        let own = row.and_then(|row| row.circuit.as_mut());
        circuit::admit(own, self.shared.as_mut(), later, now)
    }

    /// The clients whose circuits are open, and `None` if the one of all clients is.
    pub(super) fn open(&self, now: Instant) -> impl Iterator<Item = Option<&ClientName>> {
        let is_open = move |open: OpenCircuit| !open.is_unused(now);
        let shared = self.shared.is_some_and(is_open).then_some(None);
        let own = (self.clients.iter()).filter(move |(_, row)| row.circuit.is_some_and(is_open));
        shared
            .into_iter()
            .chain(own.map(|(client, _)| Some(client)))
    }

    /// Records the outcome of a client's call.
    pub(super) fn record(
        &mut self,
        client: &ClientName,
        permit: Permit,
        outcome: HandlerOutcome,
        now: Instant,
    ) -> Transitions {
        match outcome {
            HandlerOutcome::Answered => self.answered(client, permit, now),
            HandlerOutcome::Fault => self.fault(client, permit, now),
            HandlerOutcome::Unknown => {
                let own = self
                    .clients
                    .get_mut(client)
                    .and_then(|row| row.circuit.as_mut());
                if let Some(open) = own.filter(|_| permit.probes_client) {
                    open.end_probe();
                }
                if let Some(open) = self.shared.as_mut().filter(|_| permit.probes_shared) {
                    open.end_probe();
                    // A client whose probes end without a result waits longer than others, so that
                    // it cannot block their probes.
                    self.client_faults(client, now);
                }
                Transitions::default()
            }
        }
    }

    fn answered(&mut self, client: &ClientName, permit: Permit, now: Instant) -> Transitions {
        // Calls from before the circuit opened say nothing about the present.
        let mut client_back = false;
        if let Some(row) = self.clients.get_mut(client)
            && (row.circuit.is_none() || permit.probes_client)
        {
            client_back = row.circuit.is_some();
            if row.false_openings == 0 {
                self.clients.remove(client);
            } else {
                (row.faults, row.circuit) = (0, None);
            }
        }
        let back = permit.probes_shared && self.shared.is_some();
        let mut wrong = Vec::new();
        if back {
            self.shared = None;
            for (who, row) in &mut self.clients {
                if row.round == self.opening_round && row.circuit.is_none() && who != client {
                    wrong.push((who.clone(), row.penalize(now)));
                }
            }
        }
        if self.shared.is_none() {
            self.start_round();
        }
        Transitions {
            closed: back,
            penalized: wrong,
            client_closed: client_back,
            ..Transitions::default()
        }
    }

    fn fault(&mut self, client: &ClientName, permit: Permit, now: Instant) -> Transitions {
        let recent = |last: Instant| now.saturating_duration_since(last) < FAULT_WINDOW;
        if !self.last.is_some_and(recent) {
            self.start_round();
        }
        self.last = Some(now);
        let round = self.round;
        let row = self.client_faults(client, now);
        let quiet = now.saturating_duration_since(row.last);
        if quiet >= FAULT_WINDOW {
            row.faults = 0;
        }
        if quiet >= row.retention() {
            row.false_openings = 0;
        }
        row.faults = row.faults.saturating_add(1);
        row.last = now;
        let own = match row.circuit {
            Some(open) if permit.probes_client => Some(open.reopen(now)),
            None if row.faults >= CLIENT_FAULTS => Some(OpenCircuit::new(now, OPEN_TIME)),
            Some(_) | None => None,
        };
        row.circuit = own.or(row.circuit);
        if row.round != round {
            row.round = round;
            self.clients_in_round = self.clients_in_round.saturating_add(1);
        }
        let all = match self.shared {
            Some(open) if permit.probes_shared => Some(open.reopen(now)),
            None if self.clients_in_round >= MIN_CLIENTS => {
                self.opening_round = round;
                // A client without faults may probe at once.
                Some(OpenCircuit::new(now, OPEN_TIME).probed_from(now))
            }
            Some(_) | None => None,
        };
        self.shared = all.or(self.shared);
        Transitions {
            client_opened: own.map(|open| open.open_time()),
            opened: all.map(|open| open.open_time()),
            ..Transitions::default()
        }
    }

    /// Restarts the shared count.
    const fn start_round(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.clients_in_round = 0;
    }

    /// The entry of a client, created if there is none.
    fn client_faults(&mut self, client: &ClientName, now: Instant) -> &mut ClientFaults {
        self.make_room(client, now);
        self.clients
            .entry(client.clone())
            .or_insert(ClientFaults::new(now))
    }

    /// Removes expired entries. If that is not enough, removes the oldest entry, one without an
    /// open circuit first.
    fn make_room(&mut self, client: &ClientName, now: Instant) {
        if self.clients.len() < MAX_CLIENTS || self.clients.contains_key(client) {
            return;
        }
        let over = |row: &ClientFaults| {
            let ended = row.circuit.is_none_or(|open| open.remaining(now).is_none());
            ended && now.saturating_duration_since(row.last) >= row.retention()
        };
        self.clients.retain(|_, row| !over(row));
        if self.clients.len() >= MAX_CLIENTS {
            let oldest =
                (self.clients.iter()).min_by_key(|(_, row)| (row.circuit.is_some(), row.last));
            if let Some(oldest) = oldest.map(|(client, _)| client.clone()) {
                self.clients.remove(&oldest);
            }
        }
    }

    /// The number of clients in the table.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.clients.len()
    }
}
