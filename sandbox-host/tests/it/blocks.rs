//! Blocked clients in running hosts: a block is in force within a second, ends by itself or by an
//! operator, and an alert begins one within bounds.

use std::time::{Duration, Instant};

use serde_json::json;
use tensorgate_watch::blocks::{BlockAction, BlockFile, BlockRecord};
use tensorgate_wire::context::Context;

use crate::support::{
    PATIENCE, Running, admin, context, folder, key, now_unix_s, policy, settings, start, until,
};

/// The file that operators write.
pub(crate) const FILE: &str = "blocks.json";
/// What is requested: an answer of the host itself.
const PATH: &str = "/v2";
/// An hour.
pub(crate) const HOUR_MS: u64 = 3_600_000;

/// The reason for which a request of a client is denied, or `ok`.
async fn outcome_of(running: &Running, context: &Context) -> String {
    let signed = [context.sign(&key())];
    let answer = running.gate.send("GET", PATH, &signed, "").await;
    match answer.status {
        200 => "ok".to_owned(),
        _ => answer.reason(),
    }
}

/// Waits until a request of `scorer` has an outcome. Returns how long that took.
pub(crate) async fn until_outcome(running: &Running, expected: &str) -> Duration {
    let started = Instant::now();
    loop {
        let found = outcome_of(running, &context("GET", PATH)).await;
        if found == expected {
            return started.elapsed();
        }
        assert!(started.elapsed() < PATIENCE, "{found}, not {expected}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A record of an operator about `scorer`.
pub(crate) fn record(lasts_ms: u64, earlier: Option<&BlockRecord>) -> BlockRecord {
    let now_ms = now_unix_s() * 1_000;
    let record = BlockRecord::new("scorer", BlockAction::Block, lasts_ms, earlier, now_ms);
    record.made_by("user 1000".to_owned(), "odd requests")
}

/// A file with one record.
pub(crate) fn file(record: &BlockRecord) -> String {
    let file = BlockFile {
        blocks: vec![record.clone()],
    };
    serde_json::to_string(&file).unwrap()
}

/// The lines about blocks in a host's audit log: client, state and cause.
fn recorded(running: &Running) -> Vec<[String; 3]> {
    let lines = running.audited().into_iter();
    let lines = lines.filter(|line| line["type"] == "block");
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    lines
        .map(|line| ["client", "state", "by"].map(|field| text(&line[field])))
        .collect()
}

#[tokio::test]
async fn a_block_is_in_force_within_a_second_until_it_is_lifted() {
    let running = start(policy("http://127.0.0.1:9", json!({}), json!({}))).await;
    until_outcome(&running, "ok").await;
    let (mut earlier, mut least) = (None, PATIENCE);
    // On a busy machine one attempt may take longer.
    for _ in 0..3 {
        let block = record(HOUR_MS, earlier.as_ref());
        running.replace(FILE, &file(&block));
        least = least.min(until_outcome(&running, "blocked").await);
        let lifted = record(0, Some(&block));
        running.replace(FILE, &file(&lifted));
        until_outcome(&running, "ok").await;
        earlier = Some(lifted);
    }
    assert!(least < Duration::from_secs(1), "{least:?}");
    until("the changes are recorded", || recorded(&running).len() == 6).await;
    let lines = recorded(&running);
    assert_eq!(lines[0], ["scorer", "blocked", "user 1000"]);
    assert_eq!(lines[1], ["scorer", "lifted", "user 1000"]);
    running.stop().await;
}

#[tokio::test]
async fn a_block_ends_by_itself_and_other_clients_are_served() {
    let mut policy = policy("http://127.0.0.1:9", json!({}), json!({}));
    policy["clients"]["other"] = json!({"api_keys": [{"sha256": "04".repeat(32)}]});
    let running = start(policy).await;
    running.replace(FILE, &file(&record(3_000, None)));
    until_outcome(&running, "blocked").await;
    let other = Context {
        client: Some("other".to_owned()),
        credential: Some("key:0404040404040404".to_owned()),
        ..context("GET", PATH)
    };
    assert_eq!(outcome_of(&running, &other).await, "ok");
    let (status, listed) = admin(running.host.admin(), "/blocks").await;
    assert_eq!(status, 200);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["blocks"][0]["block"]["client"], "scorer");
    until_outcome(&running, "ok").await;
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_list_leaves_the_last_one_in_force_and_prevents_a_start() {
    let policy = policy("http://127.0.0.1:9", json!({}), json!({}));
    let running = start(policy.clone()).await;
    running.replace(FILE, &file(&record(HOUR_MS, None)));
    until_outcome(&running, "blocked").await;
    running.replace(FILE, "{\"blocks\": [");
    let unreadable = || {
        let metrics = running.metrics();
        metrics.contains("tensorgate_blocks_unreadable 1\n")
    };
    until("the damage is shown", unreadable).await;
    until_outcome(&running, "blocked").await;
    // A list without the record does not lift the block.
    running.replace(FILE, "{\"blocks\": []}");
    until("the list is read", || !unreadable()).await;
    until_outcome(&running, "blocked").await;
    running.stop().await;

    let folder = folder();
    std::fs::write(folder.join(FILE), "{").unwrap();
    let started =
        tensorgate_host::Host::start(settings(policy, &folder), std::sync::Arc::new(|| 0));
    let fault = started.await.err().unwrap().to_string();
    assert!(fault.contains("list of blocked clients"), "{fault}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn alerts_block_clients_with_grants_and_beyond_the_bound_they_wait() {
    let mut policy = policy("http://127.0.0.1:9", json!({}), json!({}));
    policy["clients"]["other"] = json!({"api_keys": [{"sha256": "04".repeat(32)}]});
    policy["clients"]["without-grant"] = json!({"api_keys": [{"sha256": "05".repeat(32)}]});
    policy["grants"][0]["clients"] = json!(["scorer", "other"]);
    policy["watch"] = json!({"on_alert": {"management": "block"}});
    let running = start(policy).await;
    let path = "/v2/repository/models/vec/load";
    // It comes first, and takes no room of those with a grant.
    let without_grant = Context {
        client: Some("without-grant".to_owned()),
        credential: Some("key:0505050505050505".to_owned()),
        ..context("POST", path)
    };
    let signed = [without_grant.sign(&key())];
    running.gate.send("POST", path, &signed, "{}").await;
    running.gate.call("POST", path, "{}").await;
    until_outcome(&running, "blocked").await;
    let other = Context {
        client: Some("other".to_owned()),
        credential: Some("key:0404040404040404".to_owned()),
        ..context("POST", path)
    };
    let signed = [other.sign(&key())];
    running.gate.send("POST", path, &signed, "{}").await;
    until("the bound is reached", || {
        let metrics = running.metrics();
        metrics.contains("tensorgate_blocks_beyond_total 1\n")
    })
    .await;
    let other = Context {
        method: "GET".to_owned(),
        path: PATH.to_owned(),
        ..other
    };
    assert_eq!(outcome_of(&running, &other).await, "ok");
    until("the block is recorded", || !recorded(&running).is_empty()).await;
    assert_eq!(
        recorded(&running),
        [["scorer", "blocked", "rule management"]]
    );

    let known = running.host.app().blocks.listed().remove(0).block;
    running.replace(FILE, &file(&record(0, Some(&known))));
    until_outcome(&running, "ok").await;
    until("the alert about the other client is answered", || {
        let blocks = &running.host.app().blocks;
        blocks.check_stream(Some("other")).is_some()
    })
    .await;
    running.stop().await;
}
