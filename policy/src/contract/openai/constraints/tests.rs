//! Tests of what patterns and grammars come to, and of what a request may hold of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod grammars;

use alloc::format;
use alloc::vec;

use super::*;
use crate::json::object;

fn rule() -> Constraints {
    Constraints {
        members: MEMBERS.map(|(name, _)| name.into()).into(),
        patterns: Some(PatternRule {
            max: 3,
            max_bytes: 200,
        }),
        choices: Some(Choices {
            max: 3,
            max_bytes: 8,
        }),
        grammars: Some(Grammars {
            max_bytes: 4096,
            max_rules: 40,
        }),
        max_schema_bytes: 600,
    }
}

/// What a pattern is refused for, read as all of a text and as any part of one.
fn pattern(text: &str) -> [Option<Fault>; 2] {
    let rule = rule();
    [false, true].map(|searched| {
        let mut patterns = Patterns::new(Some(&rule));
        patterns.check(text, searched).err()
    })
}

#[test]
fn patterns_that_every_server_can_afford_pass() {
    for text in [
        "a",
        "^[A-Z]{2}[0-9]{4}$",
        r"\w+@\w+\.com\n",
        r"^\+?[0-9]{1,15}$",
        r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$",
        r"((25[0-5]|2[0-4]\d|[01]?\d\d?)\.){3}(25[0-5]|2[0-4]\d|[01]?\d\d?)",
        r"^\d{4}-\d{2}-\d{2}$",
        "(?:yes|no|maybe)",
        r"^([a-z]+,)*[a-z]+$",
        r#""([^"\\]|\\["\\/bfnrt])*""#,
        r"(\w+\s)*\w+",
        "^(\u{306f}\u{3044}|\u{3044}\u{3044}\u{3048})$",
        "([ab]{2,4}x){1,3}",
        "([a-z]{3}x)+",
        "([0-9]{3,};)*",
    ] {
        assert_eq!(pattern(text).first(), Some(&None), "{text}");
    }
}

#[test]
fn patterns_that_some_server_cannot_afford_are_refused() {
    let all = |text: &str, part: &str| {
        for fault in pattern(text) {
            let fault = fault.unwrap_or_else(|| panic!("{text} passes"));
            assert!(fault.contains(part), "{text}: {fault}");
        }
    };
    // A text that can be taken in two ways, as often as it is long.
    for text in [
        "(a+)+",
        "^(a|a)*$",
        "(a|aa)+",
        "([a-z]+ ?)*",
        r"(\w+\d)*",
        "(.*,)*",
        "(x(a|b)*a?)*",
        "((a{1,3}){2})+",
        "(a{2,}b?)+",
    ] {
        all(text, "in two ways");
    }
    // What may be nothing, again and again.
    for text in ["(a*)*", "(a?)+", "(a?b?){2,}", "((a|b?)c?)*"] {
        all(text, "may be nothing");
    }
    // Short, and many states.
    for text in [
        "[ab]*a[ab]{20}",
        r"[a-z]*\n?[a-f][a-z]{30}",
        "^.*a.{20}$",
        // Where the dot is a line's end too, and where it is none.
        r"^.*\n.{20}$",
        r"^\s*.\s{20}$",
        // Of letters beyond ASCII alone.
        r"[^\t-~]*\w[^\t-~]{20}",
        "[\u{3041}-\u{3096}]*\u{3042}[\u{3041}-\u{3096}]{20}",
    ] {
        all(text, "too many states");
    }
    // Long once it is written out.
    for text in [
        "[a-z]{1,1000}{1,1000}",
        "(([a-z]{1,100}){1,100}){1,100}",
        r"\w{65}",
        "(((a{999}){999}){999}){999}",
    ] {
        let [fault, _] = pattern(text);
        assert!(fault.is_some(), "{text}");
    }
    all("(([a-z]{1,100}){1,100}){1,100}", "written out");
    all("a{1025}", "more than 1024");
    all("a{100000}", "more than 1024");
    all("a{1,99999999999999999999}", "more than 1024");
    // What engines read differently, or not at all.
    for text in [
        r"(a)\1",
        "(?=a)a",
        "(?!a)b",
        "(?<=a)b",
        "(?i)a",
        "(?P<n>a)",
        "(?>a)",
        r"\bword",
        r"\p{L}+",
        r"\Aa\z",
        r"\x41",
        r"\<a\>",
        "a*?",
        "a++",
        "a**",
        "a{,3}",
        "a{2,1}",
        "a{0}",
        "*a",
        "a|*",
        "",
        "()",
        "(|a)",
        "a||b",
        "^(|.*)$",
        "^a|b$",
        "a^b",
        "a$b",
        "[]",
        "[^]",
        "[a",
        "(a",
        "a)",
        "[[:alpha:]]",
        "[a-z&&[^b]]",
        "[a-z--b]",
        "[b-a]",
        r"[a-\d]",
        r"[^\d\D]",
        "a\u{0}",
        "a\nb",
        "\\",
        "\\d\u{e9}",
    ] {
        for fault in pattern(text) {
            assert!(fault.is_some(), "{text:?} passes");
        }
    }
    let deep = format!("{}a{}", "(".repeat(17), ")".repeat(17));
    all(&deep, "groups inside groups");
}

