//! Calls that make torch's tensors, and what describes them.
//!
//! torch compares shape, strides and offset of a tensor with its storage. Attributes are set by any
//! name that a dictionary has: [`super::keys`] knows the names that are more than data.

use super::allowed::Global;
use super::value::Value;

/// The result of a call; nothing if the call is not allowed.
pub(super) fn call(global: Global, arguments: &[Value]) -> Option<Value> {
    let is_tensor = match (global, arguments) {
        (Global::Parameter, [Value::Tensor, grad, Value::OrderedDict]) => grad.is_bool(),
        (Global::ParameterWithState, [Value::Tensor, grad, Value::OrderedDict, state]) => {
            grad.is_bool() && is_state(state)
        }
        (Global::TensorOfType, [Value::Global(function), class, inner, state]) => {
            let is_of_type = matches!(class, Value::Global(Global::TensorType));
            if !is_of_type || !is_state(state) || !makes_tensor(*function) {
                return None;
            }
            return call(*function, inner.items()?);
        }
        (Global::MetaTensor, [Value::Global(Global::TorchDtype), shape, strides, grad]) => {
            shape.is_shape() && strides.is_shape() && grad.is_bool()
        }
        (Global::DeviceTensor, [Value::Tensor, dtype, Value::Text(Some(_)), grad])
        | (Global::DeviceTensorFromArray, [Value::Array, dtype, Value::Text(Some(_)), grad]) => {
            is_dtype(dtype) && grad.is_bool()
        }
        // The layout, and indices, values and shape.
        (Global::SparseTensor, [Value::Plain, parts]) => are_parts(parts),
        (Global::Layout, [Value::Text(Some(_))])
        | (Global::Device, [Value::Text(Some(_))] | [Value::Text(Some(_)), Value::Int(_)]) => {
            return Some(Value::Plain);
        }
        (Global::Size, [sizes]) => return sizes.is_shape().then_some(Value::Plain),
        (_, [Value::Storage, Value::Int(_), shape, strides, rest @ ..]) => {
            shape.is_shape() && strides.is_shape() && is_view(global, rest)
        }
        _ => false,
    };
    is_tensor.then_some(Value::Tensor)
}

/// Whether a function makes a tensor of what follows its storage, offset, shape and strides.
fn is_view(global: Global, rest: &[Value]) -> bool {
    let are_flags = |grad: &Value, hooks: &Value| {
        grad.is_bool() && matches!(hooks, Value::OrderedDict | Value::None)
    };
    match (global, rest) {
        (Global::Tensor, []) => true,
        // The last argument marks numbers as conjugated or negated.
        (Global::TensorV2, [grad, hooks] | [grad, hooks, Value::Dict]) => are_flags(grad, hooks),
        (Global::TensorV3, [grad, hooks, dtype] | [grad, hooks, dtype, Value::Dict]) => {
            is_dtype(dtype) && are_flags(grad, hooks)
        }
        (Global::QuantizedTensor, [quantizer, grad, Value::OrderedDict]) => {
            are_parts(quantizer) && grad.is_bool()
        }
        _ => false,
    }
}

/// Whether a function makes a tensor without a class of its own.
const fn makes_tensor(function: Global) -> bool {
    matches!(
        function,
        Global::Tensor
            | Global::TensorV2
            | Global::TensorV3
            | Global::Parameter
            | Global::MetaTensor
    )
}

const fn is_dtype(value: &Value) -> bool {
    matches!(value, Value::Global(Global::TorchDtype))
}

/// Whether a value holds attributes: a dictionary, and perhaps one for slots.
fn is_state(state: &Value) -> bool {
    let is_part = |part: &Value| matches!(part, Value::Dict | Value::None);
    match state.items() {
        Some([attributes, slots]) => is_part(attributes) && is_part(slots),
        _ => is_part(state),
    }
}

