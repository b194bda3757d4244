//! Attacks and faults of the evaluation, each on a day of its own. Some are by attackers who know
//! the rules: they stay just below a threshold, teach slowly, or spread over hours.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "tests"
)]

use tensorgate_policy::Reason;
use tensorgate_policy::contract::NearBounds;

use crate::day::{Random, Request, address, deny, inference};
use crate::observation::Observation;

/// A minute in milliseconds.
const MINUTE_MS: u64 = 60_000;
/// A network that the client `web` has used from the first day on.
const WEB: [u8; 3] = [10, 0, 1];

/// An attack or a fault.
pub(super) struct Attack {
    pub(super) name: &'static str,
    /// The rules of which one is to report it, or that would.
    pub(super) rules: &'static [&'static str],
    /// What their alert names.
    pub(super) subject: &'static str,
    /// When it starts, in minutes of the day.
    pub(super) start: u64,
    /// The most minutes until it is reported. Absent if the attacker is known to succeed.
    pub(super) within: Option<u64>,
    /// The hour at which the short evaluation has it.
    pub(super) short_hour: Option<u64>,
    pub(super) add: fn(&mut Day),
}

/// The requests of a day to which an attack is added.
pub(super) struct Day {
    pub(super) requests: Vec<Request>,
    pub(super) random: Random,
    /// When the attack starts.
    pub(super) start_ms: u64,
}

