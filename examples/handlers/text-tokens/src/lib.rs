//! Runs before a model of the BERT family: from `text` BYTES `[n]` (UTF-8) to `input_ids`,
//! `attention_mask` and `token_type_ids`, INT64 `[n, length]`.
//!
//! Texts are cleaned, converted to lower case without accents, and split at spaces, punctuation and
//! ideographs. WordPiece converts the words to IDs, which are put between `[CLS]` and `[SEP]` and
//! truncated or padded to one length.
//!
//! | config | default | |
//! |---|---|---|
//! | `max_length` | 128 | the most IDs of a text, including the two special ones |
//! | `padding` | max_length | the length of all rows: `max_length`, or `longest` of the request |
//! | `max_text_bytes` | 16384 | of one text |
//! | `max_texts` | 64 | of one request |
//!
//! The IDs are those of Hugging Face's `tokenizers` (`BertNormalizer`, `BertPreTokenizer`,
//! `WordPiece`). One difference is deliberate: a caller's `[SEP]` is six characters of text, never
//! the special token.
//!
//! The vocabulary is part of the component: replace `vocabulary.txt` with your model's `vocab.txt`
//! and build. This example has only a few hundred tokens.

mod basic;
mod wordpiece;

use handler_settings::{choice, number};
use tensorgate_handler::{Error, Payload, Preprocess, Tensor, export_preprocess};

pub use crate::basic::Words;
pub use crate::wordpiece::{id, pieces};

/// The number of special tokens of every text.
const SPECIAL: usize = 2;

struct TextTokens;

#[derive(Clone, Copy)]
enum Padding {
    MaxLength,
    Longest,
}

impl Preprocess for TextTokens {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let max_length = number("max_length", 128, 3..=8192_usize)?;
        let max_text_bytes = number("max_text_bytes", 16_384, 1..=1_usize << 20)?;
        let max_texts = number("max_texts", 64, 1..=4096_usize)?;
        let padding = choice(
            "padding",
            Padding::MaxLength,
            &[
                ("max_length", Padding::MaxLength),
                ("longest", Padding::Longest),
            ],
        )?;
        let Payload::Tensors(tensors) = input else {
            return Err(Error::bad_input("expected a tensor, not a body"));
        };
        let [text] = tensors.as_slice() else {
            return Err(Error::bad_input("expected one tensor"));
        };
        let texts = text.items()?;
        if text.shape.len() != 1 || texts.is_empty() || texts.len() > max_texts {
            return Err(Error::bad_input(format!(
                "expected [n], n up to {max_texts}"
            )));
        }
        let special = Special::of_vocabulary()?;
        let mut encoded = Vec::with_capacity(texts.len());
        for text in texts {
            if text.len() > max_text_bytes {
                return Err(Error::bad_input(format!(
                    "more than {max_text_bytes} bytes"
                )));
            }
            let text = core::str::from_utf8(text).map_err(Error::bad_input)?;
            encoded.push(special.encode(text, max_length));
        }
        let length = match padding {
            Padding::MaxLength => max_length,
            Padding::Longest => encoded.iter().map(Vec::len).max().unwrap_or(0),
        };
        let rows = encoded.len();
        let table = |name: &str, of: &dyn Fn(Option<&i64>) -> i64| {
            Tensor::fill::<i64>(name, &[rows, length], |mut table| {
                for (mut row, ids) in table.rows_mut().into_iter().zip(&encoded) {
                    for (at, cell) in row.iter_mut().enumerate() {
                        *cell = of(ids.get(at));
                    }
                }
                Ok(())
            })
        };
        Ok(vec![
            table("input_ids", &|id| id.copied().unwrap_or(special.pad))?,
            table("attention_mask", &|id| i64::from(id.is_some()))?,
            table("token_type_ids", &|_| 0)?,
        ])
    }
}

export_preprocess!(TextTokens);

/// The IDs of the special tokens.
struct Special {
    pad: i64,
    unknown: i64,
    begin: i64,
    end: i64,
}

impl Special {
    fn of_vocabulary() -> Result<Self, Error> {
        let known = |token: &str| {
            id(token).ok_or_else(|| Error::fault(format!("the vocabulary has no {token}")))
        };
        Ok(Self {
            pad: known("[PAD]")?,
            unknown: known("[UNK]")?,
            begin: known("[CLS]")?,
            end: known("[SEP]")?,
        })
    }

    /// A text's IDs. The part beyond `max_length` is not read, because a token does not depend on
    /// later words.
    fn encode(&self, text: &str, max_length: usize) -> Vec<i64> {
        let room = max_length.saturating_sub(SPECIAL);
        let mut ids = vec![self.begin];
        for word in Words::new(text) {
            match pieces(&word) {
                Some(found) => ids.extend(found),
                None => ids.push(self.unknown),
            }
            if ids.len() > room {
                break;
            }
        }
        ids.truncate(room.saturating_add(1));
        ids.push(self.end);
        ids
    }
}

#[cfg(test)]
mod tests;
