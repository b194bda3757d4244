//! Compiles a `tokenizer.json` to the tables of a call. All errors in the file are reported here by
//! name, while the handler is configured.

use std::collections::{BTreeMap, BTreeSet};

use super::added::Added;
use super::bpe::{NONE, characters};
use super::file::{AddedToken, Direction, File, Model, ModelKind, Strategy, Vocabulary};
use super::normalise::{self, normalised};
use super::settings;
use super::split;
use super::table::{Merge, Merges, Strings, Writer};
use super::tokenizer::{Kind, Length, Padding, Settings, Truncation};

/// The greatest sensible ID. IDs are rows of the model's table, and tables here would be mostly
/// empty.
pub const MAX_ID: u32 = 1 << 20;
/// The most bytes of a token.
const MAX_TOKEN_BYTES: usize = 1024;
/// The most added tokens, which are searched in each text.
const MAX_ADDED: usize = 4096;
/// The most IDs of a text.
pub const MAX_LENGTH: usize = 8192;
/// The default and the maximum of `max_input_chars_per_word`.
const MAX_WORD_CHARS: usize = 1000;
const WORD_CHARS: usize = 100;
/// The padding tokens to use if the file does not name one.
const PADS: [&str; 2] = ["[PAD]", "<pad>"];

/// Compiles a `tokenizer.json` to tables for [`crate::Tokenizer::read`].
///
/// # Errors
/// An invalid or unsupported part of the file.
pub fn compile(text: &str) -> Result<Vec<u8>, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let all = Tokens::of(&file.model.vocab, &file.added_tokens)?;
    let normaliser = settings::normaliser(file.normalizer)?;
    let splitter = settings::splitter(file.pre_tokenizer)?;
    let template = settings::template(file.post_processor, &all)?;
    let mut tables = Writer::default();
    let model = match kind(&file.model)? {
        ModelKind::WordPiece => wordpiece(&file.model, &all, &mut tables)?,
        ModelKind::Bpe => bpe(&file.model, &all, &splitter, &mut tables)?,
    };
    let truncation = file.truncation.map(|truncation| Truncation {
        max_length: truncation.max_length,
        left: truncation.direction == Direction::Left,
    });
    if truncation.is_some_and(|truncation| !(1..=MAX_LENGTH).contains(&truncation.max_length)) {
        return Err(format!("truncation: max_length is not 1 to {MAX_LENGTH}"));
    }
    let settings = Settings {
        greatest: all.ids.values().copied().max().unwrap_or(0),
        model,
        before: template.before,
        within: template.within,
        after: template.after,
        truncation,
        padding: padding(file.padding.as_ref(), &all)?,
        normaliser,
        splitter,
    };
    let mut writer = Writer::default();
    writer.section(&serde_json::to_vec(&settings).map_err(|error| error.to_string())?);
    added(&file.added_tokens, &settings.normaliser, &mut writer)?;
    let mut made = writer.into_bytes();
    made.extend(tables.into_bytes());
    Ok(made)
}

/// All tokens, including added ones. Each has one ID, and each ID has one token.
pub struct Tokens<'f> {
    ids: BTreeMap<&'f str, u32>,
    /// Special tokens, which no text can become.
    special: BTreeSet<u32>,
}

impl<'f> Tokens<'f> {
    fn of(vocabulary: &'f Vocabulary, added: &'f [AddedToken]) -> Result<Self, String> {
        let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
        if vocabulary.0.is_empty() {
            return Err("model: no vocabulary".to_owned());
        }
        if added.len() > MAX_ADDED {
            return Err(format!("added_tokens: more than {MAX_ADDED}"));
        }
        let known = vocabulary.0.iter();
        let known = known.map(|(token, id)| (token.as_str(), *id));
        let more = added.iter().map(|token| (token.content.as_str(), token.id));
        for (token, id) in known.chain(more) {
            if token.len() > MAX_TOKEN_BYTES {
                return Err(format!("token {id}: more than {MAX_TOKEN_BYTES} bytes"));
            }
            if id > MAX_ID {
                return Err(format!("token {id}: ids go up to {MAX_ID}"));
            }
            if let Some(other) = ids.insert(token, id).filter(|other| *other != id) {
                return Err(format!("a token has two ids, {other} and {id}"));
            }
        }
        let mut seen = BTreeSet::new();
        if let Some(id) = ids.values().find(|id| !seen.insert(**id)) {
            return Err(format!("two tokens have the id {id}"));
        }
        let special = added.iter().filter(|token| token.special);
        Ok(Self {
            ids,
            special: special.map(|token| token.id).collect(),
        })
    }

