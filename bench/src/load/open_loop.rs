//! Open-loop load: a fixed number of requests a second, whatever the responses, as independent
//! clients would send it.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::connection::Connection;
use super::{Address, Expect, Http, Shot};
use crate::figures::number;
use crate::outcome::Outcome;

/// Interval between sends. Requests that are due by then are sent together.
const TURN: Duration = Duration::from_millis(2);

/// Result of an open-loop run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crowd {
    /// Requests sent.
    pub sent: usize,
    /// Requests with the expected response within the client's patience.
    pub good: usize,
    /// Requests with another response within it.
    pub refused: usize,
    /// Requests without a response within it.
    pub given_up: usize,
    /// Duration, seconds.
    pub seconds: f64,
}

impl Crowd {
    /// Expected responses a second.
    pub fn goodput(self) -> f64 {
        self.rate(self.good)
    }

    /// A count divided by the duration.
    pub fn rate(self, count: usize) -> f64 {
        number(count) / self.seconds
    }

    fn count(&mut self, came: Came) {
        let counted = match came {
            Came::Good => &mut self.good,
            Came::Refused => &mut self.refused,
            Came::GivenUp => &mut self.given_up,
        };
        *counted = counted.saturating_add(1);
    }
}

/// Outcome of one request.
enum Came {
    Good,
    Refused,
    GivenUp,
}

/// Sends `rate` requests a second for a while over a few HTTP/2 connections. A response counts if
/// it arrives within `patience`.
pub async fn crowd(
    address: &Address,
    expect: Expect,
    shot: &Shot,
    rate: f64,
    length: Duration,
    patience: Duration,
) -> Outcome<Crowd> {
    let mut connections = Vec::new();
    for _ in 0..crate::scenario::CROWD_CONNECTIONS {
        connections.push(Connection::open(address, Http::Two).await?);
    }
    let started = Instant::now();
    let mut crowd = Crowd::default();
    let mut asked = JoinSet::new();
    let mut turns = tokio::time::interval(TURN);
    let mut next = connections.iter().cycle();
    while started.elapsed() < length {
        turns.tick().await;
        let due = started.elapsed().as_secs_f64() * rate;
        while number(crowd.sent) < due {
            crowd.sent = crowd.sent.saturating_add(1);
            if let Some(Connection::Two(sender)) = next.next() {
                let (mut connection, shot) = (Connection::Two(sender.clone()), shot.clone());
                asked.spawn(async move {
                    let asking = connection.ask(&shot, expect);
                    match tokio::time::timeout(patience, asking).await {
                        Ok(Ok(())) => Came::Good,
                        Ok(Err(_)) => Came::Refused,
                        Err(_) => Came::GivenUp,
                    }
                });
            }
        }
        while let Some(answered) = asked.try_join_next() {
            crowd.count(answered?);
        }
    }
    crowd.seconds = started.elapsed().as_secs_f64();
    while let Some(answered) = asked.join_next().await {
        crowd.count(answered?);
    }
    Ok(crowd)
}
