//! Counts over a whole tensor: distinct values and zeros. At most a few dozen values are kept, for
//! any tensor size and any split into chunks.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tensorgate_values::datatype::{Datatype, FloatFormat};

use super::TensorRule;

/// Elements counted in 32 bits before the sum is carried over.
const BLOCK: usize = 4096;

/// A count in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::contract) struct Tally {
    /// Elements counted.
    elements: u64,
    /// Zeros among them.
    zeros: u64,
    /// Distinct values in ascending order, as bits; at most as many as required.
    distinct: Vec<u64>,
    /// The previous value, which often repeats.
    last: Option<u64>,
}

impl Tally {
    /// Counts whole elements.
    pub(in crate::contract) fn take(&mut self, rule: &TensorRule, data: &[u8]) {
        let counts_zeros = rule.numbers.max_zero_fraction.is_some();
        let wanted = rule.numbers.min_distinct.unwrap_or(0);
        if !counts_zeros && wanted == 0 {
            return;
        }
        let form = Form::of(rule.datatype);
        macro_rules! elements {
            ($type:ty) => {{
                let (elements, _) = data.as_chunks::<{ size_of::<$type>() }>();
                self.elements = self.elements.saturating_add(as_u64(elements.len()));
                let magnitude = <$type>::try_from(form.magnitude).unwrap_or(<$type>::MAX);
                if counts_zeros {
                    for block in elements.chunks(BLOCK) {
                        let zeros = block.iter().fold(0_u32, |zeros, bytes| {
                            let zero = <$type>::from_le_bytes(*bytes) & magnitude == 0;
                            zeros.wrapping_add(u32::from(zero))
                        });
                        self.zeros = self.zeros.saturating_add(zeros.into());
                    }
                }
                for bytes in elements {
                    if self.distinct.len() >= wanted {
                        break;
                    }
                    self.meet(form.one(<$type>::from_le_bytes(*bytes).into()));
                }
            }};
        }
        match rule.datatype.size_bytes() {
            Some(1) => elements!(u8),
            Some(2) => elements!(u16),
            Some(4) => elements!(u32),
            Some(8) => elements!(u64),
            _ => {}
        }
    }

    fn meet(&mut self, value: u64) {
        if self.last.replace(value) == Some(value) {
            return;
        }
        if let Err(index) = self.distinct.binary_search(&value) {
            self.distinct.insert(index, value);
        }
    }

    /// The fault of the whole tensor.
    pub(in crate::contract) fn fault(&self, rule: &TensorRule) -> Option<String> {
        let (distinct, elements) = (self.distinct.len(), self.elements);
        if let Some(least) = rule.numbers.min_distinct
            && distinct < least
        {
            return Some(format!(
                "{distinct} distinct values, at least {least} are required"
            ));
        }
        let most = rule.numbers.max_zero_fraction?;
        let zeros = self.zeros;
        // Division, so that 29 of 100 are exactly 0.29.
        let above = elements > 0 && as_f64(zeros) / as_f64(elements) > most;
        above.then(|| {
            format!("{zeros} of {elements} elements are zero, at most a fraction of {most} may be")
        })
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "no tensor has 2^53 elements: that many bytes fit no memory"
)]
const fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Normal form of values with several encodings: the two zeros, the many NaNs.
struct Form {
    /// All bits except a float's sign.
    magnitude: u64,
    /// A float's infinity; larger values are NaN. Integers have none.
    infinity: u64,
}

impl Form {
    fn of(datatype: Datatype) -> Self {
        let float = |sign: u64, infinity: u64| Self {
            magnitude: sign.wrapping_sub(1),
            infinity,
        };
        match datatype.float_format() {
            Some(FloatFormat::Fp16) => float(super::SIGN.into(), super::FP16.infinity.into()),
            Some(FloatFormat::Bf16) => float(super::SIGN.into(), super::BF16.infinity.into()),
            Some(FloatFormat::Fp32) => {
                float((-0.0_f32).to_bits().into(), super::FP32_EXPONENT.into())
            }
            Some(FloatFormat::Fp64) => float((-0.0_f64).to_bits(), super::FP64_EXPONENT),
            None => Self {
                magnitude: u64::MAX,
                infinity: u64::MAX,
            },
        }
    }

    /// The normal form of a value.
    const fn one(&self, bits: u64) -> u64 {
        let magnitude = bits & self.magnitude;
        if magnitude == 0 {
            0
        } else if magnitude > self.infinity {
            self.magnitude
        } else {
            bits
        }
    }
}
