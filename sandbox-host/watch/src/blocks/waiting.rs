//! Alerts about clients that rules could not block yet, because there was no room.
//!
//! A rule repeats an alert after an hour at the earliest. So an alert that finds no room is kept
//! for that time, and is answered once a block of another client has ended. The first to wait is
//! the first to be answered.

use tensorgate_policy::values::WatchRule;

use super::automatic::{ClientAlert, Response, Responses};
use super::list::{BlockList, Now};
use super::millis;
use super::record::{BlockAction, BlockRecord};
use crate::window::REPEAT;

/// The most clients with an alert that waits. Rules rarely block more in an hour.
const MAX_WAITING: usize = 64;

/// The alerts that wait, one for each client.
#[derive(Debug, Default)]
pub struct WaitingAlerts {
    alerts: Vec<WaitingAlert>,
}

#[derive(Debug)]
struct WaitingAlert {
    rule: WatchRule,
    client: String,
    what: String,
    /// When it was raised, by the clock that no one sets.
    raised_ms: u64,
}

impl WaitingAlerts {
    /// Keeps an alert. Of two about one client, a block counts more. Returns whether there was
    /// room for it.
    pub fn add(&mut self, alert: &ClientAlert<'_>, responses: &Responses, now: Now) -> bool {
        let ClientAlert { rule, client, what } = *alert;
        let known = self.alerts.iter_mut().find(|known| known.client == client);
        if let Some(known) = known {
            if responses.action(rule) == Some(BlockAction::Block) {
                known.rule = rule;
                what.clone_into(&mut known.what);
            }
            known.raised_ms = now.mono_ms;
            return true;
        }
        if self.alerts.len() >= MAX_WAITING {
            return false;
        }
        self.alerts.push(WaitingAlert {
            rule,
            client: client.to_owned(),
            what: what.to_owned(),
            raised_ms: now.mono_ms,
        });
        true
    }

    /// Answers the alerts for which there is room now. Forgets those that a rule can repeat.
    pub fn answer(
        &mut self,
        list: &mut BlockList,
        responses: &Responses,
        now: Now,
    ) -> Vec<BlockRecord> {
        let mut taken = Vec::new();
        self.alerts.retain(|waiting| {
            if now.mono_ms.saturating_sub(waiting.raised_ms) >= millis(REPEAT) {
                return false;
            }
            let alert = ClientAlert {
                rule: waiting.rule,
                client: &waiting.client,
                what: &waiting.what,
            };
            match list.respond(&alert, responses, now) {
                Response::Beyond(_) | Response::Full => true,
                Response::Taken(record) => {
                    taken.push(record);
                    false
                }
                Response::Notify
                | Response::InForce(_)
                | Response::Lifted
                | Response::NoGrant
                | Response::Waiting(_) => false,
            }
        });
        taken
    }
}