#[test]
fn a_pattern_that_may_stand_anywhere_comes_to_more() {
    // By itself a line of states; behind anything at all, a million.
    let [whole, searched] = pattern("a[ab]{20}");
    assert_eq!(whole, None);
    assert!(searched.unwrap().contains("too many states"));
    assert_eq!(pattern("^a[ab]{20}$"), [None, None]);
    let weight = |text: &str| {
        let rule = rule();
        Patterns::new(Some(&rule)).check(text, true).unwrap()
    };
    assert_eq!(weight("^[a-z]{8}$"), 8);
    assert_eq!(weight("^\\w$"), 256);
    assert_eq!(weight("^[^a]$"), 16);
    assert_eq!(weight("^\u{e9}$"), 4);
}

#[test]
fn patterns_of_a_request_are_counted_and_their_work_is_one_sum() {
    let rule = rule();
    let mut patterns = Patterns::new(Some(&rule));
    for _ in 0..3 {
        patterns.check("a", false).unwrap();
    }
    assert_eq!(
        patterns.check("a", false).unwrap_err(),
        "more patterns than the contract allows"
    );
    let long = "a".repeat(201);
    let mut patterns = Patterns::new(Some(&rule));
    assert!(patterns.check(&long, false).unwrap_err().contains("larger"));
    assert!(Patterns::new(None).check("a", false).is_err());
    // Each within bounds, and not all of them.
    let many = Constraints {
        patterns: Some(PatternRule {
            max: 64,
            max_bytes: 200,
        }),
        ..Constraints::default()
    };
    let mut patterns = Patterns::new(Some(&many));
    let last = (0..64).find_map(|_| patterns.check("(a|b){6}.{400}", true).err());
    assert!(last.is_some());
}

#[test]
fn one_member_holds_one_constraint() {
    let rule = rule();
    let check = |name: &'static str, value: Value<'static>, beside: Members<'static>| {
        let mut document = beside;
        document.push((name.into(), value.clone()));
        let mut faults = Faults::default();
        let bytes = rule.check(name, &value, &document, &mut faults);
        let field = faults.first.and_then(|denial| denial.field);
        assert!(field.is_none() || field == Some(format!("parameter \"{name}\"")));
        field.is_none().then_some((bytes.schema, bytes.other))
    };
    let alone = |name, value| check(name, value, Vec::new());
    let schema = || object([("type", Value::text("object"))]);
    let texts =
        |texts: &[&'static str]| Value::Array(texts.iter().copied().map(Value::text).collect());
    let ebnf = || Value::text("root ::= \"a\"");
    let lark = || Value::text("start: \"a\"");
    for (name, value, held) in [
        ("guided_json", schema(), Some((18, 0))),
        ("json_schema", schema(), Some((18, 0))),
        ("guided_json", Value::text("{}"), None),
        ("guided_regex", Value::text("ab*"), Some((0, 3))),
        ("regex", Value::text("ab*"), Some((0, 3))),
        ("regex", Value::text("(a+)+"), None),
        ("regex", schema(), None),
        ("guided_choice", texts(&["yes", "no"]), Some((0, 5))),
        ("guided_choice", texts(&[]), None),
        ("guided_choice", texts(&["a", "b", "c", "d"]), None),
        ("guided_choice", texts(&["123456789"]), None),
        ("guided_choice", texts(&[""]), None),
        ("guided_choice", texts(&["a\nb"]), None),
        ("guided_choice", Value::Array(vec![Value::Int(1)]), None),
        ("guided_grammar", ebnf(), Some((0, 12))),
        ("guided_grammar", lark(), Some((0, 10))),
        ("ebnf", ebnf(), Some((0, 12))),
        ("ebnf", lark(), None),
        ("grammar", ebnf(), Some((0, 12))),
        ("grammar", lark(), None),
        ("grammar", Value::Null, Some((0, 0))),
        ("structured_outputs", Value::Null, Some((0, 0))),
    ] {
        let shown = format!("{name}: {value:?}");
        assert_eq!(alone(name, value), held, "{shown}");
    }
    let some = |members: Members<'static>| alone("structured_outputs", Value::Object(members));
    let one = |name: &'static str, value| (name.into(), value);
    let yes = || Value::Bool(true);
    assert_eq!(some(vec![one("json", schema())]), Some((18, 0)));
    assert_eq!(some(vec![one("regex", Value::text("a"))]), Some((0, 1)));
    assert_eq!(some(vec![one("grammar", lark())]), Some((0, 10)));
    assert_eq!(some(vec![one("json_object", yes())]), Some((0, 0)));
    let whole = vec![
        one("json", Value::Null),
        one("choice", texts(&["a"])),
        one("disable_any_whitespace", yes()),
    ];
    assert_eq!(some(whole), Some((0, 1)));
    for members in [
        vec![],
        vec![one("disable_any_whitespace", yes())],
        vec![one("json_object", Value::Bool(false))],
        vec![one("regex", Value::text("a")), one("json", schema())],
        vec![
            one("regex", Value::text("a")),
            one("structural_tag", Value::text("{}")),
        ],
        vec![
            one("regex", Value::text("a")),
            one("whitespace_pattern", Value::text("(a+)+")),
        ],
        vec![
            one("regex", Value::text("a")),
            one("_backend", Value::text("outlines")),
        ],
    ] {
        assert_eq!(some(members), None);
    }
    // Beside another, or beside tools.
    let beside =
        |name: &'static str, value| check("regex", Value::text("a"), vec![one(name, value)]);
    assert_eq!(beside("guided_choice", texts(&["a"])), None);
    assert_eq!(beside("tools", Value::Array(vec![])), None);
    assert_eq!(
        beside(
            "response_format",
            object([("type", Value::text("json_object"))])
        ),
        None
    );
    assert!(beside("response_format", object([("type", Value::text("text"))])).is_some());
    assert!(beside("guided_choice", Value::Null).is_some());
}

