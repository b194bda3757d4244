//! Blocks or throttles the client of an alert, if the policy says so. An alert about a source, a
//! model or a group never does: an address may be shared, and anyone may send from it.

use std::sync::Arc;

use tensorgate_policy::values::WatchRule;
use tensorgate_telemetry::metrics::Metrics;

use crate::alert::{Alert, Subject};
use crate::blocks::{BlockAction, BlockRecord, Blocks, Response};
use crate::report::AlertListener;

/// Answers alerts, those too that are only counted.
pub struct AlertResponder {
    blocks: Arc<Blocks>,
    metrics: Arc<Metrics>,
}

impl AlertResponder {
    /// Blocks and throttles in this list of clients.
    pub const fn new(blocks: Arc<Blocks>, metrics: Arc<Metrics>) -> Self {
        Self { blocks, metrics }
    }
}

impl AlertListener for AlertResponder {
    fn respond(&self, alert: &Alert) -> Option<String> {
        respond(alert, &self.blocks, &self.metrics)
    }
}

/// Answers an alert. Returns what was done, or why nothing was.
fn respond(alert: &Alert, blocks: &Blocks, metrics: &Metrics) -> Option<String> {
    let Subject::Client(client) = &alert.finding.subject else {
        return None;
    };
    let rule = WatchRule::from_name(alert.rule)?;
    let rule_name = rule.name();
    match blocks.respond(rule, client, &alert.finding.what) {
        // The follower logs what was taken.
        Response::Taken(record) => Some(effect(&record)),
        Response::InForce(record) => Some(format!("already {}", effect(&record))),
        Response::Notify => None,
        Response::NoGrant => Some("not blocked: it has no grant".to_owned()),
        Response::Waiting(most) => {
            metrics.blocks_beyond.inc();
            tracing::error!(
                rule = rule_name,
                client,
                most,
                "client not blocked yet: rules block the most clients that they may"
            );
            Some(format!(
                "not blocked before another block ends: rules block the most clients that they \
                 may, which is {most}"
            ))
        }
        Response::Beyond(most) => {
            metrics.blocks_beyond.inc();
            tracing::error!(
                rule = rule_name,
                client,
                most,
                "client not blocked: rules block the most clients that they may"
            );
            Some(format!(
                "not blocked: rules block the most clients that they may, which is {most}"
            ))
        }
        Response::Full => {
            tracing::error!(
                rule = rule_name,
                client,
                "client not blocked: the list of blocked clients is full"
            );
            Some("not blocked: the list of blocked clients is full".to_owned())
        }
        Response::Lifted => {
            tracing::warn!(
                rule = rule_name,
                client,
                "client not blocked: an operator has lifted its block"
            );
            Some("not blocked: an operator has lifted its block".to_owned())
        }
    }
}

/// What a record does to its client.
fn effect(record: &BlockRecord) -> String {
    let state = match record.action {
        BlockAction::Block => "blocked",
        BlockAction::Throttle => "throttled",
    };
    format!("{state} until {}", record.until())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::net::Ipv4Addr;
    use std::time::SystemTime;

    use serde_json::json;
    use tensorgate_policy_compiler::validate::validate;

    use super::*;
    use crate::alert::{AlertContext, Evidence, Finding};
    use crate::blocks::Responses;
    use crate::time::Time;

    fn alert(subject: Subject) -> Alert {
        Alert {
            rule: "rejections",
            finding: Finding {
                subject,
                since: Time::default(),
                evidence: Evidence {
                    observed: 30.0,
                    usual: 1.0,
                    unit: "rejections a minute",
                },
                what: "has far more requests rejected than usual".to_owned(),
                advice: "",
            },
            since: SystemTime::now(),
            is_logged: true,
            withheld: 0,
            response: None,
            context: AlertContext::default(),
        }
    }

    #[test]
    fn an_alert_about_a_client_blocks_it_and_no_source_or_group() {
        let tensor = json!({"name": "x", "datatype": "FP32", "shape": [1]});
        let policy = json!({
            "version": 1,
            "clients": {
                "web": {"api_keys": [{"sha256": "01".repeat(32)}]},
                "other": {"api_keys": [{"sha256": "02".repeat(32)}]},
                "without-grant": {"api_keys": [{"sha256": "03".repeat(32)}]}
            },
            "backends": {"gpu": {"kind": "embedded", "models": "models/"}},
            "models": {"m": {
                "backend": "gpu", "versions": ["1"], "protocols": ["oip-rest"],
                "inputs": [tensor], "outputs": [tensor]
            }},
            "grants": [{
                "name": "g", "clients": ["web", "other"], "models": ["m"], "operations": ["infer"]
            }],
            "watch": {"on_alert": {"rejections": "block"}}
        });
        let (policy, _) = validate(&serde_json::from_value(policy).unwrap()).unwrap();
        let (blocks, metrics) = (Blocks::new(Responses::from_policy(&policy)), Metrics::new());
        let source = Subject::Source(Ipv4Addr::LOCALHOST.into());
        let model = Subject::Model("web".to_owned());
        for subject in [source, model, Subject::Others, Subject::Gateway] {
            assert_eq!(respond(&alert(subject), &blocks, &metrics), None);
            assert!(blocks.listed().is_empty());
        }
        let client = |name: &str| Subject::Client(name.to_owned());
        for name in ["without-grant", "unknown"] {
            let done = respond(&alert(client(name)), &blocks, &metrics).unwrap();
            assert_eq!(done, "not blocked: it has no grant", "{name}");
        }
        let done = respond(&alert(client("web")), &blocks, &metrics).unwrap();
        assert!(done.starts_with("blocked until 2"), "{done}");
        let again = respond(&alert(client("web")), &blocks, &metrics).unwrap();
        assert_eq!(again, format!("already {done}"));
        assert!(blocks.check_request(Some("web")).is_some());
        assert_eq!(metrics.blocks_beyond.get(), 0);
        let beyond = respond(&alert(client("other")), &blocks, &metrics).unwrap();
        assert!(
            beyond.starts_with("not blocked before another block ends"),
            "{beyond}"
        );
        blocks.answer_waiting();
        assert_eq!(metrics.blocks_beyond.get(), 1);
        assert!(blocks.check_request(Some("other")).is_none());
        let blocked = blocks.listed().pop().unwrap().block;
        let (action, now_ms) = (BlockAction::Block, blocked.changed_ms);
        let lifted = BlockRecord::new("web", action, 0, Some(&blocked), now_ms);
        blocks.merge([lifted.made_by("user 1000".to_owned(), "")]);
        let after = respond(&alert(client("web")), &blocks, &metrics).unwrap();
        assert_eq!(after, "not blocked: an operator has lifted its block");
        blocks.answer_waiting();
        assert!(
            blocks.check_request(Some("other")).is_some(),
            "its alert has waited"
        );
    }
}
