//! Compiles patterns of texts to automata.
//!
//! The syntax is that of `regex-syntax`, without word boundaries and without operators in classes.
//! A pattern matches a text as a whole, so `^` and `$` around it are optional. As in JSON Schema,
//! `\d`, `\w` and `\s` are ASCII; with `(?i)`, letters also match what Unicode folds to them.
//!
//! Sizes are limited, so no policy exhausts the memory of a worker or the time of this program.

use std::collections::BTreeSet;

use regex_automata::Anchored;
use regex_automata::dfa::{Automaton as _, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::start;
use regex_syntax::ast::{
    self, AssertionKind, Ast, ClassAsciiKind, ClassPerlKind, ClassSet, ClassSetItem, LiteralKind,
};
use regex_syntax::hir::translate::Translator;
use regex_syntax::hir::{Hir, Look};
use tensorgate_policy::contract::Pattern;

/// Maximum characters of a pattern.
const MAX_CHARS: usize = 512;
/// Maximum depth of groups and classes.
const MAX_DEPTH: u32 = 32;
/// Maximum size of an automaton, in bytes.
const MAX_AUTOMATON_BYTES: usize = 256 << 10;
/// Maximum sizes of what an automaton is made from, in bytes.
const MAX_NFA_BYTES: usize = 1 << 20;
const MAX_DENSE_BYTES: usize = 2 << 20;
const MAX_DETERMINIZE_BYTES: usize = 1 << 20;

/// Why a pattern is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// Too long.
    #[error("the pattern has more than {MAX_CHARS} characters")]
    Long,
    /// Syntax error at a character.
    #[error("at character {at}: {what}")]
    Syntax {
        /// Position of the character, from 1.
        at: usize,
        /// The error.
        what: String,
    },
    /// Its automaton would be too large.
    #[error(
        "the pattern needs too large an automaton: remove bounds of repeats, because max_item_bytes bounds the length"
    )]
    Large,
    /// It matches nothing.
    #[error("no text matches the pattern")]
    Empty,
}

/// Compiles a pattern.
///
/// # Errors
/// The pattern is malformed or needs a large automaton.
pub fn compile(text: &str) -> Result<Pattern, PatternFault> {
    if text.chars().nth(MAX_CHARS).is_some() {
        return Err(PatternFault::Long);
    }
    let hir = parse(text)?;
    let anchored = Hir::concat(vec![Hir::look(Look::Start), hir, Hir::look(Look::End)]);
    let config = thompson::Config::new()
        .which_captures(thompson::WhichCaptures::None)
        .nfa_size_limit(Some(MAX_NFA_BYTES));
    let nfa = thompson::Compiler::new()
        .configure(config)
        .build_from_hir(&anchored)
        .map_err(|_| PatternFault::Large)?;
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .accelerate(false)
        .dfa_size_limit(Some(MAX_DENSE_BYTES))
        .determinize_size_limit(Some(MAX_DETERMINIZE_BYTES));
    let dense = dense::Builder::new()
        .configure(config)
        .build_from_nfa(&nfa)
        .map_err(|_| PatternFault::Large)?;
    if !matches_any_text(&dense) {
        return Err(PatternFault::Empty);
    }
    let automaton = dense.to_sparse().map_err(|_| PatternFault::Large)?;
    if automaton.memory_usage() > MAX_AUTOMATON_BYTES {
        return Err(PatternFault::Large);
    }
    Pattern::new(text.into(), automaton).map_err(|_| PatternFault::Empty)
}

/// Whether an automaton matches any text.
fn matches_any_text(automaton: &dense::DFA<Vec<u32>>) -> bool {
    let at_start = start::Config::new().anchored(Anchored::Yes);
    let mut open: Vec<_> = automaton.start_state(&at_start).into_iter().collect();
    let mut seen: BTreeSet<_> = open.iter().copied().collect();
    let classes = automaton.byte_classes();
    let bytes: Vec<u8> = classes
        .representatives(..)
        .filter_map(|unit| unit.as_u8())
        .collect();
    while let Some(state) = open.pop() {
        if automaton.is_match_state(automaton.next_eoi_state(state)) {
            return true;
        }
        let next = bytes.iter().map(|byte| automaton.next_state(state, *byte));
        open.extend(next.filter(|next| seen.insert(*next)));
    }
    false
}

