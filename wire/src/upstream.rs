//! Client side of inference servers' protocols: requests are written from validated tensors, and
//! responses are parsed as untrusted input. The caller validates response tensors against the
//! contract.

pub mod open_inference;
pub mod tf_serving;
pub mod torchserve;

use std::borrow::Cow;

use tensorgate_policy::Tensor;

/// A tensor with owned data; the error is for the log.
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
