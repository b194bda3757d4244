//! What is known of the variables, macros and namespaces of a template.

use std::collections::{BTreeMap, BTreeSet};

use super::allowed::{CONSTANTS, FORBIDDEN, FUNCTIONS, INPUTS};
use super::kind::Kinds;
use super::loops::own_variables;
use super::token::{Tag, Token};

/// Blocks within blocks.
const MAX_BLOCKS: usize = 64;
/// Parameters of a macro. Each argument with a name is looked for among them.
const MAX_PARAMETERS: usize = 64;

/// A block of statements.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    If,
    For,
    /// What runs if a loop had no items. It has no `loop`.
    ForElse,
    Macro,
    /// What a macro prints where it calls `caller`.
    Call,
    Set,
    Filter,
    Generation,
}

/// A block that has not ended.
struct OpenBlock<'t> {
    block: Block,
    /// Variables that surely have a value until the block ends.
    assigned: BTreeSet<&'t str>,
    /// The two names of `for key in mapping`.
    keys: Option<(&'t str, &'t str)>,
    /// The tag that began the block, if it is a loop.
    tag: usize,
}

/// What is known so far. It only grows.
#[derive(Default)]
pub(super) struct Scope<'t> {
    /// The values that a template gives its variables, wherever it does.
    variables: BTreeMap<&'t str, Kinds>,
    /// The values of variables that are those of one loop, by the tag of the loop.
    loop_variables: BTreeMap<usize, BTreeMap<&'t str, Kinds>>,
    /// The values of attributes, of all namespaces together.
    attributes: BTreeMap<&'t str, Kinds>,
    /// Variables and attributes that got another value than a list in brackets.
    other_variables: BTreeSet<&'t str>,
    other_attributes: BTreeSet<&'t str>,
    /// The items of all loops.
    items: Kinds,
    /// The parameters of each macro.
    macros: BTreeMap<&'t str, Vec<&'t str>>,
    /// Functions that the template calls. The names of the others are free for variables.
    called: BTreeSet<&'t str>,
    /// Variables that surely have a value until the template ends.
    assigned: BTreeSet<&'t str>,
    blocks: Vec<OpenBlock<'t>>,
    /// The tag that is read.
    tag: usize,
    /// The first filter that only some loaders have, and its tag.
    loader_filter: Option<(usize, &'t str)>,
    has_grown: bool,
    /// Nothing new was found. What has no value now never gets one.
    is_complete: bool,
}

