//! Counts the tokens of a source, as a measure of its size that does not depend on its format.
//!
//! A token is a word (a run of letters, digits and `_`), or all operators between two words. These
//! do not count, because a formatter adds and removes them:
//! - whitespace and comments,
//! - quotes and backslashes,
//! - the characters `, ; ( ) [ ] { }`.
//!
//! The text of a string literal counts as code does. So a table or a script that moves into a
//! string is as large as before.

use crate::identifiers::{after_char, before, code_with};

/// A language whose sources are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Lua,
    /// A text without a language of its own, such as a style sheet, a schema or a template.
    Plain,
    Python,
    Rust,
    /// JavaScript, TypeScript or WIT.
    Script,
}

impl Language {
    /// The language of a file, by the ending of its name.
    pub(crate) fn of(file: &str) -> Option<Self> {
        let (_, ending) = file.rsplit_once('.')?;
        match ending {
            "cjs" | "js" | "jsx" | "mjs" | "ts" | "tsx" | "wit" => Some(Self::Script),
            "css" | "html" | "in" | "json" | "sh" | "svg" | "tpl" | "txt" | "yaml" => {
                Some(Self::Plain)
            }
            "lua" => Some(Self::Lua),
            "py" => Some(Self::Python),
            "rs" => Some(Self::Rust),
            _ => None,
        }
    }
}

/// A source with a blank for each comment. Literals are the words and operators in them, without
/// brackets, so that brackets of the code can be counted.
pub(crate) fn without_comments(language: Language, text: &str) -> String {
    match language {
        Language::Plain => text.to_owned(),
        Language::Rust => rust(text),
        Language::Lua | Language::Python | Language::Script => script(language, text),
    }
}

