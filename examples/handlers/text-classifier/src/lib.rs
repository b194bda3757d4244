//! Runs before a text classifier: from texts to `input_ids`, `attention_mask` and `token_type_ids`
//! `[n, length]`, by the model's `tokenizer.json`. The texts are one BYTES tensor `[n]` or `[n, 1]`
//! (UTF-8), or an unparsed body.
//!
//! The tokenizer is compiled into the handler once, before any call: `tensorgate handler configure
//! builtin:text-classifier --file tokenizer.json`.
//!
//! | config | default | |
//! |---|---|---|
//! | `max_length` | the file's truncation, or 512 | the most IDs of a text, with special ones |
//! | `padding` | the file's, or max_length | row length: `max_length`, or `longest` of all |
//! | `pad_id` | the file's, or `[PAD]`'s or `<pad>`'s | the padding ID |
//! | `input_ids`, `attention_mask`, `token_type_ids` | the same | input names; empty: not sent |
//! | `datatype` | int64 | or `int32` |
//! | `max_text_bytes` | 16384 | of one text |
//! | `max_texts` | 64 | of one request |
//!
//! The IDs are those of Hugging Face's `tokenizers`, for WordPiece and byte-level BPE. Unsupported
//! parts of the file are rejected while the handler is configured.
//!
//! One difference is deliberate: a caller's `[SEP]` is text and never the special token
//! (`encode_special_tokens`), even if the vocabulary has it as a word and no rule splits it.

mod added;
mod bpe;
mod compile;
mod file;
mod normalise;
mod settings;
mod split;
mod table;
mod tokenizer;
mod wordpiece;

use handler_settings::{choice, name, number};
use tensorgate_handler::{
    Element, Error, Payload, Preprocess, Tensor, config, configured, export_configure,
    export_preprocess, log,
};

use crate::compile::MAX_ID;
pub use crate::compile::{MAX_LENGTH, compile};
pub use crate::tokenizer::Tokenizer;
use crate::tokenizer::{Length, Truncation};

/// The name of the file that configures this handler.
const FILE: &str = "tokenizer.json";
/// The most IDs of a text if neither the policy nor the file sets it.
const DEFAULT_LENGTH: usize = 512;

struct TextClassifier;

fn configure() -> Result<Vec<u8>, String> {
    let text = config(FILE).ok_or_else(|| format!("no {FILE}: name it with --file {FILE}"))?;
    let made = compile(&text).map_err(|why| format!("{FILE}: {why}"))?;
    let tokenizer = Tokenizer::read(&made).ok_or("its tables cannot be read")?;
    let greatest = tokenizer.settings.greatest;
    log::info(format!(
        "ids are 0 to {greatest}: `range: [0, {greatest}]` of the model's input_ids"
    ));
    Ok(made)
}

export_configure!(configure);

impl Preprocess for TextClassifier {
    fn preprocess(input: Payload) -> Result<Vec<Tensor>, Error> {
        let table = configured().ok_or_else(|| Error::fault("not configured"))?;
        let tokenizer = Tokenizer::read(table).ok_or_else(|| Error::fault("no tables"))?;
        let rows = Rows::of(&tokenizer)?;
        let max_text_bytes = number("max_text_bytes", 16_384, 1..=1_usize << 20)?;
        let max_texts = number("max_texts", 64, 1..=4096_usize)?;
        let too_long = || Error::bad_input(format!("more than {max_text_bytes} bytes"));
        let encode = |text: &[u8]| {
            if text.len() > max_text_bytes {
                return Err(too_long());
            }
            let text = core::str::from_utf8(text).map_err(Error::bad_input)?;
            Ok(tokenizer.encode(text, rows.room, rows.cut_left))
        };
        let texts: Result<Vec<Vec<u32>>, Error> = match &input {
            Payload::Raw(body) => encode(&body.data).map(|ids| vec![ids]),
            Payload::Tensors(tensors) => {
                let [text] = tensors.as_slice() else {
                    return Err(Error::bad_input("expected one tensor"));
                };
                let texts = text.items()?;
                let column = matches!(text.shape.as_slice(), [_] | [_, 1]);
                if !column || texts.is_empty() || texts.len() > max_texts {
                    return Err(Error::bad_input(format!(
                        "expected [n] or [n, 1], n up to {max_texts}"
                    )));
                }
                texts.into_iter().map(encode).collect()
            }
        };
        rows.tensors(&tokenizer, &texts?)
    }
}

export_preprocess!(TextClassifier);

/// The layout of the rows.
struct Rows {
    /// The most IDs of a text itself.
    room: usize,
    cut_left: bool,
    /// The least length of the rows.
    length: Option<usize>,
}

