//! The gate's checks as an external service. It is the same code compiled for this machine, with
//! rate-limit buckets of its own. The figures show the cost of running the checks outside Envoy.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tensorgate_identity::{Evidence, Identifier, PureVerifier, TokenCache};
use tensorgate_policy::decision::{BodyPlan, FilterWork, decide_body, decide_head, decide_message};
use tensorgate_policy::request::{CallerDigests, Identity, RequestHash};
use tensorgate_policy::{
    Charge, ChargeOutcome, Compiled, Decision, Denial, Now, Policy, Reason, Step,
};
use tensorgate_wire::context::{Context, Key};
use tensorgate_wire::headers::ReadHead;
use tensorgate_wire::{addressee, decode, expand};

use crate::outcome::{Failure, Outcome};

/// A header field as Envoy sends it.
pub(super) type Field = (String, Vec<u8>);

/// A policy and its rate-limit buckets, for all requests of one process.
#[derive(Clone)]
pub(super) struct Checks(Arc<Mutex<State>>);

struct State {
    policy: Policy,
    identifier: Identifier,
    generation: String,
    key: Key,
    tokens: TokenCache,
    buckets: HashMap<String, Vec<u8>>,
    started: Instant,
}

/// An accepted head that waits for its body.
pub(super) struct Held {
    decision: Decision,
    plan: BodyPlan,
    context: Context,
}

impl Checks {
    /// Reads the output of `tensorgate render` and the key that signs contexts.
    pub(super) fn load(bundle: &Path, key: &Path) -> Outcome<Self> {
        let Compiled {
            generation, policy, ..
        } = Compiled::load(&std::fs::read(bundle)?)?;
        let key = Key::from_hex(&std::fs::read_to_string(key)?)
            .map_err(|fault| Failure::from(format!("the context key {fault}")))?;
        Ok(Self(Arc::new(Mutex::new(State {
            identifier: Identifier::new(&policy),
            policy,
            generation,
            key,
            tokens: TokenCache::default(),
            buckets: HashMap::new(),
            started: Instant::now(),
        }))))
    }

    /// Judges a head that a body follows.
    pub(super) fn head(&self, fields: &[Field]) -> Result<Held, Denial> {
        self.with(|state| state.head(fields))
    }

    /// Judges the body of an accepted head, and returns the signed context for the upstream.
    pub(super) fn body(&self, held: Held, body: &[u8]) -> Result<String, Denial> {
        self.with(|state| state.body(held, body))
    }

    fn with<T>(&self, judge: impl FnOnce(&mut State) -> Result<T, Denial>) -> Result<T, Denial> {
        let mut state = self
            .0
            .lock()
            .map_err(|_| overloaded("an earlier check request failed"))?;
        judge(&mut state)
    }
}

impl State {
    fn now(&self) -> Now {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Now {
            unix_s: since.map_or(0, |since| since.as_secs()),
            monotonic_ns: u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }

    fn head(&mut self, fields: &[Field]) -> Result<Held, Denial> {
        let now = self.now();
        let read = ReadHead::read(fields, false);
        let identified = self.identifier.identify(
            &Evidence::of(read.credential),
            now.unix_s,
            &self.generation,
            &mut PureVerifier,
            &mut self.tokens,
        );
        let client = match &identified.identity {
            Identity::Client(client) => Some(client.clone()),
            _ => None,
        };
        let mut context = Context {
            client: client.map(Into::into),
            credential: identified.credential.map(Into::into),
            proofs: identified.proofs,
            withheld: identified.withheld,
            request_id: read.request_id.to_owned(),
            method: read.method.to_owned(),
            path: read.path.to_string(),
            generation: self.generation.clone(),
            issued_unix_s: now.unix_s,
            until_unix_s: None,
            work: FilterWork {
                counts: true,
                checks: true,
                buffered: true,
                leaves_charge: false,
                max_body_bytes: u64::MAX,
            },
            quotas: Vec::new(),
            claims: (identified.claims.iter())
                .map(|(name, value)| (name.to_string(), value.clone()))
                .collect(),
            caller: CallerDigests::default(),
        };
        let mut head = read.into_head(identified.identity, self.policy.templates());
        (head.proofs, head.withheld) = (identified.proofs, identified.withheld);
        head.request_hash = RequestHash::from_request_id(&context.request_id);
        let buckets = &mut self.buckets;
        let (decision, step) =
            decide_head(&self.policy, &head, |charge| spend(buckets, charge, now));
        context.proofs = decision.proofs();
        match step {
            Step::ReadBody(plan) => Ok(Held {
                decision,
                plan,
                context,
            }),
            Step::Deny(denial) => Err(denial),
            _ => Err(overloaded("only inference requests are checked here")),
        }
    }

    fn body(&mut self, held: Held, body: &[u8]) -> Result<String, Denial> {
        let Held {
            mut decision,
            plan,
            mut context,
        } = held;
        let now = self.now();
        let (policy, buckets) = (&self.policy, &mut self.buckets);
        if body.len() > plan.max_bytes {
            return Err(Denial::new(Reason::BodyTooLarge, "the body is too large"));
        }
        let plain = expand(&plan, body)?;
        let to = addressee(plan.format, &plain)?;
        match decide_body(&mut decision, policy, body.len(), to, |charge| {
            spend(buckets, charge, now)
        }) {
            Step::Decode => {}
            Step::Deny(denial) => return Err(denial),
            _ => return Err(overloaded("the decision took an unexpected step")),
        }
        let request = decode(plan.format, &plain, decision.read_by(policy))?;
        match decide_message(&mut decision, policy, &request, |charge| {
            spend(buckets, charge, now)
        }) {
            Step::Forward => {}
            Step::Deny(denial) => return Err(denial),
            _ => return Err(overloaded("the decision took an unexpected step")),
        }
        context.quotas = decision.request_quotas().collect();
        Ok(context.sign(&self.key))
    }
}

/// Charges this process's own buckets, which no other process shares.
fn spend(buckets: &mut HashMap<String, Vec<u8>>, charge: &Charge, now: Now) -> ChargeOutcome {
    let mut levels = Vec::with_capacity(charge.limit_charges.len());
    for limit_charge in &charge.limit_charges {
        let stored = buckets
            .entry(charge.key(limit_charge))
            .or_insert_with(|| limit_charge.allowance.fresh().into_vec());
        let Some(drawn) = limit_charge
            .allowance
            .consume(stored, now, limit_charge.amount)
        else {
            return ChargeOutcome::Failed;
        };
        let Some((level, after)) = drawn.after else {
            levels.push(drawn.before);
            return ChargeOutcome::Exceeded(levels);
        };
        *stored = after.into_vec();
        levels.push(level);
    }
    ChargeOutcome::Charged(levels)
}

fn overloaded(cause: &'static str) -> Denial {
    Denial::new(Reason::Overloaded, cause)
}
