//! Members of messages, functions and stream options that the policy ignores: a request may have
//! them, and the backend never gets them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::json::{Members, Value};

use super::history::TEXTS;

/// An object of a request whose members can be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    Message,
    Tool,
    Function,
    StreamOptions,
}

impl Owner {
    pub const ALL: [Self; 4] = [
        Self::Message,
        Self::Tool,
        Self::Function,
        Self::StreamOptions,
    ];

    /// Its pointer, and the members that the gate checks or answers itself.
    const fn row(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Message => (
                "/messages/*",
                &["role", "content", "name", "tool_calls", "tool_call_id"],
            ),
            Self::Tool => ("/tools/*", &["type", "function"]),
            Self::Function => (
                "/tools/*/function",
                &["name", "description", "parameters", "strict"],
            ),
            Self::StreamOptions => ("/stream_options", &["include_usage", "include_obfuscation"]),
        }
    }

    /// Its JSON Pointer in a request, with `*` for every element of a list.
    pub const fn pointer(self) -> &'static str {
        self.row().0
    }

    /// Whether the gate checks or answers this member, so that it cannot be ignored.
    pub fn has_checked(self, member: &str) -> bool {
        self.row().1.contains(&member) || self == Self::Message && TEXTS.contains(&member)
    }
}

/// The ignored members of objects in requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredMembers(pub Vec<(Owner, String)>);

impl IgnoredMembers {
    pub(super) fn has(&self, owner: Owner, member: &str) -> bool {
        let mut all = self.0.iter();
        all.any(|(known, name)| *known == owner && name == member)
    }

    /// Removes them from a document, and adds their pointers to the dropped names, each once.
    pub(super) fn drop_from(&self, document: &mut Members<'_>, dropped: &mut Vec<String>) {
        if self.0.is_empty() {
            return;
        }
        for (name, value) in document {
            match (&**name, value) {
                ("messages", Value::Array(messages)) => {
                    for message in messages {
                        self.drop_members(Owner::Message, message, dropped);
                    }
                }
                ("tools", Value::Array(tools)) => {
                    for tool in tools {
                        self.drop_members(Owner::Tool, tool, dropped);
                        if let Some(function) = tool.get_mut("function") {
                            self.drop_members(Owner::Function, function, dropped);
                        }
                    }
                }
                ("stream_options", options) => {
                    self.drop_members(Owner::StreamOptions, options, dropped);
                }
                _ => {}
            }
        }
    }

    fn drop_members(&self, owner: Owner, object: &mut Value<'_>, dropped: &mut Vec<String>) {
        let Value::Object(members) = object else {
            return;
        };
        members.retain(|(name, _)| {
            let is_ignored = self.has(owner, name);
            if is_ignored {
                let pointer = format!("{}/{name}", owner.pointer());
                if !dropped.contains(&pointer) {
                    dropped.push(pointer);
                }
            }
            !is_ignored
        });
    }
}

#[cfg(test)]
mod tests;
