//! A walk over YAML as its readers see it: parsed, with aliases and merge keys where they stand for
//! values.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::json::{ELEMENT, Watch};
use super::source::Stop;
use crate::scan::rules::{self, Rule};

mod agreement;

use agreement::Agreement;

/// The longest document that is parsed, bytes. The parser may keep a token for each byte.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Lists and maps within each other, with aliases expanded.
const MAX_DEPTH: usize = 64;
/// What a walk with aliases expanded may visit: one for each value, and for each byte of a text.
const MAX_VISITS: usize = 4 << 20;
/// Values of a text, which are kept until all of them are known.
const MAX_NODES: usize = 300_000;
/// Marks in a text with brackets or braces. The parser keeps each token in these until they end,
/// because all of them may be one key, and no more than four tokens have one mark.
const MAX_FLOW_MARKS: usize = 64 << 10;
/// Characters of which each token in brackets or braces has one at its beginning or end.
const MARKS: &str = "[]{},:?\"'&*!#|>%@`\n\r";
/// The key of a map that is merged into the one around it.
const MERGE: &str = "<<";
const RULE: &Rule = rules::YAML_DOCUMENT;
/// How the parser begins to say that a line in braces or brackets begins before the block around.
/// Others take it.
const INDENTATION: &str = "invalid indentation";

/// Follows all documents of a text.
pub(super) fn walk(text: &str, watch: &mut impl Watch) -> Result<(), Stop> {
    let mut marks = text.chars().filter(|c| MARKS.contains(*c));
    if text.contains(['[', '{']) && marks.nth(MAX_FLOW_MARKS).is_some() {
        let detail = format!("a text with brackets has more than {MAX_FLOW_MARKS} marks");
        return Err(Stop::unknown(0, RULE, detail));
    }
    let mut tree = Tree::default();
    let mut agreement = Agreement::new(text);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| match error.info() {
            detail if detail.starts_with(INDENTATION) => disagreement(detail),
            detail => Stop::malformed(0, RULE, detail),
        })?;
        agreement.follow(&event, span);
        tree.add_event(event, watch)?;
    }
    let mut visit = Visit {
        nodes: &tree.nodes,
        path: Vec::new(),
        visits_left: MAX_VISITS,
        watch,
    };
    for document in &tree.documents {
        visit.value(*document, 0)?;
    }
    match agreement.finish() {
        None => Ok(()),
        Some(detail) => Err(disagreement(detail)),
    }
}

/// A value. Others refer to it by its position.
enum Node {
    Scalar {
        text: String,
        is_plain: bool,
    },
    List(Vec<usize>),
    /// Keys and values in turn.
    Map(Vec<usize>),
}

/// A list or map whose end has not come.
struct Unfinished {
    position: usize,
    is_map: bool,
    children: Vec<usize>,
}

#[derive(Default)]
struct Tree {
    nodes: Vec<Node>,
    unfinished: Vec<Unfinished>,
    /// Positions of values with an anchor.
    anchors: BTreeMap<usize, usize>,
    documents: Vec<usize>,
}

impl Tree {
    fn add_event(&mut self, event: Event<'_>, watch: &mut impl Watch) -> Result<(), Stop> {
        let tag = match &event {
            Event::Scalar(_, _, _, tag)
            | Event::SequenceStart(_, tag)
            | Event::MappingStart(_, tag) => tag.as_ref(),
            _ => None,
        };
        if let Some(tag) = tag {
            watch.tag(&format!("{}{}", tag.handle, tag.suffix));
        }
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                // With a tag, its type is not that of its spelling.
                let position = self.add(Node::Scalar {
                    text: text.into_owned(),
                    is_plain: style == ScalarStyle::Plain && tag.is_none(),
                })?;
                self.anchor(anchor, position);
                self.finish(position);
            }
            Event::SequenceStart(anchor, _) => self.begin(anchor, false)?,
            Event::MappingStart(anchor, _) => self.begin(anchor, true)?,
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some(position) = self.anchors.get(&anchor).copied() else {
                    return Err(Stop::malformed(0, RULE, "an alias without its anchor"));
                };
                self.finish(position);
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<usize, Stop> {
        let position = self.nodes.len();
        if position >= MAX_NODES {
            let detail = format!("more than {MAX_NODES} values");
            return Err(Stop::unknown(0, RULE, detail));
        }
        self.nodes.push(node);
        Ok(position)
    }

