//! A second unpickler, which follows names alone: of a pickle that is safe it must find the end,
//! import only names that are data, and call only what it imported.
//!
//! It is written by the documentation of `pickletools` and shares neither code nor lists with the
//! scanner. A name that the scanner learns to accept is added to [`DATA`], too.

use std::collections::HashMap;
use std::mem;

/// Values of Python.
const VALUES: &[&str] = &[
    "bytearray",
    "bytes",
    "complex",
    "frozenset",
    "range",
    "set",
    "slice",
    "xrange",
];
const ARRAYS: &[&str] = &["_reconstruct", "scalar"];
/// Modules, and the names in them that are data.
const DATA: [(&str, &[&str]); 13] = [
    ("__builtin__", VALUES),
    ("_codecs", &["encode"]),
    ("builtins", VALUES),
    ("collections", &["Counter", "OrderedDict"]),
    ("joblib.numpy_pickle", &["NumpyArrayWrapper"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy._core.multiarray", ARRAYS),
    ("numpy._core.numeric", &["_frombuffer"]),
    ("numpy.core.multiarray", ARRAYS),
    ("numpy.core.numeric", &["_frombuffer"]),
    ("torch", &["Size", "device"]),
    (
        "torch._utils",
        &[
            "_rebuild_parameter",
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
        ],
    ),
    ("torch.storage", &["UntypedStorage"]),
];
/// Element types of torch. Each has a class of storages, or is a constant.
const TORCH_STORAGES: [&str; 12] = [
    "BFloat16",
    "Bool",
    "Byte",
    "Char",
    "ComplexDouble",
    "ComplexFloat",
    "Double",
    "Float",
    "Half",
    "Int",
    "Long",
    "Short",
];
const TORCH_TYPES: [&str; 21] = [
    "bfloat16",
    "bool",
    "complex128",
    "complex32",
    "complex64",
    "float16",
    "float32",
    "float64",
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
    "int16",
    "int32",
    "int64",
    "int8",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
];
/// The class behind whose state joblib writes the elements of an array.
const JOBLIB_ARRAY: &str = "joblib.numpy_pickle.NumpyArrayWrapper";
/// Pickles in a file of torch before 1.6. The data of storages follows them.
const LEGACY_PICKLES: usize = 5;

/// Follows the pickles of a file, up to an array of joblib.
pub(super) fn check_stream(file: &[u8]) {
    let mut rest = Some(file);
    while let Some(pickle) = rest.filter(|rest| !rest.is_empty()) {
        rest = Unpickler::new(pickle).follow();
    }
}

/// Follows the pickles of a file of torch before 1.6.
pub(super) fn check_legacy_torch(file: &[u8]) {
    let mut rest = file;
    for _ in 0..LEGACY_PICKLES {
        rest = Unpickler::new(rest).follow().expect("no array of joblib");
    }
}

/// What is known of a value.
#[derive(Clone, Debug)]
enum Value {
    Text(String),
    /// A module's name and a name in it.
    Import(String),
    /// What a call of an import gave.
    Result(String),
    Other,
}

/// The state between two operations of one pickle.
struct Unpickler<'d> {
    bytes: &'d [u8],
    stack: Vec<Value>,
    /// What is below each mark.
    below: Vec<Vec<Value>>,
    memo: HashMap<u64, Value>,
}

impl<'d> Unpickler<'d> {
    fn new(bytes: &'d [u8]) -> Self {
        Self {
            bytes,
            stack: Vec::new(),
            below: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// Follows one pickle. Returns what is behind it; nothing if an array of joblib comes first.
    fn follow(mut self) -> Option<&'d [u8]> {
        loop {
            let code = self.take(1)[0];
            match code {
                b'.' => {
                    self.pop(1);
                    return Some(self.bytes);
                }
                b'b' => {
                    self.pop(1);
                    let top = self.stack.last();
                    if matches!(top, Some(Value::Result(class)) if class == JOBLIB_ARRAY) {
                        return None;
                    }
                }
                b'(' => self.below.push(mem::take(&mut self.stack)),
                b'0' if self.stack.is_empty() => drop(self.pop_mark()),
                b'0' | b'a' => self.pop(1),
                b's' => self.pop(2),
                b'1' | b'e' | b'u' | 0x90 => drop(self.pop_mark()),
                // PROTO, FRAME and READONLY_BUFFER change no value.
                0x80 => self.skip(1),
                0x95 => self.skip(8),
                0x98 => {}
                b'p' | b'q' | b'r' | 0x94 => {
                    let key = self.memo_key(code);
                    let top = self.stack.last().expect("a value to memorise");
                    self.memo.insert(key, top.clone());
                }
                _ => {
                    let value = self.value(code);
                    self.stack.push(value);
                }
            }
        }
    }

    /// The value that an operation puts on the stack.
    fn value(&mut self, code: u8) -> Value {
        match code {
            b'2' => return self.stack.last().expect("a value to copy").clone(),
            b'g' | b'h' | b'j' => {
                let key = self.memo_key(code);
                return self.memo.get(&key).expect("a value of the memo").clone();
            }
            b'S' | b'V' | b'U' | 0x8c | b'T' | b'X' | 0x8d => return self.text(code),
            b'c' | b'i' | b'o' | b'R' | 0x81 | 0x92 | 0x93 => return self.object(code),
            // NONE, truth values, empty containers, a buffer.
            b'N' | 0x88 | 0x89 | b']' | b'}' | b')' | 0x8f | 0x97 => {}
            b'F' | b'I' | b'L' | b'P' => {
                self.line();
            }
            b'K' => self.skip(1),
            b'M' => self.skip(2),
            b'J' => self.skip(4),
            b'G' => self.skip(8),
            b'C' | 0x8a => {
                self.counted(1);
            }
            b'B' | 0x8b => {
                self.counted(4);
            }
            0x8e | 0x96 => {
                self.counted(8);
            }
            b'd' | b'l' | b't' | 0x91 => drop(self.pop_mark()),
            0x85 | b'Q' => self.pop(1),
            0x86 => self.pop(2),
            0x87 => self.pop(3),
            _ => panic!("a safe pickle has the operation {code:#04x}"),
        }
        Value::Other
    }

    fn text(&mut self, code: u8) -> Value {
        let text = match code {
            b'V' => self.line(),
            b'S' => {
                let line = self.line();
                &line[1..line.len() - 1]
            }
            b'U' | 0x8c => self.counted(1),
            0x8d => self.counted(8),
            _ => self.counted(4),
        };
        let has_escapes = matches!(code, b'S' | b'V') && text.contains(&b'\\');
        match str::from_utf8(text) {
            Ok(text) if !has_escapes => Value::Text(text.to_owned()),
            _ => Value::Other,
        }
    }

    /// What an operation imports or makes.
    fn object(&mut self, code: u8) -> Value {
        match code {
            b'c' => self.import_lines(),
            0x93 => {
                let (name, module) = (self.stack.pop(), self.stack.pop());
                let (Some(Value::Text(module)), Some(Value::Text(name))) = (&module, &name) else {
                    panic!("a safe pickle imports {name:?} of {module:?}");
                };
                import(module, name)
            }
            b'i' => {
                self.pop_mark();
                call(self.import_lines())
            }
            b'o' => call(self.pop_mark().into_iter().next().expect("a class")),
            _ => {
                // The arguments, which NEWOBJ_EX has twice.
                self.pop(if code == 0x92 { 2 } else { 1 });
                call(self.stack.pop().expect("a callable"))
            }
        }
    }

    fn import_lines(&mut self) -> Value {
        let module = String::from_utf8_lossy(self.line());
        let name = String::from_utf8_lossy(self.line());
        import(&module, &name)
    }

    /// The number of a value in the memo, for an operation that stores or takes one.
    fn memo_key(&mut self, code: u8) -> u64 {
        match code {
            b'h' | b'q' => self.number(1),
            b'j' | b'r' => self.number(4),
            0x94 => u64::try_from(self.memo.len()).expect("few values"),
            _ => {
                let digits = str::from_utf8(self.line()).expect("digits");
                digits.parse().expect("a number")
            }
        }
    }

    fn pop(&mut self, count: usize) {
        let left = self.stack.len().checked_sub(count);
        self.stack.truncate(left.expect("values on the stack"));
    }

    /// Takes the values above the last mark.
    fn pop_mark(&mut self) -> Vec<Value> {
        let below = self.below.pop().expect("a mark");
        mem::replace(&mut self.stack, below)
    }

    fn skip(&mut self, count: usize) {
        self.take(count);
    }

    fn take(&mut self, count: usize) -> &'d [u8] {
        let (taken, rest) = self.bytes.split_at(count);
        self.bytes = rest;
        taken
    }

    /// Bytes up to a newline, without it.
    fn line(&mut self) -> &'d [u8] {
        let end = self.bytes.iter().position(|byte| *byte == b'\n');
        let line = self.take(end.expect("a newline"));
        self.skip(1);
        line
    }

    /// A number, the least byte first.
    fn number(&mut self, width: usize) -> u64 {
        let mut number = [0; 8];
        number[..width].copy_from_slice(self.take(width));
        u64::from_le_bytes(number)
    }

    /// Bytes behind their number.
    fn counted(&mut self, width: usize) -> &'d [u8] {
        let count = self.number(width);
        self.take(usize::try_from(count).expect("bytes in memory"))
    }
}

/// The value of a name.
fn import(module: &str, name: &str) -> Value {
    let known = DATA.iter().find(|(known, _)| *known == module);
    let is_data = known.is_some_and(|(_, names)| names.contains(&name))
        || (module == "torch" && is_torch_type(name));
    assert!(is_data, "a safe pickle imports {module}.{name}");
    Value::Import(format!("{module}.{name}"))
}

fn is_torch_type(name: &str) -> bool {
    let storage = name.strip_suffix("Storage");
    TORCH_TYPES.contains(&name) || storage.is_some_and(|kind| TORCH_STORAGES.contains(&kind))
}

fn call(callable: Value) -> Value {
    match callable {
        Value::Import(name) => Value::Result(name),
        other => panic!("a safe pickle calls {other:?}"),
    }
}