impl Rows {
    fn of(tokenizer: &Tokenizer<'_>) -> Result<Self, Error> {
        let settings = &tokenizer.settings;
        let file = settings.truncation.unwrap_or(Truncation {
            max_length: DEFAULT_LENGTH,
            left: false,
        });
        let max_length = number("max_length", file.max_length, 1..=MAX_LENGTH)?;
        let room = max_length.checked_sub(tokenizer.specials());
        let room = room.filter(|room| *room > 0).ok_or_else(|| {
            Error::fault("config max_length: no more than the special tokens take")
        })?;
        let from_file = match settings.padding.length {
            None => Some(max_length),
            Some(Length::Longest) => None,
            Some(Length::Fixed(length)) => Some(length),
        };
        let length = choice(
            "padding",
            from_file,
            &[("max_length", Some(max_length)), ("longest", None)],
        )?;
        Ok(Self {
            room,
            cut_left: file.left,
            length,
        })
    }

    fn tensors(&self, tokenizer: &Tokenizer<'_>, texts: &[Vec<u32>]) -> Result<Vec<Tensor>, Error> {
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
        let longest = longest.saturating_add(tokenizer.specials());
        let length = longest.max(self.length.unwrap_or(0));
        let length = length.next_multiple_of(tokenizer.settings.padding.multiple.max(1));
        let narrow = choice("datatype", false, &[("int64", false), ("int32", true)])?;
        let written = Written {
            tokenizer,
            texts,
            length,
            pad: pad(tokenizer, texts, length)?,
        };
        if narrow {
            written.tensors::<i32>()
        } else {
            written.tensors::<i64>()
        }
    }
}

/// The padding ID; arbitrary if no row needs padding.
fn pad(tokenizer: &Tokenizer<'_>, texts: &[Vec<u32>], length: usize) -> Result<u32, Error> {
    let own = length.saturating_sub(tokenizer.specials());
    let full = texts.iter().all(|ids| ids.len() == own);
    let known = tokenizer.settings.padding.id;
    match (config("pad_id"), known) {
        (Some(_), _) => number("pad_id", 0, 0..=MAX_ID),
        (None, Some(id)) => Ok(id),
        (None, None) if full => Ok(0),
        (None, None) => Err(Error::fault(
            "config pad_id: not set, and tokenizer.json has no token for padding",
        )),
    }
}

/// Rows that are being written to tensors.
struct Written<'r> {
    tokenizer: &'r Tokenizer<'r>,
    texts: &'r [Vec<u32>],
    length: usize,
    pad: u32,
}

/// One cell of a row.
#[derive(Clone, Copy)]
struct Cell {
    id: u32,
    mask: u32,
    type_id: u32,
}

impl Written<'_> {
    fn tensors<T: Element + TryFrom<u32>>(&self) -> Result<Vec<Tensor>, Error> {
        type Part = fn(Cell) -> u32;
        let parts: [(&str, Part); 3] = [
            ("input_ids", |cell| cell.id),
            ("attention_mask", |cell| cell.mask),
            ("token_type_ids", |cell| cell.type_id),
        ];
        let mut tensors = Vec::new();
        for (part, of) in parts {
            let name = name(part, part);
            if name.is_empty() {
                continue;
            }
            let shape = [self.texts.len(), self.length];
            tensors.push(Tensor::fill::<T>(name, &shape, |mut table| {
                for (mut row, ids) in table.rows_mut().into_iter().zip(self.texts) {
                    for (place, cell) in row.iter_mut().zip(self.row(ids)) {
                        // The configuration bounds IDs.
                        *place = T::try_from(of(cell)).unwrap_or_default();
                    }
                }
                Ok(())
            })?);
        }
        Ok(tensors)
    }

    /// The cells of a row, in order.
    fn row(&self, ids: &[u32]) -> impl Iterator<Item = Cell> {
        let settings = &self.tokenizer.settings;
        let token = |(id, type_id)| Cell {
            id,
            mask: 1,
            type_id,
        };
        let filler = Cell {
            id: self.pad,
            mask: 0,
            type_id: settings.padding.type_id,
        };
        let own = ids.iter().map(|id| (*id, settings.within));
        let around = (settings.before.iter().copied())
            .chain(own)
            .chain(settings.after.iter().copied())
            .map(token);
        let taken = ids.len().saturating_add(self.tokenizer.specials());
        let filled = self.length.saturating_sub(taken);
        let (before, after) = if settings.padding.left {
            (filled, 0)
        } else {
            (0, filled)
        };
        core::iter::repeat_n(filler, before)
            .chain(around)
            .chain(core::iter::repeat_n(filler, after))
    }
}

#[cfg(test)]
mod tests;
