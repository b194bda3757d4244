//! What the pickles of a TorchScript program may import, beside plain data.
//!
//! Torch reads them with a reader of its own, which imports nothing of Python: a class is one of
//! the program. That there is a program is a finding of the archive.

use super::allowed::Global;
use super::value::Value;

/// The allowed global of this name.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    if module == "__torch__" || module.starts_with("__torch__.") {
        return Some(Global::ScriptClass);
    }
    match (module, name) {
        (
            "torch.jit._pickle",
            "build_boollist" | "build_doublelist" | "build_intlist" | "build_tensorlist",
        ) => Some(Global::ScriptList),
        ("torch.jit._pickle", "restore_type_tag") => Some(Global::ScriptType),
        _ => None,
    }
}

/// The result of a call; nothing if the call is not allowed.
pub(super) fn call(global: Global, arguments: &[Value]) -> Option<Value> {
    match (global, arguments) {
        (Global::ScriptList, [Value::List]) => Some(Value::Plain),
        (Global::ScriptType, [value @ (Value::List | Value::Dict), Value::Text(_)]) => {
            Some(value.clone())
        }
        _ => None,
    }
}
