//! Input of clients: the model's own inputs, other tensors for a preprocess handler, or a raw body.

use tensorgate_policy::contract::{MediaRule, MediaType, TensorRule};
use tensorgate_policy::report::{Path, optional, quote};

use super::dims::Symbols;
use super::{items, tensors};
use crate::raw::{self, ByteSize};

/// Input of clients, before it is combined with the rest of the model.
#[derive(Debug)]
pub(super) enum Sent {
    Tensors(Vec<TensorRule>),
    Raw {
        content_types: Vec<String>,
        max_bytes: usize,
        media: Option<MediaRule>,
    },
}

/// Exactly one of tensors and a raw body.
pub(super) fn accepts(
    path: &Path,
    raw: &raw::Accepts,
    symbols: &Symbols<'_>,
    limits: &raw::Limits,
) -> Option<Sent> {
    match (&raw.inputs, &raw.raw) {
        (inputs, None) if !inputs.is_empty() => {
            let path = path.field("inputs");
            let rules = tensors::rules(&path, inputs, symbols)?;
            tensors::fit(&path, &rules, limits.body_bytes.0);
            Some(Sent::Tensors(rules))
        }
        (inputs, Some(body)) if inputs.is_empty() => {
            raw_body(&path.field("raw"), body, limits.hold_bytes())
        }
        _ => path.fail("needs exactly one of inputs and raw"),
    }
}

fn raw_body(path: &Path, raw: &raw::RawBody, hold_bytes: ByteSize) -> Option<Sent> {
    let types_path = path.field("content_types");
    let mut valid = types_path.not_empty(&raw.content_types, "[image/png]");
    valid = valid.and(types_path.distinct(&raw.content_types));
    valid = valid.and(types_path.each(&raw.content_types, |path, text| content_type(path, text)));
    let size_path = path.field("max_bytes");
    let max_bytes = size_path
        .required(raw.max_bytes, "max_bytes: 1MiB")
        .and_then(|size| size_path.bytes_within(size, 1, hold_bytes.0));
    let media = optional(raw.media.as_ref(), |media| {
        items::media(&path.field("media"), media)
    });
    valid?;
    let media = media?;
    if let Some(media) = &media {
        declared_kinds(path, raw, media);
    }
    Some(Sent::Raw {
        content_types: raw.content_types.clone(),
        max_bytes: max_bytes?,
        media,
    })
}

/// Warns of content types that no allowed file type matches, and of file types without a content
/// type.
fn declared_kinds(path: &Path, raw: &raw::RawBody, media: &MediaRule) {
    let kinds: Vec<_> = raw
        .content_types
        .iter()
        .map(|text| MediaType::declared(text))
        .collect();
    let names = |kinds: &[MediaType]| {
        let names: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
        names.join(", ")
    };
    for (index, (text, kind)) in raw.content_types.iter().zip(&kinds).enumerate() {
        if let Some(kind) = kind.filter(|kind| !media.types.contains(kind)) {
            path.field("content_types").index(index).warn(
                format!(
                    "files of type {text} are always rejected: media.types lists only {}",
                    names(&media.types)
                ),
                format!("add {} to media.types, or remove it", kind.name()),
            );
        }
    }
    // A form, plain bytes or another type may contain any file.
    let Some(kinds) = kinds.into_iter().collect::<Option<Vec<_>>>() else {
        return;
    };
    for (index, kind) in media.types.iter().enumerate() {
        if !kinds.contains(kind) {
            path.field("media").field("types").index(index).warn(
                format!("no entry of content_types declares {}", kind.name()),
                "add its media type to content_types, or remove it",
            );
        }
    }
}

/// A media type other than those of decoded requests.
fn content_type(path: &Path, text: &str) -> Option<()> {
    media_type(path, text)?;
    if text == "application/json" || text.starts_with("application/grpc") {
        return path.fail(format!(
            "{text} cannot be a raw body: tensorgate decodes it (JSON of your own: docs/how-to/own-json.md)"
        ));
    }
    Some(())
}

/// RFC 9110 §8.3.1, lower-case, without parameters.
pub(super) fn media_type(path: &Path, text: &str) -> Option<()> {
    /// RFC 6838 §4.2: 127 characters for type and subtype.
    const MAX_PART_BYTES: usize = 127;
    let is_token = |part: &str| {
        (1..=MAX_PART_BYTES).contains(&part.len())
            && part.bytes().all(|byte| {
                byte.is_ascii_lowercase()
                    || byte.is_ascii_digit()
                    || b"!#$%&'*+-.^_`|~".contains(&byte)
            })
    };
    let well_formed = |text: &str| {
        text.split_once('/')
            .is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
    };
    if !well_formed(text) {
        let message = format!(
            "{} is not a lower-case media type without parameters",
            quote(text)
        );
        let plain = text
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let fix = if well_formed(&plain) {
            plain
        } else {
            "image/png".into()
        };
        return path.fail_with_fix(message, fix);
    }
    if text.contains('*') {
        return path.fail(format!(
            "{} is a pattern; list each media type",
            quote(text)
        ));
    }
    Some(())
}
