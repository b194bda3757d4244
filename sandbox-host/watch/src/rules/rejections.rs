//! Rejections of a caller: a client whose requests are suddenly rejected, or a source that keeps
//! sending requests without a valid credential. Requests beyond a limit do not count: the rule on
//! volume is about them. Server errors have a rule of their own.

use tensorgate_policy::values::WatchRule;

use super::share::{Bounds, Share};
use super::{ClientTable, Rule, SourceTable, Thresholds};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::Observation;
use crate::table::Slot;
use crate::time::Time;
use crate::window::Needed;

/// A client's rejections are compared with its usual ones.
const OF_CLIENTS: Bounds = Bounds {
    window_s: 60,
    needed: Needed {
        abnormal: 3,
        of_last: 5,
    },
    learned: 30,
    min_bad: 10,
    rise: 0.25,
};
/// A source without a valid credential has none that are usual. Health checks of load balancers,
/// which have no credential, stay below the number.
const OF_SOURCES: Bounds = Bounds {
    window_s: 60,
    needed: Needed {
        abnormal: 3,
        of_last: 5,
    },
    learned: 0,
    min_bad: 60,
    rise: 0.5,
};

/// The bytes of a caller's state, with what it has on the heap.
#[cfg(test)]
pub(super) const CALLER_BYTES: usize =
    crate::table::key_bytes::<Share>() + super::share::HEAP_BYTES;

/// The rule `rejections`.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    clients: ClientTable<Share>,
    sources: SourceTable<Share>,
    thresholds: Thresholds,
}

impl Rule for Rejections {
    fn id(&self) -> WatchRule {
        WatchRule::Rejections
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let is_bad = seen.is_rejected();
        let (spike, subject, advice) = match &seen.client {
            Some(name) => {
                let Slot { state, is_shared } = self.clients.slot(name, now);
                let spike = state.observe(is_bad, now, &OF_CLIENTS.with(self.thresholds))?;
                let advice = "`tensorgate audit query --client NAME --verdict deny` lists the \
                              reasons. A client that was changed needs a fix. Otherwise check who \
                              uses its credential.";
                (spike, Subject::client(name, is_shared), advice)
            }
            None => {
                let source = seen.source_host()?;
                let Slot { state, is_shared } = self.sources.slot(&source, now);
                let spike = state.observe(is_bad, now, &OF_SOURCES)?;
                let advice = "It guesses credentials or has a wrong one. Set `lockout`, and block \
                              the source before the gateway if it is not yours.";
                (spike, Subject::source(source, is_shared), advice)
            }
        };
        Some(Finding {
            subject,
            since: spike.since,
            evidence: Evidence {
                observed: spike.percent,
                usual: spike.usual_percent,
                unit: "% of its requests",
            },
            what: "has many requests rejected".to_owned(),
            advice,
        })
    }

    fn shared_uses(&self) -> u64 {
        let clients = self.clients.shared_uses();
        clients.saturating_add(self.sources.shared_uses())
    }

    fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.clients.save(out);
    }

    fn load(&mut self, input: &mut &[u8]) -> Option<()> {
        self.clients = ClientTable::load(input)?;
        Some(())
    }
}
