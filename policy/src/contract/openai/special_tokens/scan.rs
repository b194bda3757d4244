//! Finds special tokens of common model families in a text.
//!
//! Most tokens have one of a few shapes (`<|word|>`), so a new model's tokens are found too. The
//! others are listed.

use alloc::string::String;

/// Maximum characters of a word between bars.
const MAX_WORD_CHARS: usize = 64;

/// Tokens without bars.
#[rustfmt::skip]
const LISTED: [&str; 54] = [
    // Llama 2 and Mistral.
    "<s>", "</s>", "<unk>", "<pad>", "<<SYS>>", "<</SYS>>",
    "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
    "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]",
    "[TOOL_CONTENT]", "[CALL_ID]", "[ARGS]", "[IMG]", "[IMG_BREAK]", "[IMG_END]",
    "[AUDIO]", "[BEGIN_AUDIO]",
    // Gemma.
    "<bos>", "<eos>", "<mask>", "<start_of_turn>", "<end_of_turn>",
    "<start_of_image>", "<end_of_image>", "<image_soft_token>",
    // Pictures of LLaVA, Idefics, InternVL and DeepSeek-VL.
    "<image>", "<video>", "<audio>", "<img>", "</img>", "<IMG_CONTEXT>", "<image_placeholder>",
    "<fake_token_around_image>", "<end_of_utterance>",
    // GLM, Nemotron, Command, Seed and MiniMax.
    "[gMASK]", "<sop>", "<eop>", "<extra_id_0>", "<extra_id_1>",
    "<BOS_TOKEN>", "<seed:bos>", "<seed:eos>", "]~!b[", "]~b]", "[e~[",
    // BERT, for embeddings.
    "[CLS]", "[SEP]", "[MASK]",
];

/// How the server reads a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::contract::openai) enum TextForm {
    /// As it is.
    Plain,
    /// Perhaps as JSON, whose escapes it resolves: arguments of calls, and results of tools.
    Json,
}

/// The characters of a text as a tokenizer may read them after normalization.
#[derive(Clone)]
struct Characters<'t> {
    rest: &'t str,
    form: TextForm,
}

impl Iterator for Characters<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        loop {
            let (character, bytes) = first(self.rest, self.form)?;
            self.rest = self.rest.get(bytes..).unwrap_or_default();
            if let Some(character) = folded(character) {
                return Some(character);
            }
        }
    }
}

/// The offsets in a text behind the first character of each special token, in ascending order. A
/// text that is split at each of them holds no token. Tokens may overlap.
pub(super) fn token_starts(
    text: &str,
    form: TextForm,
    additional: &[String],
) -> impl Iterator<Item = usize> {
    let mut last = 0;
    text.char_indices().filter_map(move |(at, character)| {
        // All tokens and all escapes begin with punctuation.
        if !folded(character)?.is_ascii_punctuation() {
            return None;
        }
        let rest = text.get(at..)?;
        let bytes = match form {
            TextForm::Plain => token_start(rest, TextForm::Plain, additional)?,
            TextForm::Json => token_start(rest, TextForm::Plain, additional)
                .or_else(|| token_start(rest, TextForm::Json, additional))?,
        };
        let offset = at.saturating_add(bytes);
        // `\[INST]` has its token at the backslash and at the bracket, with one offset.
        if offset <= last {
            return None;
        }
        last = offset;
        Some(offset)
    })
}

/// Size of the first character of the special token that a text begins with.
fn token_start(text: &str, form: TextForm, additional: &[String]) -> Option<usize> {
    let (character, bytes) = first(text, form)?;
    let character = folded(character)?;
    let characters = Characters { rest: text, form };
    let begins_with = |token: &str| {
        let mut characters = characters.clone();
        token
            .chars()
            .filter_map(folded)
            .all(|expected| characters.next() == Some(expected))
    };
    let listed = matches!(character, '<' | '[' | ']')
        && (has_bars(characters.clone()) || LISTED.into_iter().any(begins_with));
    let found = listed || additional.iter().any(|token| begins_with(token));
    found.then_some(bytes)
}

/// Whether a text begins with `<|word|>`, `<|word>` or `<word|>`.
fn has_bars(mut characters: Characters<'_>) -> bool {
    if characters.next() != Some('<') {
        return false;
    }
    let mut characters = characters.peekable();
    let opened = characters.next_if_eq(&'|').is_some();
    let mut length = 0_usize;
    while let Some(character) = characters.next() {
        match character {
            '>' => return opened && length > 0,
            '|' => return length > 0 && characters.next() == Some('>'),
            '<' => return false,
            blank if blank.is_whitespace() => return false,
            _ if length >= MAX_WORD_CHARS => return false,
            _ => length = length.saturating_add(1),
        }
    }
    false
}

/// The first character of a text and its size there.
fn first(text: &str, form: TextForm) -> Option<(char, usize)> {
    /// Size of an escape with four digits.
    const ESCAPE_BYTES: usize = 6;
    let mut characters = text.chars();
    let character = characters.next()?;
    let plain = Some((character, character.len_utf8()));
    if form == TextForm::Plain || character != '\\' {
        return plain;
    }
    match characters.next() {
        Some('u') => {
            let digits = text.get(2..ESCAPE_BYTES);
            let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
            match code {
                // Half of a pair is a part of no token.
                Some(code) => Some((char::from_u32(code).unwrap_or(' '), ESCAPE_BYTES)),
                None => plain,
            }
        }
        Some('b' | 'f' | 'n' | 'r' | 't') => Some((' ', 2)),
        Some(escaped) => Some((escaped, escaped.len_utf8().saturating_add(1))),
        None => plain,
    }
}

/// A character after normalization, as far as tokens need it: full-width forms become ASCII, and
/// characters without a width vanish.
pub(crate) fn folded(character: char) -> Option<char> {
    /// From a full-width form to its ASCII character.
    const WIDE: u32 = 0xfee0;
    match character {
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2060}'..='\u{2064}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' => None,
        '\u{ff01}'..='\u{ff5e}' => {
            char::from_u32(u32::from(character).saturating_sub(WIDE)).or(Some(character))
        }
        '\u{fe64}' => Some('<'),
        '\u{fe65}' => Some('>'),
        _ => Some(character),
    }
}
