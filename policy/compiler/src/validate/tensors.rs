//! Lists of tensors: names, datatypes, shapes and value rules.

use std::collections::BTreeSet;

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::report::{Path, nearest, quote};
use tensorgate_policy::values::datatype::Datatype;

use super::dims::{self, Symbols};
use super::items::{self, Written};
use super::names;
use super::release;
use super::values::{self, Checked, Values};
use crate::raw;

/// Maximum tensors of a list, as in the decoders.
const MAX_TENSORS: usize = 512;
/// Size of the length prefix of a `BYTES` element.
const PREFIX_BYTES: u64 = 4;

/// Common fields of inputs and outputs.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    name: Option<&'a str>,
    datatype: Option<&'a str>,
    shape: Option<&'a [raw::Dim]>,
    items: Written<'a>,
    optional: bool,
    release: release::Written,
    values: Values<'a>,
}

impl<'a> From<&'a raw::Input> for Entry<'a> {
    fn from(raw: &'a raw::Input) -> Self {
        let raw::Input {
            name,
            datatype,
            shape,
            range,
            max_abs,
            channel_ranges,
            allowed,
            min_distinct,
            max_zero_fraction,
            finite,
            optional,
            max_item_bytes,
            min_item_bytes,
            utf8,
            pattern,
            media,
            url,
            parameters: _,
        } = raw;
        Self {
            name: name.as_deref(),
            datatype: datatype.as_deref(),
            shape: shape.as_deref(),
            items: Written {
                max_bytes: *max_item_bytes,
                min_bytes: *min_item_bytes,
                utf8: *utf8,
                allowed: allowed.as_deref(),
                pattern: pattern.as_deref(),
                media: media.as_ref(),
                url: url.as_ref(),
            },
            optional: *optional,
            release: release::Written::default(),
            values: Values {
                ruled: true,
                finite: *finite,
                range: *range,
                max_abs: *max_abs,
                channel_ranges: channel_ranges.as_ref(),
                allowed: allowed.as_deref(),
                min_distinct: *min_distinct,
                max_zero_fraction: *max_zero_fraction,
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
            role: _,
            round_decimals: _,
            top_k: _,
        } = raw;
        Self {
            name: name.as_deref(),
            datatype: datatype.as_deref(),
            shape: shape.as_deref(),
            items: Written {
                max_bytes: *max_item_bytes,
                ..Written::default()
            },
            optional: false,
            release: release::Written::of(raw),
            values: Values {
                finite: *finite,
                ..Values::default()
            },
        }
    }
}

/// A non-empty list of tensors.
pub(super) fn rules<'a, E: 'a>(
    path: &Path,
    entries: &'a [E],
    symbols: &Symbols<'_>,
) -> Option<Vec<TensorRule>>
where
    Entry<'a>: From<&'a E>,
{
    path.not_empty(entries, "{name: …, datatype: …, shape: […]}")?;
    path.up_to(entries.len(), MAX_TENSORS, "tensors are too many")?;
    let mut seen = BTreeSet::new();
    path.each(entries.iter().map(Entry::from), |path, entry| {
        let repeated = entry.name.is_some_and(|name| !seen.insert(name));
        if repeated {
            path.field("name").error(format!(
                "{} is listed twice",
                quote(entry.name.unwrap_or_default())
            ));
        }
        rule(path, &entry, symbols).filter(|_| !repeated)
    })
}

fn rule(path: &Path, raw: &Entry<'_>, symbols: &Symbols<'_>) -> Option<TensorRule> {
    let name_path = path.field("name");
    let name = name_path
        .required(raw.name, "the tensor's name")
        .filter(|name| names::tensor_name(&name_path, name).is_some());
    let datatype = datatype(&path.field("datatype"), raw.datatype);
    let shape_path = path.field("shape");
    let shape = shape_path
        .required(raw.shape, "one entry a dim, [] for a scalar")
        .and_then(|dims| dims::shape(&shape_path, dims, symbols));
    let values =
        datatype.and_then(|datatype| values::values(path, raw.values, datatype, shape.as_deref()));
    let items = datatype.and_then(|datatype| items::items(path, raw.items, datatype));
    let release = datatype
        .and_then(|datatype| release::output(path, raw.release, datatype, shape.as_deref()));
    let datatype = datatype?;
    let Checked {
        finite,
        range,
        numbers,
    } = values?;
    let (max_item_bytes, items) = items?;
    let release = release?;
    // Negative scores would sort below zeroed ones.
    let range = range.or_else(|| release.scores.then_some((0.0, f64::MAX)));
    let rule = TensorRule {
        name: name?.into(),
        datatype,
        shape: shape?,
        optional: raw.optional,
        finite,
        range,
        numbers,
        max_item_bytes,
        items,
        release,
    };
    if max_bytes(&rule).is_none() {
        return shape_path.fail("the largest tensor has 2^64 bytes or more");
    }
    Some(rule)
}

fn datatype(path: &Path, raw: Option<&str>) -> Option<Datatype> {
    let text = path.required(raw, "FP32")?;
    let datatype = Datatype::from_name(text);
    if datatype.is_none() {
        let message = format!("{} is not a datatype", quote(text));
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
        path.error_with_fix(
            message,
            alias.map_or_else(|| format!("one of {}", all()), String::from),
        );
    }
    datatype
}

/// Maximum size of a tensor in raw form; `None` beyond 64 bits.
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

/// Warns if the largest valid request exceeds the body limit.
pub(super) fn fit(path: &Path, rules: &[TensorRule], body_bytes: u64) {
    let total = rules
        .iter()
        .map(|rule| max_bytes(rule).unwrap_or(u64::MAX))
        .fold(0_u64, u64::saturating_add);
    if total > body_bytes {
        path.warn(
            format!(
                "the largest request has {total} bytes of tensors, and listen.limits.body_bytes is {body_bytes}"
            ),
            "smaller dims, or a larger listen.limits.body_bytes",
        );
    }
}
