//! The order in which clients are served (max-min fairness), and preemption when the queue is full.
//! It is a plain table without clock, lock or task, and independent of the resource.
//!
//! The next client is the waiting one that holds the fewest units. Among equals it is the one whose
//! last turn is longest ago. One client's entries are served in order of arrival. When the queue is
//! full, the newest entry of the client that holds and waits for most is preempted by a client that
//! has less. Each step looks at one client and takes logarithmic time.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::client_key::ClientKey;

/// What clients hold and wait for. `T` is a queue entry.
#[derive(Debug)]
pub struct Turns<T> {
    taken: usize,
    waiting: usize,
    /// Clients that hold or wait for something.
    clients: HashMap<ClientKey, Client<T>>,
    /// Clients that wait, by what they hold and by their turn.
    next: BTreeSet<(usize, u64, ClientKey)>,
    /// Clients that wait, by what they hold and wait for together.
    heaviest: BTreeSet<(usize, ClientKey)>,
    /// A counter for turns and entries.
    count: u64,
}

#[derive(Debug)]
struct Client<T> {
    taken: usize,
    turn: u64,
    /// The entries with their numbers, the oldest first.
    waiting: VecDeque<(u64, T)>,
}

/// The position of an entry, with which it can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    client_key: ClientKey,
    number: u64,
}

