//! Checks the numbers of a JSON list where they are. A filter forwards a body as it was sent, so it
//! does not need the elements in raw form.

use tensorgate_kernels::{NumberLimit, NumberRun};
use tensorgate_values::datatype::{Datatype, FloatFormat};
use tensorgate_values::tensor_data::{CheckedNumbers, TensorData};

use super::kernels::{DataPosition, clean, integer_bounds};
use super::{Numbers, TensorRule};

/// A check of a list against the rule of its tensor.
#[derive(Clone, Copy, Debug)]
pub struct NumberCheck<'r> {
    rule: &'r TensorRule,
    limit: NumberLimit,
}

impl<'r> NumberCheck<'r> {
    /// The check of a tensor's list. `None` if the rule needs the elements in raw form, if JSON has
    /// no numbers for its datatype, if 0 or each other integer is out of range, or if this machine
    /// has no fast check.
    pub fn new(rule: &'r TensorRule) -> Option<Self> {
        let (min, max) = match rule.datatype.float_format() {
            Some(FloatFormat::Fp32 | FloatFormat::Fp64) => (i128::MIN, i128::MAX),
            Some(FloatFormat::Fp16 | FloatFormat::Bf16) => return None,
            None if rule.datatype == Datatype::Bool => return None,
            None => rule.datatype.integer_range()?,
        };
        let (least, greatest) = integer_bounds(range(rule)?);
        let (least, greatest) = (least.max(min), greatest.min(max));
        if least > 0 || greatest < 0 {
            return None;
        }
        // With negative numbers, the bound that is nearer to zero: the limit is a magnitude.
        let magnitude = match least {
            0 => greatest.unsigned_abs(),
            _ => greatest.unsigned_abs().min(least.unsigned_abs()),
        };
        let magnitude = u64::try_from(magnitude).unwrap_or(u64::MAX);
        Some(Self {
            rule,
            limit: NumberLimit::new(magnitude, least < 0, !rule.datatype.is_float())?,
        })
    }

    /// The allowed numbers at the beginning of a text, as far as the fast check can tell.
    pub fn run(&self, text: &[u8]) -> NumberRun {
        self.limit.run(text)
    }

    /// Whether the rule allows these elements in raw form.
    pub fn allows(&self, raw: &[u8]) -> bool {
        clean(self.rule, DataPosition { first: 0, run: 0 }, raw)
    }

    /// The data of a tensor with this many elements, each of which the caller has checked by
    /// [`Self::run`] or [`Self::allows`]. `None` if memory could not hold them.
    pub fn checked(&self, elements: usize) -> Option<TensorData<'static>> {
        let raw_bytes = elements.checked_mul(self.rule.datatype.size_bytes()?)?;
        let checked = CheckedNumbers::new(raw_bytes, range(self.rule)?);
        Some(TensorData::Checked(checked))
    }
}

/// The range of a tensor's numbers, if a check of each number by itself decides on the tensor.
fn range(rule: &TensorRule) -> Option<(f64, f64)> {
    (rule.numbers == Numbers::default()).then_some(rule.range.unwrap_or((f64::MIN, f64::MAX)))
}

/// Whether elements were checked against this rule.
pub(super) fn satisfies(rule: &TensorRule, checked: &CheckedNumbers) -> bool {
    range(rule) == Some(checked.range())
}
