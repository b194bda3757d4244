//! An abstract unpickler: it does to kinds of values what CPython's does to values.
//!
//! It imports nothing. Where a real unpickler would import, call or change something that is not
//! allowed, it notes a finding and goes on with a value of which nothing is known.

use std::collections::BTreeMap;

use super::super::finding::{Report, Verdict};
use super::super::severity::Severity;
use super::allowed::{Global, find};
use super::calls::{MAX_STORAGE_NAME_BYTES, Storage, build, call, storage};
use super::joblib::{self, Elements};
use super::keys::Keys;
use super::memo::Memo;
use super::opcodes::Opcode;
use super::operation::{Argument, HEAD_BYTES, Operation, Stop};
use super::script;
use super::stack::Stack;
use super::value::{Built, Gauge, Value};
use crate::scan::rules::{self, Rule};

/// The greatest protocol.
const MAX_PROTOCOL: i64 = 5;

/// The state while the pickles of a stream run, and what they would do.
pub(super) struct Machine {
    pub(super) report: Report,
    /// Whether persistent identifiers name torch's storages.
    pub(super) is_torch: bool,
    /// Whether the pickle is a part of a TorchScript program.
    pub(super) is_script: bool,
    /// Storages that tensors are made from.
    pub(super) storages: BTreeMap<String, Storage>,
    /// The most storages.
    max_storages: usize,
    /// Texts that are appended to lists, if they are collected.
    pub(super) list: Option<Vec<String>>,
    pub(super) stack: Stack,
    memo: Memo,
    gauge: Gauge,
    /// What the keys of dictionaries mean.
    keys: Keys,
    /// Where the current frame ends.
    frame_end: Option<u64>,
    /// The pairs that the operation before put into the dictionary on the stack.
    pairs: Option<Vec<Value>>,
    /// Elements of an array that follow the operation.
    pub(super) elements: Option<Elements>,
}

impl Machine {
    /// Nothing has run.
    pub(super) fn new(format: &'static str, max_storages: usize) -> Self {
        Self {
            report: Report::new(format),
            is_torch: false,
            is_script: false,
            storages: BTreeMap::new(),
            max_storages,
            list: None,
            stack: Stack::default(),
            memo: Memo::default(),
            gauge: Gauge::default(),
            keys: Keys::default(),
            frame_end: None,
            pairs: None,
            elements: None,
        }
    }

    /// Another pickle of the stream begins.
    pub(super) fn next_pickle(&mut self) {
        self.stack.clear();
        self.memo.next_pickle();
        self.frame_end = None;
        self.pairs = None;
    }

    fn executable(&mut self, offset: u64, rule: &'static Rule, detail: &str) {
        self.report.add(Verdict::Executable, offset, rule, detail);
    }

    fn malformed(&mut self, offset: u64, rule: &'static Rule, detail: &str) {
        self.report.add(Verdict::Malformed, offset, rule, detail);
    }