    /// Whether texts may become a token. Special tokens of the vocabulary are excluded, because
    /// words could match them.
    fn is_of_texts(&self, id: u32) -> bool {
        !self.special.contains(&id)
    }

    /// A token's id.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// The ID of a special token, which must agree with the one in another part of the file.
    pub fn checked(&self, token: &str, id: u32) -> Result<u32, String> {
        match self.id(token) {
            Some(known) if known == id => Ok(id),
            _ => Err(format!("{token:?} is not token {id} of the vocabulary")),
        }
    }
}

fn kind(model: &Model) -> Result<ModelKind, String> {
    match (model.kind, &model.merges) {
        (Some(ModelKind::WordPiece) | None, None) => Ok(ModelKind::WordPiece),
        (Some(ModelKind::Bpe) | None, Some(_)) => Ok(ModelKind::Bpe),
        (Some(ModelKind::Bpe), None) => Err("model: BPE without merges".to_owned()),
        (Some(ModelKind::WordPiece), Some(_)) => Err("model: WordPiece has no merges".to_owned()),
    }
}

fn wordpiece(model: &Model, all: &Tokens<'_>, tables: &mut Writer) -> Result<Kind, String> {
    let unknown = model.unk_token.as_deref().unwrap_or("[UNK]");
    let unknown = (all.id(unknown)).ok_or_else(|| format!("model: no token {unknown:?}"))?;
    let max_chars = model.max_input_chars_per_word.unwrap_or(WORD_CHARS);
    if max_chars > MAX_WORD_CHARS {
        return Err(format!(
            "model: max_input_chars_per_word is more than {MAX_WORD_CHARS}"
        ));
    }
    let words = (model.vocab.0.iter()).filter(|(_, id)| all.is_of_texts(**id));
    Strings::write(tables, words.map(|(word, id)| (word.as_bytes(), *id)));
    let prefix = model.continuing_subword_prefix.as_deref().unwrap_or("##");
    Ok(Kind::WordPiece {
        unknown,
        prefix: prefix.to_owned(),
        max_chars,
    })
}

fn bpe(
    model: &Model,
    all: &Tokens<'_>,
    splitter: &[split::Step],
    tables: &mut Writer,
) -> Result<Kind, String> {
    let set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    for (is_set, what) in [
        (
            model.dropout.is_some_and(|dropout| dropout != 0.0),
            "dropout",
        ),
        (
            set(&model.continuing_subword_prefix),
            "continuing_subword_prefix",
        ),
        (set(&model.end_of_word_suffix), "end_of_word_suffix"),
        (model.byte_fallback, "byte_fallback"),
    ] {
        if is_set {
            return Err(format!("model: BPE with {what} is not supported"));
        }
    }
    if !matches!(splitter.last(), Some(split::Step::ByteLevel { .. })) {
        return Err("model: BPE without the pre-tokenizer ByteLevel is not supported".to_owned());
    }
    let vocabulary = &model.vocab.0;
    let characters = characters();
    let bytes = characters.map(|c| {
        let mut buffer = [0; 4];
        let id = vocabulary.get(&*c.encode_utf8(&mut buffer));
        id.copied().unwrap_or(NONE)
    });
    if let Some(id) = bytes.iter().find(|id| !all.is_of_texts(**id)) {
        return Err(format!(
            "added token {id}: a byte of any text cannot be special"
        ));
    }
    tables.numbers(bytes);
    let mut whole = if model.ignore_merges {
        whole(vocabulary, &characters)
    } else {
        BTreeMap::new()
    };
    whole.retain(|_, id| all.is_of_texts(*id));
    Strings::write(
        tables,
        whole.iter().map(|(word, id)| (word.as_slice(), *id)),
    );
    let mut merges = BTreeMap::new();
    for (rank, (left, right)) in (0..).zip(model.merges.iter().flat_map(|merges| &merges.0)) {
        let fault = |why: &str| format!("merge {rank}: {why}");
        let id = |token: &str| {
            (vocabulary.get(token).copied()).ok_or_else(|| fault("not of the vocabulary's tokens"))
        };
        if left.is_empty() || right.is_empty() {
            return Err(fault("of nothing"));
        }
        let pair = (id(left)?, id(right)?);
        let made = id(&format!("{left}{right}"))?;
        if !all.is_of_texts(made) {
            return Err(fault("makes a special token of text"));
        }
        if merges.insert(pair, Merge { rank, made }).is_some() {
            return Err(fault("stands twice"));
        }
    }
    Merges::write(tables, &merges);
    let unknown = match &model.unk_token {
        Some(token) => Some((all.id(token)).ok_or_else(|| format!("model: no token {token:?}"))?),
        None => None,
    };
    Ok(Kind::Bpe {
        unknown,
        fuse: model.fuse_unk,
    })
}

