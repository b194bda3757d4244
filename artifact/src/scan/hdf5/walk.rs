//! The walk over the objects of a file, from its root group.
//!
//! Objects are a tree: one that a second link refers to, as in a cycle of groups, is unknown.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use super::attribute::{self, add_name};
use super::dataset::{Data, Parts};
use super::fractal::Heap;
use super::header::{self, Message};
use super::index::{self, HeapId, Kind};
use super::link::{self, Target};
use super::messages::{
    ATTRIBUTE, ATTRIBUTE_INFO, DATATYPE, EXTERNAL_FILES, FILTERS, LAYOUT, LINK, LINK_INFO, SPACE,
    SYMBOL_TABLE, Storage, has, singles, storage, symbol_table,
};
use super::pages::Pages;
use super::symbols;
use super::{EXTERNAL, LIMIT, STRUCTURE, UNDEFINED, Watch, superblock};
use crate::scan::names::Names;
use crate::scan::rules::{self, Rule};
use crate::scan::source::Stop;
use crate::scan::{Limits, Report, Verdict};

/// Groups within groups.
const MAX_DEPTH: usize = 64;
/// The rule of links that lead elsewhere.
const LINK_RULE: &Rule = rules::HDF5_LINK;

/// An object that a link refers to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Object {
    address: u64,
    depth: usize,
    /// The symbol table that the link repeats.
    cached: Option<(u64, u64)>,
}

/// A walk over a file.
pub(super) struct Walk<'w, 'i> {
    pages: Pages<'i>,
    watch: &'w mut dyn Watch,
    report: &'w mut Report,
    /// Objects to visit, the first of the file next: a compressed member is read forward.
    pending: BinaryHeap<Reverse<Object>>,
    visited: HashSet<u64>,
    data: Data,
    /// Objects and attributes that may still be found.
    left: usize,
}

impl<'w, 'i> Walk<'w, 'i> {
    /// A walk over the file of these pages. Objects and attributes may be half of `entries`, as
    /// each takes more memory than a name.
    pub(super) fn new(
        pages: Pages<'i>,
        limits: &Limits,
        watch: &'w mut dyn Watch,
        report: &'w mut Report,
    ) -> Self {
        let data = Data::new(pages.length(), limits);
        Self {
            pages,
            watch,
            report,
            pending: BinaryHeap::new(),
            visited: HashSet::new(),
            data,
            left: limits.entries / 2,
        }
    }

    /// Follows all objects.
    pub(super) fn run(mut self) -> Result<(), Stop> {
        let root = superblock::read(&mut self.pages)?;
        self.add(Object {
            address: root.address,
            depth: 0,
            cached: root.cached,
        })?;
        while let Some(Reverse(object)) = self.pending.pop() {
            if self.visited.insert(object.address) {
                self.visit(object)?;
            } else {
                let detail = "an object has several names, or groups are a cycle";
                self.report
                    .add(Verdict::Unknown, object.address, LINK_RULE, detail);
            }
        }
        self.data.finish()
    }

    /// Counts an object or an attribute.
    fn count(&mut self, address: u64) -> Result<(), Stop> {
        let Some(left) = self.left.checked_sub(1) else {
            let detail = "the file has more objects and attributes than are read";
            return Err(Stop::unknown(address, LIMIT, detail));
        };
        self.left = left;
        Ok(())
    }

    /// Notes an object for a visit.
    fn add(&mut self, object: Object) -> Result<(), Stop> {
        self.count(object.address)?;
        if object.depth > MAX_DEPTH {
            let detail = format!("groups are nested more than {MAX_DEPTH} times");
            return Err(Stop::unknown(object.address, LIMIT, detail));
        }
        self.pending.push(Reverse(object));
        Ok(())
    }

