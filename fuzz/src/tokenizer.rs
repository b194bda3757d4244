//! Fuzz target: a model's `tokenizer.json` and a text.
//!
//! serde_json must accept a file that the reader accepts. Each ID must be one that the file names,
//! and the only special one is that of the unknown token. A truncated text must be the beginning or
//! the end of the whole. If a file neither normalises nor splits text except at white space, a
//! plain search of its vocabulary must find the same IDs.

use std::collections::{BTreeMap, BTreeSet};

use crate::classifier::{Tokenizer, compile};
use serde_json::Value;

/// A bound on IDs that no text here reaches.
const ALL: usize = 1 << 20;

/// Runs one input: the bound on IDs, the length of the text, the text, the file.
pub fn run(data: &[u8]) {
    let [room, length, rest @ ..] = data else {
        return;
    };
    let Some((text, file)) = rest.split_at_checked(usize::from(*length)) else {
        return;
    };
    let (Ok(text), Ok(file)) = (str::from_utf8(text), str::from_utf8(file)) else {
        return;
    };
    let made = match compile(file) {
        Ok(made) => made,
        Err(why) => return assert!(!why.is_empty()),
    };
    let theirs: Value =
        serde_json::from_str(file).expect("accepted a text that serde_json rejects");
    let tokenizer = Tokenizer::read(&made).expect("what was written can be read");
    let all = tokenizer.encode(text, ALL, false);
    let room = usize::from(*room);
    let first = all.get(..room).unwrap_or(&all);
    assert_eq!(tokenizer.encode(text, room, false), first);
    let last = all.get(all.len().saturating_sub(room)..).unwrap_or(&all);
    assert_eq!(tokenizer.encode(text, room, true), last);
    let theirs = File::of(&theirs);
    for id in &all {
        assert!(theirs.ids.contains(id), "{id} is no token's");
        let unknown = theirs.unknown == Some(*id);
        assert!(unknown || !theirs.special.contains(id), "{id} is special");
    }
    if let Some(plain) = theirs.plain(text) {
        assert_eq!(all, plain, "{text:?}");
    }
}

/// The properties of a file, found by a plain search of its JSON.
struct File<'v> {
    file: &'v Value,
    vocabulary: BTreeMap<&'v str, u32>,
    ids: BTreeSet<u32>,
    special: BTreeSet<u32>,
    unknown: Option<u32>,
}

fn id(value: &Value) -> u32 {
    let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
    id.expect("an id")
}

impl<'v> File<'v> {
    fn of(file: &'v Value) -> Self {
        let model = &file["model"];
        let vocabulary: BTreeMap<&str, u32> = (model["vocab"].as_object().into_iter().flatten())
            .map(|(token, of)| (token.as_str(), id(of)))
            .collect();
        let added = || file["added_tokens"].as_array().into_iter().flatten();
        let ids = vocabulary
            .values()
            .copied()
            .chain(added().map(|token| id(&token["id"])));
        let special = added().filter(|token| token["special"] == true);
        let words = model["merges"].is_null();
        let unknown = model["unk_token"].as_str().or(words.then_some("[UNK]"));
        let named = |token: &&Value| token["content"].as_str() == unknown;
        let unknown = unknown.and_then(|token| vocabulary.get(token).copied());
        Self {
            file,
            ids: ids.collect(),
            special: special.map(|token| id(&token["id"])).collect(),
            unknown: unknown.or_else(|| added().find(named).map(|token| id(&token["id"]))),
            vocabulary,
        }
    }

    /// The IDs of a text that is split only at white space and not normalised.
    fn plain(&self, text: &str) -> Option<Vec<u32>> {
        let (model, splitter) = (&self.file["model"], &self.file["pre_tokenizer"]);
        let added = self.file["added_tokens"].as_array();
        let searched = added
            .into_iter()
            .flatten()
            .any(|token| token["special"] != true);
        if searched || !self.file["normalizer"].is_null() {
            return None;
        }
        let mut ids = Vec::new();
        match splitter["type"].as_str() {
            Some("WhitespaceSplit") if model["merges"].is_null() => {
                for word in text.split_whitespace() {
                    match self.pieces(word) {
                        Some(pieces) => ids.extend(pieces),
                        None => ids.push(self.unknown?),
                    }
                }
            }
            Some("ByteLevel")
                if splitter["add_prefix_space"] == false
                    && splitter["use_regex"] == false
                    && !text.is_empty() =>
            {
                ids = self.merged(text);
            }
            _ => return None,
        }
        Some(ids)
    }

    /// Repeatedly takes the longest token that matches.
    fn pieces(&self, word: &str) -> Option<Vec<u32>> {
        let model = &self.file["model"];
        let most = model["max_input_chars_per_word"].as_u64().unwrap_or(100);
        if u64::try_from(word.chars().count()).ok()? > most {
            return None;
        }
        let prefix = model["continuing_subword_prefix"].as_str().unwrap_or("##");
        let mut ids = Vec::new();
        let mut rest = word;
        while !rest.is_empty() {
            let before = if rest.len() == word.len() { "" } else { prefix };
            let mut ends = (1..=rest.len())
                .rev()
                .filter(|end| rest.is_char_boundary(*end));
            let (end, id) = ends.find_map(|end| {
                let id = self
                    .vocabulary
                    .get(format!("{before}{}", &rest[..end]).as_str())?;
                (!self.special.contains(id)).then_some((end, *id))
            })?;
            ids.push(id);
            rest = &rest[end..];
        }
        Some(ids)
    }

    /// Repeatedly applies the first merge of the list that matches, at its first position.
    fn merged(&self, text: &str) -> Vec<u32> {
        let model = &self.file["model"];
        let spelled: String = text.bytes().map(character).collect();
        if model["ignore_merges"] == true
            && let Some(id) = self.vocabulary.get(spelled.as_str())
            && !self.special.contains(id)
        {
            return vec![*id];
        }
        // A part that is not in the vocabulary is the unknown token. Only a merge that names that
        // token applies to it.
        let unknown = model["unk_token"].as_str();
        let mut parts: Vec<String> = Vec::new();
        let mut in_unknown = false;
        for c in spelled.chars() {
            let known = self.vocabulary.contains_key(c.to_string().as_str());
            if known {
                parts.push(c.to_string());
            } else if let Some(unknown) = unknown
                && !(in_unknown && model["fuse_unk"] == true)
            {
                parts.push(unknown.to_owned());
            }
            in_unknown = !known;
        }
        let merges = model["merges"].as_array().into_iter().flatten();
        let merges: Vec<(&str, &str)> = merges
            .map(|merge| match merge {
                Value::String(text) => text.split_once(' ').expect("a merge of two"),
                pair => (
                    pair[0].as_str().expect("a token"),
                    pair[1].as_str().expect("a token"),
                ),
            })
            .collect();
        loop {
            let fits = |(left, right): &(&str, &str)| {
                let mut pairs = parts.windows(2);
                pairs.position(|pair| pair[0] == *left && pair[1] == *right)
            };
            let Some(at) = merges.iter().find_map(fits) else {
                break;
            };
            let right = parts.remove(at + 1);
            parts[at].push_str(&right);
        }
        let of = |part: &String| self.vocabulary.get(part.as_str()).copied().or(self.unknown);
        parts.iter().filter_map(of).collect()
    }
}

/// The character that represents a byte in a byte-level vocabulary.
fn character(byte: u8) -> char {
    let itself = |byte: u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    if itself(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|byte| !itself(*byte)).count();
    let before = u32::try_from(before).expect("fewer than 256");
    char::from_u32(256 + before).expect("a character")
}
