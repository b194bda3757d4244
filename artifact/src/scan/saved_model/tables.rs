//! The rule of tables: when operators that read a vocabulary into a table are safe.
//!
//! A loader of TensorFlow's runtime feeds the path of each asset, `assets/NAME`, into the tensor
//! that the asset's `AssetFileDef` names. Python's loader calls the function that initialises the
//! table, and binds its last arguments to objects, one of which is the asset. Exporters pass the
//! path through a variable.
//!
//! | where the name of the file comes from | verdict |
//! |---|---|
//! | a tensor that an `AssetFileDef` names: a placeholder, or a text that stays in its folder | safe |
//! | a variable, if each text that is written into one in the model is such a tensor | safe |
//! | an argument of a function: each call of the graph passes one of these, and each object that offers the function binds the argument to an asset | safe |
//! | one of these, but a signature names it, or what it is made from | executable |
//! | a text that stays in its folder, and a signature reads the table | executable |
//! | the function is called by another one, or a gradient or a captured tensor names it | executable |
//! | all else: another constant, an asset outside of the folder, an operator between | executable |

use std::collections::{BTreeSet, HashMap};

use super::graph::{Graph, Kind, Name};
use super::saver::{Function, Uses};
use crate::scan::names::is_plain_path;

#[cfg(test)]
mod tests;

const ANOTHER_SOURCE: &str = "the name of the file is not that of an asset";
const TOO_MANY: &str = "the model has too many assets or captured inputs";

/// A function that reads files into tables.
pub(super) struct TableFunction {
    /// The positions of the arguments that are names of files.
    files: BTreeSet<usize>,
    /// How many arguments it has.
    arguments: usize,
    /// Whether all names of files are arguments.
    is_followed: bool,
}

impl TableFunction {
    /// What the body of a function does with names of files, if it reads one into a table.
    pub(super) fn of(body: &Graph, arguments: usize, is_fixed: bool) -> Option<Box<Self>> {
        if !body.has_tables() {
            return None;
        }
        let mut files = BTreeSet::new();
        let mut is_followed = is_fixed && body.fault().is_none();
        match body.table_files() {
            Some(names) => {
                for name in names {
                    match body.kind(body.origin(name)) {
                        Some(Kind::Argument(index)) => {
                            files.insert(index);
                        }
                        _ => is_followed = false,
                    }
                }
            }
            None => is_followed = false,
        }
        Some(Box::new(Self {
            files,
            arguments,
            is_followed,
        }))
    }
}

/// What an object of Python is.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Object {
    #[default]
    Nothing,
    Asset,
    Other,
}

/// What the model says about its assets, and what Python's loader makes of them.
#[derive(Default)]
pub(super) struct Assets {
    /// Tensors into which a loader feeds the path of an asset.
    tensors: BTreeSet<Name>,
    /// The positions of the objects that are assets.
    objects: BTreeSet<u64>,
    /// Functions with the objects to which their last arguments are bound.
    bound: HashMap<Name, Vec<u64>>,
    /// How many objects are kept in `bound`.
    bound_objects: usize,
    /// How many objects were read, and what the next one is so far.
    position: u64,
    object: Object,
    /// The function whose bound objects are read.
    function: Option<Name>,
    captures: Vec<u64>,
    fault: Option<&'static str>,
}

impl Assets {
    /// Adds a tensor into which a loader feeds the path of an asset.
    pub(super) fn add_tensor(&mut self, tensor: Name, most: usize) {
        if self.tensors.len() < most {
            self.tensors.insert(tensor);
        } else {
            self.fault = Some(TOO_MANY);
        }
    }

    /// Marks the assets as some that cannot be followed.
    pub(super) const fn refuse(&mut self) {
        self.fault = Some("a collection has an asset in another form");
    }

    pub(super) const fn begin_object(&mut self) {
        self.object = Object::Nothing;
    }

    /// A field of an object. The last kind that an object has counts, so it may have only one.
    pub(super) fn object_field(&mut self, field: u32) {
        match field {
            // Children, slots and dependencies.
            1 | 3 | 15 => {}
            5 if self.object != Object::Other => self.object = Object::Asset,
            _ => self.object = Object::Other,
        }
    }

    pub(super) fn end_object(&mut self, most: usize) {
        if self.object == Object::Asset {
            if self.objects.len() < most {
                self.objects.insert(self.position);
            } else {
                self.fault = Some(TOO_MANY);
            }
        }
        self.position = self.position.saturating_add(1);
    }

    pub(super) fn begin_function(&mut self) {
        self.function = None;
        self.captures.clear();
    }

    /// The name of the function whose bound objects are read.
    pub(super) const fn name_function(&mut self, name: Name) {
        if self.function.replace(name).is_some() {
            self.fault = Some("an entry names two functions");
        }
    }

    /// An object to which an argument of the function is bound.
    pub(super) fn bind(&mut self, object: u64, most: usize) {
        if self.bound_objects < most {
            self.bound_objects = self.bound_objects.saturating_add(1);
            self.captures.push(object);
        } else {
            self.fault = Some(TOO_MANY);
        }
    }

    pub(super) fn end_function(&mut self, most: usize) {
        let Some(name) = self.function else { return };
        let captures = std::mem::take(&mut self.captures);
        if self.bound.len() >= most {
            self.fault = Some(TOO_MANY);
        } else if self.bound.insert(name, captures).is_some() {
            self.fault = Some("a function has two lists of captured inputs");
        }
    }

