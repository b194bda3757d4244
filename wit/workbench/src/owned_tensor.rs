//! Tensors of Open Inference JSON that outlive their document.

use std::borrow::Cow;

use tensorgate_policy::tensor::items;
use tensorgate_policy::{Datatype, Tensor};

/// A decoded tensor without its parameters, which owns its data.
///
/// # Errors
/// It has an unknown datatype or invalid data, or another number of elements than its shape has.
pub fn owned(tensor: Tensor<'_>) -> Result<Tensor<'static>, String> {
    let name = tensor.name.into_owned();
    let at = |fault: String| format!("tensor {name:?}: {fault}");
    let datatype = Datatype::from_name(&tensor.datatype)
        .ok_or_else(|| at(format!("unknown datatype {:?}", tensor.datatype)))?;
    let data = tensor.data.map_err(|fault| at(fault.to_string()))?;
    let elements = tensor.shape.iter().try_fold(1_usize, |count, dim| {
        count.checked_mul(usize::try_from(*dim).ok()?)
    });
    let found = match datatype.size_bytes() {
        Some(size) => data.len().checked_div(size),
        None => Some(items(&data).count()),
    };
    if elements.is_none() || elements != found {
        return Err(at(format!(
            "{} elements for a shape of {:?}",
            found.unwrap_or(0),
            tensor.shape
        )));
    }
    Ok(Tensor {
        name: Cow::Owned(name),
        datatype: Cow::Borrowed(datatype.name()),
        shape: tensor.shape,
        parameters: Vec::new(),
        data: Ok(data.into_vec().into()),
    })
}
