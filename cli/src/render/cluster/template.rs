//! Templates of a Helm chart, written from the trees of objects.
//!
//! A placeholder in a tree is an expression between two private-use characters. Names that a user
//! gives cannot have these, and a text with braces of its own is rejected. So a template evaluates
//! the expressions of this program and nothing else.

use crate::render::node::Node;

/// Beginning of a placeholder.
const OPEN: char = '\u{e000}';
/// End of a placeholder.
const CLOSE: char = '\u{e001}';
/// What Helm takes for the beginning of an expression.
const ACTION: &str = "{{";

/// A text that an expression fills in, or a part of one.
pub fn placeholder(expression: &str) -> String {
    format!("{OPEN}{expression}{CLOSE}")
}

/// A value of any type that an expression fills in.
pub fn value(expression: &str) -> Node {
    Node::Map(vec![(placeholder(expression), Node::from(""))])
}

/// An entry of a mapping that is there unless a value is empty.
pub fn entry_if_set(key: &str, expression: &str) -> (String, Node) {
    let entry = (key.to_owned(), value(expression));
    (placeholder(expression), Node::Map(vec![entry]))
}

/// The entries of a value that is a mapping of texts, among others of a mapping. They are not the
/// first ones of a mapping in a list, because an action would replace the item's dash.
pub fn entries_of(expression: &str) -> (String, Node) {
    (placeholder(expression), Node::List(Vec::new()))
}

/// Joins the tree of an object when a condition holds, `yes`, with its tree when it does not. They
/// may differ in the items of lists.
///
/// # Errors
/// They differ elsewhere.
pub fn choose(condition: &str, yes: Node, no: Node) -> Result<Node, String> {
    match (yes, no) {
        (yes, no) if yes == no => Ok(yes),
        (Node::Map(yes), Node::Map(no)) if same_keys(&yes, &no) => {
            let pairs = yes.into_iter().zip(no);
            let entries = pairs.map(|((key, yes), (_, no))| {
                choose(condition, yes, no).map(|joined| (key, joined))
            });
            Ok(Node::Map(entries.collect::<Result<_, String>>()?))
        }
        (Node::List(yes), Node::List(no)) => Ok(Node::List(choose_items(condition, yes, no))),
        _ => Err(format!("{condition} changes more than items of lists")),
    }
}

fn same_keys(one: &[(String, Node)], other: &[(String, Node)]) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len() && pairs.all(|((one, _), (other, _))| one == other)
}

/// The items of both lists: those that both begin and end with stay, and the others depend on the
/// condition.
fn choose_items(condition: &str, mut yes: Vec<Node>, mut no: Vec<Node>) -> Vec<Node> {
    let common = |one: &[Node], other: &[Node]| {
        let pairs = one.iter().zip(other);
        pairs.take_while(|(one, other)| one == other).count()
    };
    let first = common(&yes, &no);
    let (mut yes_rest, mut no_rest) = (yes.split_off(first), no.split_off(first));
    yes_rest.reverse();
    no_rest.reverse();
    let last = common(&yes_rest, &no_rest);
    let (mut yes_only, mut no_only) = (yes_rest.split_off(last), no_rest.split_off(last));
    yes_only.reverse();
    no_only.reverse();
    yes_rest.reverse();
    // What both begin with, what depends on the condition, what both end with.
    let mut items = yes;
    let branches = Node::List(vec![Node::List(yes_only), Node::List(no_only)]);
    items.push(Node::Map(vec![(placeholder(condition), branches)]));
    items.extend(yes_rest);
    items
}

/// An action of a template, by the number of the scalar in its place.
enum Action {
    /// Writes a value.
    Value(String),
    /// Is alone on its line, in place of an item or an entry.
    Control(String),
    /// Writes an entry of a mapping, in place of one.
    Entry(String),
}

/// The template of an object. With a condition there is no object unless it holds.
///
/// # Errors
/// A text that Helm would take for an expression.
pub fn write(object: &Node, condition: Option<&str>) -> Result<String, String> {
    let mut actions = Vec::new();
    let yaml = number(object, &mut actions)?.to_yaml();
    let (open, close) = (format!("\"{OPEN}"), format!("{CLOSE}\""));
    let mut template = String::new();
    if let Some(condition) = condition {
        template.push_str(&format!("{ACTION}- if {condition} }}}}\n"));
    }
    for line in yaml.lines() {
        let marked = line.split_once(&open).and_then(|(before, rest)| {
            let (number, after) = rest.split_once(&close)?;
            Some((before, number.parse::<usize>().ok()?, after))
        });
        match marked {
            Some((before, number, after)) => match actions.get(number) {
                Some(Action::Value(action)) => {
                    template.extend([before, action.as_str(), after]);
                }
                Some(Action::Control(action)) => template.push_str(action),
                Some(Action::Entry(action)) => template.extend([before, action.as_str()]),
                None => return Err(foreign(line)),
            },
            None => template.push_str(line),
        }
        template.push('\n');
    }
    if condition.is_some() {
        template.push_str(&control("end"));
        template.push('\n');
    }
    Ok(template)
}