/// Every attack.
pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "12,000 wrong keys from 40 sources in 6 minutes",
        short_hour: Some(8),
        ..reported(&["credential-guessing"], "the gateway", 5, |day| {
            day.guess(6, 2_000, 40);
        })
    },
    Attack {
        name: "2,400 wrong keys an hour from 20 sources",
        ..reported(&["credential-guessing"], "the gateway", 60, |day| {
            day.guess(360, 40, 20);
        })
    },
    Attack {
        name: "300 wrong keys an hour from 10 sources",
        ..known(&["credential-guessing"], "the gateway", |day| {
            day.guess(360, 5, 10);
        })
    },
    Attack {
        name: "55 wrong keys a minute from one source",
        ..known(
            &["rejections", "credential-guessing"],
            "203.0.113.0",
            |day| {
                day.guess(120, 55, 1);
            },
        )
    },
    Attack {
        name: "wrong keys from 450 sources in 15 minutes",
        short_hour: Some(10),
        ..reported(&["spraying-sources"], "the gateway", 10, |day| {
            day.guess(15, 30, 450);
        })
    },
    Attack {
        name: "wrong keys from 40 sources each ten minutes, for six hours",
        ..known(
            &["spraying-sources", "credential-guessing"],
            "the gateway",
            |day| {
                day.guess(360, 4, 1_440);
            },
        )
    },
    Attack {
        name: "the predictions of one client are poisoned",
        short_hour: Some(19),
        ..reported(&["prediction-drift"], "nightly-scorer", 90, |day| {
            day.predict(240, "nightly-scorer", |_, _, _| 3);
        })
    },
    Attack {
        name: "a new client gets 40 % of a model's predictions, all of one class",
        ..reported(&["prediction-drift"], "stolen", 30, |day| {
            day.add(120, 8, |random, _| {
                let mut seen = inference("stolen", "resnet", random);
                seen.source = Some(address([10, 0, 1], 1));
                if let Some(top) = &mut seen.top_class {
                    top.class = 3;
                }
                seen
            });
        })
    },
    Attack {
        name: "a quarter of the predictions of one client is poisoned",
        ..known(&["prediction-drift"], "nightly-scorer", |day| {
            day.predict(240, "nightly-scorer", |class, number, _| {
                if number.is_multiple_of(4) { 3 } else { class }
            });
        })
    },
    Attack {
        name: "the predictions of one client are poisoned step by step, over a day",
        start: 1,
        ..reported(&["prediction-drift"], "nightly-scorer", 1_200, |day| {
            day.predict(1_438, "nightly-scorer", |class, number, minute| {
                // The part grows with the minute of the day.
                if number * 7_919 % 1_440 < minute {
                    3
                } else {
                    class
                }
            });
        })
    },
    Attack {
        name: "a model predicts one class alone",
        short_hour: Some(12),
        ..reported(&["class-dominance"], "model resnet", 20, |day| {
            day.predict(60, "", |_, _, _| 7);
        })
    },
    Attack {
        name: "a model predicts with half its confidence",
        ..reported(&["confidence"], "model resnet", 20, |day| {
            day.change(60, |seen, _| {
                let is_meant = is_of(seen.model.as_deref(), "resnet");
                if let Some(top) = seen.top_class.as_mut().filter(|_| is_meant) {
                    top.confidence /= 2;
                }
            });
        })
    },
    Attack {
        name: "three of ten inferences take ten times as long",
        short_hour: Some(14),
        ..reported(&["latency"], "model resnet", 30, |day| {
            day.slow(60, |number| if number % 10 < 3 { 100 } else { 10 });
        })
    },
    Attack {
        name: "every inference takes three times as long",
        ..reported(&["latency"], "model resnet", 15, |day| {
            day.slow(60, |_| 30);
        })
    },
    Attack {
        name: "one of ten inferences takes ten times as long",
        ..known(&["latency"], "model resnet", |day| {
            day.slow(60, |number| if number % 10 < 1 { 100 } else { 10 });
        })
    },
    Attack {
        name: "every inference takes 1.7 times as long",
        ..known(&["latency"], "model resnet", |day| day.slow(60, |_| 17))
    },
    Attack {
        name: "a model fails for ten minutes",
        short_hour: Some(16),
        ..reported(&["server-errors"], "model resnet", 5, |day| {
            day.fail(10, |_, _| true);
        })
    },
    Attack {
        name: "half of a model's requests fail",
        ..reported(&["server-errors"], "model resnet", 15, |day| {
            day.fail(30, |number, _| number.is_multiple_of(2));
        })
    },
    Attack {
        name: "a model fails for two of each ten minutes",
        ..known(&["server-errors"], "model resnet", |day| {
            day.fail(60, |_, minute| minute % 10 < 2);
        })
    },
    Attack {
        name: "a request for a server's management",
        short_hour: Some(18),
        ..reported(&["management"], "203.0.113.10", 1, |day| {
            day.add(1, 1, |_, _| {
                let mut seen = anonymous(address([203, 0, 113], 10));
                seen.management = Some("Triton");
                seen
            });
        })
    },
    Attack {
        name: "a client's key is used to find weaknesses",
        ..reported(&["probing"], "10.0.1.1", 10, |day| day.probe(5, 6))
    },
    Attack {
        name: "a client's key is used to find weaknesses, slowly",
        ..known(&["probing"], "10.0.1.1", |day| day.probe(180, 1))
    },
    Attack {
        name: "keys of six clients from one source",
        ..reported(&["spraying-clients"], "203.0.113.9", 10, |day| {
            day.spray(5, [203, 0, 113]);
        })
    },
    Attack {
        name: "keys of three clients in ten minutes from one source",
        ..known(&["spraying-clients"], "198.18.9.9", |day| {
            day.spray(7, [198, 18, 9]);
        })
    },
    Attack {
        name: "a stolen key, from a new network, with 4,000 requests in 20 minutes",
        short_hour: Some(23),
        ..reported(
            &["volume", "new-source", "new-credential"],
            "client web",
            1,
            |day| {
                day.send(20, 200, "web", [198, 18, 8], |_| ());
            },
        )
    },
    Attack {
        name: "a key that was not used for weeks, from a new network, with 4,000 requests",
        ..reported(&["dormant-credential"], "client quarterly", 1, |day| {
            day.send(20, 200, "quarterly", [198, 18, 10], |_| ());
        })
    },
    Attack {
        name: "the first use of a client, weeks after the policy got it",
        ..reported(&["dormant-credential"], "client unused", 1, |day| {
            day.send(1, 1, "unused", [198, 18, 11], |_| ());
        })
    },
    Attack {
        name: "a stolen key, from its own network, with 4,000 requests in 20 minutes",
        ..reported(&["volume"], "client web", 5, |day| {
            day.send(20, 200, "web", WEB, |_| ());
        })
    },
    Attack {
        name: "a client whose rows are rejected, 30 a minute",
        ..reported(&["rejections"], "client web", 5, |day| {
            day.send(15, 30, "web", WEB, |seen| deny(seen, Reason::Shape));
        })
    },
    Attack {
        name: "a client whose values are at the bounds, 10 a minute",
        ..reported(&["near-bounds"], "client web", 20, |day| {
            day.send(30, 10, "web", WEB, |seen| {
                seen.near_bounds = Some(NearBounds { inputs: 1, near: 1 });
            });
        })
    },
    Attack {
        name: "a client for which handlers fail, 6 times a minute",
        ..reported(&["handler-faults"], "client web", 10, |day| {
            day.send(10, 6, "web", WEB, |seen| deny(seen, Reason::HandlerFault));
        })
    },
];

/// An attack at noon that one of these rules reports.
const fn reported(
    rules: &'static [&'static str],
    subject: &'static str,
    within: u64,
    add: fn(&mut Day),
) -> Attack {
    Attack {
        name: "",
        rules,
        subject,
        start: 720,
        within: Some(within),
        short_hour: None,
        add,
    }
}