/// The result of adding an entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Enqueued<T> {
    /// Its place in the queue.
    pub waits: Ticket,
    /// The preempted entry, if any.
    pub preempted: Option<T>,
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
    /// The number of units that all clients hold.
    pub const fn taken(&self) -> usize {
        self.taken
    }

    /// The number of entries of all clients.
    pub const fn waiting(&self) -> usize {
        self.waiting
    }

    /// The number of clients that hold or wait for something.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The number of clients that wait.
    pub fn clients_waiting(&self) -> usize {
        self.next.len()
    }

    /// What a client holds, and the number of its entries.
    pub fn usage(&self, client_key: ClientKey) -> (usize, usize) {
        self.clients
            .get(&client_key)
            .map_or((0, 0), |client| (client.taken, client.waiting.len()))
    }

    /// The newest entry of a client.
    pub fn newest(&self, client_key: ClientKey) -> Option<&T> {
        let (_, newest) = self.clients.get(&client_key)?.waiting.back()?;
        Some(newest)
    }

    /// Whether a client holds or waits for something.
    pub fn contains(&self, client_key: ClientKey) -> bool {
        self.clients.contains_key(&client_key)
    }

    /// The next client, and what it holds.
    pub fn next(&self) -> Option<(usize, ClientKey)> {
        self.next
            .first()
            .map(|(taken, _, client_key)| (*taken, *client_key))
    }

    /// The oldest entry of the next client.
    pub fn peek(&self) -> Option<&T> {
        let (_, client_key) = self.next()?;
        let (_, oldest) = self.clients.get(&client_key)?.waiting.front()?;
        Some(oldest)
    }

    /// Gives a client one unit, without regard to the order.
    pub fn acquire(&mut self, client_key: ClientKey) {
        self.change(client_key, |client| {
            client.taken = client.taken.saturating_add(1);
        });
        self.taken = self.taken.saturating_add(1);
    }

    /// Adds an entry, with at most `most` entries in total. Returns the entry if the queue is full
    /// and no client has more.
    pub fn enqueue(
        &mut self,
        client_key: ClientKey,
        most: usize,
        who: T,
    ) -> Result<Enqueued<T>, T> {
        let gave_way = if self.waiting < most {
            None
        } else {
            let (taken, waits) = self.usage(client_key);
            let load = taken.saturating_add(waits);
            // A preemption between equal clients would only swap them.
            match self.heaviest.last() {
                Some((most, heaviest)) if *most > load.saturating_add(1) => {
                    let newest = self.change(*heaviest, |client| client.waiting.pop_back());
                    self.finish_removal(newest)
                }
                _ => return Err(who),
            }
        };
        let (number, turn) = (self.number(), self.number());
        self.change(client_key, |client| {
            if client.waiting.is_empty() {
                client.turn = turn;
            }
            client.waiting.push_back((number, who));
        });
        self.waiting = self.waiting.saturating_add(1);
        Ok(Enqueued {
            waits: Ticket { client_key, number },
            preempted: gave_way,
        })
    }

    /// Removes an entry, if it still waits.
    pub fn remove(&mut self, waits: Ticket) -> Option<T> {
        let left = self.change(waits.client_key, |client| {
            let place = client
                .waiting
                .binary_search_by_key(&waits.number, |(number, _)| *number);
            place.ok().and_then(|place| client.waiting.remove(place))
        });
        self.finish_removal(left)
    }

    /// Gives the next client one unit.
    pub fn grant_next(&mut self) -> Option<(ClientKey, T)> {
        let (_, client_key) = self.next()?;
        let turn = self.number();
        let oldest = self.change(client_key, |client| {
            client.turn = turn;
            client.taken = client.taken.saturating_add(1);
            client.waiting.pop_front()
        });
        self.taken = self.taken.saturating_add(1);
        self.finish_removal(oldest).map(|who| (client_key, who))
    }

    /// Removes the oldest entry of the next client if `vain` returns true. The client keeps its
    /// turn.
    pub fn dismiss_next_if(&mut self, vain: impl FnOnce(&T) -> bool) -> Option<T> {
        if !vain(self.peek()?) {
            return None;
        }
        let (_, client_key) = self.next()?;
        let oldest = self.change(client_key, |client| client.waiting.pop_front());
        self.finish_removal(oldest)
    }

    /// Takes one unit back from a client.
    pub fn release(&mut self, client_key: ClientKey) {
        self.taken = self.taken.saturating_sub(1);
        self.change(client_key, |client| {
            client.taken = client.taken.saturating_sub(1);
        });
    }

    /// Whether the counters agree with the entries.
    #[cfg(test)]
    fn is_sound(&self) -> bool {
        let clients = || self.clients.values();
        let taken = clients()
            .map(|client| client.taken)
            .fold(0, usize::saturating_add);
        let waiting = clients().map(|client| client.waiting.len());
        let waits = clients().filter(|client| !client.waiting.is_empty());
        let idle = |client: &Client<T>| client.taken == 0 && client.waiting.is_empty();
        (taken, waiting.fold(0, usize::saturating_add)) == (self.taken, self.waiting)
            && waits.count() == self.next.len()
            && self.next.len() == self.heaviest.len()
            && !clients().any(idle)
    }

    fn finish_removal(&mut self, left: Option<(u64, T)>) -> Option<T> {
        let (_, who) = left?;
        self.waiting = self.waiting.saturating_sub(1);
        Some(who)
    }

    /// Changes a client and updates its position in both orders.
    fn change<R>(&mut self, client_key: ClientKey, change: impl FnOnce(&mut Client<T>) -> R) -> R {
        let client = self.clients.entry(client_key).or_default();
        if !client.waiting.is_empty() {
            self.next.remove(&(client.taken, client.turn, client_key));
            self.heaviest.remove(&(client.load(), client_key));
        }
        let changed = change(client);
        if !client.waiting.is_empty() {
            self.next.insert((client.taken, client.turn, client_key));
            self.heaviest.insert((client.load(), client_key));
        } else if client.taken == 0 {
            self.clients.remove(&client_key);
        }
        changed
    }

    fn number(&mut self) -> u64 {
        self.count = self.count.wrapping_add(1);
        self.count
    }
}