/// The tree with a number in place of each placeholder.
fn number(node: &Node, actions: &mut Vec<Action>) -> Result<Node, String> {
    match node {
        Node::Map(entries) => {
            if let Some(expression) = sole_placeholder(entries) {
                return Ok(add(Action::Value(action(expression, "toJson")), actions));
            }
            let mut numbered = Vec::new();
            for (key, value) in entries {
                number_entry(key, value, &mut numbered, actions)?;
            }
            Ok(Node::Map(numbered))
        }
        Node::List(items) => {
            let mut numbered = Vec::new();
            for item in items {
                number_item(item, &mut numbered, actions)?;
            }
            Ok(Node::List(numbered))
        }
        Node::Text(text) if text.contains(ACTION) => Err(foreign(text)),
        Node::Text(text) if text.contains(OPEN) => {
            let action = fill(text).ok_or_else(|| foreign(text))?;
            Ok(add(Action::Value(action), actions))
        }
        Node::Text(_) | Node::Bool(_) | Node::Int(_) | Node::Float(_) => Ok(node.clone()),
    }
}

/// An entry of a mapping; entries that depend on a value are between actions.
fn number_entry(
    key: &str,
    value: &Node,
    numbered: &mut Vec<(String, Node)>,
    actions: &mut Vec<Action>,
) -> Result<(), String> {
    let put = |action, actions: &mut Vec<Action>| (mark(action, actions), Node::from(""));
    match (expression(key), value) {
        (Some(mapping), Node::List(items)) if items.is_empty() => {
            let each = control(&format!("range $key, $value := {mapping}"));
            let pair = [action("$key", "quote"), action("$value", "quote")].join(": ");
            for action in [Action::Control(each), Action::Entry(pair), end()] {
                numbered.push(put(action, actions));
            }
        }
        (Some(condition), Node::Map(entries)) => {
            let start = Action::Control(control(&format!("if {condition}")));
            numbered.push(put(start, actions));
            for (key, value) in entries {
                number_entry(key, value, numbered, actions)?;
            }
            numbered.push(put(end(), actions));
        }
        _ if key.contains(OPEN) || key.contains(ACTION) => return Err(foreign(key)),
        _ => numbered.push((key.to_owned(), number(value, actions)?)),
    }
    Ok(())
}

/// An item of a list; items that depend on a condition are between actions.
fn number_item(
    item: &Node,
    numbered: &mut Vec<Node>,
    actions: &mut Vec<Action>,
) -> Result<(), String> {
    let Some((condition, yes, no)) = branches(item) else {
        numbered.push(number(item, actions)?);
        return Ok(());
    };
    let start = if yes.is_empty() { "if not" } else { "if" };
    let condition = format!("{start} ({condition})");
    numbered.push(add(Action::Control(control(&condition)), actions));
    for item in yes {
        number_item(item, numbered, actions)?;
    }
    if !yes.is_empty() && !no.is_empty() {
        numbered.push(add(Action::Control(control("else")), actions));
    }
    for item in no {
        number_item(item, numbered, actions)?;
    }
    numbered.push(add(end(), actions));
    Ok(())
}

/// The condition of an item, and the items of both branches.
fn branches(item: &Node) -> Option<(&str, &[Node], &[Node])> {
    let Node::Map(entries) = item else {
        return None;
    };
    let [(key, Node::List(both))] = entries.as_slice() else {
        return None;
    };
    let [Node::List(yes), Node::List(no)] = both.as_slice() else {
        return None;
    };
    Some((expression(key)?, yes, no))
}

/// The expression that a value has in its place.
fn sole_placeholder(entries: &[(String, Node)]) -> Option<&str> {
    match entries {
        [(key, Node::Text(_))] => expression(key),
        _ => None,
    }
}

/// The expression of a text that is one placeholder.
fn expression(text: &str) -> Option<&str> {
    let expression = text.strip_prefix(OPEN)?.strip_suffix(CLOSE)?;
    (!expression.contains([OPEN, CLOSE])).then_some(expression)
}

/// The action for a text with placeholders. `None` if one has no end.
fn fill(text: &str) -> Option<String> {
    if let Some(expression) = expression(text) {
        return Some(action(expression, "quote"));
    }
    let (mut format, mut arguments) = (String::new(), String::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (expression, after) = after.split_once(CLOSE)?;
        format.push_str(&before.replace('%', "%%"));
        format.push_str("%s");
        arguments.push_str(&format!(" ({expression})"));
        rest = after;
    }
    format.push_str(&rest.replace('%', "%%"));
    let format = serde_json::Value::from(format);
    Some(action(&format!("printf {format}{arguments}"), "quote"))
}

