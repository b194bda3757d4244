//! State of each client of a model, for rules on models that look at the share of a client.

use std::time::Duration;

use crate::table::{Slot, hash};
use crate::time::Time;

/// The clients of a model that have state of their own: the first ones. Further ones share state,
/// and are judged with the model alone.
const CLIENTS_OF_MODEL: usize = 16;
/// A client that sent nothing for this time makes room for another one.
const IDLE: Duration = Duration::from_secs(86_400);

/// The state of each client of a model.
#[derive(Debug, Default)]
pub(super) struct ClientsOfModel<S> {
    clients: Vec<Client<S>>,
    others: S,
}

#[derive(Debug)]
struct Client<S> {
    name: String,
    hash: u64,
    used: Time,
    state: S,
}

impl<S: Default> ClientsOfModel<S> {
    /// The state of a client. Requests without one have no name.
    pub(super) fn slot(&mut self, name: Option<&str>, now: Time) -> Slot<'_, S> {
        let name = name.unwrap_or_default();
        let hash = hash(&name);
        let known = self.clients.iter().position(|client| client.hash == hash);
        let at = known.or_else(|| self.add(name, hash, now));
        match at.and_then(|at| self.clients.get_mut(at)) {
            Some(client) => {
                client.used = now;
                Slot {
                    state: &mut client.state,
                    is_shared: false,
                }
            }
            None => Slot {
                state: &mut self.others,
                is_shared: true,
            },
        }
    }

    /// The clients with state of their own, by name. Requests without a client are none.
    pub(super) fn named(&self) -> impl Iterator<Item = (&str, &S)> {
        let clients = self.clients.iter();
        let named = clients.filter(|client| !client.name.is_empty());
        named.map(|client| (client.name.as_str(), &client.state))
    }

    /// Adds a client if there is room. Returns where it is.
    fn add(&mut self, name: &str, hash: u64, now: Time) -> Option<usize> {
        let at = if self.clients.len() < CLIENTS_OF_MODEL {
            self.clients.len()
        } else {
            let mut clients = self.clients.iter();
            clients.position(|known| now.since(known.used) >= IDLE)?
        };
        let client = Client {
            name: name.to_owned(),
            hash,
            used: now,
            state: S::default(),
        };
        match self.clients.get_mut(at) {
            Some(idle) => *idle = client,
            None => self.clients.push(client),
        }
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_of_clients_has_state_and_none_in_use_is_displaced() {
        let mut clients = ClientsOfModel::<u32>::default();
        let mut count = |name: &str, s| {
            let state = clients.slot(Some(name), Time::from_s(s)).state;
            *state = state.saturating_add(1);
            *state
        };
        for name in 0..100 {
            count(&name.to_string(), 1);
        }
        assert_eq!([count("0", 2), count("15", 2)], [2, 2]);
        assert_eq!([count("16", 2), count("99", 2)], [85, 86], "they share it");
        assert_eq!(count("0", 86_000), 3);
        assert_eq!(count("99", 86_402), 1, "a client was idle for a day");
        assert_eq!(count("0", 86_403), 4);
        assert_eq!(clients.named().count(), CLIENTS_OF_MODEL);
    }
}
