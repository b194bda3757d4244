//! The decision vectors about costs through a filter and the host behind it. The filter counts
//! requests, and the host counts their contents.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tensorgate_filter_core::filter::Filter;
use tensorgate_judge::request::{Allowed, Counted, Counters, Verifier};
use tensorgate_limits::{LocalLimits, LocalReservation, Spent};
use tensorgate_native_proxy::RequestOutcome;
use tensorgate_native_proxy::played::{close, deliver};
use tensorgate_policy::{Charge, Denial, HeaderMode, Now, Policy, Reason, raw, validate};
use tensorgate_vectors::{Driver, Expect, Lowered};
use tensorgate_wire::context::{Context, HEADER, Key};

use crate::VECTORS;
use crate::filters::{
    Arrival, Behind, CONTEXT_KEY, GENERATION, configure, counts_contents, now_of,
};

/// The counters of a host that counts shared limits itself.
struct CountersOfOneHost {
    limits: LocalLimits,
    now: Now,
    made: Mutex<Vec<Charge>>,
    reserved: Mutex<Vec<LocalReservation>>,
}

impl CountersOfOneHost {
    fn new(now: Now) -> Self {
        Self {
            limits: LocalLimits::new(Spent::Known, now),
            now,
            made: Mutex::default(),
            reserved: Mutex::default(),
        }
    }

    /// Ends a request that used so many tokens.
    fn settle(&self, tokens: u64) {
        let reserved = std::mem::take(&mut *self.reserved.lock().unwrap());
        self.limits.settle(reserved, tokens, self.now);
    }
}

impl Counters for CountersOfOneHost {
    fn charge(&self, charge: &Charge) -> Counted {
        let (outcome, reserved) = self.limits.charge(charge, self.now);
        self.made.lock().unwrap().push(charge.clone());
        self.reserved.lock().unwrap().extend(reserved);
        Counted::Done(outcome)
    }
}

/// What the host decides about a forwarded request: what is denied in shadow mode only, or the
/// reason and the field of its denial.
fn judge(
    verifier: &Verifier,
    counters: &CountersOfOneHost,
    outcome: RequestOutcome,
) -> Result<Vec<Denial>, (Reason, Option<String>)> {
    let RequestOutcome::Forwarded { headers, body } = outcome else {
        panic!("the filter denied: {outcome:?}");
    };
    let body = Bytes::from(body);
    match verifier.verify(&headers, body, counters.now.unix_s, counters) {
        Ok(Allowed::Model(request)) => Ok(request.shadowed),
        Ok(Allowed::Stream(requests)) => {
            Ok(requests.into_iter().flat_map(|it| it.shadowed).collect())
        }
        Ok(Allowed::Server(..)) => Ok(Vec::new()),
        Err(denied) => Err((denied.denial.reason, denied.denial.field)),
    }
}

fn verifier(policy: Arc<Policy>) -> Verifier {
    let key = Key::from_hex(CONTEXT_KEY).unwrap();
    Verifier::new(policy, GENERATION.to_owned(), key)
}

fn policy(vector: &Lowered) -> Arc<Policy> {
    let raw: raw::Policy = serde_json::from_str(&vector.policy_json).unwrap();
    Arc::new(validate::validate(&raw).unwrap().0)
}

#[test]
fn a_filter_and_its_host_decide_every_vector_about_costs_as_written() {
    let mut verifiers = BTreeMap::new();
    let (mut played, mut wrong) = (0, Vec::new());
    for vector in VECTORS
        .iter()
        .filter(|vector| vector.runs_on(Driver::Native) && counts_contents(vector))
    {
        let verifier = verifiers
            .entry(&vector.policy_file)
            .or_insert_with(|| verifier(policy(vector)));
        for filters in [&[Filter::Gate][..], &Filter::THREE] {
            played += 1;
            let got = last_of(vector, filters, verifier);
            let (expected, field) = match &vector.expect {
                Expect::Allow => (None, None),
                Expect::Deny { reason, field } => (Some(*reason), field.clone()),
            };
            let is_wrong = match &got {
                Ok(shadowed) => {
                    let noted = shadowed.iter().map(|denial| denial.reason);
                    let noted = noted.filter(|reason| *reason == Reason::CostExceeded);
                    let shadowed = vector.shadow.iter().flatten();
                    let shadowed = shadowed.filter(|reason| **reason == Reason::CostExceeded);
                    expected.is_some() || noted.count() != shadowed.count()
                }
                Err((reason, named)) => {
                    Some(*reason) != expected || (field.is_some() && *named != field)
                }
            };
            if is_wrong {
                let id = &vector.id;
                wrong.push(format!("{filters:?} {id}: expected {expected:?}, {got:?}"));
            }
        }
    }
    assert!(played >= 40, "only {played} were played");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The verdict on the last repetition of a vector.
fn last_of(
    vector: &Lowered,
    filters: &[Filter],
    verifier: &Verifier,
) -> Result<Vec<Denial>, (Reason, Option<String>)> {
    let behind = Behind::Host;
    let mut proxy = configure(behind, HeaderMode::Hold, filters, &vector.policy_json).unwrap();
    let counters = CountersOfOneHost::new(now_of(vector));
    let request = Arrival::AsWritten.request(vector);
    let mut last = None;
    for _ in 0..vector.repeat {
        let mut stream = proxy.open(counters.now);
        deliver(&mut stream, &request);
        let outcome = close(stream).outcome.unwrap();
        let judged = judge(verifier, &counters, outcome);
        if let (Ok(_), Some(tokens)) = (&judged, vector.used) {
            counters.settle(tokens);
        }
        last = Some(judged);
    }
    last.unwrap()
}

#[test]
fn each_limit_is_charged_by_the_filter_or_by_the_host() {
    let vector = VECTORS.iter().find(|vector| {
        let is_plain = !vector.request.is_stream() && vector.client.is_some();
        vector.runs_on(Driver::Native) && counts_contents(vector) && is_plain
    });
    let vector = vector.unwrap();
    let mut vector = vector.clone();
    let mut policy_json: serde_json::Value = serde_json::from_str(&vector.policy_json).unwrap();
    for grant in policy_json["grants"].as_array_mut().unwrap() {
        grant["rate"] = serde_json::json!({"quota": 100, "window_s": 60});
    }
    vector.policy_json = policy_json.to_string().into();
    let (headers, filters) = (HeaderMode::Hold, [Filter::Gate]);
    let mut proxy = configure(Behind::Host, headers, &filters, &vector.policy_json).unwrap();
    let counters = CountersOfOneHost::new(now_of(&vector));
    let mut stream = proxy.open(counters.now);
    deliver(&mut stream, &Arrival::AsWritten.request(&vector));
    let played = close(stream);
    let upstream = played.upstream();
    let (_, signed) = upstream.iter().find(|(name, _)| name == HEADER).unwrap();
    let (method, path) = (&vector.request.method, &vector.request.path);
    let key = Key::from_hex(CONTEXT_KEY).unwrap();
    let context = Context::verify(signed, &key, method, path, vector.now_unix_s, 0).unwrap();
    assert_eq!(context.quotas.len(), 1, "the rate, by the filter");
    let _ = judge(
        &verifier(policy(&vector)),
        &counters,
        played.outcome.unwrap(),
    );
    let made = counters.made.lock().unwrap();
    assert!(!made.is_empty(), "the costs, by the host");
    assert!(made.iter().all(Charge::is_of_content), "{made:?}");
}