/// Whether a value is a tuple of tensors, numbers and constants.
fn are_parts(value: &Value) -> bool {
    let is_part = |part: &Value| {
        let is_constant = matches!(part, Value::Global(global) if !global.is_callable());
        is_constant
            || part.is_bool()
            || part.is_shape()
            || matches!(
                part,
                Value::Tensor
                    | Value::Plain
                    | Value::Int(_)
                    | Value::Number
                    | Value::List
                    | Value::None
            )
    };
    value.items().is_some_and(|parts| parts.iter().all(is_part))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Cursor;

    use super::super::scan_torch;
    use crate::scan::{Limits, Verdict};

    /// The arguments of a tensor, as a tuple.
    const ARGUMENTS: &[u8] = b"((\x8c\x07storagectorch\nFloatStorage\n\x8c\x010\x8c\x03cpuK\x02tQ\
        K\0K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)Rt";

    fn tensor() -> Vec<u8> {
        [
            b"ctorch._utils\n_rebuild_tensor_v2\n".as_slice(),
            ARGUMENTS,
            b"R",
        ]
        .concat()
    }

    fn check(parts: &[&[u8]], expected: Verdict) {
        let pickle = parts.concat();
        let (report, _) = scan_torch(&mut Cursor::new(&pickle), &Limits::default(), false).unwrap();
        let shown = pickle.escape_ascii();
        assert_eq!(report.verdict, expected, "{shown}: {:?}", report.findings);
    }

    #[test]
    fn attributes_of_tensors_are_data_by_plain_names() {
        let begin = b"ctorch._utils\n_rebuild_parameter_with_state\n(";
        let hooks = b"\x88ccollections\nOrderedDict\n)R";
        for (state, expected) in [
            (&b"N"[..], Verdict::Safe),
            (b"}(\x8c\x04nameK\x01u", Verdict::Safe),
            (b"}}\x86", Verdict::Safe),
            // A reader of arrays takes an address from it.
            (b"}(\x8c\x13__array_interface__}u", Verdict::Unknown),
            (b"}(\x8c\x09__class__ctorch\nTensor\nu", Verdict::Executable),
            (b"]", Verdict::Executable),
            (b"ccollections\nOrderedDict\n)R", Verdict::Executable),
        ] {
            check(&[begin, &tensor(), hooks, state, b"tR."], expected);
        }
        // The last argument of a tensor is a dictionary of marks.
        let marks = ARGUMENTS.strip_suffix(b"t").unwrap();
        let rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n";
        check(&[rebuild, marks, b"}tR."], Verdict::Safe);
        check(&[rebuild, marks, b"]tR."], Verdict::Executable);
    }

    #[test]
    fn only_functions_that_make_tensors_are_called() {
        let begin = b"ctorch._tensor\n_rebuild_from_type_v2\n(";
        let parameter = b"ctorch.nn.parameter\nParameter\n";
        for (function, class, expected) in [
            (
                &b"ctorch._utils\n_rebuild_tensor_v2\n"[..],
                &parameter[..],
                Verdict::Safe,
            ),
            (
                b"ctorch._utils\n_rebuild_tensor_v2\n",
                b"ctorch\nTensor\n",
                Verdict::Safe,
            ),
            (
                b"ctorch._utils\n_rebuild_tensor_v2\n",
                b"cnumpy\nndarray\n",
                Verdict::Executable,
            ),
            (
                b"ctorch._utils\n_rebuild_parameter\n",
                parameter,
                Verdict::Executable,
            ),
            (
                b"ctorch._tensor\n_rebuild_from_type_v2\n",
                parameter,
                Verdict::Executable,
            ),
            (b"cbuiltins\ndict\n", parameter, Verdict::Executable),
            (b"cos\nsystem\n", parameter, Verdict::Executable),
        ] {
            check(&[begin, function, class, ARGUMENTS, b"}tR."], expected);
        }
    }

    #[test]
    fn tensors_that_no_reader_compares_are_unknown() {
        let meta = b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n(";
        check(
            &[meta, b"ctorch\nfloat32\nK\x02\x85K\x01\x85\x89tR."],
            Verdict::Safe,
        );
        check(
            &[meta, b"ctorch\nquint8\nK\x02\x85K\x01\x85\x89tR."],
            Verdict::Executable,
        );
        let sparse = b"ctorch._utils\n_rebuild_sparse_tensor\n(\
            ctorch.serialization\n_get_layout\n\x8c\x10torch.sparse_coo\x85R(";
        check(
            &[sparse, &tensor(), &tensor(), b"K\x04K\x04\x86ttR."],
            Verdict::Unknown,
        );
        check(
            &[sparse, &tensor(), b"cos\nsystem\nttR."],
            Verdict::Executable,
        );
        let quantized = b"ctorch._utils\n_rebuild_qtensor\n(\
            (\x8c\x07storagectorch\nQUInt8Storage\n\x8c\x010\x8c\x03cpuK\x02tQ\
            K\0K\x02\x85K\x01\x85ctorch\nper_tensor_affine\n";
        let end = b"\x87\x89ccollections\nOrderedDict\n)RtR.";
        check(
            &[quantized, b"G?\xf0\0\0\0\0\0\0K\0", end],
            Verdict::Unknown,
        );
        check(
            &[quantized, b"cbuiltins\nint\nK\0", end],
            Verdict::Executable,
        );
        // Storages of a GPU, and numbers without a meaning of their own.
        let storage = b"(\x8c\x07storagectorch.cuda\nFloatStorage\n\x8c\x010\x8c\x06cuda:0K\x02tQ.";
        check(&[storage], Verdict::Safe);
        check(&[b"ctorch.cuda\nTypedStorage\n."], Verdict::Executable);
        check(&[b"ctorch\nbits8\n."], Verdict::Safe);
        // The constants alone are data.
        check(&[b"}\x8c\x01actorch\nqint8\ns."], Verdict::Safe);
        check(
            &[b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n."],
            Verdict::Unknown,
        );
    }
}
