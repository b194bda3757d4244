//! A list of tensors: names, datatypes, shapes, value rules.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::dims::{self, Symbols};
use super::listen::MAX_BODY_BYTES;
use super::names;
use super::report::{Path, Report, nearest, quote};
use crate::contract::{TensorRule, holds_a_value};
use crate::datatype::Datatype;
use crate::raw::{self, ByteSize};

/// Tensors of one list; what the decoders read at most of a request.
const MAX_TENSORS: usize = 64;
/// Bytes before each element of `BYTES`: its length.
const PREFIX_BYTES: u64 = 4;

/// What inputs and outputs have in common.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    name: Option<&'a str>,
    datatype: Option<&'a str>,
    shape: Option<&'a [raw::Dim]>,
    max_item_bytes: Option<ByteSize>,
    optional: bool,
    values: Values,
}

#[derive(Clone, Copy, Debug)]
struct Values {
    /// Whether a range can be written at all: what a client sends has one, what a model answers has not.
    ranged: bool,
    range: Option<(f64, f64)>,
    finite: Option<bool>,
}

impl<'a> From<&'a raw::Input> for Entry<'a> {
    fn from(raw: &'a raw::Input) -> Self {
        let raw::Input {
            name,
            datatype,
            shape,
            range,
            finite,
            optional,
            max_item_bytes,
        } = raw;
        Self {
            name: name.as_deref(),
            datatype: datatype.as_deref(),
            shape: shape.as_deref(),
            max_item_bytes: *max_item_bytes,
            optional: *optional,
            values: Values {
                ranged: true,
                range: *range,
                finite: *finite,
            },
        }
    }
}

impl<'a> From<&'a raw::Output> for Entry<'a> {
    fn from(raw: &'a raw::Output) -> Self {
        let raw::Output {
            name,
            datatype,
            shape,
            finite,
            max_item_bytes,
        } = raw;
        Self {
            name: name.as_deref(),
            datatype: datatype.as_deref(),
            shape: shape.as_deref(),
            max_item_bytes: *max_item_bytes,
            optional: false,
            values: Values {
                ranged: false,
                range: None,
                finite: *finite,
            },
        }
    }
}

/// A list of tensors that must not be empty.
pub(super) fn rules<'a, E: 'a>(
    report: &mut Report,
    path: &Path,
    entries: &'a [E],
    symbols: &Symbols<'_>,
) -> Option<Vec<TensorRule>>
where
    Entry<'a>: From<&'a E>,
{
    report.not_empty(path, entries, "{name: …, datatype: …, shape: […]}")?;
    if entries.len() > MAX_TENSORS {
        report.error(
            path,
            format!(
                "{} tensors are too many, {MAX_TENSORS} are allowed",
                entries.len()
            ),
        );
        return None;
    }
    let mut seen = BTreeSet::new();
    let rules: Vec<Option<TensorRule>> = entries
        .iter()
        .map(Entry::from)
        .enumerate()
        .map(|(index, entry)| {
            let path = path.index(index);
            let repeated = entry.name.is_some_and(|name| !seen.insert(name));
            if repeated {
                report.error(
                    &path.field("name"),
                    format!("{} is listed twice", quote(entry.name.unwrap_or_default())),
                );
            }
            rule(report, &path, &entry, symbols).filter(|_| !repeated)
        })
        .collect();
    rules.into_iter().collect()
}

fn rule(
    report: &mut Report,
    path: &Path,
    raw: &Entry<'_>,
    symbols: &Symbols<'_>,
) -> Option<TensorRule> {
    let name_path = path.field("name");
    let name = report
        .required(&name_path, raw.name, "the tensor's name")
        .filter(|name| names::tensor_name(report, &name_path, name).is_some());
    let datatype = datatype(report, &path.field("datatype"), raw.datatype);
    let shape_path = path.field("shape");
    let shape = report
        .required(&shape_path, raw.shape, "one entry a dim, [] for a scalar")
        .and_then(|dims| dims::shape(report, &shape_path, dims, symbols));
    let range = datatype.and_then(|datatype| range(report, path, raw.values, datatype));
    let max_item_bytes =
        datatype.and_then(|datatype| item_bytes(report, path, datatype, raw.max_item_bytes));
    let datatype = datatype?;
    let rule = TensorRule {
        name: name?.into(),
        datatype,
        shape: shape?,
        optional: raw.optional,
        finite: datatype.is_float() && raw.values.finite.unwrap_or(true),
        range: range?,
        max_item_bytes: max_item_bytes?,
    };
    if max_bytes(&rule).is_none() {
        report.error(
            &shape_path,
            "the largest tensor has more bytes than 64 bits can count",
        );
        return None;
    }
    Some(rule)
}

