//! BYTES tensors: each element is a 4-byte little-endian length and that many bytes.

use crate::bindings::preprocess::tensorgate::handler::errors::Error;
use crate::bindings::preprocess::tensorgate::handler::types::{Datatype, Tensor};

/// Bytes of an element's length prefix, as the Open Inference Protocol's raw form has it.
const PREFIX_BYTES: usize = 4;

impl Tensor {
    /// A BYTES tensor of texts or byte strings, row-major.
    ///
    /// # Errors
    /// A fault if the number of items is not the shape's, or one is longer than 2³² − 1 bytes.
    pub fn from_items<I: AsRef<[u8]>>(
        name: impl Into<String>,
        shape: &[u64],
        items: impl IntoIterator<Item = I>,
    ) -> Result<Self, Error> {
        let mut data = Vec::new();
        let mut count = 0_u64;
        for item in items {
            let item = item.as_ref();
            data.extend_from_slice(
                &u32::try_from(item.len())
                    .map_err(Error::fault)?
                    .to_le_bytes(),
            );
            data.extend_from_slice(item);
            count = count.saturating_add(1);
        }
        if element_count(shape) != Some(count) {
            return Err(Error::fault(format!(
                "{count} items do not fit shape {shape:?}"
            )));
        }
        Ok(Self {
            name: name.into(),
            datatype: Datatype::Bytes,
            shape: shape.to_vec(),
            data,
        })
    }

    /// The items of a BYTES tensor, row-major, in place.
    ///
    /// # Errors
    /// Bad input if the tensor is not BYTES, or its data does not fit its shape.
    pub fn items(&self) -> Result<Vec<&[u8]>, Error> {
        let misfit = || {
            Error::bad_input(format!(
                "tensor {:?}: item lengths do not fit its data and shape",
                self.name
            ))
        };
        if self.datatype != Datatype::Bytes {
            return Err(Error::bad_input(format!(
                "tensor {:?} is {:?}, not Bytes",
                self.name, self.datatype
            )));
        }
        let mut items = Vec::new();
        let mut rest = self.data.as_slice();
        while !rest.is_empty() {
            let (prefix, after) = rest
                .split_first_chunk::<PREFIX_BYTES>()
                .ok_or_else(misfit)?;
            let length = usize::try_from(u32::from_le_bytes(*prefix)).map_err(|_| misfit())?;
            let (item, after) = after.split_at_checked(length).ok_or_else(misfit)?;
            items.push(item);
            rest = after;
        }
        if element_count(&self.shape) != u64::try_from(items.len()).ok() {
            return Err(misfit());
        }
        Ok(items)
    }
}

/// The number of elements of a shape; `None` if it overflows 64 bits.
fn element_count(shape: &[u64]) -> Option<u64> {
    shape
        .iter()
        .try_fold(1_u64, |count, dim| count.checked_mul(*dim))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn items_survive_the_way_to_a_tensor_and_back() {
        let tensor = Tensor::from_items("label", &[2, 1], ["seven", ""]).unwrap();
        assert_eq!(tensor.data, b"\x05\0\0\0seven\0\0\0\0");
        assert_eq!(tensor.items().unwrap(), [b"seven".as_slice(), b""]);
    }

    #[test]
    fn a_wrong_number_of_items_is_refused() {
        assert!(matches!(
            Tensor::from_items("t", &[3], ["a", "b"]),
            Err(Error::Fault(_))
        ));
        assert!(matches!(
            Tensor::from_items("t", &[u64::MAX, 2], ["a"]),
            Err(Error::Fault(_))
        ));
    }

    #[test]
    fn torn_items_are_refused() {
        for data in [
            &b"\x01\0\0"[..],
            b"\x02\0\0\0a",
            b"\xff\xff\xff\xffa",
            b"",
            b"\x01\0\0\0a\x01\0\0\0b",
        ] {
            let tensor = Tensor {
                name: "t".into(),
                datatype: Datatype::Bytes,
                shape: vec![1],
                data: data.to_vec(),
            };
            assert!(
                matches!(tensor.items(), Err(Error::BadInput(_))),
                "{data:?}"
            );
        }
    }
}
