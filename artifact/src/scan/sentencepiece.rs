//! SentencePiece's models: pieces of text with scores, the rules of a normalizer, and notes about
//! their training. All of it is data to a tokenizer, which opens none of the files that notes name.

use std::io;

use super::charsmap;
use super::protobuf::{self, Field, Schema, Visitor};
use super::source::{Source, Stop, finish};
use super::{Input, Limits, Report};
use crate::scan::rules::{self, Rule};

use Field::{Bytes, Fixed32, Message as Inner, Text, Varint};
use Message::{Model, Normalizer, Piece, Sample, SelfTest, Trainer};

#[cfg(test)]
mod tests;

const RULE: &Rule = rules::SENTENCEPIECE_MESSAGE;
/// The most tables of a normalizer. A model has two specifications with one each.
const MAX_CHARSMAPS: usize = 8;

/// Scans a model of SentencePiece, as `tokenizer.model` and `spiece.model` are.
///
/// # Errors
/// The input cannot be read.
pub(super) fn scan(input: &mut dyn Input, limits: &Limits) -> io::Result<Report> {
    let mut report = Report::new("sentencepiece");
    let mut source = Source::new(input, rules::SENTENCEPIECE_TRUNCATED)?;
    let walked = walk(&mut source, limits, &mut report);
    finish(report, walked)
}

fn walk(source: &mut Source<'_>, limits: &Limits, report: &mut Report) -> Result<(), Stop> {
    let mut found = Charsmaps::default();
    protobuf::walk(source, Model, limits, RULE, &mut found, report)?;
    for (at, bytes) in found.charsmaps {
        charsmap::check(source, at, bytes, rules::SENTENCEPIECE_CHARSMAP)?;
    }
    Ok(())
}

/// The messages of `sentencepiece_model.proto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    /// `ModelProto`
    Model,
    /// `NormalizerSpec`
    Normalizer,
    /// `ModelProto.SentencePiece`
    Piece,
    /// `SelfTestData.Sample`
    Sample,
    /// `SelfTestData`
    SelfTest,
    /// `TrainerSpec`
    Trainer,
}

impl Schema for Message {
    fn field(self, number: u32) -> Option<Field<Self>> {
        Some(match (self, number) {
            (Model, 1) => Inner(Piece),
            (Model, 2) => Inner(Trainer),
            (Model, 3 | 5) => Inner(Normalizer),
            (Model, 4) => Inner(SelfTest),
            (Piece, 1) | (Normalizer, 1 | 6) | (Sample, 1 | 2) => Text,
            (Piece, 2) | (Trainer, 10 | 15 | 51) => Fixed32,
            (Piece, 3) | (Normalizer, 3..=5) => Varint,
            (Normalizer, 2) => Bytes,
            (SelfTest, 1) => Inner(Sample),
            (Trainer, 1 | 2 | 5 | 7 | 30 | 31 | 36 | 44..=48 | 53 | 54) => Text,
            (Trainer, 3 | 4 | 6 | 11..=14 | 16..=26 | 32..=35 | 40..=43 | 49 | 50 | 52) => Varint,
            _ => return None,
        })
    }

    /// Later releases may have more fields, and other programs extensions.
    fn is_open(self) -> bool {
        true
    }
}

/// Where the tables of normalizers are, and how many bytes they have.
#[derive(Default)]
struct Charsmaps {
    charsmaps: Vec<(u64, u64)>,
}

impl Visitor<Message> for Charsmaps {
    fn number(&mut self, path: &[Message], field: u32, value: u64, at: u64) -> Result<(), Stop> {
        let kinds = match (path.last(), field) {
            (Some(Piece), 3) => 1..=6,
            (Some(Trainer), 3) => 1..=4,
            _ => return Ok(()),
        };
        if kinds.contains(&value) {
            return Ok(());
        }
        let detail = format!("the kind {value} of a piece or a model");
        Err(Stop::unknown(at, RULE, detail))
    }

    fn bytes_at(&mut self, path: &[Message], field: u32, at: u64, bytes: u64) -> Result<(), Stop> {
        if !matches!((path.last(), field), (Some(Normalizer), 2)) {
            return Err(Stop::unknown(at, RULE, "several numbers instead of one"));
        }
        if self.charsmaps.len() >= MAX_CHARSMAPS {
            let detail = format!("more than {MAX_CHARSMAPS} tables of normalizers");
            return Err(Stop::unknown(at, RULE, detail));
        }
        self.charsmaps.push((at, bytes));
        Ok(())
    }
}
