//! Requests that ended otherwise than their first line says: their `amend` line has the outcome.
//! Such a request is one outcome, at the time when it ended.
//!
//! A log is read twice: first for the requests with such an end, then for all. Lines that can be
//! read only once show both outcomes.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use tensorgate_audit::line::Line;
use tensorgate_audit::record::{Amend, Decision, Event, MAX_ID_BYTES, Verdict};
use tensorgate_cli_common::Failure;

use super::each_text_of;

/// Maximum number of requests with a late end in one query. Of these, only those that are between
/// their two lines are held with their fields.
const MAX_LATE: usize = 65_536;
/// Maximum number of first lines that are held at a time. A gate has fewer streams at once. Of
/// further ones, only the fields of their end are shown.
const MAX_FIRST_LINES: usize = 4_096;

/// A request with a late end.
struct Late {
    /// The gravest of its late outcomes.
    verdict: Verdict,
    /// Its first line, until its end is read.
    first: Option<Box<Decision>>,
    /// Whether its outcome was shown.
    is_shown: bool,
}

/// The late ends of a log.
#[derive(Default)]
pub struct LateOutcomes {
    known: HashMap<String, Late>,
    /// The number of first lines that are held.
    first_lines: usize,
    /// The number of late ends beyond [`MAX_LATE`] requests.
    more: u64,
}

impl LateOutcomes {
    /// Reads the late ends of a log whose lines are wanted.
    pub fn of_log(log: &Path, is_wanted: impl Fn(&Line) -> bool) -> Result<Self, Failure> {
        let mut outcomes = Self::default();
        each_text_of(log, |text| {
            // Most lines are of another type, and are not parsed.
            if !text.contains("\"amend\"") {
                return;
            }
            if let Ok(line) = serde_json::from_str::<Line>(text)
                && is_wanted(&line)
                && let Event::Amend(amend) = &line.event
            {
                outcomes.note_end(amend);
            }
        })?;
        Ok(outcomes)
    }

    fn note_end(&mut self, amend: &Amend) {
        let Some(verdict) = late_verdict(amend).filter(|_| !amend.request_id.is_empty()) else {
            return;
        };
        if let Some(late) = self.known.get_mut(&amend.request_id) {
            if gravity(verdict) > gravity(late.verdict) {
                late.verdict = verdict;
            }
            return;
        }
        if self.known.len() >= MAX_LATE || amend.request_id.len() > MAX_ID_BYTES {
            self.more = self.more.saturating_add(1);
            return;
        }
        let late = Late {
            verdict,
            first: None,
            is_shown: false,
        };
        self.known.insert(amend.request_id.clone(), late);
    }

    /// What the reader of a query must know of requests that show both outcomes.
    pub fn note(&self) -> Option<String> {
        (self.more > 0).then(|| {
            format!(
                "warning: {} late ends beyond the first {MAX_LATE}: these requests are listed twice, first as their first line says; narrow --since and --until",
                self.more
            )
        })
    }

    /// The outcome of the request that an event shows. `None` for other events, and for the one of
    /// its two lines that does not say how it ended.
    pub fn outcome<'e>(&mut self, event: &'e Event) -> Option<Cow<'e, Decision>> {
        match event {
            Event::Decision(decision) => {
                let id = decision.request_id.as_deref().unwrap_or_default();
                let late = self.known.get_mut(id);
                match late {
                    Some(late) if gravity(late.verdict) > gravity(decision.verdict) => {
                        if late.first.is_none() && self.first_lines < MAX_FIRST_LINES {
                            self.first_lines = self.first_lines.saturating_add(1);
                            late.first = Some(decision.clone());
                        }
                        return None;
                    }
                    Some(late) => late.is_shown = true,
                    None => {}
                }
                Some(Cow::Borrowed(&**decision))
            }
            Event::Amend(amend) => {
                let verdict = late_verdict(amend)?;
                let Some(late) = self.known.get_mut(&amend.request_id) else {
                    return Some(Cow::Owned(as_it_ended(None, amend)));
                };
                if late.is_shown || late.verdict != verdict {
                    return None;
                }
                late.is_shown = true;
                let first = late.first.take();
                self.first_lines = self
                    .first_lines
                    .saturating_sub(usize::from(first.is_some()));
                Some(Cow::Owned(as_it_ended(first.as_deref(), amend)))
            }
            _ => None,
        }
    }
}

/// The verdict of a late end that differs from an answer.
fn late_verdict(amend: &Amend) -> Option<Verdict> {
    amend.verdict.filter(|verdict| *verdict != Verdict::Allow)
}

/// An order of verdicts. A denial stays one, whatever becomes of its answer.
const fn gravity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Allow => 0,
        Verdict::Aborted => 1,
        Verdict::Deny => 2,
    }
}

