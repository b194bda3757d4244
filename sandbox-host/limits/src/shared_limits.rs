//! The shared limits of a policy, by the names that gates use in their queries.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use tensorgate_policy::Policy;
use tensorgate_policy::decision::LimitCharge;
use tensorgate_policy::policy::{
    Allowance, Counter as Where, GrantId, RateLimitService, Redis as Rule,
};
use tensorgate_wire::rate_limit::{CLIENT_KEY, Descriptor, LIMIT_KEY, RateLimitRequest};

use super::counter::{Counter, CounterCharge, CounterFault};
use super::redis::{ConnectFault, Redis, RedisFault, Settings};
use super::shared_blocks::{self, SharedBlock, SharedBlockList};

/// The shared limits of a policy, and the counter for them.
pub struct SharedLimits {
    policy: Arc<Policy>,
    domain: String,
    by_name: HashMap<String, (GrantId, Allowance)>,
    rule: Rule,
    redis: Arc<Redis>,
    counter: Counter,
}

/// The margin for late timers and for responses after the end of a stream.
const LATE_MARGIN: Duration = Duration::from_secs(5);

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryFault {
    #[error("no policy in this host has the requested limits, or limits as strict")]
    Unknown,
    #[error("{0}")]
    Form(&'static str),
    #[error(transparent)]
    Counter(#[from] CounterFault),
}

impl SharedLimits {
    /// The shared limits of a policy, if it uses Redis. A connection of an older policy to the same
    /// Redis is reused.
    ///
    /// # Errors
    /// Returns an error if the Redis settings cannot be used.
    pub fn from_policy(
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
        // A reservation is settled before the longest stream ends.
        let longest = Duration::from_millis(policy.listen().limits().stream_ms);
        let keeps = longest.saturating_add(LATE_MARGIN);
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

    /// Resolves a query under this policy. Returns `None` if the policy lacks a limit of the query,
    /// or has a looser one than the gate. The gate then has an older policy, and an older one that
    /// is still loaded applies.
    ///
    /// # Errors
    /// Returns an error if the query does not have the form that gates use.
    pub fn resolve<'s>(
        &'s self,
        question: &'s RateLimitRequest,
    ) -> Result<Option<Vec<CounterCharge<'s>>>, QueryFault> {
        if question.domain != self.domain {
            return Ok(None);
        }
        let mut lines = Vec::<CounterCharge<'s>>::new();
        for descriptor in &question.descriptors {
            let amount = descriptor.hits.unwrap_or(question.hits).max(1);
            let Some(line) = self.limit_charge(descriptor, amount)? else {
                return Ok(None);
            };
            let same = |other: &CounterCharge<'_>| {
                (other.grant, other.client) == (line.grant, line.client)
                    && other.debit.allowance == line.debit.allowance
            };
            if lines.iter().any(same) {
                return Err(QueryFault::Form("a limit that is requested twice"));
            }
            lines.push(line);
        }
        match lines.is_empty() {
            true => Err(QueryFault::Form("a request without limits")),
            false => Ok(Some(lines)),
        }
    }

    fn limit_charge<'s>(
        &'s self,
        descriptor: &'s Descriptor,
        amount: u64,
    ) -> Result<Option<CounterCharge<'s>>, QueryFault> {
        const FORM: QueryFault = QueryFault::Form("a descriptor must be a limit and a client");
        let [(limit_key, limit), (client_key, client)] = descriptor.entries.as_slice() else {
            return Err(FORM);
        };
        if (limit_key.as_str(), client_key.as_str()) != (LIMIT_KEY, CLIENT_KEY) {
            return Err(FORM);
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
        Ok(Some(CounterCharge {
            grant: grant.name(),
            client,
            debit: LimitCharge {
                allowance: *allowance,
                amount,
            },
            // Only the host reserves, for its own charges.
            reservation: None,
        }))
    }

    /// Adds records to the list of blocked clients of this policy's domain, and returns the list.
    ///
    /// # Errors
    /// Returns an error if Redis failed, timed out, or gave an impossible answer.
    pub async fn exchange_blocks(
        &self,
        records: &[SharedBlock],
    ) -> Result<SharedBlockList, RedisFault> {
        shared_blocks::exchange(&self.redis, &self.domain, records).await
    }

    /// Whether there is a connection to Redis.
    pub fn is_up(&self) -> bool {
        self.redis.is_up()
    }

    /// The address of Redis.
    pub fn address(&self) -> String {
        format!("{}:{}", self.rule.host(), self.rule.port())
    }

    /// The counter.
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
