//! Chat conversations: roles, texts, images and function calls.

use alloc::format;
use alloc::string::String;

use tensorgate_values::json::{Members, Value, member};

use super::history::{
    Call, NOT_A_CALL_WORD, REFUSAL, TEXTS, has_other_content, is_call_word, is_left_out,
    is_left_out_of_part, is_no_content, is_participant, part_text,
};
use super::ignored::Owner;
use super::members::{CHOICES, Compiled, REQUIRED, count, function, is_function, is_id, only_name};
use super::picture::{Look, Picture, is_data};
use super::schema::{self, Fault, SchemaFault, SchemaRules};
use super::special_tokens::TextForm;
use super::text_length::longest;
use super::tokens::{CALLER, Contents, MAX_CALLS};
use super::{Chat, Faults, OpenAi, missing};
use crate::contract::quote;
use crate::denial::Reason;

/// The role of results of functions.
const TOOL: &str = "tool";
/// How closely the model looks at a picture, by the API.
const DETAILS: [&str; 4] = ["auto", "low", "high", "original"];
/// The role of the person that the model answers.
const USER: &str = "user";

impl Chat {
    pub(super) fn check(
        &self,
        model: &OpenAi,
        document: &Members<'_>,
        faults: &mut Faults,
    ) -> Contents {
        let (mut messages, mut schemas, mut tools) = (None, 0_usize, false);
        let mut object_texts = 0_usize;
        let member = |name| member(document, name);
        for (name, value) in document {
            let more = match name.as_ref() {
                "messages" => {
                    messages = Some(self.messages(model, value, faults));
                    0
                }
                "tools" => {
                    tools = *value != Value::Null;
                    self.tools(model, value, document, faults)
                }
                "tool_choice" => {
                    self.tool_choice(value, document, faults);
                    0
                }
                "response_format" => self.response_format(model, value, faults),
                "logprobs" => {
                    self.logprobs(value, faults);
                    0
                }
                "top_logprobs" => {
                    let most = self.generation.logprobs.unwrap_or(0);
                    let has_logprobs = member("logprobs") == Some(&Value::Bool(true));
                    if has_logprobs || matches!(value, Value::Null | Value::Int(0)) {
                        count("top_logprobs", value, 0, most, faults);
                    } else {
                        let field = || "parameter \"top_logprobs\"".into();
                        faults.add(Reason::Parameter, field, "without logprobs");
                    }
                    0
                }
                name if self.generation.constrains(name) => {
                    self.generation.constraint(name, value, document, faults)
                }
                name if self.generation.knows(name) => {
                    self.generation.check(name, value, document, model, faults);
                    0
                }
                name => {
                    let bytes = model.parameter(name, value, faults);
                    object_texts = object_texts.saturating_add(bytes);
                    0
                }
            };
            schemas = schemas.saturating_add(more);
        }
        let messages = messages.unwrap_or_else(|| missing("messages", faults));
        let texts = messages.texts.saturating_add(object_texts);
        if texts > self.max_prompt_bytes {
            let most = self.max_prompt_bytes;
            let cause = format!("{texts} bytes in all, {most} are allowed");
            let expected = || format!("at most {most} bytes in all");
            faults.add_expecting(Reason::ItemTooLong, || "messages".into(), &cause, expected);
        }
        Contents {
            texts,
            schemas,
            tools,
            ..messages
        }
    }

    fn logprobs(&self, value: &Value<'_>, faults: &mut Faults) {
        let allowed = matches!(value, Value::Bool(false) | Value::Null)
            || *value == Value::Bool(true) && self.generation.logprobs.is_some();
        if !allowed {
            let field = || "parameter \"logprobs\"".into();
            faults.add(
                Reason::Parameter,
                field,
                "is not a value that the contract allows",
            );
        }
    }