#[cfg(test)]
mod tests {
    //! Compares the table with a plain list that is searched from its start.
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "tests"
    )]
    use super::*;

    const CLIENTS: usize = 5;
    const MOST: usize = 9;

    fn who(client: usize) -> ClientKey {
        ClientKey::from_name(Some(&client.to_string()))
    }

    /// A waiting entry.
    struct Waiting {
        client: usize,
        name: u32,
        waits: Ticket,
    }

    #[test]
    fn no_idle_client_is_passed_twice_by_the_same_and_the_busiest_is_preempted() {
        let mut turns = Turns::default();
        let mut waiting: Vec<Waiting> = Vec::new();
        let mut has = [0_usize; CLIENTS];
        // How often each client was served before another that waits and holds nothing.
        let mut passed = [[0_usize; CLIENTS]; CLIENTS];
        let mut state = 7_u64;
        let mut dice = |sides: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % sides
        };
        for name in 0..50_000_u32 {
            // The first client floods.
            let client = [0, 0, 0, 0, 1, 2, 3, 4][dice(8)];
            let wants = |waiting: &[Waiting], client| {
                waiting.iter().filter(|one| one.client == client).count()
            };
            match dice(6) {
                0..3 => {
                    let load = has[client] + wants(&waiting, client);
                    let heaviest = (0..CLIENTS)
                        .filter(|other| wants(&waiting, *other) > 0)
                        .map(|other| has[other] + wants(&waiting, other))
                        .max();
                    let room = waiting.len() < MOST || heaviest.is_some_and(|most| most > load + 1);
                    let joined = turns.enqueue(who(client), MOST, name);
                    assert_eq!(joined.is_ok(), room, "{name}");
                    let Ok(Enqueued {
                        waits,
                        preempted: gave_way,
                    }) = joined
                    else {
                        assert_eq!(joined, Err(name));
                        continue;
                    };
                    assert_eq!(gave_way.is_some(), waiting.len() == MOST, "{name}");
                    if let Some(gone) = gave_way {
                        let place = waiting.iter().position(|one| one.name == gone).unwrap();
                        let theirs = waiting.remove(place).client;
                        assert_eq!(Some(has[theirs] + wants(&waiting, theirs) + 1), heaviest);
                        assert_eq!(wants(&waiting[place..], theirs), 0, "{name}: its newest");
                    }
                    waiting.push(Waiting {
                        client,
                        name,
                        waits,
                    });
                }
                3 if !waiting.is_empty() => {
                    let one = waiting.remove(dice(waiting.len()));
                    assert_eq!(turns.remove(one.waits), Some(one.name));
                    assert_eq!(turns.remove(one.waits), None);
                }
                4 if has[client] > 0 => {
                    has[client] -= 1;
                    turns.release(who(client));
                }
                _ => {
                    let vain = dice(4) == 0;
                    let gone = turns.dismiss_next_if(|_| vain);
                    assert_eq!(gone.is_some(), vain && !waiting.is_empty());
                    if let Some(gone) = gone {
                        let place = waiting.iter().position(|one| one.name == gone).unwrap();
                        let client = waiting.remove(place).client;
                        assert_eq!(wants(&waiting[..place], client), 0, "{name}: its oldest");
                    }
                    let Some((client_key, granted)) = turns.grant_next() else {
                        assert!(waiting.is_empty());
                        continue;
                    };
                    let place = waiting.iter().position(|one| one.name == granted).unwrap();
                    let one = waiting.remove(place);
                    assert_eq!(client_key, who(one.client));
                    assert_eq!(wants(&waiting[..place], one.client), 0, "{name}: in order");
                    let least = waiting.iter().map(|other| has[other.client]).min();
                    assert!(least.is_none_or(|least| has[one.client] <= least), "{name}");
                    for client in 0..CLIENTS {
                        let nothing = has[client] == 0 && wants(&waiting, client) > 0;
                        if nothing && client != one.client {
                            passed[client][one.client] += 1;
                            assert!(passed[client][one.client] < 2, "{name}: passed over");
                        } else {
                            passed[client] = [0; CLIENTS];
                        }
                    }
                    has[one.client] += 1;
                }
            }
            assert!(turns.is_sound());
            let all: usize = has.iter().sum();
            assert_eq!((turns.taken(), turns.waiting()), (all, waiting.len()));
        }
    }
}