fn action(expression: &str, function: &str) -> String {
    format!("{ACTION} {expression} | {function} }}}}")
}

/// An action that writes nothing, and no line either.
fn control(action: &str) -> String {
    format!("{ACTION}- {action} }}}}")
}

/// The end of a condition or of a loop.
fn end() -> Action {
    Action::Control(control("end"))
}

fn add(action: Action, actions: &mut Vec<Action>) -> Node {
    Node::Text(mark(action, actions))
}

/// The text that stands for an action.
fn mark(action: Action, actions: &mut Vec<Action>) -> String {
    let number = actions.len();
    actions.push(action);
    format!("{OPEN}{number}{CLOSE}")
}

fn foreign(text: &str) -> String {
    format!("{text:?} cannot be in a chart: Helm would take a part of it for an expression")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::render::node::{list, map};

    #[test]
    fn placeholders_become_quoted_expressions() {
        let object = map! {
            "name" => placeholder(".Values.name"),
            "image" => format!("{}@100%:{}", placeholder(".A"), placeholder("trim .B")),
            "labels" => value(".Values.labels"),
            "args" => list!["-c", placeholder(".Values.c")],
        };
        let expected = r#"name: {{ .Values.name | quote }}
image: {{ printf "%s@100%%:%s" (.A) (trim .B) | quote }}
labels: {{ .Values.labels | toJson }}
args:
  - "-c"
  - {{ .Values.c | quote }}
"#;
        assert_eq!(write(&object, None).unwrap(), expected);
    }

    #[test]
    fn entries_of_values_are_between_actions() {
        let object = Node::Map(vec![
            ("a".to_owned(), "b".into()),
            entry_if_set("c", ".Values.c"),
            entries_of(".Values.d"),
        ]);
        let expected = r#"x:
  a: b
{{- if .Values.c }}
  c: {{ .Values.c | toJson }}
{{- end }}
{{- range $key, $value := .Values.d }}
  {{ $key | quote }}: {{ $value | quote }}
{{- end }}
"#;
        assert_eq!(write(&map! {"x" => object}, None).unwrap(), expected);
    }

    #[test]
    fn items_that_depend_on_a_value_are_between_actions() {
        let tree = |items: &[&str]| {
            let items: Vec<Node> = items.iter().map(|item| Node::from(*item)).collect();
            map! {"list" => items}
        };
        for (yes, no, expected) in [
            (
                ["a", "b", "z"].as_slice(),
                ["a", "c", "d", "z"].as_slice(),
                "a {{- if (.X) }} b {{- else }} c d {{- end }} z",
            ),
            (&["a", "b"], &["a"], "a {{- if (.X) }} b {{- end }}"),
            (&["a"], &["b", "a"], "{{- if not (.X) }} b {{- end }} a"),
            (&["a", "a"], &["a"], "a {{- if (.X) }} a {{- end }}"),
            (&["a"], &["a"], "a"),
        ] {
            let joined = choose(".X", tree(yes), tree(no)).unwrap();
            let template = write(&joined, None).unwrap();
            let lines = template.lines().skip(1);
            let items: Vec<_> = lines.map(|line| line.trim_start_matches("  - ")).collect();
            assert_eq!(items.join(" "), expected);
        }
        assert!(choose(".X", map! {"a" => "1"}, map! {"a" => "2"}).is_err());
        assert!(choose(".X", map! {"a" => "1"}, map! {"b" => "1"}).is_err());
    }

    #[test]
    fn a_condition_in_a_condition_stays_whole() {
        let tree = |items: &[&str]| {
            let items: Vec<Node> = items.iter().map(|item| Node::from(*item)).collect();
            Node::List(items)
        };
        let with = choose(".B", tree(&["x", "m"]), tree(&["x"])).unwrap();
        let without = choose(".B", tree(&["w", "m"]), tree(&["w"])).unwrap();
        let joined = choose(".A", with, without).unwrap();
        let template = write(&joined, None).unwrap();
        let lines: Vec<_> = template.lines().collect();
        let expected =
            "{{- if (.A) }} - x {{- else }} - w {{- end }} {{- if (.B) }} - m {{- end }}";
        assert_eq!(lines.join(" "), expected);
    }

    #[test]
    fn an_object_may_depend_on_a_value() {
        let template = write(&map! {"kind" => "Pod"}, Some(".X")).unwrap();
        assert_eq!(template, "{{- if .X }}\nkind: Pod\n{{- end }}\n");
    }

    #[test]
    fn a_text_cannot_bring_an_expression() {
        for text in [
            "{{ .Values }}",
            "a{{",
            "\u{e000}7",
            "\u{e000}.A\u{e001}\u{e000}",
        ] {
            assert!(write(&map! {"a" => text}, None).is_err(), "{text}");
            assert!(
                write(&map! {text => "a", "b" => "c"}, None).is_err(),
                "{text}"
            );
        }
    }
}
