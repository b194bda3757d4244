//! Typed views of a tensor's bytes, and tensors from typed arrays. Every length is checked against
//! the shape; no alignment is assumed.

use std::borrow::Cow;

use ndarray::{Array, ArrayD, ArrayViewD, ArrayViewMutD, CowArray, Dimension, IxDyn};

use crate::bindings::preprocess::tensorgate::handler::errors::Error;
use crate::bindings::preprocess::tensorgate::handler::types::Tensor;
use crate::element::Element;

impl Tensor {
    /// The elements as an array of the tensor's shape. It borrows the data if they are aligned for
    /// `T`, as the ABI delivers them; otherwise it copies them once.
    ///
    /// # Errors
    /// Bad input if the tensor is not of datatype `T`, or its data does not fit its shape. The host
    /// has checked both for the tensors that it passes.
    pub fn view<T: Element>(&self) -> Result<CowArray<'_, T, IxDyn>, Error> {
        if self.datatype != T::DATATYPE {
            return Err(Error::bad_input(format!(
                "tensor {:?} is {:?}, not {:?}",
                self.name,
                self.datatype,
                T::DATATYPE
            )));
        }
        let shape = dims(&self.name, &self.shape)?;
        let misfit = || {
            Error::bad_input(format!(
                "tensor {:?}: {} bytes do not fit its shape",
                self.name,
                self.data.len()
            ))
        };
        // `ndarray` accepts more elements than the shape has; a view must cover all of them.
        let bytes = shape
            .as_array_view()
            .iter()
            .try_fold(size_of::<T>(), |bytes: usize, dim| bytes.checked_mul(*dim));
        if bytes != Some(self.data.len()) {
            return Err(misfit());
        }
        let elements = elements(&self.data).ok_or_else(|| {
            Error::bad_input(format!(
                "tensor {:?}: an element is not a valid {:?}",
                self.name,
                T::DATATYPE
            ))
        })?;
        match elements {
            Cow::Borrowed(elements) => ArrayViewD::from_shape(shape, elements).map(CowArray::from),
            Cow::Owned(elements) => ArrayD::from_shape_vec(shape, elements).map(CowArray::from),
        }
        .map_err(|_| misfit())
    }

    /// A tensor with a copy of an array's elements. [`Tensor::fill`] avoids the copy.
    ///
    /// # Errors
    /// A fault if a dimension does not fit 64 bits, which no machine has.
    pub fn from_array<T: Element, D: Dimension>(
        name: impl Into<String>,
        array: Array<T, D>,
    ) -> Result<Self, Error> {
        let shape = array
            .shape()
            .iter()
            .map(|dim| u64::try_from(*dim))
            .collect::<Result<Vec<u64>, _>>()
            .map_err(Error::fault)?;
        let elements = array.as_standard_layout();
        let data = match elements.as_slice() {
            Some(slice) => bytemuck::cast_slice::<T, u8>(slice).to_vec(),
            None => elements
                .iter()
                .flat_map(|element| bytemuck::bytes_of(element).iter().copied())
                .collect(),
        };
        Ok(Self {
            name: name.into(),
            datatype: T::DATATYPE,
            shape,
            data,
        })
    }

    /// A tensor whose elements are zero at first and written in place by `fill`, without a copy.
    ///
    /// # Errors
    /// A fault if the elements do not fit memory, or the error that `fill` returns.
    pub fn fill<T: Element>(
        name: impl Into<String>,
        shape: &[usize],
        fill: impl FnOnce(ArrayViewMutD<'_, T>) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let too_large = || Error::fault(format!("shape {shape:?} does not fit memory"));
        let count = shape
            .iter()
            .try_fold(1_usize, |count, dim| count.checked_mul(*dim))
            .ok_or_else(too_large)?;
        let bytes = count.checked_mul(size_of::<T>()).ok_or_else(too_large)?;
        let dims = shape
            .iter()
            .map(|dim| u64::try_from(*dim))
            .collect::<Result<Vec<u64>, _>>()
            .map_err(Error::fault)?;
        let mut data = vec![0_u8; bytes];
        match bytemuck::checked::try_cast_slice_mut::<u8, T>(&mut data) {
            Ok(elements) => {
                fill(ArrayViewMutD::from_shape(IxDyn(shape), elements).map_err(|_| too_large())?)?
            }
            // Only an allocator that aligns bytes less strictly than words gets here. That of
            // WebAssembly does not.
            Err(_) => {
                let mut elements = vec![T::default(); count];
                fill(
                    ArrayViewMutD::from_shape(IxDyn(shape), &mut elements)
                        .map_err(|_| too_large())?,
                )?;
                data.copy_from_slice(bytemuck::cast_slice(&elements));
            }
        }
        Ok(Self {
            name: name.into(),
            datatype: T::DATATYPE,
            shape: dims,
            data,
        })
    }
}

