//! Attacks and faults that are added to a generated day, one for each rule, with their starts.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "tests"
)]

use tensorgate_policy::Reason;
use tensorgate_policy::contract::NearBounds;
use tensorgate_policy::release::TopClass;

use crate::day::{Random, Request, address, deny, inference};
use crate::observation::Observation;

/// A minute in milliseconds.
const MINUTE_MS: u64 = 60_000;

/// An attack, and the rule that is to report it.
pub(super) struct Attack {
    pub(super) rule: &'static str,
    /// The subject that the alert names.
    pub(super) subject: &'static str,
    /// When it starts, in minutes of the day.
    pub(super) start: u64,
    add: fn(&mut Day),
}

/// A day to which attacks are added.
struct Day {
    requests: Vec<Request>,
    random: Random,
    start_ms: u64,
}

/// Every attack, each half an hour after the one before.
pub(super) const ATTACKS: [Attack; 17] = [
    attack(0, "volume", "client web", |day| {
        day.add(20, 300, |seen, _| {
            seen.source = Some(address([10, 0, 1], 1))
        });
    }),
    attack(1, "rejections", "client web", |day| {
        day.add(15, 30, |seen, _| {
            seen.source = Some(address([10, 0, 1], 1));
            deny(seen, Reason::Shape);
        });
    }),
    attack(2, "rejections", "source 203.0.113.7", |day| {
        day.add(15, 120, |seen, _| {
            anonymous(seen);
            seen.source = Some(address([203, 0, 113], 7));
        });
    }),
    attack(3, "server-errors", "model resnet", |day| {
        day.change(15, "resnet", |seen, at| {
            if at % 2 == 0 {
                deny(seen, Reason::BackendFault);
            }
        });
    }),
    attack(4, "latency", "model resnet", |day| {
        day.change(25, "resnet", |seen, _| seen.total_us *= 4);
    }),
    attack(5, "new-source", "client web", |day| {
        day.add(1, 1, |seen, _| {
            seen.source = Some(address([203, 0, 113], 8))
        });
    }),
    attack(6, "new-credential", "client web", |day| {
        day.add(1, 1, |seen, _| {
            seen.source = Some(address([10, 0, 1], 1));
            seen.credential = Some("another".to_owned());
        });
    }),
    attack(7, "spraying-clients", "source 203.0.113.9", |day| {
        let names = ["web", "mobile", "search", "ads", "reports", "partner"];
        day.add(4, 4, |seen, at| {
            let name = names[at as usize % names.len()];
            seen.client = Some(name.to_owned());
            seen.credential = Some(format!("{name}-key"));
            seen.source = Some(address([203, 0, 113], 9));
        });
    }),
    attack(8, "spraying-sources", "the gateway", |day| {
        day.add(15, 30, |seen, at| {
            anonymous(seen);
            seen.source = Some(address([100, 64, at as u8], (at / 256) as u8));
        });
    }),
    attack(9, "probing", "source 10.0.1.1", |day| {
        day.add(5, 6, |seen, at| {
            // A server decides about the last ones.
            let reasons = &Reason::ALL[10..36];
            seen.source = Some(address([10, 0, 1], 1));
            deny(seen, reasons[at as usize % reasons.len()]);
        });
    }),
    attack(10, "management", "source 203.0.113.10", |day| {
        day.add(1, 1, |seen, _| {
            anonymous(seen);
            seen.source = Some(address([203, 0, 113], 10));
            seen.management = Some("Triton");
        });
    }),
    attack(11, "handler-faults", "client web", |day| {
        day.add(10, 6, |seen, _| {
            seen.source = Some(address([10, 0, 1], 1));
            deny(seen, Reason::HandlerFault);
        });
    }),
    attack(12, "confidence", "model resnet", |day| {
        day.predict(|top| top.confidence /= 2);
    }),
    attack(13, "prediction-drift", "model resnet", |day| {
        day.predict(|top| top.class = 9 - top.class);
    }),
    attack(14, "class-dominance", "model resnet", |day| {
        day.predict(|top| top.class = 3);
    }),
    attack(15, "near-bounds", "client web", |day| {
        day.add(20, 10, |seen, _| {
            seen.source = Some(address([10, 0, 1], 1));
            seen.near_bounds = Some(NearBounds { inputs: 1, near: 1 });
        });
    }),
    attack(16, "credential-guessing", "the gateway", |day| {
        day.add(6, 2_000, |seen, at| {
            anonymous(seen);
            seen.source = Some(address([203, 0, 113], (at % 40) as u8));
        });
    }),
];

/// The number of an attack says when it starts: the first at 10:00.
const fn attack(
    number: u64,
    rule: &'static str,
    subject: &'static str,
    add: fn(&mut Day),
) -> Attack {
    Attack {
        rule,
        subject,
        start: 600 + 30 * number,
        add,
    }
}

/// Adds every attack to a day.
pub(super) fn add_all(requests: Vec<Request>, seed: u64) -> Vec<Request> {
    let mut day = Day {
        requests,
        random: Random(seed),
        start_ms: 0,
    };
    for attack in &ATTACKS {
        day.start_ms = attack.start * MINUTE_MS;
        (attack.add)(&mut day);
    }
    day.requests.sort_by_key(|request| request.ms);
    day.requests
}

impl Day {
    /// Adds requests of the client `web` for some minutes, changed by a function that gets the
    /// number of each.
    fn add(&mut self, minutes: u64, per_minute: u64, change: impl Fn(&mut Observation, u64)) {
        for number in 0..minutes * per_minute {
            let mut seen = inference("web", "resnet", &mut self.random);
            change(&mut seen, number);
            let ms = self.start_ms + number * MINUTE_MS / per_minute;
            self.requests.push(Request { ms, seen });
        }
    }

    /// Changes the predictions of `resnet` for some minutes.
    fn predict(&mut self, change: impl Fn(&mut TopClass)) {
        self.change(25, "resnet", |seen, _| {
            if let Some(top) = &mut seen.top_class {
                change(top);
            }
        });
    }

    /// Changes the requests to a model for some minutes.
    fn change(&mut self, minutes: u64, model: &str, change: impl Fn(&mut Observation, u64)) {
        let times = self.start_ms..self.start_ms + minutes * MINUTE_MS;
        let of_model = |request: &&mut Request| {
            times.contains(&request.ms) && request.seen.model.as_deref() == Some(model)
        };
        for (number, request) in (0..).zip(self.requests.iter_mut().filter(of_model)) {
            change(&mut request.seen, number);
        }
    }
}

/// Makes a request one without a valid credential.
fn anonymous(seen: &mut Observation) {
    *seen = Observation::default();
    deny(seen, Reason::Unauthenticated);
}