/// Parses a pattern.
fn parse(text: &str) -> Result<Hir, PatternFault> {
    let fault = |span: &ast::Span, what: String| PatternFault::Syntax {
        at: text
            .char_indices()
            .take_while(|(offset, _)| *offset <= span.start.offset)
            .count(),
        what,
    };
    let mut ast = ast::parse::ParserBuilder::new()
        .nest_limit(MAX_DEPTH)
        .build()
        .parse(text)
        .map_err(|error| fault(error.span(), error.kind().to_string()))?;
    restrict(&mut ast).map_err(|(span, what)| fault(&span, what.into()))?;
    Translator::new()
        .translate(text, &ast)
        .map_err(|error| fault(error.span(), error.kind().to_string()))
}

/// Where a pattern has what is not supported, and what it is.
type Unsupported = (ast::Span, &'static str);

const OPERATOR: &str = "operators in classes are not supported; write \\ before each of && or ~~, and - at the end of the class";

/// Makes `\d`, `\w` and `\s` ASCII, and refuses what is not supported.
fn restrict(ast: &mut Ast) -> Result<(), Unsupported> {
    match ast {
        Ast::ClassPerl(class) => {
            *ast = Ast::class_bracketed(ast::ClassBracketed {
                span: class.span,
                negated: false,
                kind: ClassSet::Item(ascii_class(class)),
            });
            Ok(())
        }
        Ast::ClassBracketed(class) => restrict_class(class),
        Ast::Repetition(repetition) => restrict(&mut repetition.ast),
        Ast::Group(group) => restrict(&mut group.ast),
        Ast::Alternation(alternation) => alternation.asts.iter_mut().try_for_each(restrict),
        Ast::Concat(concat) => concat.asts.iter_mut().try_for_each(restrict),
        Ast::Assertion(assertion) => match assertion.kind {
            AssertionKind::StartLine
            | AssertionKind::EndLine
            | AssertionKind::StartText
            | AssertionKind::EndText => Ok(()),
            AssertionKind::WordBoundaryStartAngle | AssertionKind::WordBoundaryEndAngle => Err((
                assertion.span,
                "word boundaries are not supported; write < or > for the character",
            )),
            _ => Err((assertion.span, "word boundaries are not supported")),
        },
        Ast::Empty(_) | Ast::Flags(_) | Ast::Literal(_) | Ast::Dot(_) | Ast::ClassUnicode(_) => {
            Ok(())
        }
    }
}

fn restrict_class(class: &mut ast::ClassBracketed) -> Result<(), Unsupported> {
    match &mut class.kind {
        ClassSet::Item(item) => restrict_item(item),
        ClassSet::BinaryOp(operation) => Err((operation.span, OPERATOR)),
    }
}

fn restrict_item(item: &mut ClassSetItem) -> Result<(), Unsupported> {
    match item {
        ClassSetItem::Perl(class) => *item = ascii_class(class),
        ClassSetItem::Bracketed(class) => restrict_class(class)?,
        ClassSetItem::Union(union) => {
            // `[--a]` is the range from `-` to `a` elsewhere, and no range here.
            if let [
                ClassSetItem::Literal(first),
                ClassSetItem::Literal(second),
                ..,
            ] = union.items.as_slice()
                && [first, second]
                    .iter()
                    .all(|it| it.c == '-' && it.kind == LiteralKind::Verbatim)
            {
                return Err((first.span, OPERATOR));
            }
            union.items.iter_mut().try_for_each(restrict_item)?;
        }
        ClassSetItem::Empty(_)
        | ClassSetItem::Literal(_)
        | ClassSetItem::Range(_)
        | ClassSetItem::Ascii(_)
        | ClassSetItem::Unicode(_) => {}
    }
    Ok(())
}

fn ascii_class(class: &ast::ClassPerl) -> ClassSetItem {
    ClassSetItem::Ascii(ast::ClassAscii {
        span: class.span,
        kind: match class.kind {
            ClassPerlKind::Digit => ClassAsciiKind::Digit,
            ClassPerlKind::Space => ClassAsciiKind::Space,
            ClassPerlKind::Word => ClassAsciiKind::Word,
        },
        negated: class.negated,
    })
}

#[cfg(test)]
mod tests;
