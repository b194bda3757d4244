//! Protocols of inference servers from their clients' side: what a server gets is written from checked tensors, and what it says is read as untrusted
//! input. Whether an answer's tensors keep the contract is the caller's to check.

pub mod open_inference;
pub mod tf_serving;
pub mod torchserve;

use std::borrow::Cow;

use tensorgate_policy::Tensor;

/// A tensor that owns what it holds; the error is for the log.
pub(crate) fn owned(tensor: Tensor<'_>) -> Result<Tensor<'static>, String> {
    let Tensor {
        name,
        datatype,
        shape,
        parameters: _,
        data,
    } = tensor;
    let name = name.into_owned();
    match data {
        Ok(data) => Ok(Tensor {
            name: Cow::Owned(name),
            datatype: Cow::Owned(datatype.into_owned()),
            shape,
            parameters: Vec::new(),
            data: Ok(Cow::Owned(data.into_owned())),
        }),
        Err(fault) => Err(format!("output {name:?}: {fault:?}")),
    }
}
