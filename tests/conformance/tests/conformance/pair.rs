//! The decision vectors through a filter and the host behind it, as far as the host decides: costs,
//! permits of models, and streams. The filter judges the head of a stream and passes its messages
//! on, which the host judges.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tensorgate_conformance::verdict;
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::host::Field;
use tensorgate_judge::request::{Allowed, Counted, Counters, Verifier};
use tensorgate_limits::{InFlight, LocalLimits, LocalReservation, Spent};
use tensorgate_native_proxy::played::{Played, close, deliver};
use tensorgate_native_proxy::{NativeProxy, RequestOutcome};
use tensorgate_policy::decision::{Acquire, AcquireOutcome};
use tensorgate_policy::{Charge, Denial, HeaderMode, Now, Policy, Reason, raw, validate};
use tensorgate_vectors::{Driver, Expect, Lowered};
use tensorgate_wire::context::{Context, HEADER, Key};

use crate::VECTORS;
use crate::filters::{
    ARRIVALS, Arrival, Behind, CONTEXT_KEY, GENERATION, configure, counts_contents, needs_host,
    now_of,
};

/// The header mode and the filters.
const LOADED: [(HeaderMode, &[Filter]); 4] = [
    (HeaderMode::Hold, &[Filter::Gate]),
    (HeaderMode::Hold, &Filter::THREE),
    (HeaderMode::Forward, &[Filter::Gate]),
    (HeaderMode::Forward, &Filter::THREE),
];

/// The small chunks that a filter passes on before the host answers. The host answers nothing here.
const MAX_SMALL_CHUNKS: usize = 2_048;

/// The counters of a host that counts shared limits itself.
struct CountersOfOneHost {
    limits: LocalLimits,
    now: Now,
    made: Mutex<Vec<Charge>>,
    reserved: Mutex<Vec<LocalReservation>>,
    in_flight: Arc<InFlight>,
}

