//! A tokenizer as it was configured: a text to ids.

use core::ops::ControlFlow;

use serde::{Deserialize, Serialize};

use super::added::{Added, Piece};
use super::bpe::Bpe;
use super::normalise::{self, normalised};
use super::split::{self, each};
use super::table::Reader;
use super::wordpiece::WordPiece;

/// What a `tokenizer.json` says beside its vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The greatest id there is.
    pub greatest: u32,
    /// What is done to a text first.
    pub normaliser: Vec<normalise::Step>,
    /// How it is split.
    pub splitter: Vec<split::Step>,
    /// What makes ids of words.
    pub model: Kind,
    /// Special tokens before a text's own, each with its type.
    pub before: Vec<(u32, u32)>,
    /// The type of a text's own tokens.
    pub within: u32,
    /// Special tokens after them.
    pub after: Vec<(u32, u32)>,
    /// Where it cuts texts off.
    pub truncation: Option<Truncation>,
    /// How it fills rows up.
    pub padding: Padding,
}

/// A model, and what it needs beside its tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// As BERT's.
    WordPiece {
        /// The id of what cannot be made up.
        unknown: u32,
        /// What stands before a piece that goes on within a word.
        prefix: String,
        /// A longer word is unknown.
        max_chars: usize,
    },
    /// As GPT-2's and `RoBERTa`'s.
    Bpe {
        /// The id of a byte that has none, if such bytes are not left out.
        unknown: Option<u32>,
        /// Whether several of those in a row are one.
        fuse: bool,
    },
}

/// Where texts are cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Truncation {
    /// Ids of a text, special ones included.
    pub max_length: usize,
    /// At the beginning rather than the end.
    pub left: bool,
}

/// How rows become of one length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Padding {
    /// How long they become; nothing said of it, or of the longest row.
    pub length: Option<Length>,
    /// Before a row's ids rather than after them.
    pub left: bool,
    /// A multiple of this, 1 for any.
    pub multiple: usize,
    /// The id that fills up, where the file has one.
    pub id: Option<u32>,
    /// Its type.
    pub type_id: u32,
}

/// How long rows become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Length {
    /// As the longest.
    Longest,
    /// As this, or as the longest if that is longer.
    Fixed(usize),
}

/// Ready to be asked.
pub struct Tokenizer<'t> {
    /// What it was configured with.
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
    /// Reads settings, and where the tables lie. `None` of bytes that were not written by [`crate::compile`].
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

    /// Special tokens of each text.
    #[must_use]
    pub const fn specials(&self) -> usize {
        let Settings { before, after, .. } = &self.settings;
        before.len().saturating_add(after.len())
    }

    /// A text's own ids, at most `room`: its first, or its last. What would be cut off behind the first is not looked at: a token
    /// depends on nothing to the right of its word.
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
