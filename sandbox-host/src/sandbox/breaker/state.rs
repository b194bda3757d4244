//! When a handler is left alone, and for whom: what was seen of its calls in, whether the next may be made out. Time is an argument.
//!
//! | a call ends as | its client | all clients |
//! |---|---|---|
//! | an answer, a rejection of its input, or values that are its input's fault (`pipeline/repute`) | starts anew | start anew |
//! | a fault | cut off after [`CLIENT_FAULTS`] in a row | cut off once [`CLIENTS`] different clients had one and nobody an answer since |
//! | neither: it never ran, or its caller's own time ran out | as before | as before |
//!
//! So one client whose inputs a handler cannot stand cuts off itself and nobody else. Several that are one can cut off all, and gain little:
//! whoever gets an answer between their faults starts the count anew; whoever had no fault makes the call that finds out, the first one at
//! once; and where that is answered, those that had brought it about are cut off themselves, each time for longer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Faults in a row after which a client is cut off from a handler.
pub(super) const CLIENT_FAULTS: u32 = 5;
/// Different clients with a fault, and no answer to anybody between, after which all are.
pub(super) const CLIENTS: u32 = 3;
/// For how long at first; twice as long each time that the call which finds out is a fault again.
pub(super) const OPEN: Duration = Duration::from_secs(5);
/// The longest.
pub(super) const MAX_OPEN: Duration = Duration::from_secs(60);
/// What is older than this is no longer in a row with anything.
pub(super) const FORGET: Duration = Duration::from_secs(60);
/// For how long it is remembered of a client that all were cut off by its fault, and wrongly.
pub(super) const FORGIVE: Duration = Duration::from_secs(600);
/// Clients that are remembered for one handler: those whose last call was a fault or that had cut off all, the latest.
pub(super) const MAX_CLIENTS: usize = 1_024;

/// A client's name; `None` is whoever has none.
pub(in crate::sandbox) type Who = Option<Arc<str>>;

/// Nothing is called before `until`, and one call at a time from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cut {
    until: Instant,
    long: Duration,
    /// Whether that call is under way.
    trial: bool,
}

impl Cut {
    fn new(now: Instant, long: Duration) -> Self {
        Self {
            until: now.checked_add(long).unwrap_or(now),
            long,
            trial: false,
        }
    }

    /// Another, longer one.
    fn again(self, now: Instant) -> Self {
        Self::new(now, self.long.saturating_mul(2).min(MAX_OPEN))
    }

    /// The time that is left until a call may be made; `None` if one may.
    fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.until.saturating_duration_since(now);
        (self.trial || !left.is_zero()).then_some(left)
    }
}

/// A client whose last call was no answer, or whose faults cut off all.
#[derive(Clone, Copy, Debug)]
struct Row {
    faults: u32,
    last: Instant,
    cut: Option<Cut>,
    /// The count of all clients that it is in.
    round: u64,
    /// How often it was in a count that cut off all when another was answered all the same.
    wrongs: u32,
}

impl Row {
    const fn new(now: Instant) -> Self {
        Self {
            faults: 0,
            last: now,
            cut: None,
            // No round is this one.
            round: u64::MAX,
            wrongs: 0,
        }
    }

    /// It is cut off for what it brought about, each time for twice as long.
    fn wrong(&mut self, now: Instant) -> Duration {
        let times = 1_u32.checked_shl(self.wrongs).unwrap_or(u32::MAX);
        self.wrongs = self.wrongs.saturating_add(1);
        self.last = now;
        let long = OPEN.saturating_mul(times).min(MAX_OPEN);
        self.cut = Some(Cut::new(now, long));
        long
    }

    /// For how long nothing more must come of it to be forgotten.
    const fn forget(&self) -> Duration {
        if self.wrongs == 0 { FORGET } else { FORGIVE }
    }
}

/// Who is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// This client.
    Client,
    /// Everybody.
    All,
}

/// Why a call is not made, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) whom: Whom,
    pub(super) left: Duration,
}

/// Leave to make one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Leave {
    /// It finds out whether its client's calls are faults still.
    of_client: bool,
    /// It finds out whether everybody's are.
    of_all: bool,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The handler did what it is for, be it that it rejected its input.
    Answered,
    /// It broke a bound, trapped, failed, or made what breaks the contract.
    Fault,
    /// Nobody knows.
    Void,
}

/// What changed, for whoever is to hear of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// The client was cut off for this long.
    pub(super) client: Option<Duration>,
    /// All were.
    pub(super) all: Option<Duration>,
    /// All are let in again.
    pub(super) back: bool,
    /// Who is cut off by itself for so long, for all were wrongly.
    pub(super) wrong: Vec<(Who, Duration)>,
    /// The client is.
    pub(super) client_back: bool,
}

/// What is known of one handler's calls.
#[derive(Debug, Default)]
pub(super) struct State {
    clients: HashMap<Who, Row>,
    cut: Option<Cut>,
    /// The count that cut off all.
    tripped: u64,
    /// Counts the times that the count of all clients began anew.
    round: u64,
    /// Clients in it.
    different: u32,
    /// Its last fault.
    last: Option<Instant>,
}

