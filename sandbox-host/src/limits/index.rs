//! The limits that a policy has counted for all gateways, by the names under which gates ask for them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::Policy;
use tensorgate_policy::decision::Debit;
use tensorgate_policy::policy::{
    Allowance, Counter as Where, GrantId, RateLimitService, Redis as Rule,
};
use tensorgate_wire::rate_limit::{
    CLIENT_KEY, Descriptor, LIMIT_KEY, Question, RESERVES_KEY, SETTLES_KEY, USED_KEY,
    is_reservation,
};

use super::counter::{Counter, CounterFault, Line, Reserved};
use super::redis::{ConnectFault, Redis, Settings};

/// A policy's shared limits, and who counts them.
pub struct Limits {
    policy: Arc<Policy>,
    domain: String,
    by_name: HashMap<String, (GrantId, Allowance)>,
    rule: Rule,
    redis: Arc<Redis>,
    counter: Counter,
}

/// What is asked.
#[derive(Debug)]
pub enum Asked<'a> {
    /// To spend, and perhaps to reserve.
    Charge(Vec<Line<'a>>),
    /// To settle what was reserved.
    Settle(Vec<Reserved<'a>>),
}

/// What a descriptor says of a reservation.
#[derive(Clone, Copy, Debug)]
enum Reservation<'a> {
    None,
    Reserves(&'a str),
    Settles(&'a str, u64),
}

/// Late timers, and what an answer takes behind the end of its stream.
const LATE: Duration = Duration::from_secs(5);

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskFault {
    #[error("no policy has the limits that are asked for, or none as tight")]
    Unknown,
    #[error("{0}")]
    Form(&'static str),
    #[error(transparent)]
    Counter(#[from] CounterFault),
}

impl Limits {
    /// The limits of a policy, if it has a Redis for them. A connection that an older policy has to the same Redis is kept.
    ///
    /// # Errors
    /// The settings of its Redis cannot be used.
    pub fn of(
        policy: &Arc<Policy>,
        root: &Path,
        held: &[Arc<Self>],
        up: &Gauge,
    ) -> Result<Option<Arc<Self>>, ConnectFault> {
        let Some((service, rule)) = policy.rate_limit_service().and_then(with_redis) else {
            return Ok(None);
        };
        let known = held.iter().find(|known| known.rule == *rule);
        let redis = match known {
            Some(known) => Arc::clone(&known.redis),
            None => Arc::new(Redis::start(Settings::new(rule, root)?, up.clone())),
        };
        let by_name = policy.grants_by_id().flat_map(|(id, grant)| {
            let limits = grant.per_request().chain(grant.per_content());
            let global = limits.filter(Allowance::is_global);
            global.map(move |limit| (limit.public_name(grant.name()), (id, limit)))
        });
        let within = Duration::from_millis(service.timeout_ms());
        // An answer says what it used before the longest stream is over.
        let longest = Duration::from_millis(policy.listen().limits().stream_ms);
        let keeps = longest.saturating_add(LATE);
        let (used, domain) = (Arc::clone(&redis), service.domain().to_owned());
        Ok(Some(Arc::new(Self {
            domain: service.domain().to_owned(),
            by_name: by_name.collect(),
            counter: Counter::new(used, domain, within, keeps),
            policy: Arc::clone(policy),
            rule: rule.clone(),
            redis,
        })))
    }

    /// What is asked, by this policy; `None` if it does not know all of it, or has a limit that lets more pass than the gate's own: that gate has an
    /// older policy, and one that is still held goes by it.
    ///
    /// # Errors
    /// The question is not of the form that gates use.
    pub fn find<'s>(&'s self, question: &'s Question) -> Result<Option<Asked<'s>>, AskFault> {
        if question.domain != self.domain {
            return Ok(None);
        }
        let (mut lines, mut settled) = (Vec::<Line<'s>>::new(), Vec::new());
        for descriptor in &question.descriptors {
            let amount = descriptor.hits.unwrap_or(question.hits).max(1);
            let Some((line, says)) = self.line(descriptor, amount)? else {
                return Ok(None);
            };
            let same = |other: &Line<'_>| {
                (other.grant, other.client) == (line.grant, line.client)
                    && other.debit.allowance == line.debit.allowance
            };
            if lines.iter().any(same) {
                return Err(AskFault::Form("a limit that is asked for twice"));
            }
            if let Reservation::Settles(reservation, used) = says {
                settled.push(Reserved {
                    grant: line.grant,
                    client: line.client,
                    debit: line.debit,
                    reservation,
                    used,
                });
            }
            lines.push(line);
        }
        match (lines.len(), settled.len()) {
            (0, _) => Err(AskFault::Form("a question that asks for nothing")),
            (_, 0) => Ok(Some(Asked::Charge(lines))),
            (asked, all) if asked == all => Ok(Some(Asked::Settle(settled))),
            _ => Err(AskFault::Form("a question that spends and settles")),
        }
    }

    fn line<'s>(
        &'s self,
        descriptor: &'s Descriptor,
        amount: u64,
    ) -> Result<Option<(Line<'s>, Reservation<'s>)>, AskFault> {
        const FORM: AskFault = AskFault::Form("a descriptor is a limit and a client");
        let [(limit_key, limit), (client_key, client), more @ ..] = descriptor.entries.as_slice()
        else {
            return Err(FORM);
        };
        if (limit_key.as_str(), client_key.as_str()) != (LIMIT_KEY, CLIENT_KEY) {
            return Err(FORM);
        }
        let says = reservation(more).ok_or(FORM)?;
        let Some((id, allowance)) = self.by_name.get(limit) else {
            return Ok(None);
        };
        let grant = self.policy.grant(*id);
        let known = self.policy.client_id(client);
        let Some(grant) = grant.filter(|grant| {
            known.is_some_and(|client| grant.clients().binary_search(&client).is_ok())
                && descriptor.takes(allowance)
        }) else {
            return Ok(None);
        };
        if !allowance.is_reserved() && !matches!(says, Reservation::None) {
            return Err(AskFault::Form("a limit of which nothing is reserved"));
        }
        let line = Line {
            grant: grant.name(),
            client,
            debit: Debit {
                allowance: *allowance,
                amount,
            },
            reservation: match says {
                Reservation::Reserves(name) => Some(name),
                Reservation::None | Reservation::Settles(..) => None,
            },
        };
        Ok(Some((line, says)))
    }

    /// Who counts.
    pub const fn counter(&self) -> &Counter {
        &self.counter
    }
}

/// What the entries behind a limit and a client say; `None` for what gates do not write.
fn reservation(entries: &[(String, String)]) -> Option<Reservation<'_>> {
    match entries {
        [] => Some(Reservation::None),
        [(key, name)] if key == RESERVES_KEY => {
            is_reservation(name).then_some(Reservation::Reserves(name))
        }
        [(key, name), (used_key, used)] if key == SETTLES_KEY && used_key == USED_KEY => {
            let digits = !used.is_empty() && used.bytes().all(|byte| byte.is_ascii_digit());
            let used = digits.then(|| used.parse().ok()).flatten()?;
            is_reservation(name).then_some(Reservation::Settles(name, used))
        }
        _ => None,
    }
}

fn with_redis(service: &RateLimitService) -> Option<(&RateLimitService, &Rule)> {
    match service.counter() {
        Where::Redis(rule) => Some((service, rule)),
        Where::Endpoint { .. } => None,
    }
}
