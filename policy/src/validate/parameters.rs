//! Request parameters of a model.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::names;
use super::report::{Path, Report};
use crate::contract::ParameterBound;
use crate::raw::ParameterRule;

/// Maximum parameters of a request, as in the decoders.
const MAX_PARAMETERS: usize = 32;
/// Maximum length of a string value, as in the decoders.
const MAX_STRING_BYTES: usize = 4096;
/// Maximum allowed strings of a parameter.
const MAX_CHOICES: usize = 1024;

pub(super) fn parameters(
    report: &mut Report,
    path: &Path,
    raw: &BTreeMap<String, ParameterRule>,
) -> Option<Vec<(String, ParameterBound)>> {
    let mut good = Some(());
    if raw.len() > MAX_PARAMETERS {
        report.error(
            path,
            format!(
                "{} parameters are too many, {MAX_PARAMETERS} are allowed",
                raw.len()
            ),
        );
        good = None;
    }
    let bounds: Vec<Option<(String, ParameterBound)>> = raw
        .iter()
        .map(|(name, rule)| {
            let path = path.key(name);
            let named = names::tensor_name(report, &path, name);
            let bound = bound(report, &path, rule);
            named.and(bound).map(|bound| (name.clone(), bound))
        })
        .collect();
    good.and(bounds.into_iter().collect())
}

fn bound(report: &mut Report, path: &Path, raw: &ParameterRule) -> Option<ParameterBound> {
    match raw {
        ParameterRule {
            int: Some((least, greatest)),
            float: None,
            bool: None,
            one_of: None,
        } => {
            if least > greatest {
                let path = path.field("int");
                report.error_with_fix(
                    &path,
                    format!("{least} is over {greatest}"),
                    format!("[{greatest}, {least}]"),
                );
                return None;
            }
            Some(ParameterBound::Int(*least, *greatest))
        }
        ParameterRule {
            int: None,
            float: Some((least, greatest)),
            bool: None,
            one_of: None,
        } => {
            let path = path.field("float");
            if !least.is_finite() || !greatest.is_finite() {
                report.error(&path, "a bound is not finite");
                return None;
            }
            if least > greatest {
                report.error_with_fix(
                    &path,
                    format!("{least} is over {greatest}"),
                    format!("[{greatest}, {least}]"),
                );
                return None;
            }
            Some(ParameterBound::Float(*least, *greatest))
        }
        ParameterRule {
            int: None,
            float: None,
            bool: Some(is_bool),
            one_of: None,
        } => {
            if !is_bool {
                report.error_with_fix(
                    &path.field("bool"),
                    "says of what type the parameter is not",
                    "bool: true",
                );
                return None;
            }
            Some(ParameterBound::Bool)
        }
        ParameterRule {
            int: None,
            float: None,
            bool: None,
            one_of: Some(texts),
        } => one_of(report, &path.field("one_of"), texts),
        _ => {
            report.error(path, "needs exactly one of int, float, bool and one_of");
            None
        }
    }
}

fn one_of(report: &mut Report, path: &Path, texts: &[String]) -> Option<ParameterBound> {
    report.not_empty(path, texts, "the strings that it may be")?;
    if texts.len() > MAX_CHOICES {
        report.error(
            path,
            format!(
                "{} strings are too many, {MAX_CHOICES} are allowed",
                texts.len()
            ),
        );
        return None;
    }
    let mut good = report.distinct(path, texts);
    for (index, text) in texts.iter().enumerate() {
        if text.len() > MAX_STRING_BYTES {
            report.error(
                &path.index(index),
                format!(
                    "{} bytes are too long, {MAX_STRING_BYTES} are allowed",
                    text.len()
                ),
            );
            good = None;
        }
    }
    good.map(|()| ParameterBound::OneOf(texts.to_vec()))
}
