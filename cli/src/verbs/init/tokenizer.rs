//! A model's special tokens, from the files of its tokenizer as Hugging Face has them.
//!
//! They are the tokens that the tokenizer marks as special, others of the shape of special tokens
//! (`<|User|>` of DeepSeek is not marked), and what the chat template writes as plain text, such as
//! `[INST]` of Llama 2. Numbered ones become one entry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_cli_common::ui::printable;
use tensorgate_policy::contract::openai::special_tokens::{
    MAX_MODEL_TOKENS, MAX_NUMBER_DIGITS, MAX_NUMBERED_TOKENS, NUMBER_IN_TOKEN, begins_with_common,
    is_findable,
};

/// Maximum size of a file: larger than the vocabularies of known models.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Maximum characters of a mark in a template.
const MAX_MARK_CHARS: usize = 64;
/// From how many numbered tokens on they become one entry.
const MANY: usize = 4;
/// Maximum number of tokens that a note names.
const MAX_SHOWN: usize = 5;
/// Files of a tokenizer, of which those that exist are read together.
const FILES: [&str; 2] = ["tokenizer.json", "tokenizer_config.json"];
/// The chat template, if it has a file of its own.
const TEMPLATE: &str = "chat_template.jinja";
/// What templates write as plain text, so that no file lists it as a token. Without a template,
/// the model may have them.
const PLAIN_MARKS: [&str; 4] = ["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"];
/// Roles between bars, which some templates put together.
const ROLE_MARKS: [&str; 9] = [
    "<|assistant|>",
    "<|developer|>",
    "<|environment|>",
    "<|function|>",
    "<|ipython|>",
    "<|observation|>",
    "<|system|>",
    "<|tool|>",
    "<|user|>",
];

/// What is read of a tokenizer's files; other members are skipped.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Tokenizer {
    added_tokens: Vec<Added>,
    added_tokens_decoder: BTreeMap<String, Added>,
    additional_special_tokens: Option<Vec<Named>>,
    bos_token: Option<Named>,
    eos_token: Option<Named>,
    unk_token: Option<Named>,
    sep_token: Option<Named>,
    pad_token: Option<Named>,
    cls_token: Option<Named>,
    mask_token: Option<Named>,
    chat_template: Option<Template>,
}

/// A token beside the vocabulary.
#[derive(Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    special: bool,
}

/// A token with a role.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Text(String),
    Token(Added),
}

/// A chat template, or several with names.
#[derive(Deserialize)]
#[serde(untagged)]
enum Template {
    One(String),
    Several(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    template: String,
}

/// The special tokens of a model, for its policy.
pub(super) struct ModelTokens {
    pub(super) tokens: Vec<String>,
    /// What the reader should know.
    pub(super) notes: Vec<String>,
}

impl ModelTokens {
    /// Reads a tokenizer's file and the others in its folder, or those of a folder.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let shown = printable(&path.display().to_string());
        let is_folder = path.is_dir();
        let folder = path.parent().filter(|_| !is_folder).unwrap_or(path);
        let mut files: BTreeSet<PathBuf> = FILES.iter().map(|name| folder.join(name)).collect();
        files.retain(|file| file.is_file());
        if !is_folder {
            files.insert(path.to_owned());
        }
        let (mut found, mut templates) = (BTreeSet::new(), Vec::new());
        for file in &files {
            let bytes = bounded(file)?;
            let tokenizer: Tokenizer = serde_json::from_slice(&bytes).map_err(|error| {
                let file = printable(&file.display().to_string());
                Failure::Input(format!(
                    "{file} is not a tokenizer of Hugging Face: {error}"
                ))
            })?;
            tokenizer.collect(&mut found, &mut templates);
        }
        if found.is_empty() {
            return Err(Failure::Input(format!(
                "{shown} names no special token: name a tokenizer.json or tokenizer_config.json, or a folder with one"
            )));
        }
        let template = folder.join(TEMPLATE);
        if template.is_file() {
            templates.push(String::from_utf8_lossy(&bounded(&template)?).into_owned());
        }
        let mut notes = Vec::new();
        if templates.is_empty() {
            found.extend(PLAIN_MARKS.map(str::to_owned));
            notes.push(format!("{shown} has no chat template: what templates write as plain text, such as [INST], is among the special tokens"));
        }
        found.extend(templates.iter().flat_map(|template| marks(template)));
        let mut tokens = BTreeSet::new();
        let mut others = Vec::new();
        for token in &found {
            match findable_start(token) {
                Some(start) => _ = tokens.insert(start.to_owned()),
                None => others.push(token),
            }
        }
        if !others.is_empty() {
            let named = others.iter().take(MAX_SHOWN).map(|token| printable(token));
            let named = named.collect::<Vec<_>>().join(", ");
            notes.push(format!(
                "{} special tokens cannot be found in texts and are left out: {named}",
                others.len()
            ));
        }
        let tokens = numbered(tokens.into_iter().collect());
        if tokens.len() > MAX_MODEL_TOKENS {
            let count = tokens.len();
            return Err(Failure::Input(format!(
                "{shown} has {count} special tokens, and a policy lists at most {MAX_MODEL_TOKENS}: leave --tokenizer out, so that those of all common models are found"
            )));
        }
        Ok(Self { tokens, notes })
    }
}