/// A request as it ended. Logs of earlier releases name client and model only in the first line.
fn as_it_ended(first: Option<&Decision>, amend: &Amend) -> Decision {
    let first = first.cloned().unwrap_or_default();
    let or = |late: &Option<String>, first: Option<String>| late.clone().or(first);
    Decision {
        request_id: Some(amend.request_id.clone()),
        by: amend.by.unwrap_or_default(),
        verdict: amend.verdict.unwrap_or_default(),
        reason: amend.reason.clone().unwrap_or_default(),
        client: or(&amend.client, first.client),
        model: or(&amend.model, first.model),
        stream: or(&amend.stream, first.stream),
        traceparent: or(&amend.traceparent, first.traceparent),
        detail: or(&amend.detail, first.detail),
        status: amend.status,
        grpc_status: amend.grpc_status,
        response_bytes: amend.response_bytes,
        prompt_tokens: amend.prompt_tokens.or(first.prompt_tokens),
        completion_tokens: amend.completion_tokens.or(first.completion_tokens),
        total_us: amend.total_us,
        flags: amend.flags.clone(),
        envoy: amend.envoy.clone(),
        entry: amend.entry.clone(),
        ..first
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn decision(id: &str, verdict: Verdict) -> Event {
        Event::Decision(Box::new(Decision {
            request_id: Some(id.to_owned()),
            verdict,
            client: Some("scorer".to_owned()),
            path: Some("/v2".to_owned()),
            ..Decision::default()
        }))
    }

    fn amend(id: &str, verdict: Verdict) -> Amend {
        Amend {
            request_id: id.to_owned(),
            verdict: Some(verdict),
            detail: Some("late".to_owned()),
            ..Amend::default()
        }
    }

    #[test]
    fn a_request_is_one_outcome_and_a_denial_stays_one() {
        use Verdict::{Aborted, Allow, Deny};
        for (first, late, expected) in [
            (Allow, vec![Deny], vec![Deny]),
            (Allow, vec![Aborted], vec![Aborted]),
            (Allow, vec![Allow], vec![Allow]),
            (Allow, vec![Aborted, Deny], vec![Deny]),
            (Allow, vec![Deny, Aborted], vec![Deny]),
            (Allow, vec![Deny, Deny], vec![Deny]),
            (Deny, vec![Aborted], vec![Deny]),
            (Deny, vec![Deny], vec![Deny]),
            (Aborted, vec![Deny], vec![Deny]),
        ] {
            let mut outcomes = LateOutcomes::default();
            late.iter()
                .for_each(|verdict| outcomes.note_end(&amend("id", *verdict)));
            let amends = late
                .iter()
                .map(|verdict| Event::Amend(amend("id", *verdict)));
            let events: Vec<_> = std::iter::once(decision("id", first))
                .chain(amends)
                .collect();
            let shown: Vec<_> = events
                .iter()
                .filter_map(|event| outcomes.outcome(event))
                .collect();
            let verdicts: Vec<_> = shown.iter().map(|request| request.verdict).collect();
            assert_eq!(verdicts, expected, "{first:?} {late:?}");
            assert_eq!(shown.first().unwrap().client.as_deref(), Some("scorer"));
        }
    }

    #[test]
    fn a_late_end_is_shown_with_the_fields_of_both_lines() {
        let mut outcomes = LateOutcomes::default();
        outcomes.note_end(&amend("id", Verdict::Deny));
        assert!(outcomes.outcome(&decision("id", Verdict::Allow)).is_none());
        let event = Event::Amend(amend("id", Verdict::Deny));
        let shown = outcomes.outcome(&event).unwrap();
        let texts = [&shown.client, &shown.path, &shown.detail];
        let texts = texts.map(|text| text.as_deref().unwrap_or_default());
        assert_eq!(texts, ["scorer", "/v2", "late"]);
        // A line that is read once, or whose request is no longer in the log.
        let event = Event::Amend(amend("other", Verdict::Deny));
        assert_eq!(outcomes.outcome(&event).unwrap().path, None);
    }

    #[test]
    fn the_late_ends_are_bounded() {
        let mut outcomes = LateOutcomes::default();
        let long = "x".repeat(MAX_ID_BYTES.saturating_add(1));
        outcomes.note_end(&amend(&long, Verdict::Deny));
        for number in 0..=MAX_LATE {
            outcomes.note_end(&amend(&number.to_string(), Verdict::Deny));
        }
        assert_eq!((outcomes.known.len(), outcomes.more), (MAX_LATE, 2));
        assert!(outcomes.note().is_some());
    }

    #[test]
    fn the_kept_first_lines_are_bounded_and_no_denial_is_lost() {
        let mut outcomes = LateOutcomes::default();
        let ids: Vec<_> = (0..=MAX_FIRST_LINES)
            .map(|number| number.to_string())
            .collect();
        for id in &ids {
            outcomes.note_end(&amend(id, Verdict::Deny));
            assert!(outcomes.outcome(&decision(id, Verdict::Allow)).is_none());
        }
        assert_eq!(outcomes.first_lines, MAX_FIRST_LINES);
        for id in &ids {
            let event = Event::Amend(amend(id, Verdict::Deny));
            let shown = outcomes.outcome(&event).unwrap();
            assert_eq!(shown.verdict, Verdict::Deny);
        }
        assert_eq!(outcomes.first_lines, 0);
    }
}
