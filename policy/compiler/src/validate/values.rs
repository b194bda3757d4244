//! Rules of numbers: ranges, channel ranges, allowed values, and counts over the tensor.

use tensorgate_policy::contract::{
    Channels, DimRule, Listed, Numbers, bounds, holds_a_value, listed_bits,
};
use tensorgate_policy::report::{Path, Valid, optional, quote};
use tensorgate_policy::values::datatype::Datatype;

use crate::raw::{ChannelRanges, Scalar};

/// Maximum channels with ranges.
const MAX_CHANNELS: usize = 1024;
/// Maximum allowed values.
const MAX_LISTED: usize = 1024;
/// Maximum distinct values: a filter keeps that many per streamed tensor.
const MAX_DISTINCT: u64 = 64;

/// Value rules of a tensor in the document.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Values<'a> {
    /// Whether rules are allowed: inputs may have them, outputs not.
    pub(super) ruled: bool,
    pub(super) finite: Option<bool>,
    pub(super) range: Option<(f64, f64)>,
    pub(super) max_abs: Option<f64>,
    pub(super) channel_ranges: Option<&'a ChannelRanges>,
    pub(super) allowed: Option<&'a [Scalar]>,
    pub(super) min_distinct: Option<u64>,
    pub(super) max_zero_fraction: Option<f64>,
}

/// The validated rules.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) finite: bool,
    pub(super) range: Option<(f64, f64)>,
    pub(super) numbers: Numbers,
}

/// Rules of numbers; `BYTES` must have none. `shape` is absent if it is invalid.
pub(super) fn values(
    path: &Path,
    raw: Values<'_>,
    datatype: Datatype,
    shape: Option<&[DimRule]>,
) -> Option<Checked> {
    finite(path, raw, datatype);
    if datatype == Datatype::Bytes {
        return no_numbers(path, raw).then(|| Checked {
            finite: false,
            range: None,
            numbers: Numbers::default(),
        });
    }
    let range = narrowed(path, raw, datatype);
    let outer = range.flatten().unwrap_or((f64::MIN, f64::MAX));
    let channels = optional(raw.channel_ranges, |raw| {
        channels(&path.field("channel_ranges"), raw, datatype, shape, outer)
    });
    let allowed = optional(raw.allowed, |raw_list| {
        listed(path, raw, raw_list, datatype)
    });
    let min_distinct = match raw.min_distinct {
        Some(least) => distinct(&path.field("min_distinct"), least, datatype, shape)
            .filter(|_| can_differ(path, least, raw.allowed, range.flatten(), datatype)),
        None => Some(None),
    };
    let max_zero_fraction = zeros(
        &path.field("max_zero_fraction"),
        raw.max_zero_fraction,
        outer,
    );
    let range = range?;
    let numbers = Numbers {
        channels: channels?,
        allowed: allowed?,
        min_distinct: min_distinct?,
        max_zero_fraction: max_zero_fraction?,
    };
    Some(Checked {
        finite: datatype.is_float() && raw.finite.unwrap_or(true),
        range,
        numbers,
    })
}

/// Warns of a `finite` without effect, and of floats without a limit.
fn finite(path: &Path, raw: Values<'_>, datatype: Datatype) {
    let bounded = raw.range.is_some()
        || raw.max_abs.is_some()
        || raw.channel_ranges.is_some()
        || raw.allowed.is_some();
    let finite_path = path.field("finite");
    match raw.finite {
        Some(_) if !datatype.is_float() => finite_path.warn(
            format!("has no effect: every {datatype} is finite"),
            "remove it",
        ),
        Some(false) if bounded => finite_path.warn(
            "has no effect beside a range, which NaN and infinities are never in",
            "remove one of the two",
        ),
        _ if !bounded && datatype.is_float() && raw.ruled => path.warn(
            "a float input without a range accepts every finite value",
            "range: [least, greatest]",
        ),
        _ => {}
    }
}

