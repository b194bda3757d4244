//! A million callers with new source addresses. The state that is kept about them is bounded, and
//! Envoy's memory shows it.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::kernel::rss_mib;
use crate::lab::{Lab, Server};
use crate::load::{Address, Client, Expect, Http, Shot};
use crate::models::{SMALL, json_shot};
use crate::outcome::Outcome;
use crate::policy::{Shape, key};
use crate::proxy::Rendered;
use crate::report::Report;

use super::CONNECTIONS;

/// Requests of one turn, each from another source.
const TURN: usize = 5_000;

/// Runs the scenario.
pub async fn run(lab: &Lab, report: &mut Report) -> Outcome<()> {
    let (first, all): (usize, usize) = if lab.quick {
        (20, 60)
    } else {
        (10_000, 1_000_000)
    };
    report.section(
        "A million sources",
        "The gate as rendered, with `lockout` and one trusted hop, one worker. Each request has its own address in `x-forwarded-for`: half are IPv4 addresses, half are IPv6 addresses from different /64 networks. Half of the requests have a valid key. The others each have a different key that is well-formed but wrong. Memory is Envoy's resident memory.",
    );
    let upstream = Server::start(lab, "upstream").await?;
    let mut shape = Shape::plain(upstream.tcp()?);
    shape.trusted_hops = 1;
    shape.lockout = true;
    let folder = lab.folder("sources")?;
    let rendered = Rendered::new(lab, folder, &shape.to_json(), &upstream.socket)?;
    let gate = rendered.start(lab, "sources", 1).await?;
    let pid = gate.process.pid();
    let mut crowd = Crowd::new(&gate.address)?;
    let mut rows = Vec::new();
    let mut seen = Vec::new();
    for until in [first, all.div_euclid(10).max(first), all] {
        while crowd.sent < until {
            crowd
                .turn(TURN.min(until.saturating_sub(crowd.sent)))
                .await?;
        }
        let mib = rss_mib(pid)?;
        rows.push(vec![until.to_string(), format!("{mib:.1}")]);
        seen.push(mib);
    }
    report.table(&["sources so far", "RSS MiB"], &rows);
    if let [first, .., last] = seen.as_slice() {
        report.reached("sources", last / first);
    }
    Ok(())
}

/// Callers, each from another source.
struct Crowd {
    right: Client,
    wrong: Client,
    shot: Shot,
    sent: usize,
}

impl Crowd {
    fn new(gate: &Address) -> Outcome<Self> {
        let client = |status| {
            let expect = Expect::Status(status);
            Client::new(gate.clone(), Http::Two, expect, CONNECTIONS)
        };
        Ok(Self {
            right: client(200),
            wrong: client(401),
            shot: json_shot(SMALL)?,
            sent: 0,
        })
    }

    /// Sends this many more requests, the first half with valid keys.
    async fn turn(&mut self, count: usize) -> Outcome<()> {
        let (from, to) = (self.sent, self.sent.saturating_add(count));
        let middle = from.midpoint(to);
        let shots = |from, to, key: fn(usize) -> String| {
            (from..to)
                .map(|number| {
                    let shot = self.shot.clone();
                    shot.with("x-forwarded-for", &source(number))?
                        .with("x-api-key", &key(number))
                })
                .collect::<Outcome<Vec<Shot>>>()
        };
        let right = shots(from, middle, |_| key(0))?;
        let wrong = shots(middle, to, |number| key(number.saturating_add(1 << 32)))?;
        self.right.volley(&right, 0, right.len()).await?;
        self.wrong.volley(&wrong, 0, wrong.len()).await?;
        self.sent = to;
        Ok(())
    }
}

/// The address of a source. No two share a /64.
fn source(number: usize) -> String {
    let number = u32::try_from(number).unwrap_or(u32::MAX);
    if number.is_multiple_of(2) {
        Ipv4Addr::from_bits(0x0b00_0000_u32.wrapping_add(number)).to_string()
    } else {
        let site = 0x2001_0db8_u128 << 96 | u128::from(number) << 64 | 1;
        Ipv6Addr::from_bits(site).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_is_another_one() {
        let sources: std::collections::BTreeSet<_> = (0..1_000).map(source).collect();
        assert_eq!(sources.len(), 1_000);
        assert_eq!(source(4), "11.0.0.4");
        assert_eq!(source(5), "2001:db8:0:5::1");
    }
}
