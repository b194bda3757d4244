//! The identifiers of Rust code, without comments and literals.

/// The identifiers of a source, each with the offset of its first byte. Keywords, names of
/// lifetimes and prefixes of literals (`b`, `c`) are among them.
pub(crate) fn identifiers(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        rest = if let Some(next) = after_comment_or_literal(rest) {
            next
        } else {
            let name = word(rest);
            if !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) {
                found.push((text.len().saturating_sub(rest.len()), name));
            }
            after_word_or_char(rest)
        };
    }
    found
}

/// A source with a blank for each comment and literal.
pub(crate) fn code(text: &str) -> String {
    code_with(text, |code, _| code.push(' '))
}

/// A source with what `push` puts in the place of each comment and literal, which it gets.
pub(crate) fn code_with(text: &str, push: impl Fn(&mut String, &str)) -> String {
    let mut code = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(next) = after_comment_or_literal(rest) {
            push(&mut code, before(rest, next));
            rest = next;
        } else {
            let next = after_word_or_char(rest);
            code.push_str(before(rest, next));
            rest = next;
        }
    }
    code
}

/// The part of a text that stands before the rest of it.
pub(crate) fn before<'a>(text: &'a str, rest: &str) -> &'a str {
    let length = text.len().saturating_sub(rest.len());
    text.get(..length).unwrap()
}

/// The line of an offset, from 1.
pub(crate) fn line(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap();
    before.matches('\n').count().saturating_add(1)
}

/// The identifier, keyword or number that a text starts with.
pub(crate) fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    text.get(..end.unwrap_or(text.len())).unwrap()
}

/// The text after the comment or literal that a text starts with; none if it starts with another
/// thing.
fn after_comment_or_literal(text: &str) -> Option<&str> {
    if let Some(comment) = text.strip_prefix("//") {
        Some(comment.split_once('\n').map_or("", |(_, next)| next))
    } else if let Some(comment) = text.strip_prefix("/*") {
        Some(after_comment(comment))
    } else if let Some(string) = text.strip_prefix('"') {
        Some(after_quoted(string, '"'))
    } else if let Some(quoted) = text.strip_prefix('\'') {
        Some(after_apostrophe(quoted))
    } else {
        let prefix = word(text);
        after_raw_string(prefix, text.strip_prefix(prefix).unwrap())
    }
}

/// The text after the word that a text starts with, or after its first character.
fn after_word_or_char(text: &str) -> &str {
    match word(text) {
        "" => after_char(text),
        word => text.strip_prefix(word).unwrap(),
    }
}

/// The text after its first character.
pub(crate) fn after_char(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.as_str()
}

/// The text after a block comment whose start has been read. Block comments nest.
fn after_comment(text: &str) -> &str {
    let mut depth = 1_usize;
    let mut rest = text;
    while depth > 0 && !rest.is_empty() {
        rest = if let Some(inner) = rest.strip_prefix("/*") {
            depth = depth.saturating_add(1);
            inner
        } else if let Some(outer) = rest.strip_prefix("*/") {
            depth = depth.saturating_sub(1);
            outer
        } else {
            after_char(rest)
        };
    }
    rest
}

/// The text after a literal with escapes whose opening quote has been read.
fn after_quoted(text: &str, quote: char) -> &str {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            break;
        }
    }
    chars.as_str()
}

/// The text after the character literal, or after the apostrophe of a lifetime.
fn after_apostrophe(text: &str) -> &str {
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => after_quoted(text, '\''),
        (Some(_), Some('\'')) => chars.as_str(),
        _ => text,
    }
}

/// The text after a raw string, if this word and the text after it are one.
fn after_raw_string<'a>(prefix: &str, text: &'a str) -> Option<&'a str> {
    if !["r", "br", "cr"].contains(&prefix) {
        return None;
    }
    let quoted = text.trim_start_matches('#');
    let hashes = text.len().saturating_sub(quoted.len());
    let end = format!("\"{}", "#".repeat(hashes));
    let content = quoted.strip_prefix('"')?;
    Some(content.split_once(&end).map_or("", |(_, next)| next))
}

#[test]
fn comments_and_literals_hold_no_identifiers() {
    let found = |text| {
        let names = identifiers(text).into_iter().map(|(_, name)| name);
        names.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found("a; // b 'c \"d\n/// e\nf"), "a f");
    assert_eq!(found("a /* b /* c */ d */ e"), "a e");
    assert_eq!(found(r#"a("b \" c", "d // e", "\\") f"#), "a f");
    assert_eq!(found("a(r\"b\\\", br#\"c \" d\"#, r#\"\"#) e"), "a e");
    assert_eq!(found(r"a('b', '\'', '\u{e9}', 'é', '/') f"), "a f");
    assert_eq!(found("a<'b>(c: &'b d) { 'e: loop {} }"), "a b c b d e loop");
    assert_eq!(
        found("r#match(b\"c\", b'd', 1_e, 0xf, g2)"),
        "r match b b g2"
    );
    assert_eq!(found("a /* b"), "a");
    let text = "a\n\"b\nc\" d";
    assert_eq!(identifiers(text), [(0, "a"), (8, "d")]);
    assert_eq!(line(text, 8), 3);
    assert_eq!(
        code("a(\"b\", 'c', 1); // d\ne /* f */ g"),
        "a( ,  , 1);  e   g"
    );
}
