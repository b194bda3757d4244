//! Native files of gradient boosting libraries: XGBoost's JSON and UBJSON, LightGBM's text,
//! CatBoost's JSON.
//!
//! They hold numbers and names. Libraries use some of the numbers as indices without looking at
//! their range, so these are checked here. Pickled estimators are the subject of the pickle
//! scanner.

use std::io;

use super::json;
use super::rules;
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report};
use catboost_json::CatBoost;
use document::{Document, Library};
use xgboost::XgBoost;

mod catboost_json;
mod document;
mod lightgbm;
mod list;
mod ubjson;
mod xgboost;

pub(super) use xgboost::MEMBERS;

/// Scans a model of XGBoost in JSON.
///
/// # Errors
/// The input cannot be read.
pub fn scan_xgboost_json(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    scan_document::<XgBoost>("xgboost json", input, |source, model| {
        json::walk(source, limits, rules::XGBOOST_DOCUMENT, model)
    })
}

/// Scans a model of XGBoost in UBJSON.
///
/// # Errors
/// The input cannot be read.
pub fn scan_xgboost_ubjson(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    scan_document::<XgBoost>("xgboost ubjson", input, |source, model| {
        ubjson::walk(source, limits, model)
    })
}

/// Scans a model of CatBoost in JSON.
///
/// # Errors
/// The input cannot be read.
pub fn scan_catboost_json(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    scan_document::<CatBoost>("catboost json", input, |source, model| {
        json::walk(source, limits, rules::CATBOOST_DOCUMENT, model)
    })
}

fn scan_document<L: Library>(
    format: &'static str,
    input: &mut dyn Input,
    walk: impl FnOnce(&mut Source<'_>, &mut Document<L>) -> Result<(), Stop>,
) -> io::Result<Report> {
    let mut source = Source::new(input, L::TRUNCATED)?;
    let mut model = Document::default();
    let walked = walk(&mut source, &mut model);
    let walked = walked.and_then(|()| model.end_document());
    finish(Report::new(format), walked)
}

/// Whether a key is one that only models in JSON have: XGBoost's or CatBoost's.
pub(super) fn is_model_key(path: &[String], key: &str) -> bool {
    match path {
        [] => matches!(key, "features_info" | "oblivious_trees"),
        [top] => top == "learner" && key == "gradient_booster",
        _ => false,
    }
}

/// Finds a key of a model in a document.
#[derive(Default)]
struct ModelKeys {
    is_found: bool,
}

impl json::Watch for ModelKeys {
    fn key(&mut self, path: &[String], key: &str) {
        self.is_found |= is_model_key(path, key);
    }

    fn text(&mut self, _: &[String], _: &str) {}

    fn truth(&mut self, _: &[String], _: bool) {}
}

/// Whether a text is a document that a library would read as its model, under any name.
pub(super) fn are_in_text(input: &mut dyn Input, limits: &Limits) -> io::Result<bool> {
    let mut source = Source::new(input, rules::JSON_TRUNCATED)?;
    let mut keys = ModelKeys::default();
    match json::walk(&mut source, limits, rules::JSON_DOCUMENT, &mut keys) {
        Err(Stop::Io(error)) => Err(error),
        // What breaks the document may stand behind the model.
        Ok(()) | Err(Stop::Found { .. }) => Ok(keys.is_found),
    }
}

/// Scans a model of LightGBM in its text format.
///
/// # Errors
/// The input cannot be read.
pub fn scan_lightgbm(input: &mut dyn Input, _: &Limits) -> io::Result<Report> {
    let mut source = Source::new(input, rules::LIGHTGBM_TRUNCATED)?;
    let walked = lightgbm::walk(&mut source);
    finish(Report::new("lightgbm"), walked)
}

#[cfg(test)]
mod tests;
