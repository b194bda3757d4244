//! Tensors of a response, copied out of the message that they were read from.

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
            data: Ok(data.into_vec().into()),
        }),
        Err(fault) => Err(format!("output {name:?}: {fault:?}")),
    }
}
