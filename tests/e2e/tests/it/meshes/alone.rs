//! One of our filters alone behind `jwt_authn`: it does its own checks and those of no other
//! filter. And a configuration with a fault.

use serde_json::{Value, json};
use tensorgate_tests::programs::program;

use super::mesh::{Mesh, before, manager, meshed, upstream};
use super::{CONTEXT_KEY, GOOD, KNOWN, UNKNOWN, of_the_mesh, policy, send};

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
    GOOD.replace("[1, 2]", "[1, 2, 3]")
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
            (KNOWN, GOOD, ok),
            (UNKNOWN, GOOD, rejected),
            ("invalid", GOOD, rejected),
            // Another filter would judge this content.
            (KNOWN, &wrong, ok),
            (KNOWN, GOOD, ok),
            (KNOWN, GOOD, limited),
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
            (KNOWN, GOOD, ok),
            (KNOWN, &wrong, size),
            (UNKNOWN, GOOD, rejected),
            ("invalid", GOOD, rejected),
            // Far more than one request a month.
            (KNOWN, GOOD, ok),
            (KNOWN, GOOD, ok),
        ],
    )
    .await;
}

/// A policy with two faults, both of which are reported.
fn faulty(policy: &mut Value) {
    policy["grants"][0]["models"][0] = json!("digitz");
    policy["models"]["vec"]["inputs"][0]["datatype"] = json!("FP33");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_fault_is_in_envoys_log_as_check_reports_it() {
    let whole = serde_json::to_value(policy::vectors_policy("main.json")).unwrap();
    let mut broken = whole.clone();
    faulty(&mut broken);
    for chain in ["gate", "tensor-guard"] {
        let mut file = None;
        let log = Mesh::refused(
            &format!("{chain}-faulty"),
            &whole,
            chain,
            Some(CONTEXT_KEY),
            |bootstrap, folder| {
                // This is what an edit of the rendered configuration could do.
                let filter = &mut manager(bootstrap)["http_filters"][0];
                let configuration = &mut filter["typed_config"]["config"]["configuration"]["value"];
                let mut bundle: Value =
                    serde_json::from_str(configuration.as_str().unwrap()).unwrap();
                faulty(&mut bundle["policy"]);
                *configuration = json!(bundle.to_string());
                let broken_file = folder.join("broken.yaml");
                std::fs::write(&broken_file, broken.to_string()).unwrap();
                file = Some(broken_file);
            },
        )
        .await;
        let told = tokio::process::Command::new(program("tensorgate"))
            .args(["--json", "check"])
            .arg(file.unwrap())
            .output()
            .await
            .unwrap();
        assert!(!told.status.success());
        let told = [told.stdout, told.stderr].concat();
        let told = String::from_utf8(told).unwrap();
        let faults: Vec<Value> = told
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|fault: &Value| fault["severity"] == "error")
            .collect();
        assert_eq!(faults.len(), 2, "{told}");
        for fault in faults {
            let text = |name: &str| fault[name].as_str().unwrap().to_owned();
            let line = format!(
                "tensorgate: configuration: {}: {} ({})",
                text("path"),
                text("message"),
                text("fix")
            );
            assert!(log.contains(&line), "{line}: {log}");
        }
    }
}
