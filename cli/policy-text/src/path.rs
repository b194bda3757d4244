//! Paths such as `models.digits.inputs[0].shape[1]`: writing and parsing them.

/// The path of `keys` below a first key, as in `backends.gpu.tls`.
pub fn below(first: &str, keys: &[&str]) -> String {
    let mut path = String::from(first);
    for key in keys {
        push_key(&mut path, key);
    }
    path
}

/// Appends a key. A key with `.`, `[`, a quote or white space is quoted.
pub fn push_key(path: &mut String, key: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    if key.is_empty()
        || key.contains(|c: char| {
            matches!(c, '.' | '[' | ']' | '"' | '\\') || c.is_whitespace() || c.is_control()
        })
    {
        path.push_str(&format!("{key:?}"));
    } else {
        path.push_str(key);
    }
}

/// Appends an index.
pub fn push_index(path: &mut String, index: usize) {
    path.push_str(&format!("[{index}]"));
}

/// A path without its last step.
pub fn parent(path: &str) -> &str {
    let (mut end, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in path.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '.' | '[' if !quoted => end = at,
            _ => {}
        }
    }
    path.get(..end).unwrap_or_default()
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// Parses a path, up to the first invalid step.
pub(crate) fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(after) = rest.strip_prefix('[') {
            let Some((digits, after)) = after.split_once(']') else {
                return steps;
            };
            let Ok(index) = digits.parse() else {
                return steps;
            };
            steps.push(Step::Index(index));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('"') {
            let (key, after) = quoted(after);
            steps.push(Step::Key(key));
            rest = after;
        } else if rest.is_empty() {
            return steps;
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (key, after) = rest.split_at_checked(end).unwrap_or((rest, ""));
            if key.is_empty() {
                return steps;
            }
            steps.push(Step::Key(key.to_owned()));
            rest = after;
        }
    }
}

/// Reads up to the closing quote. A backslash escapes the next character.
fn quoted(text: &str) -> (String, &str) {
    let mut key = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => key.extend(chars.next()),
            c => key.push(c),
        }
    }
    (key, chars.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_a_path_without_its_last_step() {
        for (path, expected) in [
            ("a.b", "a"),
            ("a.b[3]", "a.b"),
            ("a", ""),
            ("a.\"x.y\"", "a"),
            ("", ""),
        ] {
            assert_eq!(parent(path), expected, "{path}");
        }
    }

    #[test]
    fn written_paths_read_back_unchanged() {
        for keys in [
            vec!["models", "digits"],
            vec!["models", "a.b", "x[1]"],
            vec!["a\"b", "c d", ""],
        ] {
            let mut path = String::new();
            for key in &keys {
                push_key(&mut path, key);
            }
            push_index(&mut path, 3);
            let mut expected: Vec<Step> = keys
                .iter()
                .map(|key| Step::Key((*key).to_owned()))
                .collect();
            expected.push(Step::Index(3));
            assert_eq!(steps(&path), expected, "{path}");
        }
    }
}