/// Whether no rule for numbers is present.
fn no_numbers(path: &Path, raw: Values<'_>) -> bool {
    let written = [
        ("range", raw.range.is_some()),
        ("max_abs", raw.max_abs.is_some()),
        ("channel_ranges", raw.channel_ranges.is_some()),
        ("min_distinct", raw.min_distinct.is_some()),
        ("max_zero_fraction", raw.max_zero_fraction.is_some()),
    ];
    let mut is_valid = true;
    for (field, written) in written {
        if written {
            let message = "is not for BYTES, which has no numbers";
            path.field(field).error_with_fix(message, "remove it");
            is_valid = false;
        }
    }
    is_valid
}

/// An ordered range that contains a value of the datatype.
fn range(path: &Path, range: (f64, f64), datatype: Datatype) -> Option<()> {
    let (least, greatest) = range;
    if !least.is_finite() || !greatest.is_finite() {
        path.error("a bound is not finite");
    } else if least > greatest {
        path.error_with_fix(
            format!("{least} is greater than {greatest}"),
            format!("[{greatest}, {least}]"),
        );
    } else if !holds_a_value(datatype, range) {
        path.error(format!("no {datatype} is between {least} and {greatest}"));
    } else {
        return Some(());
    }
    None
}

/// Combination of `range` and `max_abs`; `Some(None)` without either.
fn narrowed(path: &Path, raw: Values<'_>, datatype: Datatype) -> Valid<Option<(f64, f64)>> {
    let ranged = match raw.range {
        Some(written) => range(&path.field("range"), written, datatype).map(|()| written),
        None => Some((f64::MIN, f64::MAX)),
    };
    let Some(most) = raw.max_abs else {
        return ranged.map(|ranged| raw.range.map(|_| ranged));
    };
    let path = path.field("max_abs");
    if !most.is_finite() || most < 0.0 {
        return path.fail_with_fix(format!("{most} is not a magnitude"), "0 or more");
    }
    let (least, greatest) = ranged?;
    let both = (least.max(-most), greatest.min(most));
    if both.0 > both.1 || !holds_a_value(datatype, both) {
        return path.fail(format!(
            "no {datatype} of the range has a magnitude of at most {most}"
        ));
    }
    Some(Some(both))
}

fn channels(
    path: &Path,
    raw: &ChannelRanges,
    datatype: Datatype,
    shape: Option<&[DimRule]>,
    outer: (f64, f64),
) -> Option<Channels> {
    let ChannelRanges { axis, ranges } = raw;
    let axis_path = path.field("axis");
    let ranges_path = path.field("ranges");
    if datatype == Datatype::Bool {
        return path.fail_with_fix("is not for BOOL", "remove it");
    }
    let axis = axis_path.required(*axis, "axis: 1");
    let mut valid = Some(());
    ranges_path.not_empty(ranges, "[[least, greatest], …]")?;
    ranges_path.up_to(ranges.len(), MAX_CHANNELS, "channels are too many")?;
    let mut kept = Vec::with_capacity(ranges.len());
    for (index, (least, greatest)) in ranges.iter().enumerate() {
        let path = ranges_path.index(index);
        if range(&path, (*least, *greatest), datatype).is_none() {
            valid = None;
            continue;
        }
        let both = (least.max(outer.0), greatest.min(outer.1));
        match bounds(datatype, both).filter(|_| both.0 <= both.1) {
            Some(bits) => kept.push(bits),
            None => {
                valid = path.fail(format!(
                    "no {datatype} of it is in the range of the whole tensor"
                ));
            }
        }
    }
    let (axis, shape) = (axis?, shape?);
    let dim = usize::try_from(axis)
        .ok()
        .and_then(|axis| Some((axis, shape.get(axis)?)));
    let Some((axis, dim)) = dim else {
        return axis_path.fail(format!(
            "is not a dim: the shape has {}, and the first is 0",
            shape.len()
        ));
    };
    let channels = u64::try_from(ranges.len()).ok();
    if dim.fixed() != channels {
        let message = match dim.fixed() {
            Some(size) => format!(
                "{} channels have ranges, and dim {axis} has {size}",
                ranges.len()
            ),
            None => format!("dim {axis} is not fixed, and a dim of channels must be"),
        };
        return ranges_path.fail_with_fix(message, "one range for each index of a fixed dim");
    }
    valid.map(|()| Channels { axis, bounds: kept })
}

