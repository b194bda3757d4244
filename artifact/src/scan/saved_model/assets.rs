//! The assets of a SavedModel, the functions that read files into tables, and the objects to which
//! Python binds the arguments of such functions.

use std::collections::{BTreeSet, HashMap};

use super::graph::{Graph, Kind, Name, first_field};
use crate::scan::names::is_plain_path;

const TOO_MANY: &str = "the model has too many assets or captured inputs";

/// A function that reads files into tables.
pub(super) struct TableFunction {
    /// The positions of the arguments that are names of files.
    pub(super) files: BTreeSet<usize>,
    /// How many arguments it has.
    pub(super) arguments: usize,
    /// Whether all names of files are arguments.
    pub(super) is_followed: bool,
}

impl TableFunction {
    /// What the body of a function does with names of files, if it reads one into a table.
    pub(super) fn of(body: &Graph, arguments: usize, is_fixed: bool) -> Option<Box<Self>> {
        if !body.has_tables() {
            return None;
        }
        let mut files = BTreeSet::new();
        let mut is_followed = is_fixed && body.fault.is_none();
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
    pub(super) tensors: BTreeSet<Name>,
    /// The positions of the objects that are assets.
    pub(super) objects: BTreeSet<u64>,
    /// Functions with the objects to which their last arguments are bound.
    pub(super) bound: HashMap<Name, Vec<u64>>,
    /// How many objects are kept in `bound`.
    bound_objects: usize,
    /// How many objects were read, and what the next one is so far.
    position: u64,
    object: Object,
    /// The function whose bound objects are read.
    function: Option<Name>,
    captures: Vec<u64>,
    /// Why they cannot be followed.
    pub(super) fault: Option<&'static str>,
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
        if std::mem::take(&mut self.object) == Object::Asset {
            if self.objects.len() < most {
                self.objects.insert(self.position);
            } else {
                self.fault = Some(TOO_MANY);
            }
        }
        self.position = self.position.saturating_add(1);
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
        let captures = std::mem::take(&mut self.captures);
        let Some(name) = self.function.take() else {
            return;
        };
        if self.bound.len() >= most {
            self.fault = Some(TOO_MANY);
        } else if self.bound.insert(name, captures).is_some() {
            self.fault = Some("a function has two lists of captured inputs");
        }
    }

    /// Whether Python's loader binds each name of a file to an asset.
    pub(super) fn binds(&self, name: Name, function: &TableFunction) -> bool {
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

/// The tensor that an `AssetFileDef` names, if it is written as TensorFlow does, and the file is
/// below the folder. `bytes` is its length, `head` its beginning.
pub(super) fn asset_tensor(bytes: u64, head: &[u8]) -> Option<&str> {
    let (info, rest) = first_field(head, 0x0a)?;
    let (file, rest) = first_field(rest, 0x12)?;
    let (tensor, info) = first_field(info, 0x0a)?;
    let is_complete =
        usize::try_from(bytes) == Ok(head.len()) && rest.is_empty() && info.is_empty();
    let is_plain = str::from_utf8(file).is_ok_and(is_plain_path);
    str::from_utf8(tensor)
        .ok()
        .filter(|_| is_complete && is_plain)
}
