//! The metrics of what the records of requests say. They are the only ones that have every request,
//! whether the filter, Envoy or the host decided it.

use std::sync::Arc;

use tensorgate_policy::Reason;
use tensorgate_policy::policy::Shadow;
use tensorgate_telemetry::labels::{ClientLabels, DecisionLabels, ReasonLabels, TokenLabels};
use tensorgate_telemetry::metrics::Metrics;

use crate::record::{Amend, By, Decision, Verdict};

/// The reasons of records besides [`Reason::ALL`]: of an allowed request, of one whose client left,
/// and of one that a filter without a readable outcome denied.
const OK: &str = "ok";
const INCOMPLETE: &str = "incomplete";
const UNKNOWN: &str = "unknown";

/// The kinds of credentials. The name of a credential in a record begins with its kind and a colon.
const CREDENTIALS: [&str; 3] = ["key", "jwt", "mtls"];

/// Counts records of requests by their outcome. Every label is from a fixed table or the policy.
pub(super) struct DecisionCounts(Arc<Metrics>);

impl DecisionCounts {
    /// Creates every series without a model at zero. Otherwise Prometheus would miss the first
    /// denial of a reason, because it counts increases.
    pub(super) fn new(metrics: &Arc<Metrics>) -> Self {
        let counts = Self(Arc::clone(metrics));
        let declare = |by, verdict, reason| {
            let labels = labels(None, by, verdict, reason);
            drop(counts.0.decisions.get_or_create(&labels));
        };
        for by in [By::Gate, By::Envoy, By::Host] {
            for reason in Reason::ALL {
                declare(by, Verdict::Deny, reason.name());
            }
        }
        for by in [By::Envoy, By::Host] {
            declare(by, Verdict::Allow, OK);
            declare(by, Verdict::Aborted, INCOMPLETE);
        }
        for reason in Shadow::REASONS {
            let labels = ReasonLabels {
                reason: reason.name(),
            };
            drop(counts.0.shadowed_decisions.get_or_create(&labels));
        }
        counts
    }

    /// Counts a record.
    pub(super) fn count(&self, decision: &Decision) {
        let Decision {
            by,
            verdict,
            reason,
            model,
            credential,
            shadow,
            ..
        } = decision;
        let labels = labels(model.as_deref(), *by, *verdict, known(reason));
        self.0.decisions.get_or_create(&labels).inc();
        let labels = ClientLabels {
            credential: credential.as_deref().map_or("none", credential_kind),
            verdict: verdict.name(),
            reason: known(reason),
        };
        self.0.client_decisions.get_or_create(&labels).inc();
        let tokens = (decision.prompt_tokens, decision.completion_tokens);
        self.count_tokens(model.as_deref(), tokens);
        for shadowed in shadow {
            let reason = known(&shadowed.reason);
            let labels = ReasonLabels { reason };
            self.0.shadowed_decisions.get_or_create(&labels).inc();
        }
    }

    /// Counts an amendment: that of a streamed response has its tokens.
    pub(super) fn count_amendment(&self, amend: &Amend) {
        let tokens = (amend.prompt_tokens, amend.completion_tokens);
        self.count_tokens(amend.model.as_deref(), tokens);
    }

    /// Adds the tokens of a prompt and of its completion, as far as they are known.
    fn count_tokens(&self, model: Option<&str>, (prompt, completion): (Option<u64>, Option<u64>)) {
        for (kind, tokens) in [("prompt", prompt), ("completion", completion)] {
            if let Some((model, tokens)) = model.zip(tokens) {
                let labels = TokenLabels {
                    model: model.to_owned(),
                    kind,
                };
                self.0.tokens.get_or_create(&labels).inc_by(tokens);
            }
        }
    }
}

/// The kind of a credential with this name.
fn credential_kind(name: &str) -> &'static str {
    let kind = name.split_once(':').map(|(kind, _)| kind);
    let known = CREDENTIALS.into_iter().find(|known| Some(*known) == kind);
    known.unwrap_or("other")
}

fn labels(model: Option<&str>, by: By, verdict: Verdict, reason: &'static str) -> DecisionLabels {
    DecisionLabels {
        model: model.unwrap_or_default().to_owned(),
        by: by.name(),
        verdict: verdict.name(),
        reason,
    }
}

/// The reason as a label. A filter of another release may have reasons that this host lacks.
fn known(reason: &str) -> &'static str {
    match reason {
        OK => OK,
        INCOMPLETE => INCOMPLETE,
        _ => Reason::from_name(reason).map_or(UNKNOWN, Reason::name),
    }
}

#[cfg(test)]
mod tests;
