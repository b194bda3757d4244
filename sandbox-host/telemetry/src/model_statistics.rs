//! Inference statistics of each model version, as in Triton's statistics extension. They are
//! counted here, so they exist for every backend and cover only requests through this host.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tensorgate_wire::encode::statistics::{Statistics, Timing};

use super::timings::Timings;

/// Statistics by model and version. Both are policy names, so their number is bounded.
#[derive(Debug, Default)]
pub struct ModelStatistics(Mutex<BTreeMap<String, BTreeMap<String, Statistics>>>);

impl ModelStatistics {
    /// Counts a finished inference, answered or not.
    pub fn count(
        &self,
        model: &str,
        version: &str,
        answered: bool,
        took: Duration,
        timings: &Timings,
    ) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        let mut models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked up first, so that names are copied once.
        if !models.contains_key(model) {
            models.insert(model.to_owned(), BTreeMap::new());
        }
        let Some(versions) = models.get_mut(model) else {
            return;
        };
        if !versions.contains_key(version) {
            versions.insert(version.to_owned(), Statistics::default());
        }
        if let Some(statistics) = versions.get_mut(version) {
            add(statistics, answered, took, timings, now_ms);
        }
    }

    /// The statistics so far.
    pub fn for_model(&self, model: &str, version: &str) -> Statistics {
        let models = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = models.get(model);
        versions
            .and_then(|versions| versions.get(version))
            .cloned()
            .unwrap_or_default()
    }
}

fn add(
    statistics: &mut Statistics,
    answered: bool,
    took: Duration,
    timings: &Timings,
    now_ms: u64,
) {
    statistics.last_inference_ms = statistics.last_inference_ms.max(now_ms);
    let [success, fail, parts @ ..] = &mut statistics.parts;
    if !answered {
        add_duration(fail, took);
        return;
    }
    add_duration(success, took);
    statistics.inference_count = statistics.inference_count.saturating_add(1);
    statistics.execution_count = statistics.execution_count.saturating_add(1);
    // As in Triton, parts are counted only for answered requests. There is no cache.
    let [queue, input, infer, output, ..] = parts;
    add_duration(queue, timings.queue);
    add_duration(input, timings.handler.saturating_sub(timings.postprocess));
    add_duration(infer, timings.dispatch.saturating_sub(timings.queue));
    add_duration(output, timings.postprocess);
}

fn add_duration(spent: &mut Timing, took: Duration) {
    let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    spent.count = spent.count.saturating_add(1);
    spent.ns = spent.ns.saturating_add(ns);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_answered_is_told_in_parts_and_what_was_not_as_a_whole() {
        let ms = Duration::from_millis;
        let timings = Timings {
            handler: ms(7),
            postprocess: ms(3),
            dispatch: ms(20),
            queue: ms(5),
            fuel: 0,
            ..Timings::default()
        };
        let counted = ModelStatistics::default();
        counted.count("m", "1", true, ms(30), &timings);
        counted.count("m", "1", true, ms(30), &timings);
        counted.count("m", "1", false, ms(4), &timings);
        counted.count("m", "2", false, ms(4), &timings);
        let told = counted.for_model("m", "1");
        assert_eq!((told.inference_count, told.execution_count), (2, 2));
        assert!(told.last_inference_ms > 1_700_000_000_000);
        let spent = told.parts.map(|part| (part.count, part.ns / 1_000_000));
        let expected = [
            (2, 60),
            (1, 4),
            (2, 10),
            (2, 8),
            (2, 30),
            (2, 6),
            (0, 0),
            (0, 0),
        ];
        assert_eq!(spent, expected);
        assert_eq!(counted.for_model("m", "2").inference_count, 0);
        assert_eq!(counted.for_model("m", "3"), Statistics::default());
        assert_eq!(counted.for_model("n", "1"), Statistics::default());
    }
}