    fn messages(&self, model: &OpenAi, value: &Value<'_>, faults: &mut Faults) -> Contents {
        let field = || "messages".into();
        let Some(messages) = value.as_array() else {
            faults.add(Reason::Datatype, field, "is not a list");
            return Contents::default();
        };
        if messages.is_empty() || messages.len() > self.max_messages {
            let cause = format!(
                "{} messages, 1 to {} are allowed",
                messages.len(),
                self.max_messages
            );
            faults.add_expecting(Reason::Shape, field, &cause, || {
                format!("1 to {} messages", self.max_messages)
            });
            return Contents::default();
        }
        let mut contents = Contents {
            items: messages.len(),
            ..Contents::default()
        };
        let has_user = messages.iter().any(|message| {
            let role = message.get("role").and_then(Value::as_str);
            role == Some(USER)
        });
        for (index, message) in messages.iter().enumerate() {
            let message_contents = Message {
                model,
                rule: self,
                index,
                has_user,
                faults,
                contents: Contents::default(),
            }
            .check(message);
            contents.add(message_contents);
        }
        if self
            .images
            .as_ref()
            .is_some_and(|rule| contents.images > rule.max)
        {
            faults.add(
                Reason::Shape,
                field,
                "more pictures than the contract allows",
            );
        }
        contents
    }

