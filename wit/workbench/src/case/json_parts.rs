//! Parts of a JSON text as they are written, so that one can be replaced and the rest stays. The
//! text was parsed before, so it is valid JSON.

/// The value of an object's member, without the spaces around it.
pub fn member<'t>(object: &'t str, key: &str) -> Option<&'t str> {
    let inner = object.trim().strip_prefix('{')?.strip_suffix('}')?;
    split(inner, b',').into_iter().find_map(|member| {
        let [name, value]: [&str; 2] = split(member, b':').try_into().ok()?;
        let name: String = serde_json::from_str(name).ok()?;
        (name == key).then_some(value.trim())
    })
}

/// The items of a list, without the spaces around them.
pub fn list(list: &str) -> Option<Vec<&str>> {
    let inner = list.trim().strip_prefix('[')?.strip_suffix(']')?;
    let items = split(inner, b',').into_iter().map(str::trim);
    Some(items.filter(|item| !item.is_empty()).collect())
}

/// The parts of a text between separators that are in no string, object or list.
fn split(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0_usize);
    let (mut in_string, mut is_escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            in_string = is_escaped || byte != b'"';
            is_escaped = byte == b'\\' && !is_escaped;
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ if byte == separator && depth == 0 => {
                parts.push(text.get(begin..at).unwrap_or_default());
                begin = at.saturating_add(1);
            }
            _ => {}
        }
    }
    parts.push(text.get(begin..).unwrap_or_default());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_as_they_are_written() {
        let text =
            "{\"a\": [1, {\"b\": \"}, \\\"expect\\\": 1\"}],\n \"\\u0062\" : { \"c\" :1.50 } }";
        assert_eq!(
            member(text, "a"),
            Some("[1, {\"b\": \"}, \\\"expect\\\": 1\"}]")
        );
        assert_eq!(member(text, "b"), Some("{ \"c\" :1.50 }"));
        assert_eq!(
            member("{\"a\": \"x\\\\\", \"b\": \"ü,\"}", "b"),
            Some("\"ü,\"")
        );
        assert_eq!(member(text, "expect"), None);
        assert_eq!(member("{}", "a"), None);
        assert_eq!(
            list(" [ 1 , [2, 3],\n\"],\" ]"),
            Some(vec!["1", "[2, 3]", "\"],\""])
        );
        assert_eq!(list("[ ]"), Some(vec![]));
        assert_eq!(list("{}"), None);
    }
}
