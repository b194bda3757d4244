//! Anomaly rules in a running host: an alert is counted and recorded unless its rule is off, and a
//! reload switches rules.

use serde_json::{Value, json};

use crate::support::{policy, start, until};

/// The counter of the rule on requests for the management of a server.
const COUNTER: &str = "tensorgate_alerts_total{rule=\"management\"}";

#[tokio::test]
async fn a_rejected_request_for_management_is_an_alert_once_its_rule_is_on() {
    let mut policy = policy("http://127.0.0.1:9", json!({}), json!({}));
    policy["watch"] = json!({"off": ["management"]});
    let running = start(policy.clone()).await;
    let path = "/v2/repository/models/vec/load";
    let decisions = || {
        let lines = running.audited().into_iter();
        lines.filter(|line| line["type"] == "decision").count()
    };
    let answer = running.gate.call("POST", path, "{}").await;
    assert_eq!(answer.reason(), "not-an-inference-route");
    until("the record is written", || decisions() == 1).await;
    assert!(!running.metrics().contains(COUNTER));
    policy["watch"] = Value::Null;
    running.reload("00000000000000aa", &policy).await;
    running.gate.call("POST", path, "{}").await;
    let counted = format!("{COUNTER} 1\n");
    until("the alert is counted", || {
        running.metrics().contains(&counted)
    })
    .await;
    let alerts = || {
        let lines = running.audited().into_iter();
        lines
            .filter(|line| line["type"] == "alert")
            .collect::<Vec<_>>()
    };
    until("the alert is recorded", || !alerts().is_empty()).await;
    let [alert]: [Value; 1] = alerts().try_into().unwrap();
    assert_eq!(alert["rule"], "management");
    assert_eq!(alert["observed"], 1.0);
    assert!(alert["id"].as_str().unwrap().starts_with("alert-"));
    running.stop().await;
}