impl Tokenizer {
    /// Adds its special tokens and its chat templates.
    fn collect(self, found: &mut BTreeSet<String>, templates: &mut Vec<String>) {
        let added = (self.added_tokens.into_iter()).chain(self.added_tokens_decoder.into_values());
        let is_special = |token: &Added| token.special || begins_with_common(&token.content);
        found.extend(added.filter(is_special).map(|token| token.content));
        let roles = [
            self.bos_token,
            self.eos_token,
            self.unk_token,
            self.sep_token,
            self.pad_token,
            self.cls_token,
            self.mask_token,
        ];
        let named = self.additional_special_tokens.into_iter().flatten();
        let named = named.chain(roles.into_iter().flatten());
        found.extend(named.map(|token| match token {
            Named::Text(content) | Named::Token(Added { content, .. }) => content,
        }));
        match self.chat_template {
            None => {}
            Some(Template::One(template)) => templates.push(template),
            Some(Template::Several(several)) => {
                templates.extend(several.into_iter().map(|named| named.template));
            }
        }
    }
}

fn bounded(file: &Path) -> Result<Vec<u8>, Failure> {
    let shown = printable(&file.display().to_string());
    read_at_most(file, MAX_FILE_BYTES)
        .map_err(|error| Failure::Input(format!("cannot read {shown}: {error}")))?
        .ok_or_else(|| Failure::Input(format!("{shown} is larger than {MAX_FILE_BYTES} bytes")))
}

/// The longest start of a token that can be found in texts: `<|user|>` of `<|user|>\n`. A `{n}` of
/// its own is no number.
fn findable_start(token: &str) -> Option<&str> {
    let literal = token.split(NUMBER_IN_TOKEN).next().unwrap_or_default();
    let ends = literal
        .char_indices()
        .map(|(at, c)| at.saturating_add(c.len_utf8()));
    let mut starts = ends.rev().filter_map(|end| literal.get(..end));
    starts.find(|start| is_findable(start))
}

/// The marks of common models that a template writes.
fn marks(template: &str) -> BTreeSet<String> {
    let mut marks = BTreeSet::new();
    for (start, _) in template.match_indices(['<', '[', ']']) {
        let rest = template.get(start..).unwrap_or_default();
        // A mark ends at the first bracket that closes, or at one behind it: `<<SYS>>`.
        let characters = rest.char_indices().take(MAX_MARK_CHARS).skip(1);
        let ends = characters.filter(|(_, c)| matches!(c, '>' | ']')).take(2);
        let mut texts = ends.filter_map(|(end, _)| rest.get(..=end));
        let mark = texts.find(|text| begins_with_common(text) && is_findable(text));
        marks.extend(mark.map(str::to_owned));
    }
    if template.contains("<|'") || template.contains("<|\"") {
        marks.extend(ROLE_MARKS.map(str::to_owned));
    }
    marks
}

/// Many tokens that differ in a number become one, the largest groups first.
fn numbered(tokens: Vec<String>) -> Vec<String> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for token in tokens {
        let group = without_number(&token).unwrap_or_else(|| token.clone());
        groups.entry(group).or_default().push(token);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, tokens)| std::cmp::Reverse(tokens.len()));
    let mut listed: Vec<String> = Vec::new();
    for (index, (group, tokens)) in groups.into_iter().enumerate() {
        if index < MAX_NUMBERED_TOKENS && tokens.len() >= MANY && is_findable(&group) {
            listed.push(group);
        } else {
            listed.extend(tokens);
        }
    }
    listed.sort_unstable();
    listed
}

