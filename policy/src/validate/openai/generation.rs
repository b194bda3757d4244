//! Limits of generation and output constraints, each with its rule.

use alloc::format;

use super::super::report::Path;
use super::{MAX_TOKENS, Reader};
use crate::contract::openai::Generation;
use crate::contract::openai::constraints::{
    Choices, Constraints, Grammars, Kind, MEMBERS, PatternRule, kind,
};
use crate::raw;

/// Maximum choices; the API's own limit.
const MAX_N: u64 = 128;
/// Maximum stop sequences: the API's limit is 4, servers allow more.
const MAX_STOP: u64 = 64;
/// Maximum alternative tokens; the API's own limit.
const MAX_LOGPROBS: u64 = 20;
/// Maximum patterns of a request: all are checked for each request.
const MAX_PATTERNS: u64 = 64;
/// Maximum size of a pattern, as in its parser.
const MAX_PATTERN_BYTES: u64 = 512;
/// Maximum choices for the response, as for an `enum` in a schema.
const MAX_CHOICES: u64 = 256;
/// Maximum size of one.
const MAX_CHOICE_BYTES: u64 = 4096;
/// Maximum size of a grammar.
const MAX_GRAMMAR_BYTES: u64 = 64 << 10;
/// Maximum rules of a grammar.
const MAX_RULES: u64 = 256;

/// Generation settings in a section of the policy.
pub(super) struct GenerationSpec<'r> {
    pub(super) max_tokens: Option<u64>,
    pub(super) n: Option<u64>,
    pub(super) stop: Option<u64>,
    pub(super) stream: bool,
    pub(super) logprobs: Option<u64>,
    pub(super) constraints: Option<&'r raw::Constraints>,
    /// Whether requests contain schemas of tools or formats.
    pub(super) schemas: bool,
}