    /// Runs one operation, which ends at `end`; `left` bytes follow. Returns whether it was STOP.
    pub(super) fn run(&mut self, operation: Operation, end: u64, left: u64) -> Result<bool, Stop> {
        let Operation {
            offset,
            opcode,
            argument,
        } = operation;
        self.check_frame(offset, end, opcode);
        let pairs = self.pairs.take();
        match opcode {
            Opcode::Proto => {
                if !matches!(argument, Argument::Int(0..=MAX_PROTOCOL)) {
                    let detail = "the pickle has a protocol greater than 5";
                    self.malformed(offset, rules::PICKLE_PROTOCOL, detail);
                }
            }
            Opcode::Frame => self.frame(offset, &argument, end, left),
            Opcode::Stop => {
                self.stop(offset, end)?;
                return Ok(true);
            }
            Opcode::Mark => self.stack.mark()?,
            Opcode::Pop => self.stack.pop_any()?,
            Opcode::PopMark => drop(self.stack.pop_mark()?),
            Opcode::Dup => {
                let top = self.stack.top()?.clone();
                self.stack.push(top)?;
            }
            Opcode::Get | Opcode::Binget | Opcode::LongBinget => {
                let value = self.memo.get(index(&argument)?)?;
                self.stack.push(value)?;
            }
            Opcode::Put | Opcode::Binput | Opcode::LongBinput => {
                let top = self.stack.top()?.clone();
                if self.memo.put(index(&argument)?, top)? {
                    let detail = "a number of the memo above 2^24 needs much memory";
                    self.report
                        .add(Verdict::Unknown, offset, rules::PICKLE_MEMO, detail);
                }
            }
            Opcode::Memoize => {
                let top = self.stack.top()?.clone();
                self.memo.memoize(top)?;
            }
            Opcode::Append
            | Opcode::Appends
            | Opcode::Setitem
            | Opcode::Setitems
            | Opcode::Additems => self.change(offset, opcode)?,
            Opcode::ReadonlyBuffer => {
                self.stack.top()?;
            }
            Opcode::Build => self.build(offset, end, pairs.as_deref())?,
            _ => {
                let value = self.value(offset, opcode, argument)?;
                self.stack.push(value)?;
            }
        }
        Ok(false)
    }

    /// The result of an operation that puts one value on the stack.
    fn value(&mut self, offset: u64, opcode: Opcode, argument: Argument) -> Result<Value, Stop> {
        Ok(match opcode {
            Opcode::None => Value::None,
            Opcode::Newtrue => Value::Bool(true),
            Opcode::Newfalse => Value::Bool(false),
            Opcode::EmptyList => Value::List,
            Opcode::EmptyDict => Value::Dict,
            Opcode::EmptySet => Value::Set,
            Opcode::EmptyTuple => self.gauge.tuple(Vec::new())?,
            Opcode::Tuple1 => self.tuple(1)?,
            Opcode::Tuple2 => self.tuple(2)?,
            Opcode::Tuple3 => self.tuple(3)?,
            Opcode::Tuple => {
                let items = self.stack.pop_mark()?;
                self.gauge.tuple(items)?
            }
            Opcode::List => {
                self.stack.pop_mark()?;
                Value::List
            }
            Opcode::Frozenset => {
                self.stack.pop_mark()?;
                Value::Plain
            }
            Opcode::Dict => {
                let items = self.stack.pop_mark()?;
                self.check_pairs(offset, &items)?;
                Value::Dict
            }
            Opcode::Bytearray8 => Value::ByteArray,
            Opcode::NextBuffer => {
                let detail = "takes a buffer that is not in the file";
                self.report
                    .add(Verdict::Unknown, offset, rules::PICKLE_BUFFER, detail);
                Value::Opaque
            }
            Opcode::Ext1 | Opcode::Ext2 | Opcode::Ext4 => {
                let detail = "imports by a number of copyreg's registry, which the file lacks";
                self.executable(offset, rules::PICKLE_EXTENSION, detail);
                Value::Opaque
            }
            Opcode::Global => self.global(offset, &argument),
            Opcode::StackGlobal => self.stack_global(offset)?,
            Opcode::Inst => {
                let arguments = self.stack.pop_mark()?;
                let class = self.global(offset, &argument);
                self.call(offset, &class, Some(&arguments))
            }
            Opcode::Obj => {
                let items = self.stack.pop_mark()?;
                let missing = Stop::Malformed("an object has no class");
                let (class, arguments) = items.split_first().ok_or(missing)?;
                self.call(offset, class, Some(arguments))
            }
            Opcode::Reduce => {
                let arguments = self.stack.pop()?;
                let callable = self.stack.pop()?;
                self.call(offset, &callable, arguments.items())
            }
            Opcode::Newobj => {
                let arguments = self.stack.pop()?;
                let class = self.stack.pop()?;
                // Without arguments, `__new__` makes the same as the call. No other class is
                // written so.
                match (&class, arguments.items()) {
                    (Value::Global(Global::OrderedDict), Some([])) => Value::OrderedDict,
                    (Value::Global(Global::JoblibArray), Some([])) => Value::JoblibArray,
                    (Value::Global(Global::ScriptClass), Some([])) => Value::ScriptObject,
                    _ => self.call(offset, &class, None),
                }
            }
            Opcode::NewobjEx => {
                self.stack.pop()?;
                self.stack.pop()?;
                let class = self.stack.pop()?;
                self.call(offset, &class, None)
            }
            Opcode::Persid => self.persistent(offset, &Value::Opaque)?,
            Opcode::Binpersid => {
                let identifier = self.stack.pop()?;
                self.persistent(offset, &identifier)?
            }
            _ => match argument {
                Argument::Bool(value) => Value::Bool(value),
                Argument::Int(value) => Value::Int(value),
                Argument::BigInt | Argument::Float => Value::Number,
                Argument::Text(data) => self.gauge.text(data.text()),
                Argument::Bytes(_) => Value::Bytes,
                Argument::Nothing | Argument::Line | Argument::Names(..) => Value::Opaque,
            },
        })
    }