impl CountersOfOneHost {
    fn new(now: Now) -> Self {
        Self {
            limits: LocalLimits::new(Spent::Known, now),
            now,
            made: Mutex::default(),
            reserved: Mutex::default(),
            in_flight: Arc::default(),
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

    /// Each request and each message is answered before the next one, so the permits are released.
    fn acquire(&self, acquire: &Acquire) -> AcquireOutcome {
        match self.in_flight.acquire(acquire) {
            Ok(_) => AcquireOutcome::Acquired,
            Err(refused) => refused,
        }
    }
}

/// What the host decides about a forwarded request: what is denied in shadow mode only, or the
/// reason and the field of its denial.
fn judge(
    verifier: &Verifier,
    counters: &CountersOfOneHost,
    headers: &[Field],
    body: &[u8],
) -> Result<Vec<Denial>, (Reason, Option<String>)> {
    let body = Bytes::copy_from_slice(body);
    match verifier.verify(headers, body, counters.now.unix_s, counters) {
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

/// Whether a host decides a vector. The others that a native driver plays are decided by filters.
fn is_for_host(vector: &Lowered) -> bool {
    // With a host, what denies a request first is not always what denies it without one. Vectors
    // for filters alone do not name Envoy.
    let with_host = vector.request.is_stream() || vector.runs_on(Driver::Envoy);
    let is_decided = counts_contents(vector) || (needs_host(vector) && with_host);
    vector.runs_on(Driver::Native) && is_decided
}

/// How a vector's body arrives.
fn arrivals(vector: &Lowered) -> Vec<Arrival> {
    if !vector.request.is_stream() {
        return vec![Arrival::AsWritten];
    }
    let is_short = |arrival: &Arrival| arrival.request(vector).body.len() <= MAX_SMALL_CHUNKS;
    let arrivals = ARRIVALS.into_iter();
    arrivals
        .filter(|arrival| arrival.is_for(vector) && is_short(arrival))
        .collect()
}

#[test]
fn a_filter_and_its_host_decide_costs_permits_and_streams_as_written() {
    let mut verifiers = BTreeMap::new();
    let (mut streams, mut others, mut wrong) = (0, 0, Vec::new());
    for (headers, filters) in LOADED {
        let mut proxies = BTreeMap::new();
        for vector in VECTORS.iter().filter(|vector| is_for_host(vector)) {
            let is_stream = vector.request.is_stream();
            // Verdicts follow a body whose head is forwarded first. The proxy in memory reads them.
            if headers == HeaderMode::Forward && !is_stream {
                continue;
            }
            let file = &vector.policy_file;
            let verifier = verifiers
                .entry(file)
                .or_insert_with(|| verifier(policy(vector)));
            let proxy = proxies.entry(file).or_insert_with(|| {
                configure(Behind::Host, headers, filters, &vector.policy_json).unwrap()
            });
            for arrival in arrivals(vector) {
                if is_stream {
                    streams += 1;
                } else {
                    others += 1;
                }
                let proxy = proxy.restarted().unwrap();
                if let Some(fault) = check(proxy, vector, arrival, verifier) {
                    let id = &vector.id;
                    wrong.push(format!("{headers:?} {filters:?} {arrival:?} {id}: {fault}"));
                }
            }
        }
    }
    assert!(
        streams >= 800 && others >= 40,
        "only {streams} streams and {others} others were played"
    );
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The error in the decision on the last repetition of a vector, if any.
fn check(
    mut proxy: NativeProxy,
    vector: &Lowered,
    arrival: Arrival,
    verifier: &Verifier,
) -> Option<String> {
    let counters = CountersOfOneHost::new(now_of(vector));
    let request = arrival.request(vector);
    let mut fault = None;
    for _ in 0..vector.repeat {
        let mut stream = proxy.open(counters.now);
        deliver(&mut stream, &request);
        fault = check_one(vector, &close(stream), &counters, verifier);
    }
    fault
}

fn check_one(
    vector: &Lowered,
    played: &Played,
    counters: &CountersOfOneHost,
    verifier: &Verifier,
) -> Option<String> {
    let (headers, body) = match &played.outcome {
        Some(RequestOutcome::Forwarded { headers, body }) => (headers, body),
        Some(RequestOutcome::Denied(answer)) if vector.request.is_stream() => {
            return verdict::compare(vector, &verdict::received(answer)).err();
        }
        other => return Some(format!("not forwarded: {other:?}")),
    };
    if vector.request.is_stream() && *body != vector.request.body {
        return Some("another body was forwarded".to_owned());
    }
    let judged = judge(verifier, counters, headers, body);
    if let (Ok(_), Some(tokens)) = (&judged, vector.used) {
        counters.settle(tokens);
    }
    match (&vector.expect, judged) {
        (Expect::Allow, Ok(shadowed)) => {
            wrong_shadow(vector, &shadowed).or_else(|| vector.wrong_headers(&played.upstream()))
        }
        (Expect::Deny { reason, .. }, Ok(_)) => Some(format!("expected {reason}, allowed")),
        (Expect::Allow, Err(denied)) => Some(format!("expected allow, got {denied:?}")),
        (Expect::Deny { reason, field }, Err((denied, named))) => {
            let same = *reason == denied && (field.is_none() || *field == named);
            (!same).then(|| format!("expected {reason} of {field:?}, got {denied} of {named:?}"))
        }
    }
}

/// The error in what the host notes as in shadow mode, if any. The filter notes everything about a
/// single request that it decides, and nothing about a message.
fn wrong_shadow(vector: &Lowered, shadowed: &[Denial]) -> Option<String> {
    let is_stream = vector.request.is_stream();
    let is_of_host = |reason: &Reason| is_stream || *reason == Reason::CostExceeded;
    let mut expected = vector.shadow.clone()?;
    expected.retain(is_of_host);
    let mut noted: Vec<_> = shadowed.iter().map(|denial| denial.reason).collect();
    noted.retain(is_of_host);
    noted.sort();
    (noted != expected).then(|| format!("in shadow {expected:?}, noted {noted:?}"))
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
    let Some(RequestOutcome::Forwarded { headers, body }) = &played.outcome else {
        panic!("the filter denied: {:?}", played.outcome);
    };
    let _ = judge(&verifier(policy(&vector)), &counters, headers, body);
    let made = counters.made.lock().unwrap();
    assert!(!made.is_empty(), "the costs, by the host");
    assert!(made.iter().all(Charge::is_of_content), "{made:?}");
}
