//! A configured tokenizer: from a text to IDs.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::added::{Added, Piece};
use super::bpe::Bpe;
use super::normalise::{self, normalised};
use super::split::{self, each};
use super::table::Reader;
use super::wordpiece::WordPiece;

/// The settings in a `tokenizer.json`, without its vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The greatest ID.
    pub greatest: u32,
    /// The normalisation steps.
    pub normaliser: Vec<normalise::Step>,
    /// The splitting steps.
    pub splitter: Vec<split::Step>,
    /// The model, which converts words to IDs.
    pub model: Kind,
    /// Special tokens before a text's own, each with its type.
    pub before: Vec<(u32, u32)>,
    /// The type of a text's own tokens.
    pub within: u32,
    /// Special tokens after them.
    pub after: Vec<(u32, u32)>,
    /// Where texts are truncated.
    pub truncation: Option<Truncation>,
    /// How rows are padded.
    pub padding: Padding,
}

/// A model, with the settings beside its tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// As in BERT.
    WordPiece {
        /// The ID of an unknown word.
        unknown: u32,
        /// The prefix of a piece that continues a word.
        prefix: String,
        /// A longer word is unknown.
        max_chars: usize,
    },
    /// As in GPT-2 and `RoBERTa`.
    Bpe {
        /// The ID of an unknown byte, or none if such bytes are dropped.
        unknown: Option<u32>,
        /// Whether a run of unknown bytes is one token.
        fuse: bool,
    },
}

/// How texts are truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncation {
    /// The most IDs of a text, including special ones.
    pub max_length: usize,
    /// At the start instead of the end.
    pub left: bool,
}

/// How rows are padded to one length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Padding {
    /// The length; none if the file does not set it.
    pub length: Option<Length>,
    /// Before a row's IDs instead of after them.
    pub left: bool,
    /// The length is a multiple of this.
    pub multiple: usize,
    /// The padding ID, if the file has one.
    pub id: Option<u32>,
    /// The type of the padding.
    pub type_id: u32,
}

/// The length of padded rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    /// That of the longest row.
    Longest,
    /// This, or that of the longest row if that is longer.
    Fixed(usize),
}

/// A tokenizer with its tables.
pub struct Tokenizer<'t> {
    /// Its settings.
    pub settings: Settings,
    raw: Added<'t>,
    normal: Added<'t>,
    model: Model<'t>,
}

enum Model<'t> {
    WordPiece(WordPiece<'t>),
    Bpe(Bpe<'t>),
}

impl<'t> Tokenizer<'t> {
    /// Reads the settings and the tables. `None` if [`crate::compile`] has not written the bytes.
    #[must_use]
    pub fn read(bytes: &'t [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let settings: Settings = serde_json::from_slice(reader.section()?).ok()?;
        let raw = Added::read(&mut reader)?;
        let normal = Added::read(&mut reader)?;
        let model = match &settings.model {
            Kind::WordPiece {
                unknown,
                prefix,
                max_chars,
            } => Model::WordPiece(WordPiece::read(&mut reader, prefix, *unknown, *max_chars)?),
            Kind::Bpe { unknown, fuse } => Model::Bpe(Bpe::read(&mut reader, *unknown, *fuse)?),
        };
        Some(Self {
            settings,
            raw,
            normal,
            model,
        })
    }

    /// The number of special tokens of each text.
    #[must_use]
    pub const fn specials(&self) -> usize {
        let Settings { before, after, .. } = &self.settings;
        before.len().saturating_add(after.len())
    }

    /// A text's own IDs, at most `room`: the first, or the last. With truncation at the end, the
    /// rest of the text is not read, because a token does not depend on later words.
    #[must_use]
    pub fn encode(&self, text: &str, room: usize, left: bool) -> Vec<u32> {
        let mut ids = Vec::new();
        let enough = |ids: &[u32]| {
            if !left && ids.len() >= room {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let _ = self.raw.pieces(text).into_iter().try_for_each(|piece| {
            let text = match piece {
                Piece::Token(id) => {
                    ids.push(id);
                    return enough(&ids);
                }
                Piece::Text(text) => normalised(&self.settings.normaliser, text),
            };
            self.normal
                .pieces(&text)
                .into_iter()
                .try_for_each(|piece| match piece {
                    Piece::Token(id) => {
                        ids.push(id);
                        enough(&ids)
                    }
                    Piece::Text(text) => each(&self.settings.splitter, text, &mut |word| {
                        match &self.model {
                            Model::WordPiece(model) => model.ids(word, &mut ids),
                            Model::Bpe(model) => model.ids(word, &mut ids),
                        }
                        enough(&ids)
                    }),
                })
        });
        if left {
            ids.drain(..ids.len().saturating_sub(room));
        }
        ids.truncate(room);
        ids
    }
}