    fn tuple(&mut self, count: usize) -> Result<Value, Stop> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.stack.pop()?);
        }
        items.reverse();
        self.gauge.tuple(items)
    }

    /// Readers in C read a frame ahead and otherwise ignore where it ends; those in Python do not.
    fn check_frame(&mut self, offset: u64, end: u64, opcode: Opcode) {
        if self.is_frame_cut(offset, end, opcode) {
            let detail = "a frame ends within an operation, or before the end of another: \
                          readers in C pass over what is left of it";
            self.malformed(offset, rules::PICKLE_FRAME, detail);
            self.frame_end = None;
        }
        self.frame_end = self.frame_end.filter(|frame_end| *frame_end > offset);
    }

    /// Whether a frame ends within an operation from `begin` to `end`, or that begins another one.
    pub(super) fn is_frame_cut(&self, begin: u64, end: u64, opcode: Opcode) -> bool {
        self.frame_end.is_some_and(|frame_end| {
            begin < frame_end && (frame_end < end || opcode == Opcode::Frame)
        })
    }

    fn frame(&mut self, offset: u64, argument: &Argument, end: u64, left: u64) {
        let length = match argument {
            Argument::Int(length) => u64::try_from(*length).ok(),
            _ => None,
        };
        self.frame_end = length
            .filter(|length| *length <= left)
            .map(|length| end.saturating_add(length));
        if self.frame_end.is_none() {
            self.malformed(
                offset,
                rules::PICKLE_FRAME,
                "a frame goes beyond the end of the file",
            );
        }
    }

    fn stop(&mut self, offset: u64, end: u64) -> Result<(), Stop> {
        self.stack.pop()?;
        if !self.stack.is_empty() {
            self.malformed(
                offset,
                rules::PICKLE_STACK,
                "values are left on the stack at STOP",
            );
        }
        if self.frame_end.is_some_and(|frame_end| frame_end > end) {
            self.malformed(offset, rules::PICKLE_FRAME, "a frame goes on after STOP");
        }
        Ok(())
    }

    /// Imports a name that stands in the stream.
    fn global(&mut self, offset: u64, argument: &Argument) -> Value {
        let Argument::Names(module, name) = argument else {
            return Value::Opaque;
        };
        if module.len() > HEAD_BYTES || name.len() > HEAD_BYTES {
            let detail = "imports a name that is longer than 200 bytes";
            self.import_of(Severity::Critical, offset, detail);
            return Value::Opaque;
        }
        let module = String::from_utf8_lossy(module);
        let name = String::from_utf8_lossy(name);
        self.import(offset, &module, &name)
    }

    /// Imports a name from the stack.
    fn stack_global(&mut self, offset: u64) -> Result<Value, Stop> {
        let name = self.stack.pop()?;
        let module = self.stack.pop()?;
        if let (Some(module), Some(name)) = (module.text(), name.text()) {
            return Ok(self.import(offset, module, name));
        }
        let detail = "imports a name that is no short text in the file";
        self.import_of(Severity::Critical, offset, detail);
        Ok(Value::Opaque)
    }

    fn import(&mut self, offset: u64, module: &str, name: &str) -> Value {
        if let Some(global) = script::find(module, name).filter(|_| self.is_script) {
            return Value::Global(global);
        }
        if let Some(global) = find(module, name) {
            // A program that runs can do more than show memory.
            if let Some(why) = global.unchecked().filter(|_| !self.is_script) {
                let detail = format!("imports {module}.{name}: {why}");
                self.report
                    .add(Verdict::Unknown, offset, rules::PICKLE_UNCHECKED, &detail);
            }
            return Value::Global(global);
        }
        let detail = format!("imports {module}.{name}, which is not known to be data");
        self.import_of(Severity::of_import(module, name), offset, &detail);
        Value::Opaque
    }

    /// Adds an import that is not known to be data.
    fn import_of(&mut self, severity: Severity, offset: u64, detail: &str) {
        self.report
            .add_executable(severity, offset, rules::PICKLE_GLOBAL, detail);
    }

    /// Calls a value.
    fn call(&mut self, offset: u64, callable: &Value, arguments: Option<&[Value]>) -> Value {
        let result = match (callable, arguments) {
            (Value::Global(global), Some(arguments)) => {
                script::call(*global, arguments).or_else(|| call(*global, arguments))
            }
            _ => None,
        };
        if let (Some(result), Value::Global(global)) = (result, callable) {
            if *global == Global::OrderedDict && arguments.is_some_and(|all| !all.is_empty()) {
                // Its pairs stand in a list.
                self.keys.note_unknown();
            }
            if let Some(detail) = self.keys.unchecked(*global) {
                self.report
                    .add(Verdict::Unknown, offset, rules::PICKLE_UNCHECKED, detail);
            }
            return result;
        }
        let detail = match callable {
            Value::Global(global) => {
                format!("calls {global:?} in a way that is not known to make data")
            }
            _ => "calls a value that is not known to be harmless".to_owned(),
        };
        self.executable(offset, rules::PICKLE_CALL, &detail);
        Value::Opaque
    }

    /// BUILD: sets the state of the value below.
    fn build(&mut self, offset: u64, end: u64, pairs: Option<&[Value]>) -> Result<(), Stop> {
        let state = self.stack.pop()?;
        if let (Value::JoblibArray, Value::Dict, Some(pairs)) = (self.stack.top()?, &state, pairs)
            && let Some(elements) = joblib::elements(pairs)
        {
            if self.frame_end.is_some_and(|frame_end| frame_end > end) {
                return Err(Stop::Malformed("a frame goes on where an array begins"));
            }
            if !elements.is_padded {
                let detail = "an array as joblib before 1.2 writes it: other unpicklers take its \
                              elements for operations";
                self.report
                    .add(Verdict::Unknown, offset, rules::PICKLE_JOBLIB, detail);
            }
            self.elements = Some(elements);
            // joblib puts the array in the place of its description.
            self.stack.pop()?;
            return self.stack.push(Value::Plain);
        }
        match build(self.stack.top()?, &state, &self.keys) {
            Built::Fine => {}
            Built::Unchecked(what) => {
                let detail = format!("sets {what}, which is not checked");
                self.report
                    .add(Verdict::Unknown, offset, rules::PICKLE_BUILD, &detail);
            }
            Built::Refused => {
                let detail = "sets a state that can run code or break the value's memory";
                self.executable(offset, rules::PICKLE_BUILD, detail);
            }
        }
        Ok(())
    }

    /// Adds items to a container. Other values would run a method of their own.
    fn change(&mut self, offset: u64, opcode: Opcode) -> Result<(), Stop> {
        let items = match opcode {
            Opcode::Append => vec![self.stack.pop()?],
            Opcode::Setitem => {
                let value = self.stack.pop()?;
                vec![self.stack.pop()?, value]
            }
            _ => self.stack.pop_mark()?,
        };
        let target = self.stack.top()?;
        let is_container = match opcode {
            Opcode::Append | Opcode::Appends => {
                if let (Value::List, Some(list)) = (target, &mut self.list) {
                    let texts = items.iter().filter_map(Value::text);
                    let names = texts.filter(|text| text.len() <= MAX_STORAGE_NAME_BYTES);
                    list.extend(names.map(str::to_owned));
                    if list.len() > self.max_storages {
                        return Err(Stop::Limit("the list of storages is too long"));
                    }
                }
                matches!(target, Value::List)
            }
            Opcode::Additems => matches!(target, Value::Set),
            _ => matches!(
                target,
                Value::Dict | Value::OrderedDict | Value::DefaultDict
            ),
        };
        if !is_container {
            let name = opcode.name();
            let detail = format!("{name} runs a method of a value that is no plain container");
            self.executable(offset, rules::PICKLE_ITEMS, &detail);
        }
        if matches!(opcode, Opcode::Setitem | Opcode::Setitems) {
            self.check_pairs(offset, &items)?;
        }
        if opcode == Opcode::Setitems {
            self.pairs = Some(items);
        }
        Ok(())
    }

    /// Pairs of a dictionary. It can become the attributes of an object, and BUILD calls an
    /// attribute `__setstate__`; so a function must not be a value in it.
    fn check_pairs(&mut self, offset: u64, items: &[Value]) -> Result<(), Stop> {
        if !items.len().is_multiple_of(2) {
            return Err(Stop::Malformed("a key of a dictionary has no value"));
        }
        let (pairs, _) = items.as_chunks::<2>();
        self.keys.note(pairs);
        let is_callable = |pair: &[Value; 2]| match pair {
            // An attribute of joblib's descriptions. No unpickler calls it.
            [key, Value::Global(Global::NdArray)] => key.text() != Some("subclass"),
            [_, Value::Global(global)] => global.is_callable(),
            _ => false,
        };
        if pairs.iter().any(is_callable) {
            let detail = "stores a function or a class where it can be called as a method";
            self.executable(offset, rules::PICKLE_ITEMS, detail);
        }
        Ok(())
    }

    /// A value that the loader finds by an identifier.
    fn persistent(&mut self, offset: u64, identifier: &Value) -> Result<Value, Stop> {
        if !self.is_torch {
            let detail = "the loader decides what a persistent identifier stands for";
            self.report.add(
                Verdict::Unknown,
                offset,
                rules::PICKLE_PERSISTENT_ID,
                detail,
            );
            return Ok(Value::Opaque);
        }
        let Some(storage) = storage(identifier) else {
            let detail = "a persistent identifier names no storage";
            self.executable(offset, rules::PICKLE_PERSISTENT_ID, detail);
            return Ok(Value::Opaque);
        };
        if storage.key.len() > MAX_STORAGE_NAME_BYTES {
            return Err(Stop::Limit("the name of a storage is too long"));
        }
        match self.storages.get(&storage.key) {
            Some(known) if *known == storage => {}
            Some(_) => {
                let detail = format!("storage {} has two types or sizes", storage.key);
                self.malformed(offset, rules::TORCH_STORAGE, &detail);
            }
            None if self.storages.len() >= self.max_storages => {
                return Err(Stop::Limit("there are too many storages"));
            }
            None => {
                self.storages.insert(storage.key.clone(), storage);
            }
        }
        Ok(Value::Storage)
    }
}

/// The number of a value in the memo.
fn index(argument: &Argument) -> Result<i64, Stop> {
    match argument {
        Argument::Int(index) => Ok(*index),
        // Python reads 00 and 01 as numbers here, and `pickletools` as truth values.
        _ => Err(Stop::Ambiguous("a number of a memo is not plain")),
    }
}