impl State {
    /// Whether a client's call may be made.
    pub(super) fn admit(&mut self, client: &Who, now: Instant) -> Result<Leave, Refusal> {
        let refuse = |whom| move |left| Err(Refusal { whom, left });
        let row = self.clients.get_mut(client);
        let own = row.as_ref().and_then(|row| row.cut);
        if let Some(refused) = own.and_then(|cut| cut.left(now)).map(refuse(Whom::Client)) {
            return refused;
        }
        if let Some(cut) = &mut self.cut {
            // Whose last call was a fault waits once more as long: another's call says more.
            let wait = if row.is_some() {
                cut.long
            } else {
                Duration::ZERO
            };
            let later = Cut {
                until: cut.until.checked_add(wait).unwrap_or(cut.until),
                ..*cut
            };
            if let Some(refused) = later.left(now).map(refuse(Whom::All)) {
                return refused;
            }
            cut.trial = true;
        }
        if let Some(cut) = row.and_then(|row| row.cut.as_mut()) {
            cut.trial = true;
        }
        Ok(Leave {
            of_client: own.is_some(),
            of_all: self.cut.is_some(),
        })
    }

    /// A client's call is over.
    pub(super) fn over(
        &mut self,
        client: &Who,
        leave: Leave,
        outcome: Outcome,
        now: Instant,
    ) -> Change {
        match outcome {
            Outcome::Answered => self.answered(client, leave, now),
            Outcome::Fault => self.fault(client, leave, now),
            Outcome::Void => {
                let own = self
                    .clients
                    .get_mut(client)
                    .and_then(|row| row.cut.as_mut());
                if let Some(cut) = own.filter(|_| leave.of_client) {
                    cut.trial = false;
                }
                if let Some(cut) = self.cut.as_mut().filter(|_| leave.of_all) {
                    cut.trial = false;
                    // Whoever keeps others from finding out by calls that come to nothing waits longer than they do.
                    self.row(client, now);
                }
                Change::default()
            }
        }
    }

    fn answered(&mut self, client: &Who, leave: Leave, now: Instant) -> Change {
        // What was begun before a cut says nothing about what came after.
        let mut client_back = false;
        if let Some(row) = self.clients.get_mut(client)
            && (row.cut.is_none() || leave.of_client)
        {
            client_back = row.cut.is_some();
            if row.wrongs == 0 {
                self.clients.remove(client);
            } else {
                (row.faults, row.cut) = (0, None);
            }
        }
        let back = leave.of_all && self.cut.is_some();
        let mut wrong = Vec::new();
        if back {
            self.cut = None;
            for (who, row) in &mut self.clients {
                if row.round == self.tripped && row.cut.is_none() && who != client {
                    wrong.push((who.clone(), row.wrong(now)));
                }
            }
        }
        if self.cut.is_none() {
            self.anew();
        }
        Change {
            back,
            wrong,
            client_back,
            ..Change::default()
        }
    }

    fn fault(&mut self, client: &Who, leave: Leave, now: Instant) -> Change {
        let recent = |last: Instant| now.saturating_duration_since(last) < FORGET;
        if !self.last.is_some_and(recent) {
            self.anew();
        }
        self.last = Some(now);
        let round = self.round;
        let row = self.row(client, now);
        let quiet = now.saturating_duration_since(row.last);
        if quiet >= FORGET {
            row.faults = 0;
        }
        if quiet >= row.forget() {
            row.wrongs = 0;
        }
        row.faults = row.faults.saturating_add(1);
        row.last = now;
        let own = match row.cut {
            Some(cut) if leave.of_client => Some(cut.again(now)),
            None if row.faults >= CLIENT_FAULTS => Some(Cut::new(now, OPEN)),
            Some(_) | None => None,
        };
        row.cut = own.or(row.cut);
        if row.round != round {
            row.round = round;
            self.different = self.different.saturating_add(1);
        }
        let all = match self.cut {
            Some(cut) if leave.of_all => Some(cut.again(now)),
            None if self.different >= CLIENTS => {
                self.tripped = round;
                // Whoever had no fault may find out at once.
                Some(Cut {
                    until: now,
                    ..Cut::new(now, OPEN)
                })
            }
            Some(_) | None => None,
        };
        self.cut = all.or(self.cut);
        Change {
            client: own.map(|cut| cut.long),
            all: all.map(|cut| cut.long),
            ..Change::default()
        }
    }

    /// The count of all clients begins anew.
    const fn anew(&mut self) {
        self.round = self.round.wrapping_add(1);
        self.different = 0;
    }

    /// What is remembered of a client, if nothing was until now.
    fn row(&mut self, client: &Who, now: Instant) -> &mut Row {
        self.make_room(client, now);
        self.clients.entry(client.clone()).or_insert(Row::new(now))
    }

    /// Forgets what is old, and if that is not enough, whoever's fault is the oldest: those that are not cut off first.
    fn make_room(&mut self, client: &Who, now: Instant) {
        if self.clients.len() < MAX_CLIENTS || self.clients.contains_key(client) {
            return;
        }
        let over = |row: &Row| {
            let ended = row.cut.is_none_or(|cut| now >= cut.until && !cut.trial);
            ended && now.saturating_duration_since(row.last) >= row.forget()
        };
        self.clients.retain(|_, row| !over(row));
        if self.clients.len() >= MAX_CLIENTS {
            let oldest = (self.clients.iter()).min_by_key(|(_, row)| (row.cut.is_some(), row.last));
            if let Some(oldest) = oldest.map(|(client, _)| client.clone()) {
                self.clients.remove(&oldest);
            }
        }
    }

    /// Clients that are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.clients.len()
    }
}