    /// Keeps the position of a value with an anchor. Zero stands for none.
    fn anchor(&mut self, anchor: usize, position: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, position);
        }
    }

    fn begin(&mut self, anchor: usize, is_map: bool) -> Result<(), Stop> {
        if self.unfinished.len() >= MAX_DEPTH {
            return Err(too_deep());
        }
        let position = self.add(Node::List(Vec::new()))?;
        // An alias within its own anchor is a circle, which the walk finds too deep.
        self.anchor(anchor, position);
        self.unfinished.push(Unfinished {
            position,
            is_map,
            children: Vec::new(),
        });
        Ok(())
    }

    fn end(&mut self) {
        let Some(ended) = self.unfinished.pop() else {
            return;
        };
        if let Some(node) = self.nodes.get_mut(ended.position) {
            *node = if ended.is_map {
                Node::Map(ended.children)
            } else {
                Node::List(ended.children)
            };
        }
        self.finish(ended.position);
    }

    /// Puts a value into what is around it.
    fn finish(&mut self, position: usize) {
        match self.unfinished.last_mut() {
            Some(around) => around.children.push(position),
            None => self.documents.push(position),
        }
    }
}

struct Visit<'t, W> {
    nodes: &'t [Node],
    path: Vec<String>,
    visits_left: usize,
    watch: &'t mut W,
}

impl<W: Watch> Visit<'_, W> {
    fn value(&mut self, position: usize, depth: usize) -> Result<(), Stop> {
        self.spend(1, depth)?;
        let nodes = self.nodes;
        match nodes.get(position) {
            Some(Node::Scalar { text, is_plain }) => self.scalar(text, *is_plain, depth),
            Some(Node::List(elements)) => {
                self.watch.enter(None);
                self.path.push(ELEMENT.to_owned());
                for element in elements {
                    self.value(*element, depth.saturating_add(1))?;
                }
                self.path.pop();
                self.watch.leave();
                Ok(())
            }
            Some(Node::Map(entries)) => self.entries(entries, depth),
            None => Ok(()),
        }
    }

    fn entries(&mut self, entries: &[usize], depth: usize) -> Result<(), Stop> {
        let deeper = depth.saturating_add(1);
        let nodes = self.nodes;
        for entry in entries.chunks_exact(2) {
            let [key, value] = entry else { continue };
            let Some(Node::Scalar { text, is_plain }) = nodes.get(*key) else {
                return Err(Stop::unknown(0, RULE, "a key that is no text"));
            };
            self.spend(text.len(), depth)?;
            if *is_plain && text == MERGE {
                self.merge(*value, deeper)?;
                continue;
            }
            self.watch.key(&self.path, text);
            self.watch.enter(Some(text));
            self.path.push(text.clone());
            self.value(*value, deeper)?;
            self.path.pop();
            self.watch.leave();
        }
        Ok(())
    }

    /// The entries of a map, or of those in a list, as entries of the map around.
    fn merge(&mut self, position: usize, depth: usize) -> Result<(), Stop> {
        self.spend(1, depth)?;
        let nodes = self.nodes;
        match nodes.get(position) {
            Some(Node::Map(entries)) => self.entries(entries, depth),
            Some(Node::List(maps)) => {
                for map in maps {
                    self.merge(*map, depth.saturating_add(1))?;
                }
                Ok(())
            }
            _ => Err(Stop::malformed(0, RULE, "a merge key without a map")),
        }
    }

    fn scalar(&mut self, text: &str, is_plain: bool, depth: usize) -> Result<(), Stop> {
        self.spend(text.len(), depth)?;
        let path = &self.path;
        match is_plain.then(|| Plain::from_text(text)).flatten() {
            Some(Plain::Null) => self.watch.null(path),
            Some(Plain::Truth(value)) => self.watch.truth(path, value),
            Some(Plain::Zero) => self.watch.numeral(path, Some(0)),
            Some(Plain::Number) => self.watch.numeral(path, None),
            None => self.watch.text(path, text),
        }
        Ok(())
    }

    fn spend(&mut self, visits: usize, depth: usize) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        let Some(left) = self.visits_left.checked_sub(visits) else {
            return Err(Stop::unknown(0, RULE, "aliases expand to too much"));
        };
        self.visits_left = left;
        Ok(())
    }
}

