//! Fuzz target: the signed context. An unsigned one must never verify. A signed one must be read
//! back completely, and a change of any byte must be detected.

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use tensorgate_policy::decision::FilterWork;
use tensorgate_policy::policy::{RemainingQuota, Wait};
use tensorgate_policy::request::{CallerDigest, CallerDigests, HolderDigest, Operations, Proofs};
use tensorgate_wire::context::{Context, ContextFault, Key};

use crate::support::{CONTEXT_KEY, NOW_UNIX_S, remaining_quota};

/// Runs one input.
pub fn run(data: &[u8]) {
    let key = Key::from_hex(CONTEXT_KEY).expect("a key");
    let text = String::from_utf8_lossy(data);
    let forged = Context::verify(&text, &key, "POST", "/v2/models/m/infer", NOW_UNIX_S, 30);
    assert!(
        matches!(forged, Err(ContextFault::Form | ContextFault::Signature)),
        "an unsigned context was accepted: {forged:?}"
    );
    // Running out of input is not a finding.
    let _ = signed(&mut Unstructured::new(data), &key);
}

fn caller_digest(data: &mut Unstructured<'_>) -> Result<CallerDigest> {
    Ok(match data.int_in_range(0..=2)? {
        0 => CallerDigest::Unknown,
        1 => CallerDigest::Known(HolderDigest::new(data.arbitrary()?)),
        _ => CallerDigest::NotLimited,
    })
}

fn levels(data: &mut Unstructured<'_>) -> Result<Vec<RemainingQuota>> {
    let count = data.int_in_range(0..=2_usize)?;
    // They are sent in milliseconds.
    let in_ms = |ns: u64| ns - ns % 1_000_000;
    let quotas = (0..count).map(|_| {
        let quota = remaining_quota(data)?;
        Ok(RemainingQuota {
            full_after_ns: in_ms(quota.full_after_ns),
            wait: match quota.wait {
                Wait::Ns(wait_ns) => Wait::Ns(in_ms(wait_ns)),
                other => other,
            },
            ..quota
        })
    });
    quotas.collect()
}

fn signed(data: &mut Unstructured<'_>, key: &Key) -> Result<()> {
    let age = data.int_in_range(0..=40_u64)?;
    let change = (data.arbitrary::<u16>()?, data.arbitrary::<u8>()?);
    let context = Context {
        client: data.arbitrary()?,
        credential: data.arbitrary()?,
        proofs: Proofs::from_bits(data.int_in_range(0..=15)?).unwrap_or_default(),
        withheld: Operations::from_bits(data.int_in_range(0..=31)?).unwrap_or_default(),
        request_id: data.arbitrary()?,
        method: data.arbitrary()?,
        path: data.arbitrary()?,
        generation: data.arbitrary()?,
        issued_unix_s: NOW_UNIX_S - age,
        until_unix_s: data.arbitrary()?,
        work: FilterWork {
            counts: data.arbitrary()?,
            checks: data.arbitrary()?,
            buffered: data.arbitrary()?,
            leaves_charge: data.arbitrary()?,
            max_body_bytes: data.arbitrary()?,
        },
        quotas: levels(data)?,
        claims: (0..data.int_in_range(0..=16)?)
            .map(|_| data.arbitrary())
            .collect::<Result<_>>()?,
        caller: CallerDigests {
            user: caller_digest(data)?,
            source: caller_digest(data)?,
        },
    };
    let value = context.sign(key);
    let verify =
        |value: &str| Context::verify(value, key, &context.method, &context.path, NOW_UNIX_S, 30);
    match verify(&value) {
        Ok(read) => {
            assert!(age <= 30, "{age} s old");
            assert_eq!(read, context);
        }
        Err(ContextFault::Age) => assert!(age > 30),
        Err(ContextFault::Form) => assert!(value.len() > 12 << 10, "{value}"),
        Err(fault) => panic!("{fault}: {value}"),
    }
    let (at, byte) = (usize::from(change.0) % value.len(), change.1 & 0x7f);
    let mut changed = value.clone().into_bytes();
    if changed.get(at).is_some_and(|old| *old != byte) {
        changed.splice(at..=at, [byte]);
        let changed = String::from_utf8(changed).expect("one ASCII byte for another");
        assert!(verify(&changed).is_err(), "byte {at} of {value}");
    }
    Ok(())
}
