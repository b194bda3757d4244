//! Anomaly rules in a running host: an alert is counted and recorded unless its rule is off, and a
//! reload switches rules. Rules on values see those of real requests.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::{Value, json};
use tensorgate_audit::RecordListener;
use tensorgate_audit::record::Event;
use tensorgate_policy::contract::NearBounds;
use tensorgate_policy::release::TopClass;
use tensorgate_watch::Observation;

use crate::support::backend::{Act, Backend};
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

/// What rules see of each request.
#[derive(Default)]
struct Summaries(Mutex<Vec<Observation>>);

impl RecordListener for Summaries {
    fn written(&self, events: &[(SystemTime, Event)]) {
        let seen = events.iter().map(|(_, event)| event);
        let seen = seen.filter_map(Observation::from_event);
        self.0.lock().unwrap().extend(seen);
    }
}

/// What rules see of the values of two requests, whose responses have the same values.
async fn values_seen(watch: Value) -> Vec<(Option<TopClass>, Option<NearBounds>)> {
    let backend = Backend::start(Act::Answer);
    let mut policy = policy(&backend.uri(), json!({}), json!({}));
    policy["watch"] = watch;
    policy["models"]["vec"]["outputs"][0]["role"] = json!("class-scores");
    let running = start(policy).await;
    let summaries = Arc::new(Summaries::default());
    let audit = running.host.app().outcomes.audit();
    audit.listen(Arc::<Summaries>::clone(&summaries));
    for x in [[1.0, 3.0], [99.0, 33.0]] {
        let answer = running.gate.infer(&x).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let seen = || summaries.0.lock().unwrap().clone();
    until("both are recorded", || seen().len() == 2).await;
    running.stop().await;
    let values = seen().into_iter();
    values.map(|it| (it.top_class, it.near_bounds)).collect()
}

#[tokio::test]
async fn rules_see_classes_and_values_near_bounds_unless_they_are_off() {
    let top_class = |class| {
        Some(TopClass {
            class,
            confidence: 750_000,
        })
    };
    let near_bounds = |near| Some(NearBounds { inputs: 1, near });
    let both = [
        (top_class(1), near_bounds(0)),
        (top_class(0), near_bounds(1)),
    ];
    assert_eq!(values_seen(json!({})).await, both);
    let neither = [(None, None), (None, None)];
    assert_eq!(values_seen(json!({"enabled": false})).await, neither);
}