    fn visit(&mut self, object: Object) -> Result<(), Stop> {
        let messages = header::read(&mut self.pages, object.address)?;
        let singles = singles(&messages)?;
        let single = |kind: u16| singles.get(&kind).copied();
        let malformed = |detail: &str| Stop::malformed(object.address, STRUCTURE, detail);
        if let Some(message) = single(EXTERNAL_FILES) {
            let detail = "a dataset takes its data from other files";
            self.report
                .add(Verdict::Executable, message.address, EXTERNAL, detail);
        }
        self.attributes(object, &messages, single(ATTRIBUTE_INFO))?;
        let is_group = single(LINK_INFO).or(single(SYMBOL_TABLE)).is_some();
        let is_dataset = single(LAYOUT).or(single(SPACE)).or(single(DATATYPE));
        match (is_group, is_dataset.is_some()) {
            (true, false) => {}
            (true, true) => return Err(malformed("an object is a group and also a dataset")),
            (false, false) => {
                let detail = "an object is neither a group nor a dataset";
                return Err(Stop::unknown(object.address, STRUCTURE, detail));
            }
            (false, true) => {
                let (Some(space), Some(datatype), Some(layout)) =
                    (single(SPACE), single(DATATYPE), single(LAYOUT))
                else {
                    let detail = "a datatype of its own, or a dataset without a layout";
                    return Err(Stop::unknown(object.address, STRUCTURE, detail));
                };
                let parts = Parts {
                    space,
                    datatype,
                    layout,
                    filters: single(FILTERS),
                };
                return self.data.add(&self.pages, &parts, self.report);
            }
        }
        let symbol_table = single(SYMBOL_TABLE);
        check_cached(object, symbol_table)?;
        let mut names = Names::default();
        match (symbol_table, single(LINK_INFO)) {
            (Some(message), None) if !has(&messages, LINK) => {
                self.symbols(object, message, &mut names)
            }
            (None, Some(message)) => self.links(object, &messages, message, &mut names),
            _ => Err(malformed("a group lists its links in two ways")),
        }
    }

    /// Follows the attributes of an object.
    fn attributes(
        &mut self,
        object: Object,
        messages: &[Message],
        info: Option<&Message>,
    ) -> Result<(), Stop> {
        let mut names = Names::default();
        let storage = info.map(|info| storage(info, 2)).transpose()?.flatten();
        for message in messages.iter().filter(|message| message.kind == ATTRIBUTE) {
            if storage.is_some() {
                let detail = "an object lists its attributes in two ways";
                return Err(Stop::malformed(message.address, STRUCTURE, detail));
            }
            self.attribute(
                object,
                (message.body.as_slice(), message.address),
                &mut names,
            )?;
        }
        let Some(storage) = storage else {
            return Ok(());
        };
        let kinds = (Kind::AttributeNames, Kind::AttributeOrder);
        let heap = Heap::new(&mut self.pages, storage.heap)?;
        for id in self.ids(&storage, kinds)? {
            let (body, address) = heap.object(&mut self.pages, &id)?;
            self.attribute(object, (body.as_slice(), address), &mut names)?;
        }
        Ok(())
    }

    fn attribute(
        &mut self,
        object: Object,
        message: (&[u8], u64),
        names: &mut Names,
    ) -> Result<(), Stop> {
        let (_, address) = message;
        self.count(address)?;
        let is_root = object.depth == 0;
        attribute::read(
            &mut self.pages,
            message,
            is_root,
            names,
            &mut *self.watch,
            &mut *self.report,
        )
    }

    /// Follows the links of a group with a symbol table.
    fn symbols(
        &mut self,
        object: Object,
        message: &Message,
        names: &mut Names,
    ) -> Result<(), Stop> {
        let (tree, heap) = symbol_table(message)?;
        let heap = symbols::Names::new(&mut self.pages, heap)?;
        for entry in symbols::entries(&mut self.pages, tree, self.left)? {
            let name = heap.name(&mut self.pages, &entry)?;
            check_name(&name, message.address)?;
            add_name(names, &name, message.address)?;
            if entry.is_soft {
                self.add_soft_link(&name, message.address);
                continue;
            }
            self.add(Object {
                address: entry.object,
                depth: object.depth.saturating_add(1),
                cached: entry.cached,
            })?;
        }
        Ok(())
    }

