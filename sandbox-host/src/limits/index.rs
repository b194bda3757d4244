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
use tensorgate_wire::rate_limit::{CLIENT_KEY, Descriptor, LIMIT_KEY, Question};

use super::counter::{Counter, CounterFault, Line};
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
        Ok(Some(Arc::new(Self {
            domain: service.domain().to_owned(),
            by_name: by_name.collect(),
            counter: Counter::new(Arc::clone(&redis), service.domain().to_owned(), within),
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
    pub fn find<'s>(&'s self, question: &'s Question) -> Result<Option<Vec<Line<'s>>>, AskFault> {
        if question.domain != self.domain {
            return Ok(None);
        }
        if question.descriptors.is_empty() {
            return Err(AskFault::Form("a question that asks for nothing"));
        }
        let mut lines: Vec<Line<'s>> = Vec::new();
        for descriptor in &question.descriptors {
            let amount = descriptor.hits.unwrap_or(question.hits).max(1);
            let Some(line) = self.line(descriptor, amount)? else {
                return Ok(None);
            };
            let same = |other: &Line<'_>| {
                (other.grant, other.client) == (line.grant, line.client)
                    && other.debit.allowance == line.debit.allowance
            };
            if lines.iter().any(same) {
                return Err(AskFault::Form("a limit that is asked for twice"));
            }
            lines.push(line);
        }
        Ok(Some(lines))
    }

    fn line<'s>(
        &'s self,
        descriptor: &'s Descriptor,
        amount: u64,
    ) -> Result<Option<Line<'s>>, AskFault> {
        let [(limit_key, limit), (client_key, client)] = descriptor.entries.as_slice() else {
            return Err(AskFault::Form("a descriptor is a limit and a client"));
        };
        if (limit_key.as_str(), client_key.as_str()) != (LIMIT_KEY, CLIENT_KEY) {
            return Err(AskFault::Form("a descriptor is a limit and a client"));
        }
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
        Ok(Some(Line {
            grant: grant.name(),
            client,
            debit: Debit {
                allowance: *allowance,
                amount,
            },
        }))
    }

    /// Who counts.
    pub const fn counter(&self) -> &Counter {
        &self.counter
    }
}

fn with_redis(service: &RateLimitService) -> Option<(&RateLimitService, &Rule)> {
    match service.counter() {
        Where::Redis(rule) => Some((service, rule)),
        Where::Endpoint { .. } => None,
    }
}
