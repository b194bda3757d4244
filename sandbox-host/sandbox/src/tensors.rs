//! Conversion between the policy's tensors and those of the handler interface. Names and dimensions
//! are converted. Element data is borrowed for arguments and moved for results.

use std::borrow::Cow;

use tensorgate_policy::contract::MAX_RANK;
use tensorgate_policy::{Datatype, Tensor};

use crate::bindings::v0_1::preprocess::tensorgate::handler::types;
use crate::fixed_limits::{MAX_NAME_BYTES, MAX_OUTPUT_TENSORS};

/// The dimensions of tensors in the interface's type, stored here so that arguments can borrow
/// them.
pub(super) struct Dims(Vec<Vec<u64>>);

impl Dims {
    /// Converts the dimensions of checked tensors. Fails on a negative one, which a checked tensor
    /// does not have.
    pub(super) fn from_tensors(tensors: &[Tensor<'_>]) -> Result<Self, String> {
        let dims = |tensor: &Tensor<'_>| {
            let dims = tensor
                .shape
                .iter()
                .map(|dim| u64::try_from(*dim))
                .collect::<Result<_, _>>();
            dims.map_err(|_| format!("tensor {:?} has a negative dim", tensor.name))
        };
        tensors.iter().map(dims).collect::<Result<_, _>>().map(Self)
    }
}

/// Converts checked tensors to arguments. Fails on values that a checked tensor cannot have.
pub(super) fn arguments<'a>(
    tensors: &'a [Tensor<'_>],
    dims: &'a Dims,
) -> Result<Vec<types::TensorParam<'a>>, String> {
    let argument = |(tensor, shape): (&'a Tensor<'_>, &'a Vec<u64>)| {
        let datatype = Datatype::from_name(&tensor.datatype).ok_or_else(|| {
            format!(
                "tensor {:?} has unknown datatype {:?}",
                tensor.name, tensor.datatype
            )
        })?;
        let data = tensor
            .data
            .as_ref()
            .map_err(|fault| format!("tensor {:?}: {fault}", tensor.name))?;
        Ok(types::TensorParam {
            name: &tensor.name,
            datatype: to_abi(datatype),
            shape,
            data,
        })
    };
    tensors.iter().zip(&dims.0).map(argument).collect()
}

/// Converts the results of a call. Checks that they can be tensors at all, not that they fit a
/// contract.
pub(super) fn results(returned: Vec<types::TensorResult>) -> Result<Vec<Tensor<'static>>, String> {
    if returned.len() > MAX_OUTPUT_TENSORS {
        return Err(format!(
            "{} tensors, at most {MAX_OUTPUT_TENSORS} are allowed",
            returned.len()
        ));
    }
    returned.into_iter().map(result).collect()
}

fn result(returned: types::TensorResult) -> Result<Tensor<'static>, String> {
    let types::TensorResult {
        name,
        datatype,
        shape,
        data,
    } = returned;
    if name.len() > MAX_NAME_BYTES {
        return Err(format!(
            "a tensor's name has {} bytes, at most {MAX_NAME_BYTES} are allowed",
            name.len()
        ));
    }
    if shape.len() > MAX_RANK {
        return Err(format!(
            "tensor {name:?} has {} dims, at most {MAX_RANK} are allowed",
            shape.len()
        ));
    }
    let dim =
        |dim: u64| i64::try_from(dim).map_err(|_| format!("tensor {name:?} has a dim of {dim}"));
    let shape = shape
        .into_iter()
        .map(dim)
        .collect::<Result<Vec<i64>, _>>()?;
    Ok(Tensor {
        name: Cow::Owned(name),
        datatype: Cow::Borrowed(from_abi(datatype).name()),
        shape,
        parameters: Vec::new(),
        data: Ok(data.into()),
    })
}

macro_rules! datatypes {
    ($($ours:ident = $abi:ident),+ $(,)?) => {
        const fn to_abi(datatype: Datatype) -> types::Datatype {
            match datatype { $(Datatype::$ours => types::Datatype::$abi,)+ }
        }

        const fn from_abi(datatype: types::Datatype) -> Datatype {
            match datatype { $(types::Datatype::$abi => Datatype::$ours,)+ }
        }
    };
}

datatypes! {
    Bool = Bool,
    Uint8 = Uint8,
    Uint16 = Uint16,
    Uint32 = Uint32,
    Uint64 = Uint64,
    Int8 = Int8,
    Int16 = Int16,
    Int32 = Int32,
    Int64 = Int64,
    Fp16 = Fp16,
    Bf16 = Bf16,
    Fp32 = Fp32,
    Fp64 = Fp64,
    Bytes = Bytes,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use tensorgate_policy::tensor::DataFault;

    use super::*;

    fn returned(name: &str, shape: Vec<u64>) -> types::TensorResult {
        types::TensorResult {
            name: name.into(),
            datatype: types::Datatype::Bf16,
            shape,
            data: vec![1, 2],
        }
    }

    #[test]
    fn every_datatype_survives_both_ways() {
        for datatype in Datatype::ALL {
            assert_eq!(from_abi(to_abi(datatype)), datatype);
        }
    }

    #[test]
    fn results_that_cannot_be_tensors_are_refused() {
        for (results_in, expected) in [
            (
                vec![returned("x", vec![1]); MAX_OUTPUT_TENSORS + 1],
                "65 tensors, at most 64 are allowed",
            ),
            (
                vec![returned("x", vec![u64::MAX])],
                "tensor \"x\" has a dim of 18446744073709551615",
            ),
            (
                vec![returned("x", vec![1 << 63])],
                "tensor \"x\" has a dim of 9223372036854775808",
            ),
            (
                vec![returned("x", vec![1; MAX_RANK + 1])],
                "tensor \"x\" has 17 dims, at most 16 are allowed",
            ),
            (
                vec![returned(&"x".repeat(257), vec![1])],
                "a tensor's name has 257 bytes, at most 256 are allowed",
            ),
        ] {
            assert_eq!(results(results_in).unwrap_err(), expected);
        }
    }

    #[test]
    fn a_result_is_taken_as_it_is() {
        let tensors = results(vec![returned("x", vec![1, i64::MAX.unsigned_abs()])]).unwrap();
        assert_eq!(
            tensors,
            [Tensor {
                name: "x".into(),
                datatype: "BF16".into(),
                shape: vec![1, i64::MAX],
                parameters: vec![],
                data: Ok(vec![1, 2].into()),
            }]
        );
    }

    #[test]
    fn tensors_that_no_check_lets_pass_are_refused_as_arguments() {
        let tensor = |datatype: &'static str, shape, data| Tensor {
            name: "x".into(),
            datatype: datatype.into(),
            shape,
            parameters: vec![],
            data,
        };
        for (tensor, expected) in [
            (
                tensor("FP32", vec![-1], Ok((&[][..]).into())),
                "tensor \"x\" has a negative dim",
            ),
            (
                tensor("FP8", vec![1], Ok((&[1][..]).into())),
                "tensor \"x\" has unknown datatype \"FP8\"",
            ),
            (
                tensor("FP32", vec![1], Err(DataFault::Missing)),
                "tensor \"x\": no contents",
            ),
        ] {
            let tensors = [tensor];
            let found = Dims::from_tensors(&tensors)
                .and_then(|dims| arguments(&tensors, &dims).map(|_| ()));
            assert_eq!(found.unwrap_err(), expected);
        }
    }
}
