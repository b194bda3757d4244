//! Load that does not wait for answers: so many requests a second whatever comes of them, as a crowd of clients would.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::connection::Connection;
use super::{Address, Expect, Http, Shot};
use crate::figures::number;
use crate::outcome::Outcome;

/// How often requests are sent: those due by then go together.
const TURN: Duration = Duration::from_millis(2);

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crowd {
    /// Requests sent.
    pub sent: usize,
    /// Answered as expected within the time that a client waits.
    pub good: usize,
    /// Seconds that it took.
    pub seconds: f64,
}

impl Crowd {
    /// Good answers a second.
    pub fn goodput(self) -> f64 {
        number(self.good) / self.seconds
    }
}

/// Sends `rate` requests a second for a while over a few HTTP/2 connections; an answer counts if it comes within `patience`.
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
                    matches!(tokio::time::timeout(patience, asking).await, Ok(Ok(())))
                });
            }
        }
        while let Some(answered) = asked.try_join_next() {
            crowd.good = crowd.good.saturating_add(usize::from(answered?));
        }
    }
    crowd.seconds = started.elapsed().as_secs_f64();
    while let Some(answered) = asked.join_next().await {
        crowd.good = crowd.good.saturating_add(usize::from(answered?));
    }
    Ok(crowd)
}