    /// Whether Python's loader binds each name of a file to an asset.
    fn binds(&self, name: Name, function: &TableFunction) -> bool {
        let Some(objects) = self.bound.get(&name) else {
            return false;
        };
        let Some(first) = function.arguments.checked_sub(objects.len()) else {
            return false;
        };
        function.files.iter().all(|file| {
            let object = file.checked_sub(first).and_then(|index| objects.get(index));
            object.is_some_and(|object| self.objects.contains(object))
        })
    }
}

impl Uses {
    /// Why operators that read files into tables are not safe.
    pub(super) fn table_fault(&self) -> Option<&'static str> {
        let fault = self.fault.or(self.main.fault()).or(self.assets.fault);
        fault.or_else(|| self.table_call_fault()).or_else(|| {
            let Some(files) = self.table_files() else {
                return Some(ANOTHER_SOURCE);
            };
            self.table_source_fault(&files)
        })
    }

    /// What calls a function that reads a file, and should not.
    fn table_call_fault(&self) -> Option<&'static str> {
        let is_table = |name: &Name| self.table(*name).is_some();
        let mut functions = self.functions.values();
        if functions.any(|function| function.calls.iter().any(is_table)) {
            return Some("a function calls one that reads a file");
        }
        if self.exchanged.iter().any(is_table) {
            return Some("a gradient or a captured tensor of the model can call it");
        }
        let mut functions = self.functions.values();
        let is_followed = |function: &Function| {
            let table = function.table.as_ref();
            table.is_none_or(|table| table.is_followed)
        };
        let mut exposed = self.exposed.iter();
        let is_bound = |name: &Name| {
            let table = self.table(*name);
            table.is_none_or(|table| self.assets.binds(*name, table))
        };
        (!functions.all(is_followed) || !exposed.all(is_bound)).then_some(ANOTHER_SOURCE)
    }

    /// The names of files that the main graph reads, or that it passes to functions that do.
    fn table_files(&self) -> Option<Vec<Name>> {
        let mut files = self.main.table_files()?;
        for (node, calls) in self.main.callers() {
            for table in calls.iter().filter_map(|name| self.table(*name)) {
                let is_call = self.main.kind(node) == Some(Kind::Call) && calls.len() == 1;
                let inputs: Vec<Name> = self.main.tensors(node).collect();
                if !is_call || inputs.len() != table.arguments {
                    return None;
                }
                for index in &table.files {
                    files.push(*inputs.get(*index)?);
                }
            }
        }
        Some(files)
    }

    /// Where one of these names of files comes from, if not from an asset.
    fn table_source_fault(&self, files: &[Name]) -> Option<&'static str> {
        let kind = |tensor: Name| self.main.kind(self.main.origin(tensor));
        let is_read = |tensor: &Name| kind(*tensor) == Some(Kind::Read);
        let is_asset = |tensor: &Name| {
            let origin = self.main.origin(*tensor);
            self.assets.tensors.contains(&origin) && self.main.is_fed(origin, 0)
        };
        if !files.iter().all(|file| is_read(file) || is_asset(file)) {
            return Some(ANOTHER_SOURCE);
        }
        let mut sources = files.to_vec();
        // Handles of variables can be made in many ways, so all that is written is looked at.
        if files.iter().any(is_read) {
            let mut functions = self.functions.values();
            let texts = self.main.written_texts();
            let texts = texts.filter(|texts| texts.iter().all(is_asset));
            let Some(texts) = texts.filter(|_| !functions.any(|function| function.writes_texts))
            else {
                return Some("another text may be in the variable with the name of the file");
            };
            sources.extend(texts);
        }
        let made_from = self.main.needed_by(sources.iter().copied());
        if self.served.iter().any(|tensor| made_from.contains(tensor)) {
            return Some("a client can feed the name of the file");
        }
        // A loader feeds the name of the file, but a client that runs the operator does not.
        let is_constant =
            |tensor: &Name| !is_read(tensor) && kind(*tensor) != Some(Kind::Placeholder);
        let is_table = |name: &Name| self.table(*name).is_some();
        let run = self.main.needed_by(self.served.iter().copied());
        let mut run = run.iter();
        let is_run = run.any(|node| {
            self.main.kind(*node) == Some(Kind::Table)
                || self.main.calls(*node).iter().any(is_table)
        });
        (is_run && sources.iter().any(is_constant)).then_some("a signature of the model runs it")
    }

    fn table(&self, function: Name) -> Option<&TableFunction> {
        self.functions.get(&function)?.table.as_deref()
    }
}

/// The tensor that an `AssetFileDef` names, if it is written as TensorFlow does, and the file is
/// below the folder. `bytes` is its length, `head` its beginning.
pub(super) fn asset_tensor(bytes: u64, head: &[u8]) -> Option<&str> {
    let (info, rest) = first_field(head, 0x0a)?;
    let (file, rest) = first_field(rest, 0x12)?;
    let (tensor, info) = first_field(info, 0x0a)?;
    let is_whole = usize::try_from(bytes) == Ok(head.len()) && rest.is_empty() && info.is_empty();
    let is_plain = str::from_utf8(file).is_ok_and(is_plain_path);
    str::from_utf8(tensor).ok().filter(|_| is_whole && is_plain)
}

/// The first field of a message, if it has this key and fewer than 128 bytes, and what follows.
fn first_field(message: &[u8], key: u8) -> Option<(&[u8], &[u8])> {
    match message {
        [first, length @ 0..0x80, rest @ ..] if *first == key => {
            rest.split_at_checked(usize::from(*length))
        }
        _ => None,
    }
}
