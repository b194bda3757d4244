//! The special tokens that are looked for: those of common model families, or those of a policy.
//! Most of the common ones have one of a few shapes (`<|word|>`), so a new model's tokens are found
//! too. The others are listed.
//!
//! Callers choose the texts, so the work at one start is bounded: a start reads on only while its
//! characters may still be a token.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// What stands for a number in a token of the policy: `<unused{n}>`.
pub const NUMBER_IN_TOKEN: &str = "{n}";
/// Maximum characters of a word between bars.
const MAX_WORD_CHARS: usize = 64;
/// Maximum digits of a numbered token.
pub const MAX_NUMBER_DIGITS: usize = 6;
/// A number in a listed token.
const NUMBER: char = '#';

/// What follows the first two characters of the listed tokens. Names of ordinary HTML elements
/// (`<img>`, `<video>`) are left out: they would change code in prompts.
#[rustfmt::skip]
const fn listed(first: char, second: char) -> &'static [&'static str] {
    match (first, second) {
        ('<', '<') => &["SYS>>", "/SYS>>"],
        ('<', '/') => &["s>"],
        ('<', 's') => &[">", "op>", "eed:bos>", "eed:eos>", "tart_of_turn>", "tart_of_image>"],
        ('<', 'e') => &[
            "os>", "op>", "nd_of_turn>", "nd_of_image>", "nd_of_utterance>", "xtra_id_0>",
            "xtra_id_1>",
        ],
        ('<', 'u') => &["nk>"],
        ('<', 'p') => &["ad>"],
        ('<', 'b') => &["os>"],
        ('<', 'm') => &["ask>"],
        ('<', 'i') => &["mage>", "mage_soft_token>", "mage_placeholder>"],
        ('<', 'I') => &["MG_CONTEXT>"],
        ('<', 'f') => &["ake_token_around_image>"],
        ('<', 'B') => &["OS_TOKEN>"],
        ('<', 'S') => &["PECIAL_#>"],
        ('<', 'r') => &["eserved_#>"],
        ('[', '/') => &["INST]", "SYSTEM_PROMPT]", "AVAILABLE_TOOLS]", "TOOL_RESULTS]", "THINK]"],
        ('[', 'I') => &["NST]", "MG]", "MG_BREAK]", "MG_END]"],
        ('[', 'S') => &["YSTEM_PROMPT]", "EP]", "UFFIX]"],
        ('[', 'A') => &["VAILABLE_TOOLS]", "UDIO]"],
        ('[', 'T') => &["OOL_CALLS]", "OOL_RESULTS]", "OOL_CONTENT]", "HINK]"],
        ('[', 'C') => &["ALL_ID]", "LS]"],
        ('[', 'B') => &["OS]", "EGIN_AUDIO]"],
        ('[', 'E') => &["OS]"],
        ('[', 'P') => &["REFIX]"],
        ('[', 'M') => &["IDDLE]", "ASK]"],
        ('[', 'g') => &["MASK]"],
        ('[', 'e') => &["~["],
        (']', '~') => &["b]", "!b["],
        _ => &[],
    }
}

/// The tokens that are looked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct TokenSet {
    /// Whether those of common families are among them.
    common: bool,
    /// Others, sorted.
    listed: Vec<String>,
    /// Others with [`NUMBER`] in place of a number.
    numbered: Vec<String>,
}

impl TokenSet {
    /// The common tokens, if `common`, and others, which are normalized.
    pub(super) fn new(common: bool, others: Vec<String>) -> Self {
        let is_numbered = |token: &String| token.contains(NUMBER_IN_TOKEN);
        let (numbered, mut listed): (Vec<_>, Vec<_>) = others.into_iter().partition(is_numbered);
        listed.sort_unstable();
        let number = alloc::format!("{NUMBER}");
        let numbered = numbered.iter();
        Self {
            common,
            listed,
            numbered: numbered
                .map(|token| token.replace(NUMBER_IN_TOKEN, &number))
                .collect(),
        }
    }

    /// Whether there are tokens that may begin with other characters than the common ones.
    pub(super) fn has_others(&self) -> bool {
        !self.listed.is_empty() || !self.numbered.is_empty()
    }

