//! Why a tool or a schema is rejected: the member, as a JSON pointer, and the cause.

use alloc::format;
use alloc::string::String;

use crate::contract::quote;

/// A cause without a member, for the log.
pub(in crate::contract::openai) type Fault = &'static str;

/// Maximum size of a pointer, before its last name is added.
const MAX_POINTER_BYTES: usize = 200;
/// Maximum length of a name in a pointer, in characters.
const MAX_NAME_CHARS: usize = 32;

/// A rejected tool or schema.
#[derive(Debug, PartialEq)]
pub(in crate::contract::openai) struct SchemaFault {
    /// The member below what was checked, escaped; empty for the whole.
    pointer: String,
    cause: String,
    /// Whether the pointer begins at the root of the schema, as one into a definition does.
    from_root: bool,
}

impl From<Fault> for SchemaFault {
    fn from(cause: Fault) -> Self {
        Self::new(cause.into())
    }
}

impl SchemaFault {
    pub(super) fn new(cause: String) -> Self {
        Self {
            pointer: String::new(),
            cause,
            from_root: false,
        }
    }

    /// A fault of the member with this name.
    pub(in crate::contract::openai) fn at(name: &str, cause: Fault) -> Self {
        Self::from(cause).below(name)
    }

    /// The same fault, seen from the value that has the faulty one as a member.
    #[must_use]
    pub(in crate::contract::openai) fn below(self, name: &str) -> Self {
        if self.from_root {
            return self;
        }
        self.prepended(name)
    }

    /// The same fault, seen from the root of the schema, which has this definition.
    #[must_use]
    pub(super) fn in_definition(self, path: &str) -> Self {
        if self.from_root {
            return self;
        }
        let names = path.strip_prefix("#/").unwrap_or(path).rsplit('/');
        Self {
            from_root: true,
            ..names.fold(self, |fault, name| fault.prepended(name))
        }
    }

    /// The same fault, seen from outside of the schema.
    #[must_use]
    pub(super) fn of_schema(self) -> Self {
        Self {
            from_root: false,
            ..self
        }
    }

    /// The same fault, of the function with this name.
    #[must_use]
    pub(in crate::contract::openai) fn of_function(self, name: Option<&str>) -> Self {
        match name {
            Some(name) => Self {
                cause: format!("{}, in the function {}", self.cause, quote(name)),
                ..self
            },
            None => self,
        }
    }

    fn prepended(mut self, name: &str) -> Self {
        const CUT: &str = "...";
        if self.pointer.starts_with(CUT) {
            return self;
        }
        if self.pointer.len() > MAX_POINTER_BYTES {
            self.pointer.insert_str(0, CUT);
            return self;
        }
        let mut pointer = String::from("/");
        let mut characters = name.chars();
        for character in characters.by_ref().take(MAX_NAME_CHARS) {
            match character {
                '~' => pointer.push_str("~0"),
                '/' => pointer.push_str("~1"),
                character => pointer.extend(character.escape_default()),
            }
        }
        if characters.next().is_some() {
            pointer.push_str(CUT);
        }
        pointer.push_str(&self.pointer);
        Self { pointer, ..self }
    }

    /// The cause, for the log.
    pub(in crate::contract::openai) fn text(&self) -> String {
        if self.pointer.is_empty() {
            self.cause.clone()
        } else {
            format!("{} {}", self.pointer, self.cause)
        }
    }

    /// Whether the fault names a member, which the response shows.
    pub(in crate::contract::openai) fn names_a_member(&self) -> bool {
        !self.pointer.is_empty()
    }
}
