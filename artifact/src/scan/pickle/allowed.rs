//! The globals that a pickle may import. Importing any other can run code.
//!
//! Each stands here with the reason why it is harmless; [`super::calls`] has the arguments with
//! which it may be called. Not here, though they look harmless:
//! - `copyreg._reconstructor`: none of the classes here needs it.
//! - `functools.partial`: it calls its first argument later, with other arguments.
//! - `torch.storage._load_from_bytes`: it unpickles its argument.
//! - `torch._utils._rebuild_wrapper_subclass`: it needs a class of a package, as `DTensor` is.
//!
//! Some run no code, and no reader checks what they make. [`Global::unchecked`] says why.

/// An allowed global.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    DefaultDict,
    Counter,
    /// A type of plain values that is never called here, but may fill a `defaultdict`.
    Plain,
    Date,
    Time,
    TimeDelta,
    TimeZone,
    Path,
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
    ParameterWithState,
    /// A tensor of a class, with attributes.
    TensorOfType,
    /// The class of tensors or of parameters.
    TensorType,
    MetaTensor,
    DeviceTensor,
    DeviceTensorFromArray,
    QuantizedTensor,
    SparseTensor,
    Layout,
    /// The class of a generator of random numbers.
    BitGenerator,
    /// Makes a generator from its class or its name.
    BitGeneratorOf,
    /// Makes an object that draws numbers from a generator.
    GeneratorOf,
    /// The same, as NumPy before 1.17 wrote it.
    RandomState,
    SeedSequence,
    /// Makes an empty seed sequence, which BUILD fills.
    SeedSequenceOf,
    /// The description of an array whose bytes follow.
    JoblibArray,
    Size,
    Device,
    /// A storage class, with the bytes of an element.
    Storage(u8),
    /// The same of quantized numbers.
    QuantizedStorage(u8),
    /// A torch dtype: a constant.
    TorchDtype,
    /// A class of a TorchScript program.
    ScriptClass,
    /// A list of numbers or tensors of a TorchScript program.
    ScriptList,
    /// Gives a value of a TorchScript program its type.
    ScriptType,
    /// A dtype of quantized numbers, or how they are quantized: a constant.
    QuantizedConstant,
}

impl Global {
    /// Why nothing that is made with it is safe, though it runs no code.
    pub(super) const fn unchecked(self) -> Option<&'static str> {
        Some(match self {
            Self::QuantizedTensor | Self::QuantizedStorage(_) => {
                "its tensors are not compared with the storage, and can show memory beyond it"
            }
            Self::SparseTensor => "the indices are not compared with the shape",
            Self::DeviceTensorFromArray => {
                "the tensor shows the memory of an array, which a later state frees"
            }
            _ => return None,
        })
    }

    /// Whether Python can call it: a function or a class, and no constant.
    pub(super) const fn is_callable(self) -> bool {
        !matches!(self, Self::TorchDtype | Self::QuantizedConstant)
    }
}

/// The allowed global of this name. Pickles of protocols 0 to 2 have Python 2's names.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        // A dictionary. Its constructor takes a list of pairs.
        ("collections", "OrderedDict") => Global::OrderedDict,
        // A dictionary, made from another one: the milestones of a schedule of torch.
        ("collections", "Counter") => Global::Counter,
        // A dictionary that calls a function for a missing key. Only types of plain values are
        // accepted as the function.
        ("collections", "defaultdict") => Global::DefaultDict,
        // Their bytes, and a time zone.
        ("datetime", "datetime" | "time") => Global::Time,
        ("datetime", "date") => Global::Date,
        // Three numbers.
        ("datetime", "timedelta") => Global::TimeDelta,
        // A difference and a name.
        ("datetime", "timezone") => Global::TimeZone,
        // Parts of a path. Nothing is opened until a program does so. Python 3.13 names the module
        // in which the classes are.
        (
            "pathlib" | "pathlib._local",
            "Path" | "PosixPath" | "PurePath" | "PurePosixPath" | "PureWindowsPath" | "WindowsPath",
        ) => Global::Path,
        ("builtins" | "__builtin__", _) => return builtin(name),
        // How protocols 0 to 2 write bytes: with the codec latin1 alone.
        ("_codecs", "encode") => Global::Encode,
        // An array. Only `_reconstruct` makes one.
        ("numpy", "ndarray") => Global::NdArray,
        // An element type. Only plain codes such as `f8` are accepted.
        ("numpy", "dtype") => Global::Dtype,
        // Makes an empty array, which BUILD fills.
        ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::Reconstruct,
        // Makes a number from its bytes. With an object dtype it would pass any value on.
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::Scalar,
        // An array over bytes. numpy refuses object dtypes here, and so does this scanner.
        ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Global::FromBuffer,
        ("numpy.random", "__RandomState_ctor") => Global::RandomState,
        ("numpy.random._pickle", "__bit_generator_ctor") => Global::BitGeneratorOf,
        ("numpy.random._pickle", "__generator_ctor" | "__randomstate_ctor") => Global::GeneratorOf,
        (
            "numpy.random._mt19937"
            | "numpy.random._pcg64"
            | "numpy.random._philox"
            | "numpy.random._sfc64",
            "MT19937" | "PCG64" | "PCG64DXSM" | "Philox" | "SFC64",
        ) => Global::BitGenerator,
        ("numpy.random.bit_generator", "SeedSequence") => Global::SeedSequence,
        ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence") => Global::SeedSequenceOf,
        // A view of a storage, which torch makes large enough: as releases before 0.4 wrote it.
        ("torch._utils", "_rebuild_tensor") => Global::Tensor,
        // The same with flags.
        ("torch._utils", "_rebuild_tensor_v2") => Global::TensorV2,
        // The same with the dtype given, for dtypes that have no storage class.
        ("torch._utils", "_rebuild_tensor_v3") => Global::TensorV3,
        // A tensor that is marked as a parameter.
        ("torch._utils", "_rebuild_parameter") => Global::Parameter,
        // The same with attributes.
        ("torch._utils", "_rebuild_parameter_with_state") => Global::ParameterWithState,
        // A shape without numbers.
        ("torch._utils", "_rebuild_meta_tensor_no_storage") => Global::MetaTensor,
        // A copy of a tensor for a device.
        ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor") => Global::DeviceTensor,
        ("torch._utils", "_rebuild_device_tensor_from_numpy") => Global::DeviceTensorFromArray,
        ("torch._utils", "_rebuild_qtensor") => Global::QuantizedTensor,
        ("torch._utils", "_rebuild_sparse_tensor") => Global::SparseTensor,
        // Calls its first argument, which has to be another of these functions.
        ("torch._tensor", "_rebuild_from_type_v2") => Global::TensorOfType,
        ("torch.nn.parameter", "Parameter") => Global::TensorType,
        // Finds a constant by its name.
        ("torch.serialization", "_get_layout") => Global::Layout,
        // `super::joblib` checks its attributes.
        ("joblib.numpy_pickle", "NumpyArrayWrapper") => Global::JoblibArray,
        // Bytes without a type.
        ("torch.storage", "UntypedStorage") => Global::Storage(1),
        ("torch", _) => return torch(name),
        ("torch.cuda" | "torch.cuda.sparse" | "torch.sparse", _) if is_tensor_class(name) => {
            Global::Plain
        }
        ("torch.cuda", _) => return storage(name),
        _ => return None,
    })
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
        // The last two are Python 2's.
        "bool" | "dict" | "float" | "int" | "list" | "str" | "tuple" | "long" | "unicode" => {
            Some(Global::Plain)
        }
        _ => None,
    }
}