    /// Whether characters begin with a token.
    pub(super) fn starts(&self, characters: impl Iterator<Item = char> + Clone) -> bool {
        (self.common && is_common(characters.clone()))
            || (!self.listed.is_empty() && begins_with_any(characters.clone(), &self.listed))
            || (self.numbered.iter()).any(|token| begins_with(characters.clone(), token))
    }
}

fn is_common(mut characters: impl Iterator<Item = char> + Clone) -> bool {
    let Some(first @ ('<' | '[' | ']')) = characters.next() else {
        return false;
    };
    let has_shape = match first {
        '<' => has_bars(characters.clone()),
        '[' => has_bars_in_brackets(characters.clone()),
        _ => false,
    };
    has_shape
        || characters.next().is_some_and(|second| {
            let mut rests = listed(first, second).iter();
            rests.any(|rest| begins_with(characters.clone(), rest))
        })
}

/// Whether `|word|>`, `|word>` or `word|>` follows a `<`.
fn has_bars(characters: impl Iterator<Item = char>) -> bool {
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

/// Whether `|word|]` follows a `[`. The word has letters alone: `[|1; 2|]` is a list of F#.
fn has_bars_in_brackets(mut characters: impl Iterator<Item = char>) -> bool {
    if characters.next() != Some('|') {
        return false;
    }
    let mut length = 0_usize;
    while let Some(character) = characters.next() {
        match character {
            '|' => return length > 0 && characters.next() == Some(']'),
            'a'..='z' | 'A'..='Z' | '_' if length < MAX_WORD_CHARS => {
                length = length.saturating_add(1);
            }
            _ => return false,
        }
    }
    false
}

fn begins_with(characters: impl Iterator<Item = char>, token: &str) -> bool {
    let mut characters = characters.peekable();
    token.chars().all(|expected| {
        if expected != NUMBER {
            return characters.next() == Some(expected);
        }
        let mut digits = 0_usize;
        while digits < MAX_NUMBER_DIGITS && characters.next_if(char::is_ascii_digit).is_some() {
            digits = digits.saturating_add(1);
        }
        digits > 0
    })
}

/// Whether characters begin with one of these sorted tokens. All of them are compared at once, so
/// a start reads at most the longest token.
fn begins_with_any(characters: impl Iterator<Item = char>, tokens: &[String]) -> bool {
    let (mut candidates, mut bytes) = (tokens, 0_usize);
    for character in characters {
        let at = |token: &String| token.get(bytes..).and_then(|rest| rest.chars().next());
        let wanted = Some(character);
        // Mostly, the first and the last one agree, and so do all between them.
        let ends = [candidates.first(), candidates.last()];
        if !ends.iter().flatten().all(|token| at(token) == wanted) {
            let start = candidates.partition_point(|token| at(token) < wanted);
            candidates = candidates.get(start..).unwrap_or_default();
            let end = candidates.partition_point(|token| at(token) == wanted);
            candidates = candidates.get(..end).unwrap_or_default();
        }
        bytes = bytes.saturating_add(character.len_utf8());
        // The shortest of them is the first.
        match candidates.first() {
            None => return false,
            Some(token) if token.len() == bytes => return true,
            Some(_) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]

    use core::cell::Cell;

    use alloc::borrow::ToOwned;

    use super::*;

    /// Whether characters begin with a common token or with one of these.
    fn begins_with_token(
        characters: impl Iterator<Item = char> + Clone,
        additional: &[String],
    ) -> bool {
        TokenSet::new(true, additional.to_vec()).starts(characters)
    }

    /// Listed tokens, by family.
    #[rustfmt::skip]
    const TOKENS: [&str; 65] = [
        // Llama 2 and Mistral.
        "<s>", "</s>", "<unk>", "<pad>", "<<SYS>>", "<</SYS>>",
        "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]",
        "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]", "[TOOL_CONTENT]", "[CALL_ID]", "[IMG]", "[IMG_BREAK]", "[IMG_END]",
        "[AUDIO]", "[BEGIN_AUDIO]", "[THINK]", "[/THINK]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]",
        // Gemma.
        "<bos>", "<eos>", "<mask>", "<start_of_turn>", "<end_of_turn>",
        "<start_of_image>", "<end_of_image>", "<image_soft_token>",
        // Pictures of LLaVA, Idefics, InternVL and DeepSeek-VL.
        "<image>", "<IMG_CONTEXT>", "<image_placeholder>", "<fake_token_around_image>",
        "<end_of_utterance>",
        // GLM, Nemotron, Command, Seed, MiniMax, EXAONE and Baichuan.
        "[gMASK]", "<sop>", "<eop>", "<extra_id_0>", "<extra_id_1>", "<SPECIAL_12>",
        "<BOS_TOKEN>", "<seed:bos>", "<seed:eos>", "]~!b[", "]~b]", "[e~[",
        "[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]", "[BOS]", "[EOS]",
        "<reserved_106>", "<reserved_9>", "<|reserved_special_token_7|>",
        // BERT, for embeddings.
        "[CLS]", "[SEP]", "[MASK]", "<|x|>",
    ];

    #[test]
    fn tokens_of_every_family_are_known_and_html_is_not() {
        for token in TOKENS {
            assert!(begins_with_token(token.chars(), &[]), "{token}");
            let cut = token.chars().take(token.chars().count() - 1);
            assert!(!begins_with_token(cut, &[]), "{token}");
        }
        for text in [
            "<img>",
            "</img>",
            "<video>",
            "<audio>",
            "[ARGS]",
            "[|1; 2|]",
            "[||]",
            "[|x]",
            "<reserved_>",
            "<reserved_1234567>",
            "[| x |]",
        ] {
            assert!(!begins_with_token(text.chars(), &[]), "{text}");
        }
    }

    /// Characters that are looked at for each character of a text.
    fn work(unit: &str, additional: &[String]) -> usize {
        let text = unit.repeat(2_000 / unit.len());
        let looked_at = Cell::new(0_usize);
        for (start, _) in text.char_indices() {
            let rest = text.get(start..).unwrap_or_default().chars();
            let counted = rest.inspect(|_| looked_at.set(looked_at.get() + 1));
            begins_with_token(counted, additional);
        }
        looked_at.get() / text.chars().count()
    }

    #[test]
    fn a_hostile_text_costs_a_bounded_amount_for_each_of_its_characters() {
        let long = "<".to_owned() + &"x".repeat(MAX_WORD_CHARS);
        for unit in [
            "<",
            "<|",
            "<|a",
            "[",
            "[|a",
            "]~",
            "[/",
            "</",
            "<e",
            "<nd_of_",
            "[/TOOL_",
            "<<SYS>",
            "<SPECIAL_1",
            "[IMG_",
            &long,
        ] {
            assert!(work(unit, &[]) <= 12, "{unit}: {}", work(unit, &[]));
        }
        // The length of a token at each of its starts, however many tokens share a prefix.
        let prefix = "~".repeat(62);
        let shared: Vec<String> = (10..74)
            .map(|number| alloc::format!("{prefix}{number}"))
            .collect();
        assert!((60..=2 * 64).contains(&work("~", &shared)));
    }

    #[test]
    fn additional_tokens_are_found_among_others_of_the_same_prefix() {
        let tokens = ["<a", "<ab>", "<b", "~x", "~\u{2581}y"].map(String::from);
        for (text, expected) in [
            ("<a>", true),
            ("<abc", true),
            ("<b", true),
            ("<c", false),
            ("~\u{2581}y", true),
            ("~\u{2581}", false),
            ("~y", false),
            ("!", false),
            ("", false),
        ] {
            assert_eq!(begins_with_token(text.chars(), &tokens), expected, "{text}");
        }
    }

    #[test]
    fn a_models_own_tokens_are_found_and_those_of_others_are_not() {
        let tokens = ["<|im_end|>", "<unused{n}>", "{{x{n}"].map(String::from);
        let own = TokenSet::new(false, tokens.into());
        for (text, expected) in [
            ("<|im_end|>", true),
            ("<unused0>", true),
            ("<unused999999>", true),
            ("{{x1", true),
            ("<unused>", false),
            ("<unused1234567>", false),
            ("<unused{n}>", false),
            ("<unusedx>", false),
            ("<|im_start|>", false),
            ("<s>", false),
            ("[INST]", false),
            ("<mask>", false),
        ] {
            assert_eq!(own.starts(text.chars()), expected, "{text}");
        }
        assert!(own.has_others() && !TokenSet::new(true, Vec::new()).has_others());
    }
}