/// The number of tokens in a source without comments.
pub(crate) fn count(code: &str) -> usize {
    let mut tokens = 0_usize;
    let mut in_word = false;
    // Whether an operator has been counted since the last word.
    let mut has_operator = false;
    for c in code.chars() {
        let is_new = if is_word(c) {
            has_operator = false;
            !std::mem::replace(&mut in_word, true)
        } else {
            in_word = false;
            is_operator(c) && !std::mem::replace(&mut has_operator, true)
        };
        tokens = tokens.saturating_add(usize::from(is_new));
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_operator(c: char) -> bool {
    !is_word(c) && !c.is_whitespace() && !",;()[]{}'\"`\\".contains(c)
}

fn rust(text: &str) -> String {
    code_with(text, |code, read| {
        if read.starts_with("//") || read.starts_with("/*") {
            code.push(' ');
        } else {
            push_literal(code, read);
        }
    })
}

fn script(language: Language, text: &str) -> String {
    let mut code = String::new();
    let mut open_brackets = 0_usize;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some(next) = after_script_comment(language, rest) {
            code.push(' ');
            rest = next;
            continue;
        }
        if let Some(next) = after_string(language, rest) {
            let is_statement = language == Language::Python && open_brackets == 0;
            if is_statement && is_alone(&code, next) {
                code.push(' ');
            } else {
                push_literal(&mut code, before(rest, next));
            }
            rest = next;
            continue;
        }
        match c {
            '(' | '[' | '{' => open_brackets = open_brackets.saturating_add(1),
            ')' | ']' | '}' => open_brackets = open_brackets.saturating_sub(1),
            _ => {}
        }
        let mut next = after_char(rest);
        // In a regular expression, an escaped quote or slash starts no string and no comment.
        if c == '\\' {
            next = after_char(next);
        }
        code.push_str(before(rest, next));
        rest = next;
    }
    code
}

fn push_literal(code: &mut String, literal: &str) {
    let counts = |c| is_word(c) || is_operator(c);
    code.push(' ');
    code.extend(literal.chars().map(|c| if counts(c) { c } else { ' ' }));
    code.push(' ');
}

/// The text after the comment that a text of another language than Rust starts with. The end of the
/// line is not a part of a line comment.
fn after_script_comment(language: Language, text: &str) -> Option<&str> {
    let (line, block) = match language {
        Language::Lua => ("--", Some(("--[[", "]]"))),
        Language::Python => ("#", None),
        Language::Plain | Language::Rust | Language::Script => ("//", Some(("/*", "*/"))),
    };
    let block = block.and_then(|(start, end)| Some((text.strip_prefix(start)?, end)));
    if let Some((inside, end)) = block {
        return Some(inside.split_once(end).map_or("", |(_, next)| next));
    }
    if !text.starts_with(line) {
        return None;
    }
    text.get(text.find('\n').unwrap_or(text.len())..)
}

/// The text after the string that a text of another language than Rust starts with. A string that
/// has no end on its line ends there, unless its quotes allow more lines.
fn after_string(language: Language, text: &str) -> Option<&str> {
    let (quote, tripled) = match text.chars().next()? {
        '"' => ("\"", "\"\"\""),
        '\'' => ("'", "'''"),
        '`' if language == Language::Script => ("`", "```"),
        _ => return None,
    };
    let is_tripled = language == Language::Python && text.starts_with(tripled);
    let end = if is_tripled { tripled } else { quote };
    let is_one_line = !is_tripled && quote != "`";
    let mut rest = text.strip_prefix(end)?;
    while !rest.is_empty() {
        if let Some(next) = rest.strip_prefix(end) {
            return Some(next);
        }
        if is_one_line && rest.starts_with('\n') {
            break;
        }
        let is_escape = rest.starts_with('\\');
        rest = after_char(rest);
        if is_escape {
            rest = after_char(rest);
        }
    }
    Some(rest)
}

/// Whether a string of Python between these two texts is a statement, which is documentation.
fn is_alone(code: &str, after: &str) -> bool {
    let line_start = code.rsplit('\n').next().unwrap_or_default().trim();
    let line_end = after.split('\n').next().unwrap_or_default().trim();
    let is_continued = code.trim_end().ends_with('\\');
    line_start.is_empty() && (line_end.is_empty() || line_end.starts_with('#')) && !is_continued
}

fn tokens(language: Language, text: &str) -> usize {
    count(&without_comments(language, text))
}

#[test]
fn words_and_the_operators_between_them_count() {
    for (text, expected) in [
        ("", 0),
        ("let a_1 = b;", 4),
        ("a.b(c)?.d", 6),
        ("a += -1_000", 3),
        ("f::<'a>(&mut [0; 2])", 7),
        ("#[derive(Debug, Clone)]", 4),
    ] {
        assert_eq!(tokens(Language::Rust, text), expected, "{text}");
    }
}

#[test]
fn a_formatter_changes_no_count() {
    for (one, other) in [
        ("f(a, b)", "f(\n    a,\n    b,\n)\n"),
        ("a?.b().c()", "a?\n    .b()\n    .c()"),
        (
            "if a==-1 {b} else {c}",
            "if a == -1 {\n    b\n} else {\n    c\n}",
        ),
        ("|a| -a", "|a| {\n    -a\n}"),
        ("use a::{b, c};", "use a::{\n    b, c,\n};"),
        (r#""a b""#, "\"a \\\n    b\""),
        ("return a", "return a;"),
    ] {
        let counts = [one, other].map(|text| tokens(Language::Rust, text));
        let [one, other] = counts;
        assert_eq!(one, other, "{counts:?}");
    }
    let python = [
        "f(a, 'b')\n",
        "f(\n    a,\n    \"b\",\n)\n",
        "f(a, \\\n  'b')",
    ];
    assert_eq!(python.map(|text| tokens(Language::Python, text)), [3; 3]);
    let script = [
        "a => b.c('d')",
        "(a) =>\n  b\n    .c(\"d\");",
        "a=>b.c(`d`)",
    ];
    assert_eq!(script.map(|text| tokens(Language::Script, text)), [6; 3]);
}

#[test]
fn comments_count_nothing() {
    for (language, text) in [
        (
            Language::Rust,
            "//! a\n/// b\nx // c\n/* d /* e */ f */ y\n",
        ),
        (Language::Script, "/** a\n * b */\nx // c\ny\n"),
        (
            Language::Python,
            "\"\"\"a\n\nb \"c\".\"\"\"\nx  # d 'e'\n'f'\ny\n",
        ),
        (Language::Lua, "--[[ a\nb ]] x -- c 'd\ny\n"),
    ] {
        assert_eq!(tokens(language, text), 2, "{text}");
    }
}

#[test]
fn the_text_of_strings_counts_as_code_does() {
    let code = "if a.b(c) then d = 1 end";
    let expected = tokens(Language::Lua, code);
    assert_eq!(expected, 10);
    assert_eq!(tokens(Language::Rust, &format!("\"{code}\"")), expected);
    assert_eq!(tokens(Language::Rust, "\"a // b\""), 3);
    assert_eq!(tokens(Language::Rust, "r\"a \\ {b}\" ' ' 'c'"), 4);
    assert_eq!(tokens(Language::Script, "`a // b\nc`"), 4);
    assert_eq!(tokens(Language::Lua, "'a -- b'"), 3);
    assert_eq!(tokens(Language::Python, "a = '''b # c'''\nf(\n'd'\n)"), 7);
    // A regular expression with a quote, and a string that has no end.
    assert_eq!(tokens(Language::Script, "/\\'/; a // b"), 2);
    assert_eq!(tokens(Language::Script, "'a\n// b\nc"), 2);
}

#[test]
fn languages_have_endings() {
    assert_eq!(Language::of("a/b.d.ts"), Some(Language::Script));
    assert_eq!(Language::of("a.rs"), Some(Language::Rust));
    assert_eq!(Language::of("a.css"), Some(Language::Plain));
    assert_eq!(Language::of("a.rs/b"), None);
    assert_eq!(Language::of("Makefile"), None);
}