    /// `tools`: functions with a schema each. Returns their size as text.
    pub(super) fn tools(
        &self,
        model: &OpenAi,
        value: &Value<'_>,
        document: &Members<'_>,
        faults: &mut Faults,
    ) -> usize {
        let refuse_all = |faults: &mut Faults, cause: &str| {
            faults.add(Reason::Parameter, || "parameter \"tools\"".into(), cause);
            0
        };
        let (rule, tools) = match (&self.tools, value) {
            (_, Value::Null) => return 0,
            (Some(rule), Value::Array(tools)) if tools.len() <= rule.max => (rule, tools),
            (Some(_), Value::Array(_)) => {
                return refuse_all(faults, "more than the contract allows");
            }
            (Some(_), _) => return refuse_all(faults, "is not a list"),
            (None, _) => return refuse_all(faults, "the contract allows none"),
        };
        let bytes = match schema_bytes(model, value, rule.max_bytes) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return refuse_all(faults, "larger than the contract allows"),
            Err(cause) => return refuse_all(faults, cause),
        };
        let compiled = Compiled::of(member(document, "tool_choice"));
        for (index, tool) in tools.iter().enumerate() {
            let rules = self.schema_rules(rule.compiled || compiled.has(tool));
            if let Err(fault) = function(tool, &rules, &model.ignored_members) {
                let function = tool.get("function");
                let name = function.and_then(|function| function.get("name"));
                let fault = fault.of_function(name.and_then(Value::as_str));
                refuse(faults, &fault, || format!("parameter \"tools\"[{index}]"));
            }
        }
        bytes
    }

    fn schema_rules(&self, compiled: bool) -> SchemaRules<'_> {
        let constraints = self.generation.constraints.as_ref();
        if compiled {
            SchemaRules::compiled(self.schemas, constraints)
        } else {
            SchemaRules::described(self.schemas, constraints)
        }
    }

    /// Removes the keywords that the server does not get of schemas that only describe. Returns
    /// whether there were any.
    pub(super) fn drop_keywords(&self, document: &mut Members<'_>) -> bool {
        let choice = member(document, "tool_choice").cloned();
        let compiled = Compiled::of(choice.as_ref());
        let tools = document.iter_mut().find(|(name, _)| name == "tools");
        let (Some(rule), Some((_, Value::Array(tools)))) = (&self.tools, tools) else {
            return false;
        };
        let mut dropped = false;
        for tool in tools {
            let rules = self.schema_rules(rule.compiled || compiled.has(tool));
            let function = tool.get_mut("function");
            let schema = function.and_then(|value| value.get_mut("parameters"));
            if let Some(schema) = schema {
                dropped |= schema::drop_keywords(schema, true, &rules);
            }
        }
        dropped
    }

    /// `tool_choice`: a keyword, or one of the request's functions. A server that must call a
    /// function and has none may fail, so `required` needs one.
    pub(super) fn tool_choice(
        &self,
        value: &Value<'_>,
        document: &Members<'_>,
        faults: &mut Faults,
    ) {
        let tools = member(document, "tools").and_then(Value::as_array);
        let tools = tools.unwrap_or_default();
        let sent = |name: &str| {
            tools.iter().any(|tool| {
                let function = tool
                    .get("function")
                    .and_then(|function| function.get("name"));
                function.and_then(Value::as_str) == Some(name)
            })
        };
        let allowed = self.tools.is_some()
            && match value {
                Value::String(word) if word == REQUIRED => !tools.is_empty(),
                Value::String(word) => CHOICES.contains(&word.as_ref()),
                Value::Object(members) => {
                    let name = value.get("function").and_then(only_name);
                    members.len() == 2 && is_function(value) && name.is_some_and(sent)
                }
                Value::Null
                | Value::Bool(_)
                | Value::Int(_)
                | Value::Float(_)
                | Value::Array(_) => false,
            };
        if !allowed && *value != Value::Null {
            faults.add(
                Reason::Parameter,
                || "parameter \"tool_choice\"".into(),
                "is not a choice that the contract and the request's tools allow",
            );
        }
    }

    /// `response_format`. Returns the size of its schema.
    pub(super) fn response_format(
        &self,
        model: &OpenAi,
        value: &Value<'_>,
        faults: &mut Faults,
    ) -> usize {
        if *value == Value::Null {
            return 0;
        }
        let field = || String::from("parameter \"response_format\"");
        let Some(kind) = self.kind_of_format(value) else {
            let cause = "has no type that the contract allows";
            let expected = || match self.formats.as_slice() {
                [] => String::from("no response_format"),
                formats => format!("a type of {}", formats.join(", ")),
            };
            faults.add_expecting(Reason::Parameter, field, cause, expected);
            return 0;
        };
        self.format(model, kind, value).unwrap_or_else(|fault| {
            refuse(faults, &fault, field);
            0
        })
    }

    /// The type of a format, if it is allowed.
    fn kind_of_format<'v>(&self, format: &'v Value<'_>) -> Option<&'v str> {
        let kind = format.get("type").and_then(Value::as_str);
        kind.filter(|kind| self.formats.iter().any(|known| known == kind))
    }

    fn format(&self, model: &OpenAi, kind: &str, value: &Value<'_>) -> Result<usize, SchemaFault> {
        let members = value.as_object().unwrap_or_default();
        let present = members.iter().filter(|(_, value)| *value != Value::Null);
        let schema = match (kind, present.count()) {
            ("json_schema", 2) => value.get("json_schema").ok_or("has no schema")?,
            ("json_schema", _) | (_, 2..) => return Err("has a member that no rule names".into()),
            _ => return Ok(0),
        };
        let bytes = schema_bytes(model, schema, self.max_schema_bytes)?;
        let bytes = bytes.ok_or("a schema larger than the contract allows")?;
        let rules = self.schema_rules(true);
        for (name, value) in schema.as_object().ok_or("a schema is not an object")? {
            let checked = match (name.as_ref(), value) {
                ("name", Value::String(text)) if is_id(text) => Ok(()),
                ("name", _) => Err("is not a name of 1 to 64 letters, digits, _ and -".into()),
                ("description", Value::String(_) | Value::Null)
                | ("strict", Value::Bool(_) | Value::Null) => Ok(()),
                ("schema", value) => schema::check(value, &rules),
                _ => Err("is not a member of json_schema that the contract allows".into()),
            };
            checked.map_err(|fault: SchemaFault| fault.below(name).below("json_schema"))?;
        }
        if schema.get("name").is_none() || schema.get("schema").is_none() {
            return Err("json_schema has no name or no schema".into());
        }
        Ok(bytes)
    }
}

/// Refuses a tool or a format. The response names the member at fault.
fn refuse(faults: &mut Faults, fault: &SchemaFault, field: impl FnOnce() -> String) {
    let cause = fault.text();
    if fault.names_a_member() {
        faults.add_expecting(Reason::Parameter, field, &cause, || {
            format!("a value that the contract allows; {cause}")
        });
    } else {
        faults.add(Reason::Parameter, field, &cause);
    }
}

/// Size of tools or a schema with special tokens escaped; `None`: larger than `most`. What is too
/// large already is not examined.
fn schema_bytes(model: &OpenAi, value: &Value<'_>, most: usize) -> Result<Option<usize>, Fault> {
    let bytes = value.text_bytes();
    if bytes > most {
        return Ok(None);
    }
    let added = model.special_tokens.added_to_schema(value)?;
    Ok(Some(bytes.saturating_add(added)).filter(|bytes| *bytes <= most))
}

