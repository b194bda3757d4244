//! One of our filters alone behind `jwt_authn`: it does its own checks and those of no other
//! filter. And a configuration that no filter loads.

use super::mesh::{Mesh, before, edit_compiled, meshed, upstream};
use super::{CONTEXT_KEY, KNOWN, UNKNOWN, VALID, of_the_mesh, policy, send};

/// A token, a body, and the expected status and reason.
type Asked<'a> = (&'a str, &'a str, (u16, Option<&'a str>));

/// Sends requests in turn to one filter behind `jwt_authn` and compares the answers. Every allowed
/// request reaches the server behind.
async fn check(chain: &str, quota: u64, asked: &[Asked<'_>]) {
    let policy = serde_json::to_value(of_the_mesh(quota)).unwrap();
    let (behind, seen) = upstream().await;
    let name = format!("{chain}-alone");
    let mesh = Mesh::start(&name, &policy, chain, None, |bootstrap, _| {
        meshed(bootstrap, &[&format!("tensorgate.{chain}")]);
        before(bootstrap, behind);
    })
    .await;
    let mut passed = 0;
    for (at, (token, body, expected)) in asked.iter().enumerate() {
        let bearer = ("authorization", format!("Bearer {token}"));
        let (status, reason) = send(mesh.gate, &[bearer], body).await;
        assert_eq!((status, reason.as_deref()), *expected, "{chain}: {at}");
        passed += usize::from(status == 200);
    }
    let heads = seen.lock().unwrap().clone();
    assert_eq!(heads.len(), passed, "{heads:?}");
    for head in heads {
        assert!(!head.contains("x-tensorgate-"), "{head}");
    }
}

/// As long as a valid body, because the server behind waits for that length.
fn wrong() -> String {
    VALID.replace("[1, 2]", "[1, 2, 3]")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rate_limit_alone_counts_requests_without_reading_bodies() {
    let (wrong, ok) = (wrong(), (200, None));
    let limited = (429, Some("rate-limited"));
    let rejected = (401, Some("unauthenticated"));
    check(
        "rate-limit",
        3,
        &[
            (KNOWN, VALID, ok),
            (UNKNOWN, VALID, rejected),
            ("invalid", VALID, rejected),
            // Another filter would judge this content.
            (KNOWN, &wrong, ok),
            (KNOWN, VALID, ok),
            (KNOWN, VALID, limited),
            (KNOWN, &wrong, limited),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tensor_guard_alone_validates_tensors_without_counting() {
    let (wrong, ok) = (wrong(), (200, None));
    let size = (400, Some("size-mismatch"));
    let rejected = (401, Some("unauthenticated"));
    check(
        "tensor-guard",
        1,
        &[
            (KNOWN, VALID, ok),
            (KNOWN, &wrong, size),
            (UNKNOWN, VALID, rejected),
            ("invalid", VALID, rejected),
            // Far more than one request a month.
            (KNOWN, VALID, ok),
            (KNOWN, VALID, ok),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_of_another_release_or_damaged_is_named_so_in_envoys_log() {
    type Edit = fn(Vec<u8>) -> Vec<u8>;
    let edits: [(&str, Edit, &str); 3] = [
        (
            "another-release",
            |mut compiled| {
                compiled[15] ^= 1;
                compiled
            },
            "bundle: was compiled by another release",
        ),
        (
            "damaged",
            |mut compiled| {
                compiled.truncate(compiled.len() / 2);
                compiled
            },
            "bundle: is damaged (bytes are missing or changed): render it again",
        ),
        (
            "written",
            |_| b"{\"generation\": \"g\"}".to_vec(),
            "bundle: is not a compiled policy",
        ),
    ];
    let whole = serde_json::to_value(policy::vectors_policy("main.json")).unwrap();
    for (name, edit, expected) in edits {
        let log = Mesh::refused(name, &whole, "gate", Some(CONTEXT_KEY), |bootstrap, _| {
            edit_compiled(bootstrap, edit);
        })
        .await;
        let line = format!("tensorgate: configuration: {expected}");
        assert!(log.contains(&line), "{line}: {log}");
    }
}
