//! The scenarios, in the order of the report. Each scenario starts what it needs and stops it
//! again.

mod checks;
mod console;
mod crowds;
mod edit;
mod forms;
mod guardrail;
mod headers;
mod languages;
mod metering;
mod modes;
mod path;
mod python;
mod reload;
mod sandbox;
mod scale;
mod small;
mod sources;
mod stages;
mod tensors;
mod tokens;
mod watch;

use std::pin::Pin;

use crate::lab::Lab;
use crate::load::{Address, Client, Expect, Http};
use crate::outcome::Outcome;
use crate::race::Course;
use crate::report::Report;

type Running<'a> = Pin<Box<dyn Future<Output = Outcome<()>> + 'a>>;

/// A scenario.
pub type Scenario = for<'a> fn(&'a Lab, &'a mut Report) -> Running<'a>;

/// All of them, by name.
pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("small", |lab, report| Box::pin(small::run(lab, report))),
    ("stages", |lab, report| Box::pin(stages::run(lab, report))),
    ("checks", |lab, report| Box::pin(checks::run(lab, report))),
    ("forms", |lab, report| Box::pin(forms::run(lab, report))),
    ("tokens", |lab, report| Box::pin(tokens::run(lab, report))),
    ("tensors", |lab, report| Box::pin(tensors::run(lab, report))),
    ("modes", |lab, report| Box::pin(modes::run(lab, report))),
    ("headers", |lab, report| Box::pin(headers::run(lab, report))),
    ("scale", |lab, report| Box::pin(scale::run(lab, report))),
    ("sources", |lab, report| Box::pin(sources::run(lab, report))),
    ("reload", |lab, report| Box::pin(reload::run(lab, report))),
    ("sandbox", |lab, report| Box::pin(sandbox::run(lab, report))),
    ("languages", |lab, report| {
        Box::pin(languages::run(lab, report))
    }),
    ("python-handlers", |lab, report| {
        Box::pin(python::run(lab, report))
    }),
    ("edit", |lab, report| Box::pin(edit::run(lab, report))),
    ("metering", |lab, report| {
        Box::pin(metering::run(lab, report))
    }),
    ("pass-through", |lab, report| {
        Box::pin(path::pass_through(lab, report))
    }),
    ("handler", |lab, report| {
        Box::pin(path::handler(lab, report))
    }),
    ("guardrail", |lab, report| {
        Box::pin(guardrail::run(lab, report))
    }),
    ("watch", |lab, report| Box::pin(watch::run(lab, report))),
    ("console", |lab, report| Box::pin(console::run(lab, report))),
    ("overload", |lab, report| {
        Box::pin(crowds::overload(lab, report))
    }),
    ("buffering", |lab, report| {
        Box::pin(crowds::buffering(lab, report))
    }),
    ("many-handlers", |lab, report| {
        Box::pin(crowds::many(lab, report))
    }),
];

/// Connections of a client, each with one request at a time.
const CONNECTIONS: usize = 4;

/// Connections of an open-loop client.
pub const CROWD_CONNECTIONS: usize = 16;

/// The client that every race uses.
fn client(address: &Address, http: Http, expect: Expect) -> Client {
    Client::new(address.clone(), http, expect, CONNECTIONS)
}

/// A course with this many rounds and requests. A quick run has one round of a few requests.
fn course(lab: &Lab, rounds: usize, requests: usize) -> Course {
    if lab.quick {
        Course {
            rounds: 1,
            requests: requests.min(8),
            warm_up: 4,
        }
    } else {
        Course {
            rounds,
            requests,
            warm_up: requests.div_euclid(2).max(4),
        }
    }
}