/// A message in progress.
struct Message<'r, 'f> {
    model: &'r OpenAi,
    rule: &'r Chat,
    index: usize,
    /// Whether a message of the request is a user's.
    has_user: bool,
    faults: &'f mut Faults,
    /// Contents so far.
    contents: Contents,
}

impl Message<'_, '_> {
    fn add(&mut self, reason: Reason, member: &str, cause: &str) {
        let index = self.index;
        let field = || format!("messages[{index}]{member}");
        self.faults.add(reason, field, cause);
    }

    /// Adds a fault of a member of which the contract has an expectation.
    fn add_expecting(
        &mut self,
        reason: Reason,
        member: &str,
        cause: &str,
        expected: impl FnOnce() -> String,
    ) {
        let index = self.index;
        let field = || format!("messages[{index}]{member}");
        self.faults.add_expecting(reason, field, cause, expected);
    }

    fn text(&mut self, text: &str) {
        self.count(longest(text));
    }

    fn count(&mut self, text_bytes: usize) {
        self.contents.texts = self.contents.texts.saturating_add(text_bytes);
    }

    /// Whether the message is refused for its size already, so that its texts are not examined.
    fn is_too_long(&self, more_bytes: usize) -> bool {
        self.contents.texts.saturating_add(more_bytes) > self.rule.max_message_bytes
    }

    /// A text in which special tokens count. Returns its maximum size at the server.
    fn free_text(&mut self, text: &str, member: &str, form: TextForm) -> usize {
        let bytes = longest(text);
        if self.is_too_long(bytes) {
            self.count(bytes);
            return bytes;
        }
        let added = self.model.special_tokens.added_bytes(text, form);
        let added = added.unwrap_or_else(|cause| {
            self.add(Reason::Parameter, member, cause);
            0
        });
        let bytes = bytes.saturating_add(added);
        self.count(bytes);
        bytes
    }

    fn check(mut self, message: &Value<'_>) -> Contents {
        if let Some(members) = message.as_object() {
            self.members(message, members);
        } else {
            self.add(Reason::Datatype, "", "is not an object");
        }
        let (bytes, most) = (self.contents.texts, self.rule.max_message_bytes);
        if bytes > most {
            let cause = format!("{bytes} bytes, {most} are allowed");
            let expected = || format!("at most {most} bytes");
            self.add_expecting(Reason::ItemTooLong, "", &cause, expected);
        }
        self.contents
    }

    fn members(
        &mut self,
        message: &Value<'_>,
        members: &[(alloc::borrow::Cow<'_, str>, Value<'_>)],
    ) {
        let role = message.get("role").and_then(Value::as_str).unwrap_or("");
        if !self.rule.roles.iter().any(|known| known == role) {
            let rule = self.rule;
            let expected = || format!("one of {}", rule.roles.join(", "));
            let cause = "is not a role that the contract allows";
            self.add_expecting(Reason::Parameter, ".role", cause, expected);
        }
        // Of an answer. A function may return nothing, too.
        let may_be_silent = has_other_content(role, message) || self.is_reply(role);
        let mut content = role == CALLER && may_be_silent;
        for (name, value) in members {
            match (name.as_ref(), value) {
                ("role", _) => {}
                (name, value) if is_left_out(role, name, value) => {}
                ("content", value) => {
                    content = true;
                    self.content(value, role, may_be_silent);
                }
                ("name", Value::String(name)) if role == TOOL => {
                    self.call_word(name, &|| ".name".into());
                }
                ("name", Value::String(name)) => self.participant(name),
                ("tool_call_id", Value::String(id)) if role == TOOL => {
                    self.call_word(id, &|| ".tool_call_id".into());
                }
                (name, Value::String(text)) if role == CALLER && TEXTS.contains(&name) => {
                    self.free_text(text, &format!(".{name}"), TextForm::Plain);
                }
                ("tool_calls", Value::Array(calls)) if role == CALLER => self.calls(calls),
                (name, _) if self.model.ignored_members.has(Owner::Message, name) => {}
                (name, _) => {
                    let name = quote(name);
                    let cause = format!("{name} is a member that no rule names");
                    let expected = || format!("a message without {name}");
                    self.add_expecting(Reason::Parameter, "", &cause, expected);
                }
            }
        }
        if !content {
            self.add(Reason::MissingInput, ".content", "is missing");
        }
    }

