//! With which arguments an allowed global may be called, and what BUILD may do to its result.

use super::allowed::Global;
use super::keys::Keys;
use super::value::{Built, Dtype, Value};
use super::{generators, tensors};

/// The longest name of a storage: torch writes a number.
pub(super) const MAX_STORAGE_NAME_BYTES: usize = 32;

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

/// The result of a call; nothing if the call is not allowed.
pub(super) fn call(global: Global, arguments: &[Value]) -> Option<Value> {
    match (global, arguments) {
        (Global::OrderedDict, [] | [Value::List]) => Some(Value::OrderedDict),
        (Global::DefaultDict, [] | [Value::None]) => Some(Value::DefaultDict),
        (Global::DefaultDict, [Value::Global(factory)]) => {
            is_factory(*factory).then_some(Value::DefaultDict)
        }
        (Global::Date, [Value::Bytes | Value::Text(_)])
        | (
            Global::Time,
            [Value::Bytes | Value::Text(_)] | [Value::Bytes | Value::Text(_), Value::Plain],
        )
        | (Global::TimeDelta, [Value::Int(_), Value::Int(_), Value::Int(_)])
        | (Global::TimeZone, [Value::Plain] | [Value::Plain, Value::Text(_)]) => Some(Value::Plain),
        (Global::Path, parts) => parts
            .iter()
            .all(|part| matches!(part, Value::Text(_)))
            .then_some(Value::Plain),
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
            match dtype.letter {
                b'O' => None,
                // A text that this scanner does not read. A dictionary takes it for the same key.
                b'U' => Some(Value::Opaque),
                _ => Some(Value::Plain),
            }
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
        _ => tensors::call(global, arguments).or_else(|| generators::call(global, arguments)),
    }
}

/// Whether a type makes an empty value when it is called without arguments.
const fn is_factory(global: Global) -> bool {
    matches!(
        global,
        Global::Plain
            | Global::OrderedDict
            | Global::DefaultDict
            | Global::Counter
            | Global::Set
            | Global::FrozenSet
            | Global::Bytes
            | Global::ByteArray
            | Global::Complex
    )
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

/// What BUILD does with a state. `keys` are those of all dictionaries.
pub(super) fn build(object: &Value, state: &Value, keys: &Keys) -> Built {
    match object {
        Value::Generator => generators::state(state, keys),
        Value::SeedSequence => generators::seed_state(state),
        Value::Dtype(dtype) => dtype_state(*dtype, state),
        Value::Array => array_state(state),
        // Its attributes, such as torch's `_metadata`. They are data, and it is no class.
        Value::OrderedDict if matches!(state, Value::Dict) => {
            if keys.has_array_name() {
                Built::Unchecked("an attribute from which readers of arrays take an address")
            } else {
                Built::Fine
            }
        }
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
        Value::Global(Global::Storage(element_bytes) | Global::QuantizedStorage(element_bytes)),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::Cursor;

    use super::super::scan;
    use crate::scan::{Limits, Verdict};

    /// Readers of arrays look for such an attribute of any object, and read what it points to.
    #[test]
    fn attributes_of_dictionaries_are_no_addresses() {
        for (key, expected) in [
            (&b"\x8c\x09_metadata"[..], Verdict::Safe),
            (b"\x8c\x0b__version__", Verdict::Safe),
            (b"\x8c\x13__array_interface__", Verdict::Unknown),
            (b"V\\u005f_array_struct__\n", Verdict::Unknown),
        ] {
            let begin = b"ccollections\nOrderedDict\n)R}";
            let pickle = [begin.as_slice(), key, b"}sb."].concat();
            let report = scan(&mut Cursor::new(&pickle), &Limits::default()).unwrap();
            let shown = pickle.escape_ascii();
            assert_eq!(report.verdict, expected, "{shown}: {:?}", report.findings);
        }
    }

    #[test]
    fn times_paths_and_dictionaries_with_defaults_are_data() {
        let cases: [(&[u8], Verdict); 25] = [
            (
                b"cdatetime\ndate\nC\x04\x07\xe4\x01\x01\x85R.",
                Verdict::Safe,
            ),
            (
                b"cdatetime\ndatetime\nC\x0a\x07\xe4\x01\x01\0\0\0\0\0\0cdatetime\ntimezone\n\
              cdatetime\ntimedelta\nK\0K\0K\0\x87R\x85R\x86R.",
                Verdict::Safe,
            ),
            (b"cdatetime\ntime\nC\x06\x01\0\0\0\0\0\x85R.", Verdict::Safe),
            (
                b"cpathlib\nPosixPath\n\x8c\x01/\x8c\x01a\x86R.",
                Verdict::Safe,
            ),
            (b"cpathlib._local\nWindowsPath\n)R.", Verdict::Safe),
            // Python 2's names, and a dictionary in a dictionary.
            (
                b"ccollections\ndefaultdict\nc__builtin__\ndict\n\x85RK\x01}s.",
                Verdict::Safe,
            ),
            (
                b"ccollections\ndefaultdict\nccollections\nOrderedDict\n\x85R.",
                Verdict::Safe,
            ),
            (b"ccollections\ndefaultdict\nN\x85R.", Verdict::Safe),
            (b"]ctorch\nFloatTensor\na.", Verdict::Safe),
            (b"]ctorch.cuda.sparse\nByteTensor\na.", Verdict::Safe),
            (
                b"}\x8c\x0c__setstate__ctorch\nFloatTensor\ns.",
                Verdict::Executable,
            ),
            // Its numbers would be what was in memory before.
            (
                b"ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.",
                Verdict::Executable,
            ),
            (b"]ctorch.cuda\nlist_gpu_processes\na.", Verdict::Executable),
            (
                b"ccollections\ndefaultdict\ncos\nsystem\n\x85R.",
                Verdict::Executable,
            ),
            (
                b"ccollections\ndefaultdict\ncpathlib\nPath\n\x85R.",
                Verdict::Executable,
            ),
            (
                b"ccollections\ndefaultdict\ncnumpy\ndtype\n\x85R.",
                Verdict::Executable,
            ),
            (
                b"ccollections\ndefaultdict\nK\x01\x85R.",
                Verdict::Executable,
            ),
            (
                b"ccollections\ndefaultdict\ncbuiltins\nint\n\x85R}b.",
                Verdict::Executable,
            ),
            (b"cbuiltins\nint\n\x8c\x0299\x85R.", Verdict::Executable),
            (
                b"}\x8c\x0c__setstate__cbuiltins\nint\ns.",
                Verdict::Executable,
            ),
            (b"cpathlib\nPath\nK\x01\x85R.", Verdict::Executable),
            (b"cpathlib\nPath\n\x8c\x01a\x85R}b.", Verdict::Executable),
            (
                b"cpathlib\nPath.unlink\n\x8c\x01a\x85R.",
                Verdict::Executable,
            ),
            (
                b"cdatetime\ndatetime\nM\xe4\x07K\x01K\x01\x87R.",
                Verdict::Executable,
            ),
            (
                b"cdatetime\ntimedelta\ncos\nsystem\nK\0K\0\x87R.",
                Verdict::Executable,
            ),
        ];
        for (pickle, expected) in cases {
            let report = scan(&mut Cursor::new(pickle), &Limits::default()).unwrap();
            let shown = pickle.escape_ascii();
            assert_eq!(report.verdict, expected, "{shown}: {:?}", report.findings);
        }
    }
}
