//! With which arguments an allowed global may be called, and what BUILD may do to its result.

use super::allowed::Global;
use super::value::{Dtype, Value};

/// A storage that a tensor's data comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Its name: a member of the zip archive, or a key of the list in a legacy file.
    pub key: String,
    /// Bytes of an element.
    pub element_bytes: u8,
    /// How many elements it has.
    pub elements: u64,
}

/// What BUILD does to a value.
pub(super) enum Built {
    /// It sets data.
    Fine,
    /// It sets data whose layout is not checked here.
    Unchecked(&'static str),
    /// It can run code, or make memory be read as what it is not.
    Refused,
}

/// The result of a call; nothing if the call is not allowed.
pub(super) fn call(global: Global, arguments: &[Value]) -> Option<Value> {
    match (global, arguments) {
        (Global::OrderedDict, [] | [Value::List]) => Some(Value::OrderedDict),
        // Of anything but a dictionary it would count the items.
        (Global::Counter, [Value::Dict]) => Some(Value::Plain),
        (Global::Set, [] | [Value::List]) => Some(Value::Set),
        (Global::FrozenSet, [] | [Value::List]) => Some(Value::Plain),
        (Global::Bytes, []) => Some(Value::Bytes),
        // A number as the argument would be a length that is allocated.
        (Global::ByteArray, [] | [Value::Bytes]) => Some(Value::ByteArray),
        (Global::ByteArray, [Value::Text(_), codec]) => {
            (codec.text() == Some("latin-1")).then_some(Value::ByteArray)
        }
        (Global::Complex, [Value::Number, Value::Number]) => Some(Value::Plain),
        (Global::Range, [_, _, _]) => arguments
            .iter()
            .all(|bound| matches!(bound, Value::Int(_)))
            .then_some(Value::Plain),
        (Global::Slice, [_, _, _]) => arguments
            .iter()
            .all(|bound| matches!(bound, Value::Int(_) | Value::None))
            .then_some(Value::Plain),
        (Global::Encode, [Value::Text(_), codec]) => {
            (codec.text() == Some("latin1")).then_some(Value::Bytes)
        }
        // The shape is (0,), so that nothing is allocated for it.
        (
            Global::Reconstruct,
            [
                Value::Global(Global::NdArray),
                shape,
                Value::Bytes | Value::Text(_),
            ],
        ) => matches!(shape.items(), Some([Value::Int(0)])).then_some(Value::Array),
        (Global::Dtype, [code, align, copy]) => dtype(code, align, copy),
        (Global::Scalar, [Value::Dtype(dtype), Value::Bytes | Value::Text(_)]) => {
            (dtype.letter != b'O').then_some(Value::Plain)
        }
        (
            Global::FromBuffer,
            [
                Value::Bytes | Value::ByteArray,
                Value::Dtype(dtype),
                shape,
                order,
                axes @ ..,
            ],
        ) => {
            let has_order = match axes {
                [] => matches!(order.text(), Some("C" | "F")),
                // The order of the axes in memory.
                [axes] => order.text() == Some("K") && axes.is_shape(),
                _ => false,
            };
            let is_plain = dtype.letter != b'O' && shape.is_shape() && has_order;
            is_plain.then_some(Value::Array)
        }
        (Global::Tensor, [Value::Storage, Value::Int(_), shape, strides]) => {
            (shape.is_shape() && strides.is_shape()).then_some(Value::Tensor)
        }
        (Global::TensorV2, [tensor @ .., hooks]) if tensor.len() == 5 => tensor_of(tensor, hooks),
        (Global::TensorV3, [tensor @ .., hooks, Value::Global(Global::TorchDtype)])
            if tensor.len() == 5 =>
        {
            tensor_of(tensor, hooks)
        }
        (Global::Parameter, [Value::Tensor, grad, Value::OrderedDict]) => {
            grad.is_bool().then_some(Value::Tensor)
        }
        (Global::Size, [sizes]) => sizes.is_shape().then_some(Value::Plain),
        (Global::Device, [Value::Text(Some(_))] | [Value::Text(Some(_)), Value::Int(_)]) => {
            Some(Value::Plain)
        }
        _ => None,
    }
}

/// A dtype from a code of a letter and a size, as a copy: BUILD would change a shared one.
fn dtype(code: &Value, align: &Value, copy: &Value) -> Option<Value> {
    let is_copy = matches!(copy, Value::Bool(true) | Value::Int(1));
    let is_packed = matches!(align, Value::Bool(false) | Value::Int(0));
    let code = code.text()?;
    let letter = *code.as_bytes().first()?;
    let digits = code.get(1..)?;
    if !is_copy || !is_packed || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<u32>().ok()?;
    let is_known = match letter {
        b'b' | b'i' | b'u' | b'f' | b'c' => matches!(size, 1 | 2 | 4 | 8 | 12 | 16 | 24 | 32),
        b'M' | b'm' | b'O' => matches!(size, 4 | 8),
        b'S' | b'U' | b'V' => true,
        _ => false,
    };
    is_known.then_some(Value::Dtype(Dtype { letter, size }))
}

/// A tensor from a storage, an offset, a shape, strides and a flag; `hooks` is empty data.
fn tensor_of(tensor: &[Value], hooks: &Value) -> Option<Value> {
    let [Value::Storage, Value::Int(_), shape, strides, grad] = tensor else {
        return None;
    };
    let is_plain = shape.is_shape()
        && strides.is_shape()
        && grad.is_bool()
        && matches!(hooks, Value::OrderedDict | Value::None);
    is_plain.then_some(Value::Tensor)
}

/// What BUILD does with a state.
pub(super) fn build(object: &Value, state: &Value) -> Built {
    match object {
        Value::Dtype(dtype) => dtype_state(*dtype, state),
        Value::Array => array_state(state),
        // Its attributes, such as torch's `_metadata`. They are data, and it is no class.
        Value::OrderedDict if matches!(state, Value::Dict) => Built::Fine,
        // Its program's own code takes the state.
        Value::ScriptObject => Built::Fine,
        _ => Built::Refused,
    }
}

/// A state must not change what a dtype's code fixed. numpy takes flags and sizes as they are: a
/// dtype of objects with other flags would make pointers out of a file's bytes.
fn dtype_state(dtype: Dtype, state: &Value) -> Built {
    let Some(items) = state.items() else {
        return Built::Refused;
    };
    let [
        Value::Int(version),
        order,
        subarray,
        names,
        fields,
        Value::Int(size),
        Value::Int(alignment),
        Value::Int(flags),
        rest @ ..,
    ] = items
    else {
        return Built::Refused;
    };
    if !matches!(
        (subarray, names, fields),
        (Value::None, Value::None, Value::None)
    ) {
        return Built::Unchecked("the layout of a structured dtype");
    }
    let length = i64::from(dtype.size);
    let expected = match dtype.letter {
        b'S' | b'V' => (length, 1, 0),
        b'U' => (length.saturating_mul(4), 4, 8),
        b'O' => (-1, -1, 63),
        _ => (-1, -1, 0),
    };
    let has_no_order = matches!(dtype.letter, b'S' | b'V' | b'O');
    let is_order = match order.text() {
        Some("|") => true,
        Some("<" | ">" | "=") => !has_no_order,
        _ => false,
    };
    let has_form = match (version, rest) {
        (3, []) => true,
        // The unit of times.
        (4, [Value::Tuple(_)]) => matches!(dtype.letter, b'M' | b'm'),
        _ => false,
    };
    if has_form && is_order && (*size, *alignment, *flags) == expected {
        Built::Fine
    } else {
        Built::Refused
    }
}

/// Version, shape, dtype, order and elements: a list of objects, or bytes.
fn array_state(state: &Value) -> Built {
    let Some([Value::Int(1), shape, Value::Dtype(dtype), order, elements]) = state.items() else {
        return Built::Refused;
    };
    let has_elements = if dtype.letter == b'O' {
        matches!(elements, Value::List)
    } else {
        matches!(elements, Value::Bytes | Value::Text(_))
    };
    if !has_elements || !shape.is_shape() || !order.is_bool() {
        Built::Refused
    } else if dtype.letter == b'O' {
        // numpy takes as many as the shape has, without a look at the length of the list.
        Built::Unchecked("the number of objects in an array")
    } else {
        Built::Fine
    }
}

/// The storage that a persistent identifier of torch names.
pub(super) fn storage(identifier: &Value) -> Option<Storage> {
    let [
        kind,
        Value::Global(Global::Storage(element_bytes)),
        key,
        location,
        Value::Int(elements),
        rest @ ..,
    ] = identifier.items()?
    else {
        return None;
    };
    // Legacy files had views of storages, which torch no longer writes.
    let has_form = kind.text() == Some("storage")
        && location.text().is_some()
        && matches!(rest, [] | [Value::None]);
    let elements = u64::try_from(*elements).ok()?;
    if !has_form {
        return None;
    }
    Some(Storage {
        key: key.text()?.to_owned(),
        element_bytes: *element_bytes,
        elements,
    })
}
