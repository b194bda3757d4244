//! The decision vectors through filters and the host behind them. Which of them judges a body must
//! not change a decision: filters judge bodies up to a bound, and the host judges each body.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tensorgate_conformance::verdict;
use tensorgate_filter_core::filter::Filter;
use tensorgate_filter_core::host::Field;
use tensorgate_in_memory_proxy::played::{Played, close, deliver};
use tensorgate_in_memory_proxy::{InMemoryProxy, RequestOutcome, Store};
use tensorgate_judge::request::{
    Allowed, Counted, Counters, DenialOrigin, DeniedRequest, Verifier,
};
use tensorgate_limits::{InFlight, LocalLimits, LocalReservation, Spent};
use tensorgate_policy::decision::{Acquire, AcquireOutcome};
use tensorgate_policy::{Charge, Denial, HeaderMode, Now, Policy, Protocol, Reason};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_vectors::{Driver, Expect, Lowered};
use tensorgate_wire::context::Key;

use crate::VECTORS;
use crate::filters::{ARRIVALS, Arrival, CONTEXT_KEY, GENERATION, bundle, now_of, shared};

/// The header mode and the filters.
type Loaded = (HeaderMode, &'static [Filter]);

const LOADED: [Loaded; 4] = [
    (HeaderMode::Hold, &[Filter::Gate]),
    (HeaderMode::Hold, &Filter::THREE),
    (HeaderMode::Forward, &[Filter::Gate]),
    (HeaderMode::Forward, &Filter::THREE),
];

/// The settings of `listen` that say who judges bodies. No policy of the vectors buffers more than
/// the default, so `judge: envoy` is the same here. The last one leaves longer bodies to the host.
const SETTINGS: [&str; 3] = [DEFAULT, HOST, r#"{"judge_bytes": 200}"#];

/// Filters judge all bodies that they may buffer.
const DEFAULT: &str = "{}";
/// Filters judge none.
const HOST: &str = r#"{"judge": "host"}"#;

/// The small chunks that a filter passes on before the host answers. The host answers nothing here.
const MAX_SMALL_CHUNKS: usize = 2_048;

/// The counters of a host that counts shared limits itself.
pub struct CountersOfOneHost {
    limits: LocalLimits,
    now: Now,
    made: Mutex<Vec<Charge>>,
    reserved: Mutex<Vec<LocalReservation>>,
    in_flight: Arc<InFlight>,
}

impl CountersOfOneHost {
    pub fn new(now: Now) -> Self {
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

    /// Number of charges so far, for contents or for requests.
    fn count(&self, of_content: bool) -> usize {
        let made = self.made.lock().unwrap();
        let is_of_kind = |charge: &&Charge| charge.is_of_content() == of_content;
        made.iter().filter(is_of_kind).count()
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

/// What the host decides about a forwarded request: what is denied in shadow mode only, or its
/// denial.
fn judge(
    verifier: &Verifier,
    counters: &CountersOfOneHost,
    headers: &[Field],
    body: &[u8],
) -> Result<Vec<Denial>, Box<DeniedRequest>> {
    let body = Bytes::copy_from_slice(body);
    match verifier.verify(headers, body, counters.now.unix_s, counters)? {
        Allowed::Model(request) => Ok(request.shadowed),
        Allowed::Stream(requests) => Ok(requests.into_iter().flat_map(|it| it.shadowed).collect()),
        Allowed::Server(..) => Ok(Vec::new()),
    }
}

fn verifier(policy_json: &str) -> Verifier {
    let raw: raw::Policy = serde_json::from_str(policy_json).unwrap();
    let policy: Arc<Policy> = Arc::new(validate::validate(&raw).unwrap().0);
    let key = Key::from_hex(CONTEXT_KEY).unwrap();
    Verifier::new(policy, GENERATION.to_owned(), key)
}

/// The policy with these settings of `listen`.
fn with_settings(policy_json: &str, settings: &str) -> String {
    let mut policy: Value = serde_json::from_str(policy_json).unwrap();
    let settings: Map<String, Value> = serde_json::from_str(settings).unwrap();
    for (name, value) in settings {
        policy["listen"][name.as_str()] = value;
    }
    policy.to_string()
}

/// A proxy with a host behind its filters.
fn configure((headers, filters): Loaded, policy_json: &str) -> InMemoryProxy {
    let (bundle, key) = (bundle(policy_json), Some(CONTEXT_KEY));
    let proxy = InMemoryProxy::chain_in(headers, filters, bundle.as_bytes(), key, Store::default());
    proxy.unwrap_or_else(|faults| panic!("{headers:?} {filters:?}: {faults:?}"))
}

/// Whether filters and their host decide a vector as filters alone do. A filter checks contents
/// before the host counts what is in flight. Vectors about that order do not name Envoy.
fn is_for_both(vector: &Lowered) -> bool {
    let by_permits = matches!(
        vector.expect,
        Expect::Deny {
            reason: Reason::Concurrency,
            ..
        }
    );
    let is_by_order = by_permits && !vector.request.is_stream() && !vector.runs_on(Driver::Envoy);
    vector.runs_on(Driver::Native) && !is_by_order
}

/// How a vector's body arrives. Who judges it does not depend on that, so other settings than the
/// default are played once.
fn arrivals(vector: &Lowered, settings: &str) -> Vec<Arrival> {
    let is_played = |arrival: &Arrival| settings == DEFAULT || *arrival == Arrival::AsWritten;
    let is_short = |arrival: &Arrival| {
        !vector.request.is_stream() || arrival.request(vector).body.len() <= MAX_SMALL_CHUNKS
    };
    let arrivals = ARRIVALS.into_iter();
    arrivals
        .filter(|arrival| arrival.is_for(vector) && is_played(arrival) && is_short(arrival))
        .collect()
}

#[test]
fn filters_and_their_host_decide_every_vector_as_written() {
    check_all(&LOADED, &SETTINGS, str::to_owned, is_for_both, arrivals);
}

#[test]
fn global_limits_behind_filters_decide_as_local_ones() {
    let takes = |vector: &Lowered| {
        let is_single = vector.used.is_none() && !vector.request.is_stream();
        is_for_both(vector) && is_single
    };
    // The other arrivals differ in what a filter does with a piece, and who counts sees no piece.
    let arrivals = |_: &Lowered, _: &str| vec![Arrival::AsWritten, Arrival::Pieces(7)];
    check_all(&LOADED, &[DEFAULT], shared, takes, arrivals);
}

fn check_all(
    loaded: &[Loaded],
    settings: &[&str],
    policy: fn(&str) -> String,
    takes: fn(&Lowered) -> bool,
    arrivals: fn(&Lowered, &str) -> Vec<Arrival>,
) {
    let (mut played, mut wrong) = (0, Vec::new());
    for settings in settings {
        let mut verifiers = BTreeMap::new();
        for loaded in loaded {
            let mut proxies = BTreeMap::new();
            for vector in VECTORS.iter().filter(|vector| takes(vector)) {
                let policy_json = || with_settings(&policy(&vector.policy_json), settings);
                let file = &vector.policy_file;
                let verifier = verifiers
                    .entry(file)
                    .or_insert_with(|| verifier(&policy_json()));
                let proxy = proxies
                    .entry(file)
                    .or_insert_with(|| configure(*loaded, &policy_json()));
                for arrival in arrivals(vector, settings) {
                    played += 1;
                    let proxy = proxy.restarted().unwrap();
                    if let Some(fault) = check(proxy, vector, arrival, verifier) {
                        let id = &vector.id;
                        wrong.push(format!("{settings} {loaded:?} {arrival:?} {id}: {fault}"));
                    }
                }
            }
        }
    }
    let least = 200 * loaded.len() * settings.len();
    assert!(played >= least, "only {played} were played");
    assert!(
        wrong.is_empty(),
        "{} of {played} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// The error in the decision on the last repetition of a vector, if any.
fn check(
    mut proxy: InMemoryProxy,
    vector: &Lowered,
    arrival: Arrival,
    verifier: &Verifier,
) -> Option<String> {
    let counters = CountersOfOneHost::new(now_of(vector));
    let request = arrival.request(vector);
    arrival.prepare(&mut proxy);
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
    if !played.logged.asked.is_empty() {
        return Some("a filter asked the rate-limit service".to_owned());
    }
    let (headers, body) = match &played.outcome {
        Some(RequestOutcome::Forwarded { headers, body }) => (headers, body),
        Some(RequestOutcome::Denied(answer)) => {
            let wrong = verdict::compare(vector, &verdict::received(answer)).err();
            return wrong.or_else(|| wrong_shadow(vector, played, &[]));
        }
        None => return Some("no outcome".to_owned()),
    };
    if *body != vector.request.body {
        return Some("another body was forwarded".to_owned());
    }
    let judged = judge(verifier, counters, headers, body);
    if let (Ok(_), Some(tokens)) = (&judged, vector.used) {
        counters.settle(tokens);
    }
    match (&vector.expect, judged) {
        (Expect::Allow, Ok(shadowed)) => wrong_shadow(vector, played, &shadowed)
            .or_else(|| vector.wrong_headers(&played.upstream())),
        (Expect::Deny { reason, .. }, Ok(_)) => Some(format!("expected {reason}, allowed")),
        (Expect::Allow, Err(denied)) => Some(format!("expected allow, got {denied:?}")),
        (Expect::Deny { reason, field }, Err(denied)) => {
            let denial = &denied.denial;
            let is_same = *reason == denial.reason && (field.is_none() || *field == denial.field);
            let disagrees = denied.origin == DenialOrigin::Disagreement;
            (!is_same || disagrees)
                .then(|| format!("expected {reason} of {field:?}, got {denied:?}"))
                .or_else(|| wrong_shadow(vector, played, &denied.body.shadowed))
        }
    }
}

/// The error in what filters and host note as in shadow mode, if any. Each notes what it judges or
/// counts, and some denials are noted by both.
fn wrong_shadow(vector: &Lowered, played: &Played, by_host: &[Denial]) -> Option<String> {
    let mut expected = vector.shadow.clone()?;
    let by_filters = played.logged.shadowed.iter();
    let mut noted: Vec<Reason> = by_filters
        .filter_map(|name| Reason::from_name(name))
        .collect();
    noted.extend(by_host.iter().map(|denial| denial.reason));
    for reasons in [&mut expected, &mut noted] {
        reasons.sort();
        reasons.dedup();
    }
    (noted != expected).then(|| format!("in shadow {expected:?}, noted {noted:?}"))
}

/// An inference of the vectors about costs by this protocol.
fn inference(protocol: Protocol) -> &'static Lowered {
    let mut vectors = VECTORS.iter();
    let vector = vectors.find(|vector| {
        let is_plain = vector.request.protocol == protocol && !vector.request.is_stream();
        let is_unsplit = !vector.request.body.is_empty() && vector.request.chunk_bytes.is_none();
        let is_allowed = vector.expect == Expect::Allow && vector.runs_on(Driver::Native);
        vector.id.starts_with("costs/") && is_plain && is_unsplit && is_allowed
    });
    vector.unwrap()
}

/// The policy of a vector in which each grant has one limit on requests and one on elements.
fn limited(vector: &Lowered, scope: &str) -> String {
    let mut policy: Value = serde_json::from_str(&vector.policy_json).unwrap();
    policy["rate_limit_service"] = json!({"redis": {"url": "redis://127.0.0.1"}});
    for grant in policy["grants"].as_array_mut().unwrap() {
        let grant = grant.as_object_mut().unwrap();
        grant.remove("budget");
        let rate = json!({"quota": 2, "window_s": 86_400, "scope": scope});
        grant.insert("rate".to_owned(), rate);
        let cost = json!({"elements": 1_000_000, "window_s": 86_400, "scope": scope});
        grant.insert("cost".to_owned(), cost);
    }
    // Without a limit that is shared, the service has no effect.
    if scope == "local" {
        policy.as_object_mut().unwrap().remove("rate_limit_service");
    }
    policy.to_string()
}

#[test]
fn each_limit_is_charged_once_by_filters_or_by_the_host() {
    // The path of REST names the model, and the body of gRPC does.
    for (protocol, in_body) in [(Protocol::OipRest, false), (Protocol::OipGrpc, true)] {
        let vector = inference(protocol);
        for (scope, settings) in [
            ("local", DEFAULT),
            ("local", HOST),
            ("global", DEFAULT),
            ("global", HOST),
        ] {
            // The host charges what filters may not wait for, and what they do not read.
            let is_of_host = scope == "global" || (in_body && settings == HOST);
            let policy_json = with_settings(&limited(vector, scope), settings);
            for loaded in LOADED {
                let name = format!("{} {scope} {settings} {loaded:?}", vector.id);
                let (reasons, counters) = thrice(vector, loaded, &policy_json);
                let expected = [None, None, Some(Reason::RateLimited)];
                assert_eq!(reasons, expected, "{name}");
                let by_host = if is_of_host { 3 } else { 0 };
                assert_eq!(counters.count(false), by_host, "{name}");
                assert_eq!(counters.count(true), 2, "{name}");
            }
        }
    }
}

/// Plays a request three times: the reasons of its denials, and what the host has counted.
fn thrice(
    vector: &Lowered,
    loaded: Loaded,
    policy_json: &str,
) -> ([Option<Reason>; 3], CountersOfOneHost) {
    let verifier = verifier(policy_json);
    let mut proxy = configure(loaded, policy_json);
    let counters = CountersOfOneHost::new(now_of(vector));
    let reasons = [(); 3].map(|()| {
        let mut stream = proxy.open(counters.now);
        deliver(&mut stream, &Arrival::AsWritten.request(vector));
        let played = close(stream);
        assert!(played.logged.asked.is_empty(), "{loaded:?}");
        match &played.outcome {
            Some(RequestOutcome::Forwarded { headers, body }) => {
                let judged = judge(&verifier, &counters, headers, body);
                judged.err().map(|denied| denied.denial.reason)
            }
            _ => played.reason(),
        }
    });
    (reasons, counters)
}
