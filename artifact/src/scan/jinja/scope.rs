//! What is known of the variables, macros and namespaces of a template.

use std::collections::BTreeMap;

use super::allowed::{CONSTANTS, FORBIDDEN, FUNCTIONS, INPUTS};
use super::kind::Kinds;

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
    Set,
    Filter,
    Generation,
}

/// A block that has not ended.
struct OpenBlock<'t> {
    block: Block,
    /// Variables that surely have a value until the block ends.
    assigned: Vec<&'t str>,
    /// The two names of `for key in mapping`.
    keys: Option<(&'t str, &'t str)>,
}

/// What is known so far. It only grows.
#[derive(Default)]
pub(super) struct Scope<'t> {
    /// The values that a template gives its variables, wherever it does.
    variables: BTreeMap<&'t str, Kinds>,
    /// The values of attributes, of all namespaces together.
    attributes: BTreeMap<&'t str, Kinds>,
    /// The items of all loops.
    items: Kinds,
    /// The parameters of each macro.
    macros: BTreeMap<&'t str, Vec<&'t str>>,
    /// How many blocks gave a variable a value.
    assigned: BTreeMap<&'t str, usize>,
    /// Variables that surely have a value until the template ends are in none of them.
    blocks: Vec<OpenBlock<'t>>,
    has_grown: bool,
    /// Nothing new was found. What has no value now never gets one.
    is_complete: bool,
}

impl<'t> Scope<'t> {
    /// Notes a macro before the template is read, because others may call it earlier.
    pub(super) fn announce_macro(&mut self, name: &'t str) -> Result<(), String> {
        check_name(name)?;
        if is_taken(name) || self.macros.insert(name, Vec::new()).is_some() {
            return Err(format!("the macro {name} is something else, too"));
        }
        Ok(())
    }

    pub(super) fn begin_reading(&mut self) {
        self.blocks.clear();
        self.assigned.clear();
        self.has_grown = false;
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
            assigned: Vec::new(),
            keys,
        });
        Ok(())
    }

    /// Ends the innermost block, which must be this one.
    pub(super) fn close(&mut self, block: Block) -> Result<(), String> {
        let last = self.blocks.pop();
        let last = last.filter(|last| {
            last.block == block || (last.block == Block::ForElse && block == Block::For)
        });
        let last = last.ok_or_else(|| "the end of another block".to_owned())?;
        for name in last.assigned {
            if let Some(count) = self.assigned.get_mut(name) {
                *count = count.saturating_sub(1);
            }
        }
        Ok(())
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
        blocks.find(|block| matches!(block, Block::For | Block::Macro)) == Some(Block::For)
    }

    /// Whether a loop around is `for key in mapping`.
    pub(super) fn is_loop_over(&self, key: &str, mapping: &str) -> bool {
        self.blocks
            .iter()
            .any(|open| open.keys == Some((key, mapping)))
    }

    /// A variable gets a value.
    pub(super) fn assign(&mut self, name: &'t str, kinds: Kinds) -> Result<(), String> {
        if name.contains("__") || is_taken(name) || self.macros.contains_key(name) {
            return Err(format!("{name} gets another value"));
        }
        self.grow_variable(name, kinds);
        if let Some(open) = self.blocks.last_mut() {
            open.assigned.push(name);
        }
        let count = self.assigned.entry(name).or_default();
        *count = count.saturating_add(1);
        Ok(())
    }

    /// What is in a variable.
    pub(super) fn variable(&self, name: &str) -> Kinds {
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
        let is_assigned = self.assigned.get(name).is_some_and(|count| *count > 0);
        match self.variables.get(name) {
            Some(kinds) if is_assigned => self.known(*kinds),
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

    fn grow_variable(&mut self, name: &'t str, kinds: Kinds) {
        let known = self.variables.entry(name).or_default();
        self.has_grown |= !kinds.is_within(*known);
        *known = known.with(kinds);
    }

    /// An attribute of a namespace gets a value.
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
    name == "loop"
        || CONSTANTS.contains(&name)
        || FORBIDDEN.contains(&name)
        || FUNCTIONS.contains(&name)
}

/// Checks that a name has not the form of Python's internals.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.starts_with('_') || name.contains("__") {
        return Err(format!("the name {name}"));
    }
    Ok(())
}
