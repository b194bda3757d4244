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
//! | an argument of a function that is an asset in each call and in each object that offers it | safe |
//! | one of these, but a signature names it, or what it is made from | executable |
//! | a text that stays in its folder, and a signature reads the table | executable |
//! | the function is called by another one, or a gradient or a captured tensor names it | executable |
//! | all else: another constant, an asset outside of the folder, an operator between | executable |

use super::assets::TableFunction;
use super::graph::{Kind, Name};
use super::saver::{Function, Uses};

#[cfg(test)]
mod tests;

const ANOTHER_SOURCE: &str = "the name of the file is not that of an asset";

impl Uses {
    /// Why operators that read files into tables are not safe.
    pub(super) fn table_fault(&self) -> Option<&'static str> {
        let fault = self.fault.or(self.main.fault).or(self.assets.fault);
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