fn datatype(report: &mut Report, path: &Path, raw: Option<&str>) -> Option<Datatype> {
    let text = report.required(path, raw, "FP32")?;
    let datatype = Datatype::from_name(text);
    if datatype.is_none() {
        let message = format!("{} is no datatype", quote(text));
        let upper = text.to_ascii_uppercase();
        let alias = match upper.as_str() {
            "FLOAT" | "FLOAT32" => Some("FP32"),
            "DOUBLE" | "FLOAT64" => Some("FP64"),
            "HALF" | "FLOAT16" => Some("FP16"),
            "BFLOAT16" => Some("BF16"),
            "STRING" => Some("BYTES"),
            "BOOLEAN" => Some("BOOL"),
            _ => nearest(&upper, Datatype::ALL.iter().map(|datatype| datatype.name())),
        };
        let all = || Datatype::ALL.map(Datatype::name).join(", ");
        report.error_with_fix(
            path,
            message,
            alias.map_or_else(|| format!("one of {}", all()), String::from),
        );
    }
    datatype
}

/// The range, `Some(None)` where there is none to have.
#[expect(
    clippy::option_option,
    reason = "the outer one is validity, as everywhere in these modules"
)]
fn range(
    report: &mut Report,
    path: &Path,
    raw: Values,
    datatype: Datatype,
) -> Option<Option<(f64, f64)>> {
    let finite_path = path.field("finite");
    match (raw.finite, raw.range) {
        (Some(_), _) if !datatype.is_float() => report.warn(
            &finite_path,
            format!("every {datatype} is finite"),
            "remove it",
        ),
        (Some(false), Some(_)) => {
            report.warn(
                &finite_path,
                "has no effect: neither NaN nor an infinity lies in a range",
                "remove one of the two",
            );
        }
        (_, None) if datatype.is_float() && raw.ranged => {
            report.warn(
                path,
                "a float input without a range takes every value",
                "range: [least, greatest]",
            );
        }
        _ => {}
    }
    let Some((least, greatest)) = raw.range else {
        return Some(None);
    };
    let path = path.field("range");
    if datatype == Datatype::Bytes {
        report.error_with_fix(&path, format!("{datatype} has no range"), "remove it");
    } else if !least.is_finite() || !greatest.is_finite() {
        report.error(&path, "a bound is not finite");
    } else if least > greatest {
        report.error_with_fix(
            &path,
            format!("{least} is over {greatest}"),
            format!("[{greatest}, {least}]"),
        );
    } else if !holds_a_value(datatype, (least, greatest)) {
        report.error(
            &path,
            format!("no {datatype} lies between {least} and {greatest}"),
        );
    } else {
        return Some(Some((least, greatest)));
    }
    None
}

/// The greatest length of an element: of `BYTES` always, of anything else never.
#[expect(
    clippy::option_option,
    reason = "the outer one is validity, as everywhere in these modules"
)]
fn item_bytes(
    report: &mut Report,
    path: &Path,
    datatype: Datatype,
    raw: Option<ByteSize>,
) -> Option<Option<usize>> {
    let path = path.field("max_item_bytes");
    match (datatype, raw) {
        (Datatype::Bytes, None) => {
            report.error_with_fix(
                &path,
                "is missing: nothing else bounds an element of BYTES",
                "max_item_bytes: 1KiB",
            );
            None
        }
        (Datatype::Bytes, Some(size)) => report
            .bytes_within(&path, size, 1, MAX_BODY_BYTES)
            .map(Some),
        (_, None) => Some(None),
        (datatype, Some(_)) => {
            report.error_with_fix(
                &path,
                format!("elements of {datatype} have one size"),
                "remove it",
            );
            None
        }
    }
}

/// Bytes of the largest tensor that a rule allows, in raw form; `None` beyond 64 bits.
fn max_bytes(rule: &TensorRule) -> Option<u64> {
    let elements = rule
        .shape
        .iter()
        .try_fold(1_u64, |elements, dim| elements.checked_mul(dim.max))?;
    let element = match rule.datatype.size_bytes() {
        Some(size) => u64::try_from(size).ok()?,
        None => PREFIX_BYTES.checked_add(u64::try_from(rule.max_item_bytes?).ok()?)?,
    };
    elements.checked_mul(element)
}

/// Warns where the largest request that a contract allows does not fit a body.
pub(super) fn fit(report: &mut Report, path: &Path, rules: &[TensorRule], body_bytes: u64) {
    let total = rules
        .iter()
        .map(|rule| max_bytes(rule).unwrap_or(u64::MAX))
        .fold(0_u64, u64::saturating_add);
    if total > body_bytes {
        report.warn(
            path,
            format!(
                "the largest request has {total} bytes of tensors, a body at most {body_bytes}"
            ),
            "smaller dims, or a larger listen.limits.body_bytes",
        );
    }
}