    /// Whether the message may be an answer, or the result of a function, that says nothing: a
    /// model may end within its reasoning, which many clients do not send back. The first message
    /// answers nothing.
    fn is_reply(&self, role: &str) -> bool {
        self.index > 0 && (role == CALLER || role == TOOL)
    }

    /// The name of a participant. It stays as it is, so that a special token is a fault.
    fn participant(&mut self, name: &str) {
        self.text(name);
        if !is_participant(name) {
            let cause = "its name has a blank, one of < > | / \\, or more than 64 characters";
            self.add(Reason::Parameter, "", cause);
            return;
        }
        let added = self.model.special_tokens.added_bytes(name, TextForm::Plain);
        match added {
            Ok(0) => {}
            Ok(_) => self.add(Reason::Parameter, "", "its name has a special token"),
            Err(cause) => self.add(Reason::Parameter, "", cause),
        }
    }

    /// An id or a name of a call. Templates write it, so that it counts as a byte at least.
    fn call_word(&mut self, word: &str, member: &dyn Fn() -> String) {
        if !is_call_word(word, 0) {
            self.count(longest(word));
            self.add(Reason::Parameter, &member(), NOT_A_CALL_WORD);
            return;
        }
        let added = self.model.special_tokens.added_bytes(word, TextForm::Plain);
        let added = added.unwrap_or_else(|cause| {
            self.add(Reason::Parameter, &member(), cause);
            0
        });
        if !is_call_word(word, added) {
            self.add(Reason::Parameter, &member(), NOT_A_CALL_WORD);
        }
        self.count(longest(word).saturating_add(added).max(1));
    }

    fn content(&mut self, value: &Value<'_>, role: &str, may_be_silent: bool) {
        match value {
            Value::String(text) => {
                self.free_text(text, ".content", form(role));
            }
            value if may_be_silent && is_no_content(value) => {}
            Value::Array(parts) if !parts.is_empty() => {
                for part in parts {
                    self.part(part, role);
                }
                let tokens = &self.model.special_tokens;
                if !self.is_too_long(0)
                    && let Err(cause) = tokens.across_parts(parts, form(role))
                {
                    self.add(Reason::Parameter, ".content", cause);
                }
            }
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Float(_)
            | Value::Array(_)
            | Value::Object(_) => self.add(
                Reason::Datatype,
                ".content",
                "is neither a text nor a list of parts",
            ),
        }
        // An assistant may have said nothing, and a function may return nothing. Clients without a
        // system prompt send an empty one. Beside a user's message, servers accept it.
        let may_be_empty = self.has_user && role != USER;
        let is_free = |bytes: usize| role == CALLER || role == TOOL || may_be_empty && bytes == 0;
        if let Some(bytes) = text_bytes(value).filter(|bytes| !is_free(*bytes)) {
            let field = || format!("messages[{}].content", self.index);
            self.model.not_too_short(bytes, field, self.faults);
        }
    }

    fn part(&mut self, part: &Value<'_>, role: &str) {
        // Every part costs the server something, however short its text is.
        self.count(1);
        let kind = part.get("type").and_then(Value::as_str);
        let has_only = |content: &str| {
            let mut members = part.as_object().unwrap_or_default().iter();
            members.all(|(name, value)| {
                let name: &str = name;
                name == "type" || name == content || is_left_out_of_part(name, value)
            })
        };
        match (kind, part_text(part), part.get("image_url")) {
            (Some("text"), Some(text), _) if has_only("text") => {
                self.free_text(text, ".content", form(role));
            }
            (Some(REFUSAL), Some(text), _) if has_only(REFUSAL) && role == CALLER => {
                self.free_text(text, ".content", form(role));
            }
            (Some("image_url"), _, Some(image))
                if has_only("image_url") && (role == USER || role == TOOL) =>
            {
                self.picture(image);
            }
            _ => {
                let cause = "a part that no rule names";
                self.add_expecting(Reason::Parameter, ".content", cause, || {
                    "parts of type text, and image_url of users and tools, with no others".into()
                });
            }
        }
    }

