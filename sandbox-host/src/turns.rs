//! Who of several clients that wait for the same thing is next, and who gives way where too many do. A table: it knows no clock, no lock, no task, and
//! nothing of what is waited for.
//!
//! Next is whoever waits and has the fewest, of those with as many the one whose turn is the longest ago (max-min fairness); one client's wait in the
//! order in which they came. Where as many wait as may, the newest of the client that has and wants most gives way to one of a client that has and wants less. No step looks at
//! more than one client, or takes longer than finding that one among all of them.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::dispatch::Whose;

/// What clients have, and what they wait for; `T` is whoever or whatever waits.
#[derive(Debug)]
pub(crate) struct Turns<T> {
    taken: usize,
    waiting: usize,
    /// Those who have something or wait for it.
    clients: HashMap<Whose, Client<T>>,
    /// Those who wait: by what they have, and by their turn.
    next: BTreeSet<(usize, u64, Whose)>,
    /// The same by what they have and want together.
    heaviest: BTreeSet<(usize, Whose)>,
    /// Numbers turns and those that wait.
    count: u64,
}

#[derive(Debug)]
struct Client<T> {
    taken: usize,
    turn: u64,
    /// The oldest first, by their numbers.
    waiting: VecDeque<(u64, T)>,
}

/// One of a client's that waits: it leaves by this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waits {
    whose: Whose,
    number: u64,
}

/// One that waits now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Joined<T> {
    pub(crate) waits: Waits,
    /// Who waits no more, so that it can.
    pub(crate) gave_way: Option<T>,
}

impl<T> Default for Client<T> {
    fn default() -> Self {
        Self {
            taken: 0,
            turn: 0,
            waiting: VecDeque::new(),
        }
    }
}

impl<T> Client<T> {
    fn load(&self) -> usize {
        self.taken.saturating_add(self.waiting.len())
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            taken: 0,
            waiting: 0,
            clients: HashMap::new(),
            next: BTreeSet::new(),
            heaviest: BTreeSet::new(),
            count: 0,
        }
    }
}

impl<T> Turns<T> {
    /// How many are taken, by all.
    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }

    /// How many wait, of all.
    pub(crate) const fn waiting(&self) -> usize {
        self.waiting
    }

    /// Clients that have something or wait for it.
    pub(crate) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Clients that wait.
    pub(crate) fn clients_waiting(&self) -> usize {
        self.next.len()
    }

    /// What a client has, and how many of its wait.
    pub(crate) fn of(&self, whose: Whose) -> (usize, usize) {
        self.clients
            .get(&whose)
            .map_or((0, 0), |client| (client.taken, client.waiting.len()))
    }

    /// The newest of a client's that waits.
    pub(crate) fn newest(&self, whose: Whose) -> Option<&T> {
        let (_, newest) = self.clients.get(&whose)?.waiting.back()?;
        Some(newest)
    }

    /// Whether a client has or wants something.
    pub(crate) fn knows(&self, whose: Whose) -> bool {
        self.clients.contains_key(&whose)
    }

    /// Who is next, and what it has.
    pub(crate) fn next(&self) -> Option<(usize, Whose)> {
        self.next.first().map(|(taken, _, whose)| (*taken, *whose))
    }

    /// The oldest of its that waits.
    pub(crate) fn peek(&self) -> Option<&T> {
        let (_, whose) = self.next()?;
        let (_, oldest) = self.clients.get(&whose)?.waiting.front()?;
        Some(oldest)
    }

    /// A client takes one, whoever waits.
    pub(crate) fn take(&mut self, whose: Whose) {
        self.change(whose, |client| {
            client.taken = client.taken.saturating_add(1);
        });
        self.taken = self.taken.saturating_add(1);
    }

    /// One more waits, of at most so many in all. Who waits itself comes back where there is no room, for this client least of all.
    pub(crate) fn wait(&mut self, whose: Whose, most: usize, who: T) -> Result<Joined<T>, T> {
        let gave_way = if self.waiting < most {
            None
        } else {
            let (taken, waits) = self.of(whose);
            let load = taken.saturating_add(waits);
            // Of two that are as heavy both would only change places.
            match self.heaviest.last() {
                Some((most, heaviest)) if *most > load.saturating_add(1) => {
                    let newest = self.change(*heaviest, |client| client.waiting.pop_back());
                    self.left(newest)
                }
                _ => return Err(who),
            }
        };
        let (number, turn) = (self.number(), self.number());
        self.change(whose, |client| {
            if client.waiting.is_empty() {
                client.turn = turn;
            }
            client.waiting.push_back((number, who));
        });
        self.waiting = self.waiting.saturating_add(1);
        Ok(Joined {
            waits: Waits { whose, number },
            gave_way,
        })
    }

    /// Waits no more, if it still did.
    pub(crate) fn leave(&mut self, waits: Waits) -> Option<T> {
        let left = self.change(waits.whose, |client| {
            let place = client
                .waiting
                .binary_search_by_key(&waits.number, |(number, _)| *number);
            place.ok().and_then(|place| client.waiting.remove(place))
        });
        self.left(left)
    }

    /// Who is next takes one.
    pub(crate) fn grant(&mut self) -> Option<(Whose, T)> {
        let (_, whose) = self.next()?;
        let turn = self.number();
        let oldest = self.change(whose, |client| {
            client.turn = turn;
            client.taken = client.taken.saturating_add(1);
            client.waiting.pop_front()
        });
        self.taken = self.taken.saturating_add(1);
        self.left(oldest).map(|who| (whose, who))
    }

    /// The oldest of the client that is next, if it is to wait no more; the turn is that client's still.
    pub(crate) fn dismiss_if(&mut self, vain: impl FnOnce(&T) -> bool) -> Option<T> {
        if !vain(self.peek()?) {
            return None;
        }
        let (_, whose) = self.next()?;
        let oldest = self.change(whose, |client| client.waiting.pop_front());
        self.left(oldest)
    }

    /// A client gives one back.
    pub(crate) fn give_back(&mut self, whose: Whose) {
        self.taken = self.taken.saturating_sub(1);
        self.change(whose, |client| {
            client.taken = client.taken.saturating_sub(1);
        });
    }

    fn left(&mut self, left: Option<(u64, T)>) -> Option<T> {
        let (_, who) = left?;
        self.waiting = self.waiting.saturating_sub(1);
        Some(who)
    }

    /// Changes a client, and where it stands.
    fn change<R>(&mut self, whose: Whose, change: impl FnOnce(&mut Client<T>) -> R) -> R {
        let client = self.clients.entry(whose).or_default();
        if !client.waiting.is_empty() {
            self.next.remove(&(client.taken, client.turn, whose));
            self.heaviest.remove(&(client.load(), whose));
        }
        let changed = change(client);
        if !client.waiting.is_empty() {
            self.next.insert((client.taken, client.turn, whose));
            self.heaviest.insert((client.load(), whose));
        } else if client.taken == 0 {
            self.clients.remove(&whose);
        }
        changed
    }

    fn number(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        self.count
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
