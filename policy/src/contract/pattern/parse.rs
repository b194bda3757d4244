//! Parser for expressions: literals, `.`, classes, `\d \w \s` (ASCII) and their complements,
//! groups, `|`, and the repetitions `? * + {m} {m,} {m,n}`. Expressions are anchored; `^` and `$`
//! are optional.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::iter::Peekable;
use core::str::Chars;

use super::PatternFault;

/// Maximum characters of an expression.
pub(super) const MAX_CHARS: usize = 512;
/// Maximum depth of groups.
const MAX_DEPTH: usize = 16;
/// Maximum repetition count.
const MAX_REPEATS: u32 = 1024;
/// The last character.
const LAST: u32 = 0x10_ffff;

/// Character ranges in ascending order without overlaps.
pub(super) type Set = Vec<(u32, u32)>;

/// An expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// One character of a set.
    One(Set),
    /// A sequence.
    All(Vec<Node>),
    /// An alternative.
    Any(Vec<Node>),
    /// A repetition; unbounded if `max` is `None`.
    Repeat {
        /// The repeated expression.
        node: Box<Node>,
        /// Minimum count.
        min: u32,
        /// Maximum count.
        max: Option<u32>,
    },
}

/// Characters that `.` excludes.
const NOT_DOT: &[(u32, u32)] = &[(0x0a, 0x0a)];

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
    /// Characters consumed.
    at: usize,
}

/// Parses an expression.
pub(super) fn parse(text: &str) -> Result<Node, PatternFault> {
    if text.chars().nth(MAX_CHARS).is_some() {
        return Err(PatternFault::Long);
    }
    let body = text.strip_prefix('^').unwrap_or(text);
    let mut parser = Parser {
        chars: body.chars().peekable(),
        at: usize::from(body.len() < text.len()),
    };
    let node = parser.any(0)?;
    match parser.take() {
        None => Ok(node),
        Some('$') if parser.chars.peek().is_none() => Ok(node),
        Some('$') => Err(parser.wrong("$ is allowed only at the end; write \\$ for the character")),
        Some(_) => Err(parser.wrong("a ) without a group; write \\) for the character")),
    }
}

