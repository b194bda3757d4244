//! Every decision vector through the host's own decision, as the gate would have forwarded it.
//!
//! The gate tells the host who is calling. The host therefore cannot reproduce decisions that
//! depend only on a credential or a rate. Those vectors are skipped, and counted, so that the
//! exception cannot grow unnoticed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tensorgate_judge::request::{Allowed, DenialOrigin, Unspent, Verifier};
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::request::{CallerDigests, Operations, Proof, Proofs};
use tensorgate_policy::{Policy, Reason};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_vectors::{Driver, Expect, Lowered};
use tensorgate_wire::context::{Context, HEADER, Key};

use crate::VECTORS;
use crate::filters::{GENERATION, now_of};

/// What filters may have done with a request: nothing, or every check and charge that they make
/// where headers are forwarded before the body.
const WORK: [FilterWork; 2] = [
    FilterWork {
        counts: false,
        checks: false,
        buffered: false,
        leaves_charge: false,
        max_body_bytes: 0,
    },
    FilterWork {
        counts: true,
        checks: true,
        buffered: false,
        leaves_charge: false,
        max_body_bytes: u64::MAX,
    },
];

/// The header fields that the gate removes before it signs.
const CREDENTIALS: [&[u8]; 2] = [b"x-api-key", b"authorization"];

fn key() -> Key {
    Key::from_hex(&("5a".repeat(31) + "f0")).unwrap()
}

/// The context that the gate would sign.
fn context(vector: &Lowered) -> Context {
    let token = |(name, _): &(Vec<u8>, Vec<u8>)| name.eq_ignore_ascii_case(b"authorization");
    let kind = if vector.request.headers.iter().any(token) {
        Proof::Jwt
    } else {
        Proof::ApiKey
    };
    Context {
        client: vector.client.clone(),
        credential: Some("key:0123456789abcdef".to_owned()),
        proofs: Proofs::NONE.with(kind),
        withheld: Operations::default(),
        request_id: "8f1a2b3c-0000-4000-8000-000000000001".to_owned(),
        method: vector.request.method.clone(),
        path: vector.request.path.clone(),
        generation: GENERATION.to_owned(),
        issued_unix_s: vector.now_unix_s,
        until_unix_s: None,
        work: FilterWork::default(),
        quotas: Vec::new(),
        claims: claims(vector),
        caller: CallerDigests::default(),
    }
}

/// The claims that the gate would have read from the token.
fn claims(vector: &Lowered) -> Vec<(String, String)> {
    let claims = vector.headers.iter();
    claims
        .filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
        .collect()
}

/// Whether the host can reach a vector's verdict by itself.
fn seen_by_the_host(vector: &Lowered) -> bool {
    let credentials: Vec<_> = vector
        .request
        .headers
        .iter()
        .filter(|(name, _)| is_credential(name))
        .collect();
    // A path so long that no context holds it: the gate never signs it.
    let signable = Context::verify(
        &context(vector).sign(&key()),
        &key(),
        &vector.request.method,
        &vector.request.path,
        vector.now_unix_s,
        0,
    );
    match vector.expect {
        // The case writes the credential out itself, so the driver does not know its client.
        Expect::Allow => vector.client.is_some() || credentials.is_empty(),
        Expect::Deny {
            reason:
                Reason::Unauthenticated | Reason::LockedOut | Reason::RateLimited | Reason::CostExceeded,
            ..
        } => false,
        // The gate removes credentials: neither two of them nor a very long one arrive.
        Expect::Deny {
            reason: Reason::AmbiguousRequest | Reason::HeaderTooLarge,
            ..
        } => {
            signable.is_ok()
                && !vector.id.starts_with("credentials/")
                && credentials.len() < 2
                && credentials.iter().all(|(_, value)| value.len() < 256)
        }
        Expect::Deny { .. } => true,
    }
}

fn is_credential(name: &[u8]) -> bool {
    CREDENTIALS
        .iter()
        .any(|credential| credential.eq_ignore_ascii_case(name))
}

/// The error in the host's decision, if any.
fn check(policy: &Arc<Policy>, vector: &Lowered) -> Option<String> {
    (WORK.into_iter()).find_map(|work| check_behind(policy, vector, work))
}