#[test]
fn patterns_of_schemas_multiply_with_what_is_around_them() {
    let rule = rule();
    let check = |schema: &Value<'_>| schema::check(schema, &mut Patterns::new(Some(&rule)));
    let text = |pattern: &'static str, more: Members<'static>| {
        let mut members = vec![("pattern".into(), Value::text(pattern))];
        members.extend(more);
        Value::Object(members)
    };
    let array = |most, items| object([("maxItems", Value::Int(most)), ("items", items)]);
    let int = |name: &'static str, value| (name.into(), Value::Int(value));
    let eight = || text("^[a-z]{8}$", vec![]);
    assert_eq!(check(&eight()), Ok(()));
    assert_eq!(check(&array(1_000, eight())), Ok(()));
    assert!(check(&array(1_024, array(3, eight()))).is_err());
    let long = |most| text("^[a-z]{100}$", vec![int("maxLength", most)]);
    assert_eq!(check(&long(100)), Ok(()));
    assert!(check(&long(200)).is_err());
    let date = vec![("format".into(), Value::text("date"))];
    assert!(check(&text("^a$", date)).is_err());
    assert!(check(&text("(a+)+", vec![])).is_err());
    // One in a definition counts once, however often it is named.
    let named = || object([("$ref", Value::text("#/$defs/d"))]);
    let defined = object([
        ("$defs", object([("d", eight())])),
        (
            "prefixItems",
            Value::Array(vec![named(), named(), named(), named()]),
        ),
    ]);
    assert_eq!(check(&defined), Ok(()));
    // Names are held to all of the patterns at once.
    let names = |patterns: [&'static str; 2]| {
        let patterns = patterns.map(|pattern| (pattern, Value::Bool(true)));
        object([("patternProperties", object(patterns))])
    };
    assert_eq!(check(&names(["^a[0-9]{8}$", "^b[0-9]{8}$"])), Ok(()));
    assert!(check(&names(["^a[0-9]{160}$", "^b[0-9]{160}$"])).is_err());
    assert!(schema::check(&eight(), &mut Patterns::new(None)).is_err());
}

#[test]
fn no_text_is_read_without_an_end() {
    // Every beginning and every part left out of what passes gets a verdict.
    for whole in [
        r#"^("([^"\\]|\\["\\/bfnrt])*"|-?[0-9]{1,3})$"#,
        "root ::= (\"a\\\"\" [^\\n\\u0041-z] | x{1,2})+ # c\nx ::= \"b\"",
        "start: a /x\\/[y]{2}/\na: (\"b\" | \"c\")*",
    ] {
        for from in 0..whole.len() {
            for to in from..=whole.len() {
                let (head, tail) = (whole.get(..from), whole.get(to..));
                let text = format!("{}{}", head.unwrap(), tail.unwrap());
                let _ = pattern(&text);
                let _ = grammars::grammar(&text);
            }
        }
    }
}