/// The elements in these bytes: borrowed if they are aligned. `None` if one is not a valid `T` (a
/// BOOL of 2).
fn elements<T: Element>(bytes: &[u8]) -> Option<Cow<'_, [T]>> {
    match bytemuck::checked::try_cast_slice(bytes) {
        Ok(elements) => Some(Cow::Borrowed(elements)),
        Err(_) => bytes
            .chunks_exact(size_of::<T>())
            .map(|element| bytemuck::checked::try_pod_read_unaligned(element).ok())
            .collect::<Option<Vec<T>>>()
            .map(Cow::Owned),
    }
}

/// A shape as `ndarray` takes it.
fn dims(name: &str, shape: &[u64]) -> Result<IxDyn, Error> {
    let dims = shape
        .iter()
        .map(|dim| usize::try_from(*dim))
        .collect::<Result<Vec<usize>, _>>()
        .map_err(|_| Error::bad_input(format!("tensor {name:?}: a dim does not fit memory")))?;
    Ok(IxDyn(&dims))
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]
mod tests {
    use ndarray::array;

    use super::*;
    use crate::bindings::preprocess::tensorgate::handler::types::Datatype;

    fn fp32(shape: &[u64], data: &[u8]) -> Tensor {
        Tensor {
            name: "t".into(),
            datatype: Datatype::Fp32,
            shape: shape.to_vec(),
            data: data.to_vec(),
        }
    }

    #[test]
    fn an_array_survives_the_way_to_a_tensor_and_back() {
        let array = array![[1.0_f32, -2.5], [f32::MAX, 0.0]];
        let tensor = Tensor::from_array("t", array.clone()).unwrap();
        assert_eq!(tensor.shape, [2, 2]);
        assert_eq!(tensor.datatype, Datatype::Fp32);
        assert_eq!(tensor.data[..8], [0, 0, 0x80, 0x3f, 0, 0, 0x20, 0xc0]);
        assert_eq!(tensor.view::<f32>().unwrap(), array.into_dyn());
    }

    #[test]
    fn a_transposed_array_is_written_row_major() {
        let transposed = array![[1_u8, 2, 3], [4, 5, 6]].reversed_axes();
        let tensor = Tensor::from_array("t", transposed).unwrap();
        assert_eq!(
            (tensor.shape.as_slice(), tensor.data.as_slice()),
            ([3, 2].as_slice(), [1, 4, 2, 5, 3, 6].as_slice())
        );
    }

    #[test]
    fn a_scalar_has_an_empty_shape_and_one_element() {
        let tensor = Tensor::from_array("t", ndarray::arr0(7_i64)).unwrap();
        assert!(tensor.shape.is_empty());
        assert_eq!(
            tensor
                .view::<i64>()
                .unwrap()
                .iter()
                .copied()
                .collect::<Vec<_>>(),
            [7]
        );
    }

    #[test]
    fn data_that_does_not_fit_is_refused() {
        for (shape, bytes) in [
            (vec![2], 4),
            (vec![2], 12),
            (vec![1], 3),
            (vec![u64::MAX], 4),
            (vec![1 << 40, 1 << 40], 4),
            (vec![], 0),
            (vec![0], 4),
        ] {
            let refused = fp32(&shape, &vec![0; bytes]).view::<f32>().is_err();
            assert!(refused, "{shape:?} with {bytes} bytes");
        }
        assert_eq!(fp32(&[0, 3], &[]).view::<f32>().unwrap().len(), 0);
    }

    #[test]
    fn another_datatype_is_refused() {
        assert!(matches!(
            fp32(&[1], &[0; 4]).view::<i32>(),
            Err(Error::BadInput(_))
        ));
    }

    #[test]
    fn every_alignment_gives_the_same_elements() {
        let bytes: Vec<u8> = (0..64_u8).collect();
        let mut copied = 0;
        for offset in 0..8 {
            let elements = elements::<u64>(&bytes[offset..offset + 16]).unwrap();
            copied += usize::from(matches!(elements, Cow::Owned(_)));
            let expected = u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap());
            assert_eq!(elements[0], expected, "offset {offset}");
        }
        assert_eq!(copied, 7, "exactly one of eight offsets is aligned");
    }

    #[test]
    fn a_bool_is_zero_or_one() {
        let mut tensor = Tensor::from_array("t", array![true, false]).unwrap();
        assert_eq!(tensor.data, [1, 0]);
        assert!(tensor.view::<bool>().unwrap()[[0]]);
        tensor.data = vec![2, 0];
        assert!(matches!(tensor.view::<bool>(), Err(Error::BadInput(_))));
    }

    #[test]
    fn fill_writes_to_the_buffer_and_returns_its_closures_result() {
        let tensor = Tensor::fill::<f32>("t", &[2, 2], |mut view| {
            view[[1, 0]] = 1.0;
            Ok(())
        })
        .unwrap();
        assert_eq!(
            tensor.view::<f32>().unwrap(),
            array![[0.0_f32, 0.0], [1.0, 0.0]].into_dyn()
        );
        assert!(matches!(
            Tensor::fill::<f32>("t", &[1], |_| Err(Error::bad_input("no"))),
            Err(Error::BadInput(_))
        ));
        assert!(matches!(
            Tensor::fill::<f64>("t", &[usize::MAX, 2], |_| Ok(())),
            Err(Error::Fault(_))
        ));
    }
}