    /// Follows the links of a group whose links are messages.
    fn links(
        &mut self,
        object: Object,
        messages: &[Message],
        info: &Message,
        names: &mut Names,
    ) -> Result<(), Stop> {
        let storage = storage(info, 8)?;
        for message in messages.iter().filter(|message| message.kind == LINK) {
            if storage.is_some() {
                let detail = "a group lists its links in two ways";
                return Err(Stop::malformed(message.address, STRUCTURE, detail));
            }
            self.link(object, (message.body.as_slice(), message.address), names)?;
        }
        let Some(storage) = storage else {
            return Ok(());
        };
        let kinds = (Kind::LinkNames, Kind::LinkOrder);
        let heap = Heap::new(&mut self.pages, storage.heap)?;
        for id in self.ids(&storage, kinds)? {
            let (body, address) = heap.object(&mut self.pages, &id)?;
            self.link(object, (body.as_slice(), address), names)?;
        }
        Ok(())
    }

    fn link(
        &mut self,
        object: Object,
        (body, address): (&[u8], u64),
        names: &mut Names,
    ) -> Result<(), Stop> {
        let link = link::read(body, address)?;
        check_name(link.name, address)?;
        add_name(names, link.name, address)?;
        let name = String::from_utf8_lossy(link.name);
        match link.target {
            Target::Object(target) => self.add(Object {
                address: target,
                depth: object.depth.saturating_add(1),
                cached: None,
            })?,
            Target::Path => self.add_soft_link(link.name, address),
            Target::External(names) => {
                let names = String::from_utf8_lossy(names);
                let detail = format!("the link {name} opens another file: {names}");
                let rule = rules::HDF5_EXTERNAL_LINK;
                self.report.add(Verdict::Executable, address, rule, &detail);
            }
            Target::User(kind) => {
                let detail = format!("the link {name} of kind {kind} is for a program of its own");
                self.report
                    .add(Verdict::Unknown, address, LINK_RULE, &detail);
            }
        }
        Ok(())
    }

    fn add_soft_link(&mut self, name: &[u8], address: u64) {
        let name = String::from_utf8_lossy(name);
        let detail = format!("the link {name} to a path is not followed");
        self.report
            .add(Verdict::Unknown, address, LINK_RULE, &detail);
    }

    /// The identifiers in a storage. Readers take them from either index.
    fn ids(&mut self, storage: &Storage, kinds: (Kind, Kind)) -> Result<Vec<HeapId>, Stop> {
        let mut ids = index::read(&mut self.pages, storage.by_name, kinds.0, self.left)?;
        ids.sort_unstable();
        if storage.by_order != UNDEFINED {
            let mut ordered = index::read(&mut self.pages, storage.by_order, kinds.1, self.left)?;
            ordered.sort_unstable();
            if ids != ordered {
                let detail = "two indexes list other links or attributes";
                return Err(Stop::malformed(storage.by_order, STRUCTURE, detail));
            }
        }
        Ok(ids)
    }
}

/// Checks what an entry repeats of the symbol table of its object.
fn check_cached(object: Object, message: Option<&Message>) -> Result<(), Stop> {
    let Some(cached) = object.cached else {
        return Ok(());
    };
    let own = message.map(symbol_table).transpose()?;
    if own == Some(cached) {
        return Ok(());
    }
    let detail = "an entry repeats another symbol table than its object has";
    Err(Stop::malformed(object.address, STRUCTURE, detail))
}

/// Checks a name in a group: whether a path can name the object.
fn check_name(name: &[u8], address: u64) -> Result<(), Stop> {
    let is_path =
        matches!(name, b"" | b"." | b"..") || name.iter().any(|byte| matches!(byte, 0 | b'/'));
    if !is_path && std::str::from_utf8(name).is_ok() {
        return Ok(());
    }
    let name = String::from_utf8_lossy(name);
    let detail = format!("the name {name:?} of an object is empty, a path or not a text");
    Err(Stop::malformed(address, STRUCTURE, detail))
}
