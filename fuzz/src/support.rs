//! Shared by several targets: policies, frames and the properties of every rejection.

use std::sync::LazyLock;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use tensorgate_policy::policy::{RemainingQuota, Wait};
use tensorgate_policy::{Denial, Policy, Reason};
use tensorgate_policy_compiler::raw;
use tensorgate_policy_compiler::validate::validate;

/// The policy of most decision vectors.
pub const MAIN: &str = include_str!("../../policy/vectors/policies/main.json");
/// A policy with rates.
pub const RATES: &str = include_str!("../../policy/vectors/policies/rates.json");
/// A policy with costs and budgets.
pub const COSTS: &str = include_str!("../../policy/vectors/policies/costs.json");
/// A policy with bodies that a handler receives unchanged.
pub const RAW: &str = include_str!("../../policy/vectors/policies/raw.json");

/// A policy with keys of other systems.
pub const FOREIGN_KEYS: &str = include_str!("../../policy/vectors/policies/foreign-keys.json");
/// A policy whose contracts restrict tensor contents.
pub const CONTENTS: &str = include_str!("../../policy/vectors/policies/contents.json");

/// A policy with a guardrail.
pub const GUARDRAIL: &str = include_str!("../../policy/vectors/policies/guardrail.json");

/// The context key of the gates.
pub const CONTEXT_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// The clock of the vectors, Unix seconds.
pub const NOW_UNIX_S: u64 = 1_780_000_000;

/// Keys of clients `scorer` and `reader` in [`MAIN`].
pub const KEYS: [&str; 2] = [
    "tg_CwxHlR3Jb1XAodAjZuNn3xtnKDe3qv01B",
    "tg_TtTHMgYQYmvZD2QccflxUG1FZFv4E2wWJ",
];

/// The policies, validated.
pub static POLICIES: LazyLock<[Policy; 5]> =
    LazyLock::new(|| [MAIN, RATES, RAW, COSTS, CONTENTS].map(policy));

/// A policy from its JSON.
pub fn policy(json: &str) -> Policy {
    let raw: raw::Policy = serde_json::from_str(json).expect("a policy of the vectors");
    validate(&raw).expect("a valid policy").0
}

/// A bundle of one of the policies.
pub fn bundle(policy: &str) -> Vec<u8> {
    format!(r#"{{"generation": "0123456789abcdef", "policy": {policy}}}"#).into_bytes()
}

/// What a limit has left.
pub fn remaining_quota(data: &mut Unstructured<'_>) -> Result<RemainingQuota> {
    Ok(RemainingQuota {
        left: data.arbitrary()?,
        full_after_ns: data.arbitrary()?,
        wait: match data.int_in_range(0..=2_u8)? {
            0 => Wait::None,
            1 => Wait::Ns(data.arbitrary()?),
            _ => Wait::Forever,
        },
    })
}

/// One gRPC frame.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len())
        .expect("a fuzzer's input is small")
        .to_be_bytes();
    [&[0][..], &length, message].concat()
}

/// Checks a decoder's rejection: its reason is the decoder's, and its field is one line of bounded
/// length.
pub fn check_body_denial(denial: &Denial) {
    assert!(
        matches!(
            denial.reason,
            Reason::Malformed
                | Reason::DuplicateKey
                | Reason::TooDeep
                | Reason::UnsupportedEncoding
        ),
        "{denial:?}"
    );
    assert!(
        !denial.cause.is_empty() && denial.cause.len() < 4096,
        "{denial:?}"
    );
    if let Some(field) = &denial.field {
        assert!(
            field.len() < 4096 && !field.contains(char::is_control),
            "{field:?}"
        );
    }
}
