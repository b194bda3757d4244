//! Elements in OIP's raw form: row-major, little-endian, length-prefixed `BYTES`. The contract
//! compares sizes and shapes.

use tensorgate_policy::Datatype;
use tensorgate_policy::tensor::{DataFault, items};

use crate::fault::BodyFault;
use crate::limits::{MAX_CONVERTED_ELEMENTS, MAX_LONG_NUMBERS};

/// Appends one `BYTES` element: a 4-byte little-endian length and the data. `None` if the length
/// does not fit.
pub(crate) fn push_item(framed: &mut Vec<u8>, item: &[u8]) -> Option<()> {
    framed.extend_from_slice(&u32::try_from(item.len()).ok()?.to_le_bytes());
    framed.extend_from_slice(item);
    Some(())
}

/// Rejects invalid blobs: wrong `BYTES` lengths, and BOOL bytes other than 0 and 1, which servers
/// treat differently.
pub(crate) fn check_blob(datatype: Option<Datatype>, blob: &[u8]) -> Result<(), DataFault> {
    match datatype {
        Some(Datatype::Bool) => blob
            .iter()
            .position(|byte| *byte > 1)
            .map_or(Ok(()), |index| Err(DataFault::Kind { index })),
        Some(Datatype::Bytes) => items(blob).try_for_each(|item| item.map(drop)),
        // Every bit pattern is a value. The contract rejects an unknown datatype.
        Some(
            Datatype::Uint8
            | Datatype::Uint16
            | Datatype::Uint32
            | Datatype::Uint64
            | Datatype::Int8
            | Datatype::Int16
            | Datatype::Int32
            | Datatype::Int64
            | Datatype::Fp16
            | Datatype::Bf16
            | Datatype::Fp32
            | Datatype::Fp64,
        )
        | None => Ok(()),
    }
}

/// Remaining [`MAX_CONVERTED_ELEMENTS`] and [`MAX_LONG_NUMBERS`] of one request, and whether early
/// conversion is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    elements: usize,
    long_numbers: usize,
    early: bool,
}

/// A used part of a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BudgetUse {
    elements: usize,
    long_numbers: usize,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self {
            elements: MAX_CONVERTED_ELEMENTS,
            long_numbers: MAX_LONG_NUMBERS,
            early: true,
        }
    }

    /// Whether elements may be converted before the document is known to be well-formed.
    pub(crate) const fn allows_early(&self) -> bool {
        self.early
    }

    /// The budget after a failed early conversion that will be repeated: the full budget, so that
    /// key order does not change the verdict, but without another early conversion, so that the
    /// work at most doubles.
    pub(crate) const fn after_failure(self) -> Self {
        Self {
            early: false,
            ..self
        }
    }

    /// The part used since `before`.
    pub(crate) const fn spent_since(&self, before: &Self) -> BudgetUse {
        BudgetUse {
            elements: before.elements.saturating_sub(self.elements),
            long_numbers: before.long_numbers.saturating_sub(self.long_numbers),
        }
    }

    /// Charges a part used elsewhere; `false` if the budget does not suffice.
    pub(crate) fn charge(&mut self, spent: BudgetUse) -> bool {
        let elements = self.elements.checked_sub(spent.elements);
        let long_numbers = self.long_numbers.checked_sub(spent.long_numbers);
        let (Some(elements), Some(long_numbers)) = (elements, long_numbers) else {
            return false;
        };
        (self.elements, self.long_numbers) = (elements, long_numbers);
        true
    }

    /// Remaining elements.
    pub(crate) const fn elements(&self) -> usize {
        self.elements
    }

    pub(crate) fn take(&mut self, elements: usize) -> Result<(), BodyFault> {
        let what = "elements to convert in all";
        self.elements = self
            .elements
            .checked_sub(elements)
            .ok_or(BodyFault::TooMany {
                what,
                max: MAX_CONVERTED_ELEMENTS,
            })?;
        Ok(())
    }

    /// Charges a float that is expensive to round.
    pub(crate) fn take_long_number(&mut self) -> Result<(), BodyFault> {
        let what = "floats of more than 19 significant digits";
        self.long_numbers = self.long_numbers.checked_sub(1).ok_or(BodyFault::TooMany {
            what,
            max: MAX_LONG_NUMBERS,
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_that_is_not_of_its_datatype_is_refused() {
        for (datatype, blob, expected) in [
            (Datatype::Bytes, &b""[..], Ok(())),
            (Datatype::Bytes, b"\x01\0\0\0a\0\0\0\0", Ok(())),
            (Datatype::Bytes, b"\x01\0\0\0", Err(DataFault::Framing)),
            (Datatype::Bytes, b"\x01\0\0", Err(DataFault::Framing)),
            (Datatype::Bytes, b"\x01\0\0\0ab", Err(DataFault::Framing)),
            (
                Datatype::Bytes,
                b"\xff\xff\xff\xffa",
                Err(DataFault::Framing),
            ),
            (
                Datatype::Bytes,
                b"\xfb\xff\xff\x7fa",
                Err(DataFault::Framing),
            ),
            (Datatype::Bool, b"\0\x01\0", Ok(())),
            (
                Datatype::Bool,
                b"\0\x01\x02",
                Err(DataFault::Kind { index: 2 }),
            ),
            (Datatype::Bool, b"\xff", Err(DataFault::Kind { index: 0 })),
            (Datatype::Fp32, b"\x01", Ok(())),
        ] {
            assert_eq!(
                check_blob(Some(datatype), blob),
                expected,
                "{datatype} {blob:?}"
            );
        }
        assert_eq!(check_blob(None, b"\xff"), Ok(()));
    }

    #[test]
    fn the_budget_is_for_all_tensors_together() {
        let mut budget = Budget::new();
        assert!(budget.take(MAX_CONVERTED_ELEMENTS - 1).is_ok());
        assert!(budget.take(1).is_ok());
        assert!(budget.take(0).is_ok());
        assert!(budget.take(1).is_err());
    }
}
