//! Compiles the settings of `tokenizer.json`: how texts are split into words, and the special
//! tokens around them.

use super::compile::Tokens;
use super::file::{Normalizer, Part, PostProcessor, PreTokenizer, SpecialToken};
use super::normalise::{self, Bert};
use super::split;

/// The most steps of one kind, and the most special tokens of a text.
const MAX_STEPS: usize = 16;
/// The greatest token type, which is a row of a small table.
const MAX_TYPE: u32 = 1 << 20;

/// The special tokens around a text's own.
#[derive(Default)]
pub struct Template {
    pub before: Vec<(u32, u32)>,
    pub within: u32,
    pub after: Vec<(u32, u32)>,
}

/// Steps of a normalizer.
pub fn normaliser(raw: Option<Normalizer>) -> Result<Vec<normalise::Step>, String> {
    let mut steps = Vec::new();
    let mut left: Vec<Normalizer> = raw.into_iter().collect();
    while let Some(one) = left.pop() {
        steps.push(match one {
            Normalizer::Sequence { normalizers } => {
                left.extend(normalizers.into_iter().rev());
                continue;
            }
            Normalizer::BertNormalizer {
                clean_text,
                handle_chinese_chars,
                strip_accents,
                lowercase,
            } => normalise::Step::Bert(Bert {
                clean: clean_text,
                ideographs: handle_chinese_chars,
                strip_accents: strip_accents.unwrap_or(lowercase),
                lowercase,
            }),
            Normalizer::Lowercase => normalise::Step::Lowercase,
            Normalizer::Nfc => normalise::Step::Nfc,
            Normalizer::Nfd => normalise::Step::Nfd,
            Normalizer::Nfkc => normalise::Step::Nfkc,
            Normalizer::Nfkd => normalise::Step::Nfkd,
            Normalizer::StripAccents => normalise::Step::StripAccents,
            Normalizer::Strip {
                strip_left,
                strip_right,
            } => normalise::Step::Strip {
                left: strip_left,
                right: strip_right,
            },
        });
        if steps.len() > MAX_STEPS {
            return Err(format!("normalizer: more than {MAX_STEPS} steps"));
        }
    }
    Ok(steps)
}

/// Steps of a pre-tokenizer. Byte-level must be the last, because it maps bytes to other
/// characters.
pub fn splitter(raw: Option<PreTokenizer>) -> Result<Vec<split::Step>, String> {
    let mut steps = Vec::new();
    let mut left: Vec<PreTokenizer> = raw.into_iter().collect();
    while let Some(one) = left.pop() {
        if matches!(steps.last(), Some(split::Step::ByteLevel { .. })) {
            return Err("pre_tokenizer: a step after ByteLevel is not supported".to_owned());
        }
        steps.push(match one {
            PreTokenizer::Sequence { pretokenizers } => {
                left.extend(pretokenizers.into_iter().rev());
                continue;
            }
            PreTokenizer::BertPreTokenizer => split::Step::Bert,
            PreTokenizer::Whitespace => split::Step::Whitespace,
            PreTokenizer::WhitespaceSplit => split::Step::WhitespaceSplit,
            PreTokenizer::Punctuation { .. } => split::Step::Punctuation,
            PreTokenizer::Digits { individual_digits } => split::Step::Digits {
                individual: individual_digits,
            },
            PreTokenizer::ByteLevel {
                add_prefix_space,
                use_regex,
                ..
            } => split::Step::ByteLevel {
                prefix: add_prefix_space,
                words: use_regex,
            },
        });
        if steps.len() > MAX_STEPS {
            return Err(format!("pre_tokenizer: more than {MAX_STEPS} steps"));
        }
    }
    Ok(steps)
}

/// The special tokens around one text.
pub fn template(raw: Option<PostProcessor>, all: &Tokens<'_>) -> Result<Template, String> {
    let mut found = None;
    let mut left: Vec<PostProcessor> = raw.into_iter().collect();
    while let Some(one) = left.pop() {
        let made = match one {
            PostProcessor::Sequence { processors } => {
                left.extend(processors.into_iter().rev());
                continue;
            }
            // It affects offsets only.
            PostProcessor::ByteLevel { .. } => continue,
            PostProcessor::TemplateProcessing {
                single,
                special_tokens,
                ..
            } => parts(&single, &special_tokens, all)?,
            PostProcessor::BertProcessing { sep, cls }
            | PostProcessor::RobertaProcessing { sep, cls, .. } => Template {
                before: vec![(all.checked(&cls.0, cls.1)?, 0)],
                within: 0,
                after: vec![(all.checked(&sep.0, sep.1)?, 0)],
            },
        };
        if found.replace(made).is_some() {
            return Err("post_processor: two that add tokens are not supported".to_owned());
        }
    }
    Ok(found.unwrap_or_default())
}

fn parts(
    single: &[Part],
    special: &std::collections::BTreeMap<String, SpecialToken>,
    all: &Tokens<'_>,
) -> Result<Template, String> {
    let fault = |why: String| format!("post_processor: {why}");
    let mut template = Template::default();
    let mut has_text = false;
    if single.len() > MAX_STEPS {
        return Err(fault(format!("more than {MAX_STEPS} parts")));
    }
    for part in single {
        let (Part::Sequence { type_id, .. } | Part::SpecialToken { type_id, .. }) = part;
        if *type_id > MAX_TYPE {
            return Err(fault(format!("types go up to {MAX_TYPE}")));
        }
        match part {
            Part::Sequence { id, .. } if id == "A" && !has_text => {
                has_text = true;
                template.within = *type_id;
            }
            Part::Sequence { .. } => {
                return Err(fault("a template of one text has it once".to_owned()));
            }
            Part::SpecialToken { id, .. } => {
                let SpecialToken { ids, tokens, .. } = (special.get(id))
                    .ok_or_else(|| fault(format!("{id:?} is not among its special tokens")))?;
                if ids.len() != tokens.len() || ids.len() > MAX_STEPS {
                    return Err(fault(format!("{id:?} has not an id for each token")));
                }
                for (id, token) in ids.iter().zip(tokens) {
                    let id = all.checked(token, *id).map_err(fault)?;
                    let place = if has_text {
                        &mut template.after
                    } else {
                        &mut template.before
                    };
                    place.push((id, *type_id));
                }
            }
        }
    }
    if has_text {
        Ok(template)
    } else {
        Err(fault("a template without a text".to_owned()))
    }
}
