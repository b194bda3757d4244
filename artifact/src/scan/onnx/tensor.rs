//! The data of one tensor: as much of it as its dimensions say, in one field.

use std::ops::Range;

use super::external::{self, ExternalData};
use crate::scan::rules::{self, Rule};
use crate::scan::source::Stop;
use crate::scan::{Report, Verdict};

/// The rule of tensors whose data does not fit.
const RULE: &Rule = rules::ONNX_TENSOR_SIZE;
/// Values of a small tensor, which can be a size.
const MAX_VALUES: usize = 64;
/// Fields of a tensor.
const DIMENSIONS: u32 = 1;
const KIND: u32 = 2;
const FLOATS: u32 = 4;
const INT32: u32 = 5;
const TEXTS: u32 = 6;
const INT64: u32 = 7;
const RAW: u32 = 9;
const DOUBLES: u32 = 10;
const UINT64: u32 = 11;
const LOCATION: u32 = 14;
/// The kind of a tensor of texts.
const TEXT_KIND: u64 = 8;

/// How elements of a kind are stored.
struct Kind {
    /// Bits of an element in the field of raw bytes.
    bits: u64,
    /// The other field that can have them.
    field: u32,
    /// How many elements a value of that field has, and how many values an element has.
    packing: (u64, u64),
}

impl Kind {
    /// The kind of this number in `TensorProto.DataType`, as of release 1.23.
    const fn of(number: u64) -> Option<Self> {
        let (bits, field, packing) = match number {
            1 => (32, FLOATS, (1, 1)),
            2 | 3 | 9 | 17..=20 | 24 => (8, INT32, (1, 1)),
            4 | 5 | 10 | 16 => (16, INT32, (1, 1)),
            6 => (32, INT32, (1, 1)),
            7 => (64, INT64, (1, 1)),
            TEXT_KIND => (0, TEXTS, (1, 1)),
            11 => (64, DOUBLES, (1, 1)),
            12 => (32, UINT64, (1, 1)),
            13 => (64, UINT64, (1, 1)),
            14 => (64, FLOATS, (1, 2)),
            15 => (128, DOUBLES, (1, 2)),
            // Two or four elements in a byte.
            21..=23 => (4, INT32, (2, 1)),
            25 | 26 => (2, INT32, (4, 1)),
            27 | 28 => (6, INT32, (1, 1)),
            _ => return None,
        };
        Some(Self {
            bits,
            field,
            packing,
        })
    }
}

/// What is known of a tensor.
#[derive(Default)]
pub(super) struct Tensor {
    pub(super) name: String,
    kind: u64,
    dimensions: Vec<u64>,
    /// The fields with data: the number, values of it (bytes of the raw ones).
    stored: Vec<(u32, u64)>,
    is_external: bool,
    /// Where the data is, if it is in another file.
    pub(super) external: ExternalData,
    /// The first values.
    values: Vec<f64>,
    /// The first raw bytes.
    raw: Vec<u8>,
}

impl Tensor {
    /// A number of a tensor.
    pub(super) fn number(&mut self, field: u32, value: u64, at: u64) -> Result<(), Stop> {
        match field {
            // Numbers of 64 bits with a sign.
            DIMENSIONS if value > i64::MAX.cast_unsigned() => {
                let detail = "a tensor has a negative dimension";
                return Err(Stop::malformed(at, RULE, detail));
            }
            DIMENSIONS if self.dimensions.len() >= MAX_VALUES => {
                let detail = format!("a tensor has more than {MAX_VALUES} dimensions");
                return Err(Stop::malformed(at, RULE, detail));
            }
            DIMENSIONS => self.dimensions.push(value),
            KIND => self.kind = value,
            LOCATION => self.is_external = value != 0,
            INT32 | INT64 | UINT64 => {
                self.store(field, 1);
                self.keep(value.cast_signed() as f64);
            }
            _ => {}
        }
        Ok(())
    }

    /// Data of a tensor.
    pub(super) fn data(&mut self, field: u32, bytes: u64, head: &[u8]) {
        match field {
            TEXTS => self.store(field, 1),
            RAW => {
                // Readers take the last one. It is checked that there is one only.
                self.raw = head.to_vec();
                self.stored.push((RAW, bytes));
            }
            FLOATS => {
                self.store(field, bytes / 4);
                for value in head.as_chunks::<4>().0 {
                    self.keep(f64::from(f32::from_le_bytes(*value)));
                }
            }
            DOUBLES => {
                self.store(field, bytes / 8);
                for value in head.as_chunks::<8>().0 {
                    self.keep(f64::from_le_bytes(*value));
                }
            }
            _ => {}
        }
    }