/// An attack by one who knows the rules, and stays below their thresholds.
const fn known(rules: &'static [&'static str], subject: &'static str, add: fn(&mut Day)) -> Attack {
    Attack {
        within: None,
        ..reported(rules, subject, 0, add)
    }
}

impl Day {
    /// Adds requests for some minutes, each made of its number.
    pub(super) fn add(
        &mut self,
        minutes: u64,
        per_minute: u64,
        make: impl Fn(&mut Random, u64) -> Observation,
    ) {
        for number in 0..minutes * per_minute {
            let seen = make(&mut self.random, number);
            let ms = self.start_ms + number * MINUTE_MS / per_minute;
            self.requests.push(Request { ms, seen });
        }
    }

    /// Adds inferences of a client from a network, each changed.
    fn send(
        &mut self,
        minutes: u64,
        per_minute: u64,
        client: &str,
        network: [u8; 3],
        change: impl Fn(&mut Observation),
    ) {
        self.add(minutes, per_minute, |random, _| {
            let mut seen = inference(client, "resnet", random);
            seen.source = Some(address(network, 1));
            change(&mut seen);
            seen
        });
    }

    /// Adds wrong keys from so many sources in turn.
    fn guess(&mut self, minutes: u64, per_minute: u64, sources: u64) {
        self.add(minutes, per_minute, |_, number| {
            let source = number % sources;
            anonymous(address([203, 0, 113 + (source / 256) as u8], source as u8))
        });
    }

    /// Changes the requests of some minutes. The function gets the minute of each.
    pub(super) fn change(&mut self, minutes: u64, mut change: impl FnMut(&mut Observation, u64)) {
        let times = self.start_ms..self.start_ms + minutes * MINUTE_MS;
        for request in &mut self.requests {
            if times.contains(&request.ms) {
                let minute = (request.ms - self.start_ms) / MINUTE_MS;
                change(&mut request.seen, minute);
            }
        }
    }

    /// Changes the predicted classes of `resnet` for a client, or for all. The function gets the
    /// class, the number of the prediction and its minute.
    fn predict(&mut self, minutes: u64, client: &str, class: impl Fn(usize, u64, u64) -> usize) {
        let mut number = 0;
        self.change(minutes, |seen, minute| {
            let is_meant = client.is_empty() || is_of(seen.client.as_deref(), client);
            if !is_meant || !is_of(seen.model.as_deref(), "resnet") {
                return;
            }
            if let Some(top) = &mut seen.top_class {
                top.class = class(top.class, number, minute);
                number += 1;
            }
        });
    }

    /// Makes inferences of `resnet` slower: so many tenths of their latency, by their number.
    fn slow(&mut self, minutes: u64, tenths: impl Fn(u64) -> u64) {
        let mut number = 0;
        self.change(minutes, |seen, _| {
            if is_of(seen.model.as_deref(), "resnet") {
                seen.total_us = seen.total_us * tenths(number) / 10;
                number += 1;
            }
        });
    }

    /// Makes requests to `resnet` fail, by their number and minute.
    fn fail(&mut self, minutes: u64, fails: impl Fn(u64, u64) -> bool) {
        let mut number = 0;
        self.change(minutes, |seen, minute| {
            if is_of(seen.model.as_deref(), "resnet") {
                if fails(number, minute) {
                    deny(seen, Reason::BackendFault);
                }
                number += 1;
            }
        });
    }

    /// Adds requests of a client that are rejected for twelve reasons in turn.
    fn probe(&mut self, minutes: u64, per_minute: u64) {
        self.add(minutes, per_minute, |random, number| {
            let mut seen = inference("web", "resnet", random);
            seen.source = Some(address([10, 0, 1], 1));
            // From `malformed` on.
            deny(&mut seen, Reason::ALL[14 + number as usize % 12]);
            seen
        });
    }

    /// Adds requests from a network with the keys of six clients in turn, one each so many half
    /// minutes.
    fn spray(&mut self, half_minutes: u64, network: [u8; 3]) {
        let names = ["web", "mobile", "search", "ads", "reports", "partner"];
        for (number, name) in (0..).zip(names) {
            let mut seen = inference(name, "resnet", &mut self.random);
            seen.source = Some(address(network, 9));
            let ms = self.start_ms + number * half_minutes * MINUTE_MS / 2;
            self.requests.push(Request { ms, seen });
        }
    }
}

/// Whether a name is this one.
fn is_of(name: Option<&str>, expected: &str) -> bool {
    name == Some(expected)
}

/// A request from a source without a valid credential.
fn anonymous(source: std::net::IpAddr) -> Observation {
    let mut seen = Observation {
        source: Some(source),
        ..Observation::default()
    };
    deny(&mut seen, Reason::Unauthenticated);
    seen
}
