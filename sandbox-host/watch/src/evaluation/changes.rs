//! Changes by an operator that are no attacks: restarts of one endpoint after the other, a new
//! proxy before some clients, a client that is new, and clients that are hardly used.

#![allow(clippy::arithmetic_side_effects, reason = "tests")]

use tensorgate_policy::Reason;

use super::attacks::Day;
use crate::day::{address, deny, inference};

/// The days on which a version is rolled out.
const ROLLOUT_DAYS: u64 = 2;
/// The day from which on clients are behind a new proxy.
const PROXY_DAY: u64 = 8;
/// The clients behind it.
const BEHIND_PROXY: [&str; 6] = ["web", "mobile", "search", "ads", "partner", "importer"];
/// The day from which on there is another client.
const NEW_CLIENT_DAY: u64 = 9;

/// The clients that the policy of a day adds, beside those that send from the first day on.
pub(super) fn new_clients(number: u64) -> Vec<String> {
    let name = match number {
        0 => "unused",
        NEW_CLIENT_DAY => "onboarded",
        _ => return Vec::new(),
    };
    vec![name.to_owned()]
}

/// Adds the changes of a day to its requests. The start is that of the day.
pub(super) fn add(day: &mut Day, number: u64) {
    let start_ms = day.start_ms;
    if number == 0 {
        // It sends nothing more for weeks.
        day.start_ms = start_ms + 600 * 60_000;
        day.add(30, 1, |random, _| {
            let mut seen = inference("quarterly", "ranker", random);
            seen.source = Some(address([10, 0, 40], 1));
            seen
        });
    }
    if number % ROLLOUT_DAYS == 1 {
        // One of three endpoints after the other restarts, two minutes each.
        day.start_ms = start_ms + (600 + day.random.below(120)) * 60_000;
        let mut requests = 0_u64;
        day.change(6, |seen, _| {
            if seen.model.as_deref() == Some("resnet") {
                requests += 1;
                if requests.is_multiple_of(3) {
                    deny(seen, Reason::BackendUnavailable);
                }
            }
        });
    }
    if number >= PROXY_DAY {
        day.start_ms = start_ms + if number == PROXY_DAY { 660 * 60_000 } else { 0 };
        day.change(1_440, |seen, _| {
            let is_behind = seen
                .client
                .as_deref()
                .is_some_and(|it| BEHIND_PROXY.contains(&it));
            if is_behind {
                seen.source = Some(address([10, 0, 20], 1));
            }
        });
    }
    if number >= NEW_CLIENT_DAY {
        day.start_ms = start_ms + 540 * 60_000;
        day.add(480, 4, |random, _| {
            let mut seen = inference("onboarded", "resnet", random);
            seen.source = Some(address([10, 0, 30], 1));
            seen
        });
    }
    day.start_ms = start_ms;
}
