//! Native files of gradient boosting libraries: XGBoost's JSON and UBJSON, LightGBM's text.
//!
//! They hold numbers and names. Pickled estimators are the subject of the pickle scanner.

use std::io;

use super::json::{self, Watch};
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report, Verdict};

mod lightgbm;
mod ubjson;

/// Members of a model and of its learner, by XGBoost's schema.
pub(super) const MEMBERS: [&str; 3] = ["learner", "version", "config"];
const LEARNER_MEMBERS: [&str; 9] = [
    "attributes",
    "cats",
    "feature_names",
    "feature_types",
    "generic_param",
    "gradient_booster",
    "learner_model_param",
    "learner_train_param",
    "objective",
];
/// The rule of members that the schema lacks, or that are missing.
const MEMBER: &str = "xgboost-member";

/// Scans a model of XGBoost in JSON.
///
/// # Errors
/// The input cannot be read.
pub fn scan_xgboost_json(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("xgboost json");
    let mut source = Source::new(input, "xgboost-truncated")?;
    let mut members = Members::new(&mut report);
    let walked = json::walk(&mut source, limits, "xgboost-document", &mut members);
    let walked = walked.and_then(|()| members.check());
    finish(report, walked)
}

/// Scans a model of XGBoost in UBJSON.
///
/// # Errors
/// The input cannot be read.
pub fn scan_xgboost_ubjson(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("xgboost ubjson");
    let mut source = Source::new(input, "xgboost-truncated")?;
    let mut members = Members::new(&mut report);
    let walked = ubjson::walk(&mut source, limits, |depth, parent, key| {
        members.member(depth, parent, key);
    });
    let walked = walked.and_then(|()| members.check());
    finish(report, walked)
}

/// Scans a model of LightGBM in its text format.
///
/// # Errors
/// The input cannot be read.
pub fn scan_lightgbm(input: &mut dyn Input, _: &Limits) -> io::Result<Report> {
    let report = Report::new("lightgbm");
    let mut source = Source::new(input, "lightgbm-truncated")?;
    let walked = lightgbm::walk(&mut source);
    finish(report, walked)
}

/// Checks the outer members of a model.
struct Members<'r> {
    report: &'r mut Report,
    has_learner: bool,
}

impl<'r> Members<'r> {
    const fn new(report: &'r mut Report) -> Self {
        Self {
            report,
            has_learner: false,
        }
    }

    /// A key with `depth` keys around it, of which `parent` is the innermost.
    fn member(&mut self, depth: usize, parent: &str, key: &str) {
        let is_known = match depth {
            0 => MEMBERS.contains(&key),
            1 if parent == "learner" => LEARNER_MEMBERS.contains(&key),
            _ => true,
        };
        self.has_learner |= depth == 0 && key == "learner";
        if !is_known {
            let detail = format!("the member {key} is not one of XGBoost");
            self.report.add(Verdict::Unknown, 0, MEMBER, &detail);
        }
    }

    fn check(&self) -> Result<(), Stop> {
        if self.has_learner {
            return Ok(());
        }
        Err(Stop::unknown(0, MEMBER, "the document has no learner"))
    }
}

impl Watch for Members<'_> {
    fn key(&mut self, path: &[String], key: &str) {
        let parent = path.last().map_or("", String::as_str);
        self.member(path.len(), parent, key);
    }

    fn text(&mut self, _: &[String], _: &str) {}

    fn truth(&mut self, _: &[String], _: bool) {}
}

#[cfg(test)]
mod tests;