/// Tokens by the bytes that they stand for. Tokens without such bytes cannot be words.
fn whole(vocabulary: &BTreeMap<String, u32>, characters: &[char; 256]) -> BTreeMap<Vec<u8>, u32> {
    let bytes: BTreeMap<char, u8> = characters.iter().copied().zip(u8::MIN..=u8::MAX).collect();
    let words = vocabulary.iter().filter_map(|(token, id)| {
        let word: Option<Vec<u8>> = token.chars().map(|c| bytes.get(&c).copied()).collect();
        Some((word?, *id))
    });
    words.collect()
}

/// The tokens that are matched before normalisation, and those after it. The latter are normalised
/// like the text.
fn added(
    tokens: &[AddedToken],
    normaliser: &[normalise::Step],
    writer: &mut Writer,
) -> Result<(), String> {
    let (mut raw, mut normal) = (BTreeMap::new(), BTreeMap::new());
    for token in tokens {
        let place = (token.id, token.special);
        if !token.special && (token.single_word || token.lstrip || token.rstrip) {
            return Err(format!(
                "added token {}: single_word, lstrip and rstrip are not supported",
                token.id
            ));
        }
        let (into, content) = if token.normalized {
            (&mut normal, normalised(normaliser, &token.content))
        } else {
            (&mut raw, token.content.clone())
        };
        if content.is_empty() {
            if token.special {
                continue;
            }
            return Err(format!("added token {}: of nothing", token.id));
        }
        if let Some((other, _)) = into.insert(content, place) {
            return Err(format!("added tokens {other} and {}: one text", token.id));
        }
    }
    for found in [&raw, &normal] {
        Added::write(
            writer,
            found.iter().map(|(token, place)| (token.as_str(), *place)),
        );
    }
    Ok(())
}

fn padding(file: Option<&super::file::Padding>, all: &Tokens<'_>) -> Result<Padding, String> {
    let Some(padding) = file else {
        return Ok(Padding {
            multiple: 1,
            id: PADS.iter().find_map(|pad| all.id(pad)),
            ..Padding::default()
        });
    };
    let length = match padding.strategy {
        Strategy::BatchLongest => Length::Longest,
        Strategy::Fixed(length) => Length::Fixed(length),
    };
    let multiple = padding.pad_to_multiple_of.unwrap_or(1).max(1);
    let fixed = match length {
        Length::Longest => 1,
        Length::Fixed(length) => length,
    };
    if fixed > MAX_LENGTH || multiple > MAX_LENGTH {
        return Err(format!("padding: longer than {MAX_LENGTH}"));
    }
    if padding.pad_id > MAX_ID || padding.pad_type_id > MAX_ID {
        return Err(format!("padding: ids go up to {MAX_ID}"));
    }
    Ok(Padding {
        length: Some(length),
        left: padding.direction == Direction::Left,
        multiple,
        id: Some(padding.pad_id),
        type_id: padding.pad_type_id,
    })
}