impl<'t> Scope<'t> {
    /// What is known before the tags are read.
    pub(super) fn new(tags: &[Tag<'t>]) -> Self {
        let mut loop_variables = BTreeMap::new();
        for (tag, names) in own_variables(tags) {
            let mut own = BTreeMap::new();
            for name in names {
                own.insert(name, Kinds::NONE);
            }
            loop_variables.insert(tag, own);
        }
        let pairs = tags.iter().flat_map(|tag| tag.tokens.windows(2));
        let called = pairs.filter_map(|pair| match pair {
            [Token::Name(name), Token::Sign("(")] if FUNCTIONS.contains(name) => Some(*name),
            _ => None,
        });
        Self {
            loop_variables,
            called: called.collect(),
            ..Self::default()
        }
    }

    /// Notes a macro before the template is read, because others may call it earlier.
    pub(super) fn announce_macro(&mut self, name: &'t str) -> Result<(), String> {
        check_name(name)?;
        let is_taken = is_taken(name) || FUNCTIONS.contains(&name);
        if is_taken || self.macros.insert(name, Vec::new()).is_some() {
            return Err(format!("the macro {name} is something else, too"));
        }
        Ok(())
    }

    pub(super) fn begin_reading(&mut self) {
        self.blocks.clear();
        self.assigned.clear();
        self.has_grown = false;
    }

    /// Tags are read in order, by their position.
    pub(super) const fn begin_tag(&mut self, tag: usize) {
        self.tag = tag;
    }

    /// From now on, what has no known value may be anything.
    pub(super) const fn complete(&mut self) {
        self.is_complete = true;
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether something new was found since the reading began.
    pub(super) const fn has_grown(&self) -> bool {
        self.has_grown
    }

    pub(super) fn open(
        &mut self,
        block: Block,
        keys: Option<(&'t str, &'t str)>,
    ) -> Result<(), String> {
        if self.blocks.len() >= MAX_BLOCKS {
            return Err("blocks are nested too deeply".to_owned());
        }
        self.blocks.push(OpenBlock {
            block,
            assigned: BTreeSet::new(),
            keys,
            tag: self.tag,
        });
        Ok(())
    }

    /// Ends the innermost block, which must be this one.
    pub(super) fn close(&mut self, block: Block) -> Result<(), String> {
        let last = self.blocks.pop();
        let last = last.filter(|last| {
            last.block == block || (last.block == Block::ForElse && block == Block::For)
        });
        last.map(|_| ())
            .ok_or_else(|| "the end of another block".to_owned())
    }

    /// Begins the next branch of a condition or a loop.
    pub(super) fn branch(&mut self) -> Result<(), String> {
        let last = self.blocks.last().map(|last| last.block);
        match last {
            Some(Block::If) => {
                self.close(Block::If)?;
                self.open(Block::If, None)
            }
            Some(Block::For) => {
                self.close(Block::For)?;
                self.open(Block::ForElse, None)
            }
            _ => Err("a branch of no condition".to_owned()),
        }
    }

    /// Whether `loop` is the loop around.
    pub(super) fn is_in_loop(&self) -> bool {
        let mut blocks = self.blocks.iter().rev().map(|open| open.block);
        blocks.find(|block| matches!(block, Block::For | Block::Macro | Block::Call))
            == Some(Block::For)
    }

    /// Whether `caller` is the block of a call, or has no value: the renderer's is hidden.
    pub(super) fn is_in_macro(&self) -> bool {
        self.blocks.iter().any(|open| open.block == Block::Macro)
    }

    /// Whether a loop around is `for key in mapping`.
    pub(super) fn is_loop_over(&self, key: &str, mapping: &str) -> bool {
        self.blocks
            .iter()
            .any(|open| open.keys == Some((key, mapping)))
    }

    /// The variable of the loop that begins gets one of its items.
    pub(super) fn assign_item(&mut self, name: &'t str, kinds: Kinds) -> Result<(), String> {
        let own = self.loop_variables.get_mut(&self.tag);
        let Some(known) = own.and_then(|own| own.get_mut(name)) else {
            return self.assign(name, kinds, false);
        };
        self.has_grown |= !kinds.is_within(*known);
        *known = known.with(kinds);
        self.check_assigned(name)
    }

    /// A variable gets a value. `is_list`: it is a list in brackets.
    pub(super) fn assign(
        &mut self,
        name: &'t str,
        kinds: Kinds,
        is_list: bool,
    ) -> Result<(), String> {
        self.check_assigned(name)?;
        self.grow_variable(name, kinds);
        if !is_list {
            self.has_grown |= self.other_variables.insert(name);
        }
        let around = self.blocks.last_mut();
        let assigned = around.map_or(&mut self.assigned, |open| &mut open.assigned);
        assigned.insert(name);
        Ok(())
    }

    fn check_assigned(&self, name: &str) -> Result<(), String> {
        let is_taken = is_taken(name) || self.called.contains(name);
        if name.contains("__") || is_taken || self.macros.contains_key(name) {
            return Err(format!("{name} gets another value"));
        }
        Ok(())
    }

    /// What is in the variable of a loop around, if it is that of no other tag.
    fn loop_variable(&self, name: &str) -> Option<Kinds> {
        let blocks = self.blocks.iter().rev();
        let mut loops = blocks.filter(|open| open.block == Block::For);
        loops.find_map(|open| {
            let own = self.loop_variables.get(&open.tag)?;
            own.get(name).copied()
        })
    }

    /// Whether a variable surely is a list that the template began in brackets.
    pub(super) fn is_list(&self, name: &str) -> bool {
        self.loop_variable(name).is_none()
            && !self.other_variables.contains(name)
            && self.is_assigned(name)
    }

    /// Whether a variable surely has a value here.
    fn is_assigned(&self, name: &str) -> bool {
        let mut around = self.blocks.iter().map(|open| &open.assigned);
        self.assigned.contains(name) || around.any(|assigned| assigned.contains(name))
    }

    /// Whether a name is that of a function, and of no variable that surely has a value.
    pub(super) fn is_function(&self, name: &str) -> bool {
        FUNCTIONS.contains(&name) && !self.is_assigned(name) && self.loop_variable(name).is_none()
    }

    /// Whether an attribute of a namespace is such a list, or not there.
    pub(super) fn is_list_attribute(&self, name: &str) -> bool {
        !self.other_attributes.contains(name)
    }

    /// What is in a variable.
    pub(super) fn variable(&self, name: &str) -> Kinds {
        if let Some(kinds) = self.loop_variable(name) {
            return self.known(kinds);
        }
        let outer = if INPUTS.contains(&name) {
            Kinds::INPUT
        } else if name.ends_with("_token") || name.ends_with("_tokens") {
            // Special tokens are texts of the model's author.
            Kinds::COMPUTED_TEXT
        } else if name.contains("token") {
            // Such as `tokenizer`, which some renderers pass on.
            Kinds::COMPUTED_TEXT.with(Kinds::RENDERER_VARIABLE)
        } else {
            Kinds::RENDERER_VARIABLE
        };
        match self.variables.get(name) {
            Some(kinds) if self.is_assigned(name) => self.known(*kinds),
            Some(kinds) => kinds.with(outer),
            None => outer,
        }
    }

    /// A value that nothing gives may be anything, as a variable of the renderer.
    const fn known(&self, kinds: Kinds) -> Kinds {
        if self.is_complete && kinds.is_within(Kinds::NONE) {
            Kinds::RENDERER_VARIABLE
        } else {
            kinds
        }
    }

    /// A variable, or what is in it, gets another value.
    pub(super) fn grow_variable(&mut self, name: &'t str, kinds: Kinds) {
        let known = self.variables.entry(name).or_default();
        self.has_grown |= !kinds.is_within(*known);
        *known = known.with(kinds);
    }

    /// An attribute of a namespace gets a value. `is_list`: it is a list in brackets.
    pub(super) fn set_attribute(&mut self, name: &'t str, kinds: Kinds, is_list: bool) {
        self.grow_attribute(name, kinds);
        if !is_list {
            self.has_grown |= self.other_attributes.insert(name);
        }
    }

    /// An attribute of a namespace, or what is in it, gets another value.
    pub(super) fn grow_attribute(&mut self, name: &'t str, kinds: Kinds) {
        let known = self.attributes.entry(name).or_default();
        self.has_grown |= !kinds.is_within(*known);
        *known = known.with(kinds);
    }

    /// What is in an attribute of a namespace.
    pub(super) fn attribute(&self, name: &str) -> Kinds {
        self.known(self.attributes.get(name).copied().unwrap_or_default())
    }

    /// Whether the template gives some namespace this attribute.
    pub(super) fn has_attribute(&self, name: &str) -> bool {
        self.attributes.contains_key(name)
    }

    /// A loop has these items.
    pub(super) fn grow_items(&mut self, kinds: Kinds) {
        self.has_grown |= !kinds.is_within(self.items);
        self.items = self.items.with(kinds);
    }

    pub(super) const fn items(&self) -> Kinds {
        self.known(self.items)
    }

    pub(super) fn is_macro(&self, name: &str) -> bool {
        self.macros.contains_key(name)
    }

    /// A filter is used that only some loaders have.
    pub(super) fn note_loader_filter(&mut self, filter: &'t str) {
        self.loader_filter.get_or_insert((self.tag, filter));
    }

    /// The first such filter, and its tag.
    pub(super) const fn loader_filter(&self) -> Option<(usize, &'t str)> {
        self.loader_filter
    }

    /// The parameters of a macro, where it is defined.
    pub(super) fn define_macro(
        &mut self,
        name: &'t str,
        parameters: Vec<&'t str>,
    ) -> Result<(), String> {
        if parameters.len() > MAX_PARAMETERS {
            return Err(format!("more than {MAX_PARAMETERS} parameters of a macro"));
        }
        let known = self.macros.entry(name).or_default();
        self.has_grown |= *known != parameters;
        *known = parameters;
        Ok(())
    }

    /// A macro is called with an argument: the one of this name, or at this position.
    pub(super) fn pass(&mut self, called: &str, name: Option<&str>, index: usize, kinds: Kinds) {
        let Some(parameters) = self.macros.get(called) else {
            return;
        };
        let found = match name {
            Some(name) => parameters.iter().find(|parameter| **parameter == name),
            None => parameters.get(index),
        };
        if let Some(parameter) = found.copied() {
            self.grow_variable(parameter, kinds);
        }
    }
}

/// Whether a name has a meaning that a template may not change.
fn is_taken(name: &str) -> bool {
    name == "loop" || CONSTANTS.contains(&name) || FORBIDDEN.contains(&name)
}

/// Checks that a name has not the form of Python's internals.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.starts_with('_') || name.contains("__") {
        return Err(format!("the name {name}"));
    }
    Ok(())
}