/// The same behind filters that have done this work.
fn check_behind(policy: &Arc<Policy>, vector: &Lowered, work: FilterWork) -> Option<String> {
    let judge = Verifier::new(Arc::clone(policy), GENERATION.to_owned(), key());
    let now = now_of(vector);
    let mut fields = vector.request.fields();
    fields.retain(|(name, _)| !is_credential(name));
    let context = Context {
        work,
        ..context(vector)
    };
    fields.push((
        HEADER.as_bytes().to_vec(),
        context.sign(&key()).into_bytes(),
    ));
    let body = vector.request.body.clone();
    let judged = judge.verify(&fields, Bytes::from(body), now.unix_s, &Unspent(now));
    let (expected, field) = match &vector.expect {
        Expect::Allow => (None, &None),
        Expect::Deny { reason, field } => (Some(*reason), field),
    };
    match judged {
        Ok(allowed) if expected.is_none() => {
            shadow(vector, &allowed).or_else(|| passed_on(vector, &allowed))
        }
        Ok(_) => Some(format!("{}: expected {expected:?}, allowed", vector.id)),
        Err(refused) => {
            // Every filter judges heads. No filter judges the messages of a stream.
            let is_expected = match refused.origin {
                DenialOrigin::Disagreement => true,
                DenialOrigin::FirstCheck => !work.checks || vector.request.is_stream(),
                _ => false,
            };
            let same = expected == Some(refused.denial.reason)
                && is_expected
                && (field.is_none() || *field == refused.denial.field);
            (!same).then(|| format!("{}: expected {expected:?}, got {refused:?}", vector.id))
        }
    }
}

/// The error in what the host notes as in shadow mode, if any. Nothing is spent before, so it can
/// only note values.
fn shadow(vector: &Lowered, allowed: &Allowed) -> Option<String> {
    let mut expected = vector.shadow.clone()?;
    expected.retain(|reason| matches!(reason, Reason::NotFinite | Reason::OutOfRange));
    let noted: Vec<Reason> = match allowed {
        Allowed::Server(..) => Vec::new(),
        Allowed::Model(request) => request.shadowed.iter().map(|it| it.reason).collect(),
        Allowed::Stream(requests) => {
            let shadowed = requests.iter().flat_map(|it| &it.shadowed);
            shadowed.map(|it| it.reason).collect()
        }
    };
    (noted != expected).then(|| format!("{}: in shadow {expected:?}, noted {noted:?}", vector.id))
}

/// The error in what is sent to a backend beside the message, if any.
fn passed_on(vector: &Lowered, allowed: &Allowed) -> Option<String> {
    let Allowed::Model(request) = allowed else {
        return None;
    };
    let fields = request.claims.iter().map(|(name, value)| {
        let value = value.to_str().unwrap_or_default();
        (name.to_string(), value.to_owned())
    });
    vector.wrong_headers(&fields.collect::<Vec<_>>())
}

#[test]
fn the_host_decides_every_vector_that_it_can_see_as_written() {
    let vectors: Vec<&Lowered> = VECTORS
        .iter()
        .filter(|vector| vector.runs_on(Driver::Host))
        .collect();
    let (seen, left): (Vec<_>, Vec<_>) = vectors
        .iter()
        .copied()
        .partition(|vector| seen_by_the_host(vector));
    assert!(seen.len() >= 80, "{} vectors", seen.len());
    assert!(
        left.len() * 4 <= vectors.len(),
        "{} of {} vectors are left out",
        left.len(),
        vectors.len()
    );
    let mut policies = BTreeMap::new();
    let mut wrong = Vec::new();
    for vector in seen {
        let policy = policies.entry(&vector.policy_file).or_insert_with(|| {
            let raw: raw::Policy = serde_json::from_str(&vector.policy_json).unwrap();
            Arc::new(validate::validate(&raw).unwrap().0)
        });
        wrong.extend(check(policy, vector));
    }
    assert!(
        wrong.is_empty(),
        "{} of {} vectors:\n{}",
        wrong.len(),
        vectors.len(),
        wrong.join("\n")
    );
}
