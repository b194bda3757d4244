//! Parts of printed commands: arguments in quotes, so that a command can be copied as it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use tensorgate_values::safe_text::is_hidden;

/// One argument as a word of bash or zsh, on one line. Each hidden character, and each byte that is
/// no text, is an escape (`$'\x1b'`). So no argument ends its word, its line, or a comment.
pub fn quoted(argument: impl AsRef<OsStr>) -> String {
    let bytes = argument.as_ref().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(text) if is_plain(text) => text.to_owned(),
        Ok(text) if !text.contains(is_hidden) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => escaped(bytes),
    }
}

/// Whether a shell reads a text as itself.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./:@,+=".contains(&byte);
    // zsh replaces a word that begins with `=`.
    !text.is_empty() && !text.starts_with('=') && text.bytes().all(plain)
}

fn escaped(bytes: &[u8]) -> String {
    let mut word = "$'".to_owned();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => word.extend(['\\', c]),
                c if is_hidden(c) => {
                    let mut buffer = [0; 4];
                    push_escapes(&mut word, c.encode_utf8(&mut buffer).as_bytes());
                }
                c => word.push(c),
            }
        }
        push_escapes(&mut word, chunk.invalid());
    }
    word.push('\'');
    word
}

/// Octal escapes have at most three digits, so the next character is never part of one.
fn push_escapes(word: &mut String, bytes: &[u8]) {
    for byte in bytes {
        word.push_str(&format!("\\{byte:03o}"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::process::Command;

    use super::*;

    #[test]
    fn a_word_has_one_line_and_shows_what_is_hidden() {
        for (argument, expected) in [
            ("gate.yaml", "gate.yaml"),
            ("--label=a/b=c", "--label=a/b=c"),
            ("", "''"),
            ("=ls", "'=ls'"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(id)`id`;#", "'$(id)`id`;#'"),
            ("a\n# b", r"$'a\012# b'"),
            ("a'\u{1b}\\", r"$'a\'\033\\'"),
            ("\u{202e}x", r"$'\342\200\256x'"),
        ] {
            assert_eq!(quoted(argument), expected, "{argument:?}");
        }
        assert_eq!(quoted(OsStr::from_bytes(b"a\xff1")), r"$'a\3771'");
    }

    #[test]
    fn bash_reads_each_word_as_the_argument() {
        let arguments: [&[u8]; 7] = [
            b"a b",
            b"it's $(id) `id` \"x\" \\",
            b"a\n# b\ttab 1",
            b"\x1b[31m'\\1",
            b"\xff2",
            "\u{202e}\u{feff}ü".as_bytes(),
            b"~ * {a,b} !x",
        ];
        let words: Vec<_> = (arguments.iter())
            .map(|argument| quoted(OsStr::from_bytes(argument)))
            .collect();
        let script = format!("printf '%s\\0' {}", words.join(" "));
        let output = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(output.stdout, [arguments.join(&b'\0'), vec![0]].concat());
    }
}
