//! Compares the table with a plain list that is searched from its start.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
use super::*;

impl<T> Turns<T> {
    /// Checks the counters against the entries.
    pub(crate) fn sound(&self) {
        let clients = || self.clients.values();
        let taken: usize = clients().map(|client| client.taken).sum();
        let waiting: usize = clients().map(|client| client.waiting.len()).sum();
        let waits = clients().filter(|client| !client.waiting.is_empty());
        assert_eq!((taken, waiting), (self.taken, self.waiting));
        assert_eq!(waits.count(), self.next.len());
        assert_eq!(self.next.len(), self.heaviest.len());
        let idle = |client: &Client<T>| client.taken == 0 && client.waiting.is_empty();
        assert!(!clients().any(idle), "no idle client");
    }
}

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
        let wants =
            |waiting: &[Waiting], client| waiting.iter().filter(|one| one.client == client).count();
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
        turns.sound();
        let all: usize = has.iter().sum();
        assert_eq!((turns.taken(), turns.waiting()), (all, waiting.len()));
    }
}
