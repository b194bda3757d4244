//! The globals that a pickle may import. Importing any other can run code.
//!
//! Each stands here with the reason why it is harmless; [`super::calls`] has the arguments with
//! which it may be called. Not here, though they look harmless:
//! - `copyreg._reconstructor`: none of the classes here needs it.
//! - `torch.storage._load_from_bytes`: it unpickles its argument.
//! - `torch._utils._rebuild_parameter_with_state`: it sets attributes of any name.
//! - `torch._utils._rebuild_qtensor`, and storage classes and dtypes of quantized numbers: their
//!   tensors are not compared with the storage, and can show memory beyond it.
//! - `torch._utils._rebuild_sparse_tensor`: the indices are not compared with the shape.
//! - `collections.defaultdict`: it calls its first argument later.

/// An allowed global.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    Counter,
    Set,
    FrozenSet,
    Bytes,
    ByteArray,
    Complex,
    Range,
    Slice,
    Encode,
    NdArray,
    Dtype,
    Reconstruct,
    Scalar,
    FromBuffer,
    Tensor,
    TensorV2,
    TensorV3,
    Parameter,
    /// The description of an array whose bytes follow.
    JoblibArray,
    Size,
    Device,
    /// A storage class, with the bytes of an element.
    Storage(u8),
    /// A torch dtype: a constant.
    TorchDtype,
    /// A class of a TorchScript program.
    ScriptClass,
    /// A list of numbers or tensors of a TorchScript program.
    ScriptList,
    /// Gives a value of a TorchScript program its type.
    ScriptType,
}

/// The allowed global of this name. Pickles of protocols 0 to 2 have Python 2's names.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    match module {
        "collections" => match name {
            // A dictionary. Its constructor takes a list of pairs.
            "OrderedDict" => Some(Global::OrderedDict),
            // A dictionary, made from another one: the milestones of a schedule of torch.
            "Counter" => Some(Global::Counter),
            _ => None,
        },
        "builtins" | "__builtin__" => builtin(name),
        "_codecs" => match name {
            // How protocols 0 to 2 write bytes: with the codec latin1 alone.
            "encode" => Some(Global::Encode),
            _ => None,
        },
        "numpy" => match name {
            // An array. Only `_reconstruct` makes one.
            "ndarray" => Some(Global::NdArray),
            // An element type. Only plain codes such as `f8` are accepted.
            "dtype" => Some(Global::Dtype),
            _ => None,
        },
        "numpy.core.multiarray" | "numpy._core.multiarray" => match name {
            // Makes an empty array, which BUILD fills.
            "_reconstruct" => Some(Global::Reconstruct),
            // Makes a number from its bytes. With an object dtype it would pass any value on.
            "scalar" => Some(Global::Scalar),
            _ => None,
        },
        "numpy.core.numeric" | "numpy._core.numeric" => match name {
            // An array over bytes. numpy refuses object dtypes here, and so does this scanner.
            "_frombuffer" => Some(Global::FromBuffer),
            _ => None,
        },
        "torch._utils" => match name {
            // A view of a storage, which torch makes large enough: as releases before 0.4 wrote it.
            "_rebuild_tensor" => Some(Global::Tensor),
            // The same with flags.
            "_rebuild_tensor_v2" => Some(Global::TensorV2),
            // The same with the dtype given, for dtypes that have no storage class.
            "_rebuild_tensor_v3" => Some(Global::TensorV3),
            // A tensor that is marked as a parameter.
            "_rebuild_parameter" => Some(Global::Parameter),
            _ => None,
        },
        "joblib.numpy_pickle" => match name {
            // `super::joblib` checks its attributes.
            "NumpyArrayWrapper" => Some(Global::JoblibArray),
            _ => None,
        },
        "torch.storage" => match name {
            // Bytes without a type.
            "UntypedStorage" => Some(Global::Storage(1)),
            _ => None,
        },
        "torch" => torch(name),
        _ => None,
    }
}

/// Types of plain values, as protocols before the one with an opcode for them write them.
fn builtin(name: &str) -> Option<Global> {
    match name {
        "set" => Some(Global::Set),
        "frozenset" => Some(Global::FrozenSet),
        // Only without arguments: how protocols 0 to 2 write empty bytes.
        "bytes" => Some(Global::Bytes),
        "bytearray" => Some(Global::ByteArray),
        "complex" => Some(Global::Complex),
        // Python 2's name of `range`.
        "range" | "xrange" => Some(Global::Range),
        "slice" => Some(Global::Slice),
        _ => None,
    }
}

/// Names in the module `torch`: value types, storage classes and constants.
fn torch(name: &str) -> Option<Global> {
    Some(match name {
        // A tuple of integers.
        "Size" => Global::Size,
        // The name of a device.
        "device" => Global::Device,
        // Storage classes are named in the identifiers of storages; they are never called.
        "ComplexDoubleStorage" => Global::Storage(16),
        "DoubleStorage" | "LongStorage" | "ComplexFloatStorage" => Global::Storage(8),
        "FloatStorage" | "IntStorage" => Global::Storage(4),
        "HalfStorage" | "ShortStorage" | "BFloat16Storage" => Global::Storage(2),
        "ByteStorage" | "CharStorage" | "BoolStorage" => Global::Storage(1),
        // Constants.
        "float64" | "float32" | "float16" | "bfloat16" | "complex32" | "complex64"
        | "complex128" | "int64" | "int32" | "int16" | "int8" | "uint64" | "uint32" | "uint16"
        | "uint8" | "bool" | "float8_e4m3fn" | "float8_e4m3fnuz" | "float8_e5m2"
        | "float8_e5m2fnuz" | "float8_e8m0fnu" => Global::TorchDtype,
        _ => return None,
    })
}