impl Parser<'_> {
    fn take(&mut self) -> Option<char> {
        let character = self.chars.next()?;
        self.at = self.at.saturating_add(1);
        Some(character)
    }

    fn takes(&mut self, wanted: char) -> bool {
        let found = self.chars.peek() == Some(&wanted);
        if found {
            self.take();
        }
        found
    }

    const fn wrong(&self, what: &'static str) -> PatternFault {
        PatternFault::Syntax { at: self.at, what }
    }

    fn any(&mut self, depth: usize) -> Result<Node, PatternFault> {
        let mut options = vec![self.all(depth)?];
        while self.takes('|') {
            options.push(self.all(depth)?);
        }
        Ok(match options.pop() {
            Some(only) if options.is_empty() => only,
            last => {
                options.extend(last);
                Node::Any(options)
            }
        })
    }

    fn all(&mut self, depth: usize) -> Result<Node, PatternFault> {
        let mut parts = Vec::new();
        while let Some(next) = self.chars.peek() {
            if matches!(next, '|' | ')' | '$') {
                break;
            }
            let part = self.one(depth)?;
            parts.push(self.repeated(part)?);
        }
        Ok(Node::All(parts))
    }

    fn one(&mut self, depth: usize) -> Result<Node, PatternFault> {
        let Some(character) = self.take() else {
            return Err(self.wrong("the pattern ends where an expression is expected"));
        };
        match character {
            '(' => {
                if depth >= MAX_DEPTH {
                    return Err(self.wrong("groups are nested too deeply"));
                }
                if self.takes('?') && !self.takes(':') {
                    return Err(self.wrong(
                        "(? must be followed by :, the only kind of group that is supported",
                    ));
                }
                let node = self.any(depth.saturating_add(1))?;
                if self.takes(')') {
                    Ok(node)
                } else {
                    Err(self.wrong("a group is not closed here"))
                }
            }
            '[' => self.class().map(Node::One),
            '.' => Ok(Node::One(opposite(NOT_DOT))),
            '\\' => self.escape().map(Node::One),
            '*' | '+' | '?' | '{' => {
                Err(self.wrong("there is nothing to repeat; write a \\ before the character"))
            }
            '^' => {
                Err(self.wrong("^ is allowed only at the beginning; write \\^ for the character"))
            }
            ']' | '}' => {
                Err(self.wrong("a closing bracket without an opening one; write a \\ before it"))
            }
            other => Ok(Node::One(vec![point(other)])),
        }
    }

    fn repeated(&mut self, node: Node) -> Result<Node, PatternFault> {
        let (min, max) = match self.chars.peek() {
            Some('?') => (0, Some(1)),
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('{') => {
                self.take();
                let min = self.number()?;
                let max = if !self.takes(',') {
                    Some(min)
                } else if self.chars.peek() == Some(&'}') {
                    None
                } else {
                    Some(self.number()?)
                };
                // The brace is consumed below, like the character of the other repetitions.
                if self.chars.peek() != Some(&'}') {
                    return Err(self.wrong("a repeat is {m}, {m,} or {m,n}"));
                }
                (min, max)
            }
            _ => return Ok(node),
        };
        self.take();
        if max.is_some_and(|max| max < min) {
            return Err(self.wrong("the first bound of a repeat is greater than the second"));
        }
        if matches!(self.chars.peek(), Some('?' | '*' | '+' | '{')) {
            self.take();
            return Err(self.wrong("a repeat cannot be repeated; put a group around the first"));
        }
        Ok(Node::Repeat {
            node: Box::new(node),
            min,
            max,
        })
    }

    fn number(&mut self) -> Result<u32, PatternFault> {
        let mut number = None::<u32>;
        while let Some(digit) = self.chars.peek().and_then(|next| next.to_digit(10)) {
            self.take();
            let next = number.unwrap_or(0).saturating_mul(10).saturating_add(digit);
            if next > MAX_REPEATS {
                return Err(
                    self.wrong("a repeat of more than 1024 times; use * or + and max_item_bytes")
                );
            }
            number = Some(next);
        }
        number.ok_or_else(|| self.wrong("a repeat is {m}, {m,} or {m,n}"))
    }

    /// Parses an escape after `\`.
    fn escape(&mut self) -> Result<Set, PatternFault> {
        let Some(character) = self.take() else {
            return Err(self.wrong("a \\ at the end of the pattern"));
        };
        let digits = vec![(0x30, 0x39)];
        let words = vec![(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)];
        let blanks = vec![(0x09, 0x0d), (0x20, 0x20)];
        Ok(match character {
            'd' => digits,
            'D' => opposite(&digits),
            'w' => words,
            'W' => opposite(&words),
            's' => blanks,
            'S' => opposite(&blanks),
            'n' => vec![point('\n')],
            'r' => vec![point('\r')],
            't' => vec![point('\t')],
            other if other.is_ascii_punctuation() || other == ' ' => vec![point(other)],
            _ => return Err(self.wrong("this escape is not supported")),
        })
    }

    /// Parses a bracket class.
    fn class(&mut self) -> Result<Set, PatternFault> {
        let negative = self.takes('^');
        let mut set = Set::new();
        loop {
            let Some(character) = self.take() else {
                return Err(self.wrong("a class is not closed here"));
            };
            let first = match character {
                ']' if set.is_empty() => {
                    return Err(self.wrong("an empty class; write \\] for the character"));
                }
                ']' => break,
                '[' => return Err(self.wrong("a [ in a class; write \\[ for the character")),
                '\\' => self.escape()?,
                other => vec![point(other)],
            };
            let &[(first_point, last_point)] = first.as_slice() else {
                set.extend(first);
                continue;
            };
            if first_point != last_point || self.chars.peek() != Some(&'-') {
                set.extend(first);
                continue;
            }
            self.take();
            let second = match self.take() {
                // A `-` before the end is literal.
                Some(']') => {
                    set.extend(first);
                    set.push(point('-'));
                    break;
                }
                Some('\\') => self.escape()?,
                Some('[') => return Err(self.wrong("a [ in a class; write \\[ for the character")),
                Some(other) => vec![point(other)],
                None => return Err(self.wrong("a class is not closed here")),
            };
            match second.as_slice() {
                [(from, to)] if from == to && first_point <= *from => {
                    set.push((first_point, *from));
                }
                _ => {
                    return Err(
                        self.wrong("a range in a class must go from a character to a later one")
                    );
                }
            }
        }
        let set = merged(set);
        Ok(if negative { opposite(&set) } else { set })
    }
}

fn point(character: char) -> (u32, u32) {
    (character.into(), character.into())
}

/// Sorts and merges ranges.
fn merged(mut set: Set) -> Set {
    set.sort_unstable();
    let mut stretches = Set::new();
    for (from, to) in set {
        match stretches.last_mut() {
            Some((_, last)) if from <= last.saturating_add(1) => *last = to.max(*last),
            _ => stretches.push((from, to)),
        }
    }
    stretches
}

/// Complement of sorted ranges.
fn opposite(set: &[(u32, u32)]) -> Set {
    let mut rest = Set::new();
    let mut next = 0;
    for (from, to) in set {
        if *from > next {
            rest.push((next, from.saturating_sub(1)));
        }
        next = next.max(to.saturating_add(1));
    }
    if next <= LAST {
        rest.push((next, LAST));
    }
    rest
}