/// Whether a class is that of tensors with one element type. Old programs name it where others
/// name a dtype.
fn is_tensor_class(name: &str) -> bool {
    matches!(
        name,
        "BFloat16Tensor"
            | "BoolTensor"
            | "ByteTensor"
            | "CharTensor"
            | "DoubleTensor"
            | "FloatTensor"
            | "HalfTensor"
            | "IntTensor"
            | "LongTensor"
            | "ShortTensor"
    )
}

/// Names in the module `torch`: value types, storage classes and constants.
fn torch(name: &str) -> Option<Global> {
    Some(match name {
        "Tensor" => Global::TensorType,
        _ if is_tensor_class(name) => Global::Plain,
        // A tuple of integers.
        "Size" => Global::Size,
        // The name of a device.
        "device" => Global::Device,
        "QInt32Storage" => Global::QuantizedStorage(4),
        "QInt8Storage" | "QUInt8Storage" | "QUInt2x4Storage" | "QUInt4x2Storage" => {
            Global::QuantizedStorage(1)
        }
        // Constants.
        "float64" | "float32" | "float16" | "bfloat16" | "bcomplex32" | "complex32"
        | "complex64" | "complex128" | "int64" | "int32" | "int16" | "int8" | "uint64"
        | "uint32" | "uint16" | "uint8" | "bool" | "float8_e4m3fn" | "float8_e4m3fnuz"
        | "float8_e5m2" | "float8_e5m2fnuz" | "float8_e8m0fnu" | "float4_e2m1fn_x2" | "int1"
        | "int2" | "int3" | "int4" | "int5" | "int6" | "int7" | "uint1" | "uint2" | "uint3"
        | "uint4" | "uint5" | "uint6" | "uint7" | "bits1x8" | "bits2x4" | "bits4x2" | "bits8"
        | "bits16" => Global::TorchDtype,
        "qint32"
        | "qint8"
        | "quint8"
        | "quint2x4"
        | "quint4x2"
        | "per_tensor_affine"
        | "per_tensor_symmetric"
        | "per_channel_affine"
        | "per_channel_symmetric"
        | "per_channel_affine_float_qparams" => Global::QuantizedConstant,
        _ => return storage(name),
    })
}

/// Whether torch has a type of elements, or a scheme of quantising, of this name.
pub(in crate::scan) fn is_torch_constant(name: &str) -> bool {
    matches!(
        torch(name),
        Some(Global::TorchDtype | Global::QuantizedConstant)
    )
}

/// Storage classes, of memory or of a GPU. They are named in the identifiers of storages, and are
/// never called.
fn storage(name: &str) -> Option<Global> {
    Some(match name {
        "ComplexDoubleStorage" => Global::Storage(16),
        "DoubleStorage" | "LongStorage" | "ComplexFloatStorage" => Global::Storage(8),
        "FloatStorage" | "IntStorage" => Global::Storage(4),
        "HalfStorage" | "ShortStorage" | "BFloat16Storage" => Global::Storage(2),
        "ByteStorage" | "CharStorage" | "BoolStorage" => Global::Storage(1),
        _ => return None,
    })
}