/// A token with a placeholder for its only number.
fn without_number(token: &str) -> Option<String> {
    let is_digit = |c: char| c.is_ascii_digit();
    let (before, rest) = token.split_at_checked(token.find(is_digit)?)?;
    let after = rest.trim_start_matches(is_digit);
    let digits = rest.len().saturating_sub(after.len());
    let is_one = digits <= MAX_NUMBER_DIGITS && !after.is_empty() && !after.contains(is_digit);
    is_one.then(|| format!("{before}{NUMBER_IN_TOKEN}{after}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;

    /// The tokens of a folder with these files.
    fn read(name: &str, files: &[(&str, &str)]) -> Result<ModelTokens, String> {
        let folder = std::env::temp_dir().join(format!("tokens-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let read = ModelTokens::read(&folder).map_err(|error| error.to_string());
        std::fs::remove_dir_all(&folder).unwrap();
        read
    }

    #[test]
    fn special_tokens_are_those_of_all_files_and_of_the_template() {
        let tokenizer = r#"{"model": {"vocab": {"<s>": 1}}, "added_tokens": [
            {"id": 1, "content": "<|im_end|>", "special": true},
            {"id": 2, "content": "<\uff5cUser\uff5c>", "special": false},
            {"id": 3, "content": "<table>", "special": false},
            {"id": 4, "content": "word", "special": true},
            {"id": 9, "content": "<|user|>\n", "special": true}, {"id": 10, "content": "<a{n}b>", "special": true},
            {"id": 5, "content": "<x_1>", "special": true}, {"id": 6, "content": "<x_22>", "special": true},
            {"id": 7, "content": "<x_3>", "special": true}, {"id": 8, "content": "<x_4>", "special": true}]}"#;
        let config = r#"{"added_tokens_decoder": {"9": {"content": "<|tool|>", "special": true}},
            "eos_token": {"content": "</s>"}, "additional_special_tokens": ["<mask>"],
            "chat_template": [{"name": "default", "template": "{{ '[INST] <<SYS>>' + m[0] + '<b>' }}"}]}"#;
        let files = [
            ("tokenizer.json", tokenizer),
            ("tokenizer_config.json", config),
        ];
        let own = read("all", &files).unwrap();
        let expected = [
            "</s>",
            "<<SYS>>",
            "<a",
            "<mask>",
            "<x_{n}>",
            "<|im_end|>",
            "<|tool|>",
            "<|user|>",
            "<\u{ff5c}User\u{ff5c}>",
            "[INST]",
        ];
        assert_eq!(own.tokens, expected);
        assert_eq!(own.notes.len(), 1, "{:?}", own.notes);
        assert!(own.notes.iter().all(|note| note.ends_with(": word")));
    }

    #[test]
    fn marks_that_no_file_lists_are_special() {
        let config = r#"{"bos_token": "<s>"}"#;
        let own = read("plain", &[("tokenizer_config.json", config)]).unwrap();
        assert_eq!(
            own.tokens,
            ["<</SYS>>", "<<SYS>>", "<s>", "[/INST]", "[INST]"]
        );
        let template = "{{ '<|' + m['role'] + '|>' }}";
        let files = [("tokenizer_config.json", config), (TEMPLATE, template)];
        let own = read("roles", &files).unwrap();
        assert_eq!(own.tokens, [&["<s>"], &ROLE_MARKS[..]].concat());
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_refused() {
        let deep = "[".repeat(100_000);
        let many: Vec<_> = (0..2_000)
            .map(|index| format!("{{\"content\":\"<{index}a{index}>\",\"special\":true}}"))
            .collect();
        let many = format!("{{\"added_tokens\":[{}]}}", many.join(","));
        for (index, (text, expected)) in [
            ("", "is not a tokenizer"),
            ("{}", "names no special token"),
            ("[1]", "is not a tokenizer"),
            (deep.as_str(), "is not a tokenizer"),
            (
                "{\"added_tokens\":[],\"added_tokens\":[]}",
                "duplicate field",
            ),
            ("{\"added_tokens\":[{\"content\":7}]}", "is not a tokenizer"),
            (many.as_str(), "a policy lists at most 1024"),
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("bad-{index}");
            let Err(error) = read(&name, &[("tokenizer.json", text)]) else {
                panic!("{expected}");
            };
            assert!(error.contains(expected), "{error}");
        }
        assert!(read("none", &[]).is_err());
    }
}