/// What stops a walk over a text that readers take in different ways.
fn disagreement(detail: &str) -> Stop {
    Stop::unknown(0, RULE, format!("readers disagree about {detail}"))
}

fn too_deep() -> Stop {
    Stop::unknown(0, RULE, format!("deeper than {MAX_DEPTH} levels"))
}

/// The spellings of zero that are a number for every reader.
const ZEROS: [&str; 4] = ["0", "-0", "+0", "0.0"];

/// What a scalar without quotes is for readers of YAML 1.1 or 1.2, unless it is a text. A number
/// that is not decimal counts as a text: no reader follows either.
#[derive(Debug, PartialEq, Eq)]
enum Plain {
    Null,
    Truth(bool),
    Zero,
    Number,
}

impl Plain {
    fn from_text(text: &str) -> Option<Self> {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Some(Self::Null),
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
                return Some(Self::Truth(true));
            }
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
                return Some(Self::Truth(false));
            }
            _ => {}
        }
        if ZEROS.contains(&text) {
            return Some(Self::Zero);
        }
        // Other spellings of zero are texts for some readers, and so true.
        let is_number = text.parse::<f64>().is_ok_and(f64::is_finite);
        is_number.then_some(Self::Number)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "tests")]
    use super::*;
    use crate::scan::Verdict;

    #[derive(Default)]
    struct Values(Vec<String>);

    impl Watch for Values {
        fn key(&mut self, _: &[String], _: &str) {}

        fn text(&mut self, path: &[String], text: &str) {
            self.0.push(format!("{}={text}", path.join("/")));
        }

        fn truth(&mut self, path: &[String], value: bool) {
            self.0.push(format!("{}={value}", path.join("/")));
        }
    }

    fn values(text: &str) -> Result<Vec<String>, Verdict> {
        let mut values = Values::default();
        match walk(text, &mut values) {
            Ok(()) => Ok(values.0),
            Err(Stop::Found { verdict, .. }) => Err(verdict),
            Err(Stop::Io(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn values_are_those_that_a_reader_sees() {
        for (text, expected) in [
            (
                "a: {b: [x, yes, 'yes', 1, ~]}",
                vec!["a/b/[]=x", "a/b/[]=true", "a/b/[]=yes"],
            ),
            ("{\"_tar\\\nget_\": x}", vec!["_target_=x"]),
            ("? \"_tar\\\n  get_\"\n: x", vec!["_target_=x"]),
            ("\"\\x5ftarget_\": x", vec!["_target_=x"]),
            ("'it''s': \"a\\u0062\"", vec!["it's=ab"]),
            ("a: &x {b: c}\nd: *x", vec!["a/b=c", "d/b=c"]),
            (
                "a: &x {b: c}\nd:\n  <<: *x\n  e: f",
                vec!["a/b=c", "d/b=c", "d/e=f"],
            ),
            (
                "a: &x {b: c}\nd:\n  <<: [*x, {g: h}]",
                vec!["a/b=c", "d/b=c", "d/g=h"],
            ),
            ("a: b\n---\nc: d", vec!["a=b", "c=d"]),
            ("a: |\n  b\n  c\n", vec!["a=b\nc\n"]),
            ("&k a: b\n*k : c", vec!["a=b", "a=c"]),
            ("{\"a\": \"b\", \"a\": \"c\"}", vec!["a=b", "a=c"]),
            ("# _target_: x", vec![]),
            ("a: ???\nb: :c\n?d: e", vec!["a=???", "b=:c", "?d=e"]),
            ("- ??? # [\n- [a]\n- ?b", vec!["[]=???", "[]/[]=a", "[]=?b"]),
            (
                "a: &k # *x:\n  b\nc: &l 'd'\ne: &m |\n  f\ng: &n\nh: 1\n",
                vec!["a=b", "c=d", "e=f\n"],
            ),
            (
                "a: [b?, 'c', \"?d\"] # &e:\nf: |\n  *g:\n",
                vec!["a/[]=b?", "a/[]=c", "a/[]=?d", "f=*g:\n"],
            ),
        ] {
            let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(values(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_followed_is_never_safe() {
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (level, before) in (1..9).zip(0..) {
            let aliases = format!("*a{before}, ").repeat(10);
            bomb += &format!("a{level}: &a{level} [{aliases}x]\n");
        }
        for (text, expected) in [
            ("a: &x [*x]", Verdict::Unknown),
            ("? [a]\n: b", Verdict::Unknown),
            (deep.as_str(), Verdict::Unknown),
            (bomb.as_str(), Verdict::Unknown),
            // PyYAML and others see the key `_target_` in each.
            ("{model: {?_target_: os.system}}", Verdict::Unknown),
            ("{a: b, ?\"_target_\": x}", Verdict::Unknown),
            ("[?_target_: x]", Verdict::Unknown),
            ("a: [b, {c: d}, ???]", Verdict::Unknown),
            ("a: [\n # ]\n ?_target_: b]", Verdict::Unknown),
            ("a: {b: ???}", Verdict::Unknown),
            ("|\n---\n_target_: x\n", Verdict::Unknown),
            ("--- >-\n--\n---\n_target_: x\n", Verdict::Unknown),
            ("&x |\n# a\n---\n_target_: x\n", Verdict::Unknown),
            ("# é\n- 'é'\n- |\n é\n- _target_: &k?x\n", Verdict::Unknown),
            ("a: &k:x\n", Verdict::Unknown),
            ("a: &k:x y\n", Verdict::Unknown),
            ("--- &x |\n--\n---\n_target_: x\n", Verdict::Unknown),
            ("[&k ?_target_, b]", Verdict::Unknown),
            ("a: &é x\n", Verdict::Unknown),
            ("{a: &k{b: c}}", Verdict::Unknown),
            ("a:\n    b: [x,\n  y]", Verdict::Unknown),
            ("a: *x", Verdict::Malformed),
            ("a: [", Verdict::Malformed),
            ("<<: x", Verdict::Malformed),
        ] {
            let shown = text.get(..20).unwrap_or(text);
            assert_eq!(values(text), Err(expected), "{shown}");
        }
    }

    #[test]
    fn plain_scalars_are_numbers_and_truths_of_either_version() {
        for (text, expected) in [
            ("1", Some(Plain::Number)),
            ("0", Some(Plain::Zero)),
            ("0.0", Some(Plain::Zero)),
            ("0e0", Some(Plain::Number)),
            ("0o0", None),
            ("-1e-5", Some(Plain::Number)),
            ("0x1f", None),
            ("inf", None),
            ("on", Some(Plain::Truth(true))),
            ("..", None),
            ("add", None),
            ("0bad.cafe", None),
            ("0bad", None),
            ("4a.b", None),
            ("1.2.3", None),
            ("1_000", None),
            ("", Some(Plain::Null)),
        ] {
            assert_eq!(Plain::from_text(text), expected, "{text}");
        }
    }
}
