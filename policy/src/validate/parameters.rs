//! Request parameters of a model.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::names;
use super::report::{Path, all};
use crate::contract::ParameterBound;
use crate::raw::ParameterRule;

/// Maximum parameters of a request, as in the decoders.
const MAX_PARAMETERS: usize = 32;
/// Maximum length of a string value, as in the decoders.
const MAX_STRING_BYTES: usize = 4096;
/// Maximum allowed strings of a parameter.
const MAX_CHOICES: usize = 1024;

pub(super) fn parameters(
    path: &Path,
    raw: &BTreeMap<String, ParameterRule>,
) -> Option<Vec<(String, ParameterBound)>> {
    let mut valid = Some(());
    valid = valid.and(path.up_to(raw.len(), MAX_PARAMETERS, "parameters are too many"));
    valid.and(all(raw.iter().map(|(name, rule)| {
        let path = path.key(name);
        let named = names::tensor_name(&path, name);
        let bound = bound(&path, rule);
        named.and(bound).map(|bound| (name.clone(), bound))
    })))
}

fn bound(path: &Path, raw: &ParameterRule) -> Option<ParameterBound> {
    match raw {
        ParameterRule {
            int: Some((least, greatest)),
            float: None,
            bool: None,
            one_of: None,
        } => {
            if least > greatest {
                let path = path.field("int");
                return path.fail_with_fix(
                    format!("{least} is greater than {greatest}"),
                    format!("[{greatest}, {least}]"),
                );
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
                return path.fail("a bound is not finite");
            }
            if least > greatest {
                return path.fail_with_fix(
                    format!("{least} is greater than {greatest}"),
                    format!("[{greatest}, {least}]"),
                );
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
                return path.field("bool").fail_with_fix(
                    "cannot be false: it declares that the parameter is a bool",
                    "bool: true",
                );
            }
            Some(ParameterBound::Bool)
        }
        ParameterRule {
            int: None,
            float: None,
            bool: None,
            one_of: Some(texts),
        } => one_of(&path.field("one_of"), texts),
        _ => path.fail("needs exactly one of int, float, bool and one_of"),
    }
}

fn one_of(path: &Path, texts: &[String]) -> Option<ParameterBound> {
    path.not_empty(texts, "the allowed strings")?;
    path.up_to(texts.len(), MAX_CHOICES, "strings are too many")?;
    let mut valid = path.distinct(texts);
    for (index, text) in texts.iter().enumerate() {
        if text.len() > MAX_STRING_BYTES {
            valid = path.index(index).fail(format!(
                "{} bytes are too long, {MAX_STRING_BYTES} are allowed",
                text.len()
            ));
        }
    }
    valid.map(|()| ParameterBound::OneOf(texts.to_vec()))
}
