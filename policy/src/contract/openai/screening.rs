//! Rules beyond the form of requests and answers: links to pictures, function calls that were not
//! offered, and the salt of the server's prefix cache.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::json::{Members, Value, member};

use super::Faults;
use super::chat::form;
use super::history::part_text;
use super::picture_links::{LinkScanner, PictureLink};
use super::special_tokens::{TextForm, unescaped};
use crate::contract::quote;
use crate::denial::Reason;

/// The rules of a model. By default, links pass and the server's cache is shared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Screening {
    pub answer_links: Option<AnswerLinks>,
    pub refuses_request_links: bool,
    pub calls: CallRule,
    pub salts_cache: bool,
}

/// Effect of a link to a picture in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnswerLinks {
    /// Its marks are escaped, so that the link is shown as text.
    Escape,
    /// The answer is a fault of the backend.
    Refuse,
}

/// Functions that an answer may call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CallRule {
    /// Any.
    Any,
    /// Any, if the request offers one. Servers pass on names that a model makes up, and clients
    /// answer them.
    #[default]
    AnyIfOffered,
    /// Functions that the request offers.
    Offered,
}

/// The functions that an answer to one request may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferedCalls {
    /// Any.
    Any,
    /// These, possibly none.
    Named(Vec<String>),
}

impl Screening {
    /// Effect of links to pictures in answers; `None`: they pass.
    pub const fn answer_links(&self) -> Option<AnswerLinks> {
        self.answer_links
    }

    /// Whether the backend gets a salt for its prefix cache, one per client.
    pub const fn salts_cache(&self) -> bool {
        self.salts_cache
    }

    /// The functions that an answer to this document may call.
    pub fn offered_calls(&self, document: &Value<'_>) -> OfferedCalls {
        if self.calls == CallRule::Any {
            return OfferedCalls::Any;
        }
        let tools = document.get("tools").and_then(Value::as_array);
        let barred = document.get("tool_choice").and_then(Value::as_str) == Some("none");
        let tools = tools.filter(|_| !barred).unwrap_or_default();
        if self.calls == CallRule::AnyIfOffered && !tools.is_empty() {
            return OfferedCalls::Any;
        }
        let name =
            |tool: &Value<'_>| Some(String::from(tool.get("function")?.get("name")?.as_str()?));
        OfferedCalls::Named(tools.iter().filter_map(name).collect())
    }

    /// Checks that no text of a request has an inline link to a picture. Some servers (TGI,
    /// CVE-2026-0599) fetch these from the prompt.
    pub(super) fn check_request(&self, document: &Members<'_>, faults: &mut Faults) {
        if !self.refuses_request_links {
            return;
        }
        let cause = "a text has a link to a picture";
        for (name, value) in document {
            let field = || match name.as_ref() {
                texts @ ("messages" | "prompt" | "input") => String::from(texts),
                name => format!("parameter {}", quote(name)),
            };
            let items = value.as_array().unwrap_or_default();
            for (index, item) in items.iter().enumerate() {
                if item.any_text(&mut has_link) {
                    faults.add(
                        Reason::UrlBlocked,
                        || format!("{}[{index}]", field()),
                        cause,
                    );
                }
            }
            if items.is_empty() && value.any_text(&mut has_link) {
                faults.add(Reason::UrlBlocked, field, cause);
            }
        }
        let messages = member(document, "messages").and_then(Value::as_array);
        let messages = messages.unwrap_or_default();
        let divided =
            [TextForm::Plain, TextForm::Json].map(|form| has_divided_link(messages, form));
        if divided.contains(&true) || messages.iter().any(has_link_in_calls) {
            faults.add(Reason::UrlBlocked, || "messages".into(), cause);
        }
    }
}

impl OfferedCalls {
    /// Whether a function of this name may be called.
    pub fn allow(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Named(names) => names.iter().any(|known| known == name),
        }
    }

    /// Whether the name of a function that may be called starts with this.
    pub fn allow_start(&self, start: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Named(names) => names.iter().any(|known| known.starts_with(start)),
        }
    }
}

fn is_link(scanner: &mut LinkScanner, text: &str) -> bool {
    scanner.push(text, &mut |_: &str| {}) == Some(PictureLink::Inline)
}

/// Whether a text completes a link, if its JSON escapes are resolved.
fn is_link_unescaped(scanner: &mut LinkScanner, text: &str) -> bool {
    let mut characters = unescaped(text);
    characters.any(|character| is_link(scanner, character.encode_utf8(&mut [0; 4])))
}

fn has_link(text: &str) -> bool {
    // The search is much faster than the scanner, for pictures in base64. A control character may
    // be behind it.
    text.contains('!') && is_link(&mut LinkScanner::default(), text)
}

/// Whether the calls of a message have a link behind JSON escapes, which the server resolves.
fn has_link_in_calls(message: &Value<'_>) -> bool {
    let calls = message.get("tool_calls");
    calls.is_some_and(|calls| {
        calls.any_text(&mut |text: &str| {
            text.contains('\\') && is_link_unescaped(&mut LinkScanner::default(), text)
        })
    })
}

/// Whether texts one after the other have a link: a server joins the parts of a message, and a
/// template may join messages. For [`TextForm::Json`], as if it parses the texts that it may parse.
fn has_divided_link(messages: &[Value<'_>], read_as: TextForm) -> bool {
    let mut scanner = LinkScanner::default();
    messages.iter().any(|message| {
        scanner.end_paragraph();
        let role = message.get("role").and_then(Value::as_str);
        let is_json = read_as == TextForm::Json && form(role.unwrap_or_default()) == read_as;
        let is_link: fn(&mut LinkScanner, &str) -> bool =
            if is_json { is_link_unescaped } else { is_link };
        match message.get("content") {
            Some(Value::String(text)) => is_link(&mut scanner, text),
            Some(Value::Array(parts)) => {
                let mut texts = parts.iter().filter_map(part_text);
                texts.any(|text| is_link(&mut scanner, text))
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests;
