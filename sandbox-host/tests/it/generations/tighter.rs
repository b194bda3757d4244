//! Policy versions that only take something away from a held version. They wait for nothing, no
//! file can prevent them, and clients that they remove stay out when the version is given up.

use std::sync::Arc;

use serde_json::{Value, json};
use tensorgate_client::pki::Authority;
use tensorgate_host::policy_store::policy_versions::LoadOutcome;

use super::support::backend::{Act, Backend};
use super::support::{GENERATION, Running, admin, policy, start, start_with};
use super::{NEXT, THIRD, check, two};

const BOTH: [&str; 2] = ["scorer", "other"];

impl Running {
    async fn statuses(&self, generation: &str) -> [u16; 2] {
        let [scorer, other] = BOTH.map(|client| self.infer_as(client, generation, &[1.0]));
        [scorer.await.status, other.await.status]
    }
}

#[tokio::test]
async fn a_tightening_waits_for_no_load_and_supersedes_earlier_ones() {
    let backend = Backend::start(Act::Answer);
    let running = Arc::new(start(two(&backend, &BOTH, 100.0)).await);
    running.ready().await;
    // Another load that takes long before its policy is in force.
    let turn = running.host.reloader().hold().await;
    let (whole, beside) = (two(&backend, &BOTH, 50.0), Arc::clone(&running));
    let loading = tokio::spawn(async move { beside.reload(THIRD, &whole).await });
    let mut changes = running.host.app().policy_versions.changes();
    changes.wait_for(|count| *count > 0).await.unwrap();
    let less = two(&backend, &["scorer"], 100.0);
    let attempt = running.tighten(NEXT, GENERATION, &less).await;
    assert_eq!(
        (attempt.outcome, attempt.faults),
        (LoadOutcome::Loaded, vec![])
    );
    assert_eq!(running.statuses(GENERATION).await, [200, 401]);
    assert_eq!(running.statuses(NEXT).await, [200, 401]);
    drop(turn);
    let given_up = loading.await.unwrap();
    assert_eq!(given_up.outcome, LoadOutcome::Refused);
    assert!(
        given_up.faults[0].contains("a later bundle revokes access"),
        "{given_up:?}"
    );
    let status = running.generations().await;
    assert_eq!(
        (&status["serving"], &status["attempts"]),
        (&json!(NEXT), &json!(1))
    );
    assert_eq!(status["last"]["generation"], NEXT);
    Arc::into_inner(running).unwrap().stop().await;
}

#[tokio::test]
async fn an_unusable_file_does_not_delay_a_tightening() {
    let authority = Authority::new("ours").unwrap();
    let with = |clients: &[&str]| {
        let uri = "https://127.0.0.1:9";
        let mut policy = policy(uri, json!({}), json!({"tls": {"ca": "ca.pem"}}));
        let client = |(name, byte): (&&str, &str)| {
            let key = json!({"api_keys": [{"sha256": byte.repeat(32)}]});
            ((*name).to_owned(), key)
        };
        let clients_by_name = clients.iter().zip(["03", "04"]).map(client);
        policy["clients"] = Value::Object(clients_by_name.collect());
        policy["grants"][0]["clients"] = json!(clients);
        policy
    };
    let running = start_with(with(&BOTH), &[("ca.pem", authority.pem.as_bytes())]).await;
    running.replace("ca.pem", "junk");
    let less = with(&["scorer"]);
    let refused = running.reload(NEXT, &less).await;
    assert_eq!(refused.outcome, LoadOutcome::Refused);
    assert!(refused.faults[0].contains("ca.pem"), "{refused:?}");
    let loaded = running.tighten(NEXT, GENERATION, &less).await;
    assert_eq!(
        (loaded.outcome, loaded.faults),
        (LoadOutcome::Loaded, vec![])
    );
    check(
        &running.infer_as("other", NEXT, &[1.0]).await,
        401,
        "unauthenticated",
    );
    running.stop().await;
}

#[tokio::test]
async fn a_client_removed_by_a_tightening_stays_out_when_it_is_given_up() {
    let backend = Backend::start(Act::Answer);
    let all = two(&backend, &BOTH, 100.0);
    let running = start(all.clone()).await;
    running.ready().await;
    let less = two(&backend, &["scorer"], 100.0);
    running.tighten(NEXT, GENERATION, &less).await;
    // The filter could not apply it: the version before is restored, except for the removed
    // clients.
    let back = running.tighten(GENERATION, GENERATION, &all).await;
    assert_eq!(back.outcome, LoadOutcome::Loaded);
    assert_eq!(running.generations().await["serving"], GENERATION);
    assert_eq!(running.statuses(GENERATION).await, [200, 401]);
    // The same after a whole policy that could not be loaded either.
    let wider = running.reload(THIRD, &two(&backend, &BOTH, 50.0)).await;
    assert_eq!(wider.outcome, LoadOutcome::Loaded);
    running.tighten(GENERATION, GENERATION, &all).await;
    assert_eq!(running.statuses(GENERATION).await, [200, 401]);
    // It is requested as it is.
    let whole = running.reload(GENERATION, &all).await;
    assert_eq!(whole.outcome, LoadOutcome::Unchanged);
    assert_eq!(running.statuses(GENERATION).await, [200, 200]);
    running.stop().await;
}

#[tokio::test]
async fn a_tightening_that_adds_something_is_rejected() {
    let backend = Backend::start(Act::Answer);
    let running = start(two(&backend, &BOTH, 100.0)).await;
    running.ready().await;
    let mut other = two(&backend, &["scorer"], 100.0);
    other["backends"]["b"]["queue"] = json!(7);
    let refused = running.tighten(NEXT, GENERATION, &other).await;
    assert_eq!(refused.outcome, LoadOutcome::Refused);
    assert!(refused.faults[0].contains("backend \"b\""), "{refused:?}");
    assert_eq!(running.generations().await["serving"], GENERATION);
    assert_eq!(
        running.statuses(GENERATION).await,
        [200, 401],
        "out all the same"
    );
    // For a version that is not held it is a bundle like any other.
    let loaded = running.tighten(NEXT, THIRD, &other).await;
    assert_eq!(loaded.outcome, LoadOutcome::Loaded);
    running.stop().await;
}

#[tokio::test]
async fn the_state_of_the_policys_files_is_reported() {
    let backend = Backend::start(Act::Answer);
    let running = start(two(&backend, &BOTH, 100.0)).await;
    let shown = async || {
        let status = running.generations().await;
        let (_, metrics) = admin(running.host.admin(), "/metrics").await;
        let count = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        let counts = [
            "tensorgate_policy_held ",
            "tensorgate_policy_revocations_held ",
        ]
        .map(count);
        (
            status["held"].clone(),
            status["revocations_held"].clone(),
            counts,
        )
    };
    let none = ["0".to_owned(), "0".to_owned()];
    assert_eq!(shown().await, (json!([]), Value::Null, none.clone()));
    let held = json!([{"file": "/etc/gate.yaml", "why": "line 3"}]);
    let said = json!({"policy": "/etc/gate.yaml", "held": held, "revocations_held": "no room"});
    running.replace("sources.json", &said.to_string());
    let one = ["1".to_owned(), "1".to_owned()];
    assert_eq!(shown().await, (held, json!("no room"), one));
    running.replace("sources.json", "{");
    assert_eq!(shown().await, (json!([]), Value::Null, none));
    running.stop().await;
}