    /// Counts more values of a field.
    fn store(&mut self, field: u32, count: u64) {
        match self.stored.iter_mut().find(|(known, _)| *known == field) {
            Some((_, values)) => *values = values.saturating_add(count),
            None => self.stored.push((field, count)),
        }
    }

    fn keep(&mut self, value: f64) {
        if self.values.len() < MAX_VALUES {
            self.values.push(value);
        }
    }

    /// Compares the data with the dimensions.
    pub(super) fn check(&self, at: u64, report: &mut Report) -> Result<(), Stop> {
        let malformed = |detail: String| {
            let name = &self.name;
            Err(Stop::malformed(
                at,
                RULE,
                format!("tensor {name:?}: {detail}"),
            ))
        };
        if self.is_external && !self.stored.is_empty() {
            return malformed("data in the model, and in another file".to_owned());
        }
        if !self.is_external && self.external.is_given() {
            let detail = format!(
                "tensor {:?} has the place of its data in another file, and lies in the model",
                self.name
            );
            report.add(Verdict::Unknown, at, external::RULE, &detail);
        }
        let Some(kind) = Kind::of(self.kind) else {
            let detail = format!("tensor {:?} has elements of kind {}", self.name, self.kind);
            report.add(Verdict::Unknown, at, RULE, &detail);
            return Ok(());
        };
        let Some(elements) = self.elements() else {
            return malformed(format!("dimensions {:?}", self.dimensions));
        };
        if self.is_external {
            let Some(bytes) = self.raw_bytes() else {
                return malformed(format!("kind {} in another file", self.kind));
            };
            return self.external.fault(bytes).map_or(Ok(()), malformed);
        }
        let (packed, values) = kind.packing;
        let (field, count) = match self.stored.as_slice() {
            [] => (kind.field, 0),
            [stored] => *stored,
            _ => return malformed("data in several fields".to_owned()),
        };
        let expected = match field {
            RAW if self.kind != TEXT_KIND => self.raw_bytes(),
            field if field == kind.field => elements.div_ceil(packed).checked_mul(values),
            _ => return malformed(format!("data of kind {} in another field", self.kind)),
        };
        if expected == Some(count) {
            return Ok(());
        }
        let unit = if field == RAW { "bytes" } else { "values" };
        malformed(format!(
            "{count} {unit} for {elements} elements of kind {}",
            self.kind
        ))
    }

    /// The number of elements. `None` if there are more than can be counted.
    fn elements(&self) -> Option<u64> {
        let mut sizes = self.dimensions.iter();
        // A dimension of zero comes before the others, whose product may be too large.
        if self.dimensions.contains(&0) {
            Some(0)
        } else {
            sizes.try_fold(1_u64, |product, size| product.checked_mul(*size))
        }
    }

    /// The bytes of all elements as raw bytes. Texts have none.
    fn raw_bytes(&self) -> Option<u64> {
        let kind = Kind::of(self.kind).filter(|_| self.kind != TEXT_KIND)?;
        let bits = self.elements()?.checked_mul(kind.bits)?;
        Some(bits.div_ceil(8))
    }

    /// The file in which the data lies, and the bytes of the data there.
    pub(super) fn external_range(&self) -> Option<(&str, Range<u64>)> {
        let bytes = self.raw_bytes().filter(|_| self.is_external)?;
        self.external.range(bytes)
    }

    /// The numbers of a small tensor that is in the model.
    pub(super) fn values(&self) -> Option<Vec<f64>> {
        let [(field, count)] = *self.stored.as_slice() else {
            return None;
        };
        if self.is_external || count == 0 {
            return None;
        }
        if field != RAW {
            let is_complete = usize::try_from(count) == Ok(self.values.len());
            return is_complete.then(|| self.values.clone());
        }
        if usize::try_from(count) != Ok(self.raw.len()) {
            return None;
        }
        let four = self.raw.as_chunks::<4>().0.iter();
        let eight = self.raw.as_chunks::<8>().0.iter();
        Some(match self.kind {
            1 => four.map(|it| f64::from(f32::from_le_bytes(*it))).collect(),
            6 => four.map(|it| f64::from(i32::from_le_bytes(*it))).collect(),
            7 => eight.map(|it| i64::from_le_bytes(*it) as f64).collect(),
            11 => eight.map(|it| f64::from_le_bytes(*it)).collect(),
            _ => return None,
        })
    }
}