impl Reader<'_> {
    pub(super) fn generation(
        &mut self,
        path: &Path,
        raw: &GenerationSpec<'_>,
    ) -> Option<Generation> {
        let tokens_path = path.field("max_tokens");
        let max_tokens = self
            .report
            .required(&tokens_path, raw.max_tokens, "max_tokens: 1024")
            .and_then(|tokens| {
                self.report
                    .within(&tokens_path, tokens, 1, MAX_TOKENS, "tokens")
            });
        let n = raw.n.unwrap_or(1);
        let n = self.report.within(&path.field("n"), n, 1, MAX_N, "choices");
        let stop = raw.stop.unwrap_or(0);
        let stop = self
            .report
            .within(&path.field("stop"), stop, 0, MAX_STOP, "texts");
        let logprobs = match raw.logprobs {
            None => Some(None),
            Some(most) => self
                .report
                .within(&path.field("logprobs"), most, 0, MAX_LOGPROBS, "tokens")
                .map(Some),
        };
        let constraints = match raw.constraints {
            None => Some(None),
            Some(rule) => self
                .constraints(&path.field("constraints"), rule, raw.schemas)
                .map(Some),
        };
        Some(Generation {
            max_tokens: max_tokens?,
            n: n?,
            stop: usize::try_from(stop?).ok()?,
            stream: raw.stream,
            logprobs: logprobs?,
            constraints: constraints?,
        })
    }

    fn constraints(
        &mut self,
        path: &Path,
        raw: &raw::Constraints,
        schemas: bool,
    ) -> Option<Constraints> {
        let members_path = path.field("members");
        let known = MEMBERS.map(|(name, _)| name);
        let members = self.words(&members_path, &raw.members, &known);
        let bounded = self.bounded(path, raw, schemas);
        let texts =
            |rules: &mut Self, name, raw: Option<&raw::CompiledTexts>, (most, bytes)| match raw {
                None => Some(None),
                Some(raw) => {
                    let path = path.field(name);
                    let max = rules.number(&path.field("max"), raw.max, most, "4");
                    let bytes_path = path.field("max_bytes");
                    let size = rules.report.required(&bytes_path, raw.max_bytes, "256");
                    let max_bytes = size
                        .and_then(|size| rules.report.bytes_within(&bytes_path, size, 1, bytes));
                    Some(Some((max?, max_bytes?)))
                }
            };
        let most = (MAX_PATTERNS, MAX_PATTERN_BYTES);
        let patterns = texts(self, "patterns", raw.patterns.as_ref(), most);
        let most = (MAX_CHOICES, MAX_CHOICE_BYTES);
        let choices = texts(self, "choices", raw.choices.as_ref(), most);
        let grammars = match &raw.grammars {
            None => Some(None),
            Some(raw) => {
                let path = path.field("grammars");
                let rules = self.number(&path.field("max_rules"), raw.max_rules, MAX_RULES, "64");
                let bytes_path = path.field("max_bytes");
                let size = self.report.required(&bytes_path, raw.max_bytes, "4KiB");
                let bytes = size.and_then(|size| {
                    self.report
                        .bytes_within(&bytes_path, size, 1, MAX_GRAMMAR_BYTES)
                });
                rules.zip(bytes).map(Some)
            }
        };
        let max_schema_bytes = match raw.max_schema_bytes {
            None => Some(0),
            size => self.bytes(&path.field("max_schema_bytes"), size),
        };
        bounded?;
        Some(Constraints {
            members: members?,
            patterns: patterns?.map(|(max, max_bytes)| PatternRule { max, max_bytes }),
            choices: choices?.map(|(max, max_bytes)| Choices { max, max_bytes }),
            grammars: grammars?.map(|(max_rules, max_bytes)| Grammars {
                max_bytes,
                max_rules,
            }),
            max_schema_bytes: max_schema_bytes?,
        })
    }

    /// Every member needs its rule, and every rule a member that it limits.
    fn bounded(&mut self, path: &Path, raw: &raw::Constraints, schemas: bool) -> Option<()> {
        let rules = [
            (
                "patterns",
                "patterns: {max: 4, max_bytes: 256}",
                raw.patterns.is_some(),
            ),
            (
                "choices",
                "choices: {max: 16, max_bytes: 64}",
                raw.choices.is_some(),
            ),
            (
                "grammars",
                "grammars: {max_bytes: 4KiB, max_rules: 64}",
                raw.grammars.is_some(),
            ),
            (
                "max_schema_bytes",
                "max_schema_bytes: 8KiB",
                raw.max_schema_bytes.is_some(),
            ),
        ];
        let rule_of = |kind| match kind {
            Kind::Pattern => Some("patterns"),
            Kind::Choices => Some("choices"),
            Kind::Grammar { .. } => Some("grammars"),
            Kind::Schema => Some("max_schema_bytes"),
            Kind::OneOf => None,
        };
        let mut good = Some(());
        for (index, name) in raw.members.iter().enumerate() {
            let Some(kind) = kind(name) else {
                continue;
            };
            let mut wanted = rules
                .iter()
                .filter(|(rule, ..)| rule_of(kind).is_none_or(|wanted| wanted == *rule));
            if wanted.clone().any(|(.., is_there)| *is_there) {
                continue;
            }
            let fix = wanted.next().map_or("", |(_, fix, _)| fix);
            let path = path.field("members").index(index);
            self.report
                .error_with_fix(&path, "is taken, and nothing bounds what it holds", fix);
            good = None;
        }
        for (rule, _, is_there) in rules {
            let held = |name: &alloc::string::String| {
                kind(name).is_some_and(|kind| rule_of(kind).is_none_or(|held| held == rule))
            };
            let in_schemas = rule == "patterns" && (schemas || raw.max_schema_bytes.is_some());
            if !is_there || in_schemas || raw.members.iter().any(held) {
                continue;
            }
            let fitting = MEMBERS
                .iter()
                .find(|(_, kind)| rule_of(*kind) == Some(rule))
                .map_or("", |(name, _)| name);
            self.report.error_with_fix(
                &path.field(rule),
                "bounds nothing",
                format!("members: [{fitting}], or another that the server knows"),
            );
            good = None;
        }
        good
    }
}