    fn picture(&mut self, image: &Value<'_>) {
        let Some(rule) = &self.rule.images else {
            let cause = "the contract allows no pictures";
            self.add_expecting(Reason::Parameter, ".content", cause, || {
                "texts without pictures".into()
            });
            return;
        };
        let known = image.as_object().is_some_and(|members| {
            members.iter().all(|(name, value)| match name.as_ref() {
                "url" => true,
                "detail" => {
                    *value == Value::Null || value.as_str().is_some_and(|it| DETAILS.contains(&it))
                }
                _ => false,
            })
        });
        let url = image.get("url").and_then(Value::as_str);
        // For any other URL the server fetches the image.
        if let Some(url) = url.filter(|url| !is_data(url)) {
            let led = match &rule.url {
                Some(rule) => rule.check(url.as_bytes()),
                None => Err("a picture's URL is not a data: URL"),
            };
            match led {
                Ok(()) if known => {
                    self.text(url);
                    self.contents.images = self.contents.images.saturating_add(1);
                }
                Ok(()) => self.add(Reason::Parameter, ".content", "a member that no rule names"),
                Err(cause) => self.add(Reason::UrlBlocked, ".content", cause),
            }
            return;
        }
        let Some(picture) = url.and_then(Picture::read).filter(|_| known) else {
            let expected = || format!("data:image/…;base64,… of type {}", rule.media.kinds());
            let cause = "a picture is not data:image/…;base64,… of a known type";
            self.add_expecting(Reason::Parameter, ".content", cause, expected);
            return;
        };
        let bytes = picture.bytes();
        self.contents.images = self.contents.images.saturating_add(1);
        self.contents.pictures = self.contents.pictures.saturating_add(bytes);
        if bytes > rule.max_bytes {
            let cause = format!("a picture of {bytes} bytes, {} are allowed", rule.max_bytes);
            self.add(Reason::ItemTooLong, ".content", &cause);
            return;
        }
        match picture.look(&rule.media) {
            Look::Keeps => {}
            Look::Breaks(cause) => {
                let expected = || rule.media.expected();
                self.add_expecting(Reason::OutOfRange, ".content", &cause, expected);
            }
            Look::NotBase64 => self.add(Reason::Parameter, ".content", "a picture is not base64"),
        }
    }

    fn calls(&mut self, calls: &[Value<'_>]) {
        if calls.len() > MAX_CALLS || self.rule.tools.is_none() {
            self.add(
                Reason::Parameter,
                ".tool_calls",
                "more or fewer than the contract allows",
            );
            return;
        }
        for (index, call) in calls.iter().enumerate() {
            let Some(called) = Call::read(call) else {
                self.add(
                    Reason::Parameter,
                    ".tool_calls",
                    "is not a call of a function",
                );
                continue;
            };
            self.call_word(called.id, &|| format!(".tool_calls[{index}].id"));
            self.call_word(called.name, &|| {
                format!(".tool_calls[{index}].function.name")
            });
            let bytes = self.free_text(called.arguments, ".tool_calls", TextForm::Json);
            let contents = &mut self.contents;
            contents.calls = contents.calls.saturating_add(1);
            contents.arguments = contents.arguments.saturating_add(bytes);
        }
    }
}

/// How servers read the content of a role. Some parse a function's result.
pub(super) fn form(role: &str) -> TextForm {
    if role == TOOL {
        TextForm::Json
    } else {
        TextForm::Plain
    }
}

/// Size of a content of texts alone. A picture needs no text beside it.
fn text_bytes(content: &Value<'_>) -> Option<usize> {
    if let Some(text) = content.as_str() {
        return Some(text.len());
    }
    content.as_array()?.iter().try_fold(0_usize, |bytes, part| {
        Some(bytes.saturating_add(part_text(part)?.len()))
    })
}
