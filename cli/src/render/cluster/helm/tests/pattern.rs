//! The part of regular expressions that the schema's patterns use: characters, classes, groups,
//! `|` and repetition. A part leads from places of a text to the places behind what it matches.

use std::collections::BTreeSet;

enum Part {
    /// One character of these ranges, or of none of them.
    Class(Vec<(char, char)>, bool),
    /// The end of the text.
    End,
    Each(Vec<Part>),
    OneOf(Vec<Part>),
    Repeat(Box<Part>, usize, usize),
}

/// Whether a pattern, which begins with `^`, matches a text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut rest = pattern.strip_prefix('^').unwrap();
    let part = one_of(&mut rest);
    assert_eq!(rest, "", "{pattern}");
    let text: Vec<char> = text.chars().collect();
    !ends(&part, &text, &BTreeSet::from([0])).is_empty()
}

fn ends(part: &Part, text: &[char], starts: &BTreeSet<usize>) -> BTreeSet<usize> {
    match part {
        Part::Class(ranges, is_negated) => {
            let is_in = |c: &char| {
                ranges
                    .iter()
                    .any(|(first, last)| (first..=last).contains(&c))
            };
            let fits = |at: &&usize| text.get(**at).is_some_and(|c| is_in(c) != *is_negated);
            starts.iter().filter(fits).map(|at| at + 1).collect()
        }
        Part::End => starts
            .iter()
            .filter(|at| **at == text.len())
            .copied()
            .collect(),
        Part::Each(parts) => {
            let first = starts.clone();
            parts
                .iter()
                .fold(first, |starts, part| ends(part, text, &starts))
        }
        Part::OneOf(parts) => parts
            .iter()
            .flat_map(|part| ends(part, text, starts))
            .collect(),
        Part::Repeat(part, least, most) => {
            let mut reached = starts.clone();
            for _ in 0..*least {
                reached = ends(part, text, &reached);
            }
            let mut all = reached.clone();
            for _ in *least..*most {
                reached = ends(part, text, &reached);
                let before = all.len();
                all.extend(&reached);
                if all.len() == before {
                    break;
                }
            }
            all
        }
    }
}

fn one_of(rest: &mut &str) -> Part {
    let mut parts = vec![each(rest)];
    while let Some(after) = rest.strip_prefix('|') {
        *rest = after;
        parts.push(each(rest));
    }
    Part::OneOf(parts)
}

fn each(rest: &mut &str) -> Part {
    let mut parts = Vec::new();
    while !rest.is_empty() && !rest.starts_with(['|', ')']) {
        let part = single(rest);
        parts.push(repeated(part, rest));
    }
    Part::Each(parts)
}

fn single(rest: &mut &str) -> Part {
    let only = |c| Part::Class(vec![(c, c)], false);
    match next(rest) {
        '(' => {
            let group = one_of(rest);
            assert_eq!(next(rest), ')');
            group
        }
        '[' => class(rest),
        '$' => Part::End,
        '\\' => only(escaped(rest)),
        c => {
            assert!(!"^.*+?{}".contains(c), "{c}");
            only(c)
        }
    }
}

fn class(rest: &mut &str) -> Part {
    let is_negated = rest.starts_with('^');
    if is_negated {
        next(rest);
    }
    let mut ranges = Vec::new();
    loop {
        let first = match next(rest) {
            ']' => return Part::Class(ranges, is_negated),
            '\\' => escaped(rest),
            c => c,
        };
        let mut last = first;
        if rest.starts_with('-') && !rest.starts_with("-]") {
            next(rest);
            last = match next(rest) {
                '\\' => escaped(rest),
                c => c,
            };
        }
        ranges.push((first, last));
    }
}

fn repeated(part: Part, rest: &mut &str) -> Part {
    let (least, most) = match rest.chars().next() {
        Some('?') => (0, 1),
        Some('*') => (0, usize::MAX),
        Some('{') => {
            let (counts, after) = rest[1..].split_once('}').unwrap();
            *rest = after;
            let (least, most) = counts.split_once(',').unwrap_or((counts, counts));
            let (least, most) = (least.parse().unwrap(), most.parse().unwrap());
            return Part::Repeat(Box::new(part), least, most);
        }
        _ => return part,
    };
    next(rest);
    Part::Repeat(Box::new(part), least, most)
}

/// The character behind a backslash.
fn escaped(rest: &mut &str) -> char {
    match next(rest) {
        'x' => {
            let (digits, after) = rest.split_at(2);
            *rest = after;
            char::from(u8::from_str_radix(digits, 16).unwrap())
        }
        c => c,
    }
}

fn next(rest: &mut &str) -> char {
    let mut characters = rest.chars();
    let first = characters.next().unwrap();
    *rest = characters.as_str();
    first
}

#[test]
fn patterns_match_as_regular_expressions() {
    for (pattern, text, expected) in [
        ("^a[b-d]{1,2}$", "abc", true),
        ("^a[b-d]{1,2}$", "abcd", false),
        ("^(a|b)?c*$", "bcc", true),
        ("^(a|b)?c*$", "abc", false),
        ("^[^/]*/", "ab/c", true),
        ("^[\\x00-\\x08\\x7f]$", "\u{7f}", true),
        ("^[a\\[\\]-]*$", "-[a]", true),
        ("^a\\.b$", "axb", false),
        ("^(x{2})*$", "xxxx", true),
        ("^(x{2})*$", "xxx", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}
