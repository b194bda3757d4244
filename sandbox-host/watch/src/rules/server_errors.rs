//! Responses of a model with a server error (5xx), or with a client error that its server chose: a
//! failing backend or handler, or overload.

use tensorgate_policy::raw::WatchRule;

use super::share::{Bounds, Share};
use super::{ModelTable, Rule};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::{Kind, Observation};
use crate::table::Slot;
use crate::time::Time;
use crate::window::Needed;

const BOUNDS: Bounds = Bounds {
    window_s: 60,
    needed: Needed {
        abnormal: 3,
        of_last: 5,
    },
    learned: 30,
    min_bad: 5,
    rise: 0.2,
};

/// The rule `server-errors`.
#[derive(Debug, Default)]
pub(super) struct ServerErrors {
    models: ModelTable<Share>,
}

impl Rule for ServerErrors {
    fn id(&self) -> WatchRule {
        WatchRule::ServerErrors
    }

    fn reads(&self, kind: &Kind) -> bool {
        matches!(kind, Kind::Request | Kind::Ending)
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        // The request of an ending was counted when it was observed.
        let requests = u32::from(seen.kind == Kind::Request);
        let errors = u32::from(seen.is_server_error());
        // Without a model the gateway itself has failed, or no model was granted.
        let Slot { state, is_shared } = self.models.slot(&seen.model, now);
        let spike = state.count(requests, errors, now, &BOUNDS)?;
        Some(Finding {
            subject: match &seen.model {
                Some(name) => Subject::model(name, is_shared),
                None => Subject::Gateway,
            },
            since: spike.since,
            evidence: Evidence {
                observed: spike.percent,
                usual: spike.usual_percent,
                unit: "% of requests",
            },
            what: "answers many requests with a server error".to_owned(),
            advice: "`tensorgate audit query --verdict deny` lists the reasons. Check the backend's \
                     health, its load and its last change.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.models.shared_uses()
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_audit::record::Verdict;
    use tensorgate_policy::Reason;

    use super::*;

    #[test]
    fn requests_that_fail_after_their_record_count() {
        let mut rule = ServerErrors::default();
        let mut alerts = |minute, endings| {
            let now = Time::of_window(minute, BOUNDS.window_s);
            let answered = Observation {
                model: Some("resnet".to_owned()),
                verdict: Verdict::Allow,
                status: 200,
                ..Observation::default()
            };
            let ending = Observation {
                kind: Kind::Ending,
                verdict: Verdict::Deny,
                reason: Some(Reason::BackendFault),
                ..answered.clone()
            };
            let requests = std::iter::repeat_n(&answered, 10);
            let seen = requests.chain(std::iter::repeat_n(&ending, endings));
            seen.filter_map(|seen| rule.observe(seen, now)).count()
        };
        assert!((0..60).all(|minute| alerts(minute, 0) == 0));
        let first = (60..70).find(|minute| alerts(*minute, 8) > 0);
        assert_eq!(first, Some(63));
    }
}