fn listed(path: &Path, raw: Values<'_>, list: &[Scalar], datatype: Datatype) -> Option<Vec<u64>> {
    let path = path.field("allowed");
    if datatype == Datatype::Bool {
        return path.fail_with_fix("is not for BOOL", "range: [1, 1]");
    }
    if raw.range.is_some() || raw.max_abs.is_some() || raw.channel_ranges.is_some() {
        return path.fail_with_fix(
            "lists all allowed values, so that a range beside it has no effect",
            "remove one of the two",
        );
    }
    few(&path, list)?;
    let mut bits = Vec::new();
    let mut valid = Some(());
    for (index, value) in list.iter().enumerate() {
        let (number, shown) = match value {
            Scalar::Integer(number) => (Some(Listed::Integer(*number)), format!("{number}")),
            Scalar::Float(number) => (Some(Listed::Float(*number)), format!("{number}")),
            Scalar::Text(text) => (None, quote(text)),
        };
        let Some((one, other)) = number.and_then(|number| listed_bits(datatype, number)) else {
            valid = path
                .index(index)
                .fail(format!("{shown} is not a value of {datatype}"));
            continue;
        };
        if bits.contains(&one) {
            valid = path.index(index).fail(format!("{shown} is listed twice"));
        }
        bits.push(one);
        bits.extend(other);
    }
    bits.sort_unstable();
    valid.map(|()| bits)
}

/// A list of allowed values, neither empty nor too long.
pub(super) fn few(path: &Path, list: &[Scalar]) -> Option<()> {
    path.not_empty(list, "[0, 1]")?;
    path.up_to(list.len(), MAX_LISTED, "values are too many")?;
    Some(())
}

fn distinct(
    path: &Path,
    least: u64,
    datatype: Datatype,
    shape: Option<&[DimRule]>,
) -> Valid<Option<usize>> {
    let most = if datatype == Datatype::Bool {
        2
    } else {
        MAX_DISTINCT
    };
    let least = path.within(least, 2, most, "distinct values")?;
    let elements = shape?
        .iter()
        .fold(1_u64, |elements, dim| elements.saturating_mul(dim.max));
    if elements < least {
        return path.fail(format!(
            "the largest tensor has {elements} elements, fewer than {least} distinct values"
        ));
    }
    usize::try_from(least).ok().map(Some)
}

/// The list or range has enough values for the required distinct ones; otherwise every tensor would
/// be rejected.
fn can_differ(
    path: &Path,
    least: u64,
    listed: Option<&[Scalar]>,
    range: Option<(f64, f64)>,
    datatype: Datatype,
) -> bool {
    let path = path.field("min_distinct");
    if let Some(listed) = listed {
        let values = listed.len();
        if u64::try_from(values).is_ok_and(|values| values < least) {
            path.error(format!(
                "{values} values are allowed, fewer than {least} distinct ones"
            ));
            return false;
        }
    }
    // Integers between two bounds are countable; floats count as unlimited unless the bounds are
    // equal.
    let few = range.is_some_and(|(from, to)| {
        if datatype.is_float() {
            from >= to
        } else {
            // `least` is small enough for a float.
            #[expect(clippy::cast_precision_loss, reason = "at most 64")]
            let wanted = least as f64;
            to - from + 1.0 < wanted
        }
    });
    if few {
        path.error(format!("the range has fewer than {least} values"));
    }
    !few
}

fn zeros(path: &Path, raw: Option<f64>, outer: (f64, f64)) -> Valid<Option<f64>> {
    let Some(most) = raw else { return Some(None) };
    if (0.0..1.0).contains(&most) {
        if outer.0 > 0.0 || outer.1 < 0.0 {
            path.warn("has no effect: 0 is not in the range", "remove it");
        }
        return Some(Some(most));
    }
    path.fail_with_fix(
        format!("{most} is not a fraction from 0 to below 1"),
        "at least 0, below 1",
    )
}
