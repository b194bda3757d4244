//! Tests of what grammars come to.

use super::*;

pub(super) fn grammar(text: &str) -> Option<Fault> {
    let rule = rule().grammars.unwrap();
    let notation = Notation::of(text);
    grammar::check(text, notation, &rule, &mut Meter::default()).err()
}

#[test]
fn grammars_that_a_server_can_afford_pass() {
    for text in [
        "root ::= \"yes\" | \"no\"",
        "root ::= select\nselect ::= \"SELECT \" column \" FROM \" table\ncolumn ::= \"a \" | \"b \"\ntable ::= \"t\" [0-9]+",
        "# moves\nroot ::= (\n  \"1. \" move # one\n  ([1-9] [0-9]? \". \" move \"\\n\")+\n)\nmove ::= [a-h] [1-8] [+#]?",
        "root ::= ws \"{\" ws \"\\\"a\\\"\" ws \":\" ws number ws \"}\"\nnumber ::= \"-\"? ([0] | [1-9] [0-9]*)\nws ::= [ \\t\\n]{0,20}",
        "root ::= . [^\\n\\x41\\u0042-z-]{2,} opt{1,3} late\nopt ::= | \"x\"\nlate ::= \"z\"",
        "start: greeting NAME\ngreeting: \"hello \" | \"bye \"\nNAME: /[A-Z][a-z]{1,20}/",
    ] {
        assert_eq!(grammar(text), None, "{text}");
    }
    let long = format!("root ::= \"{}\"", "a".repeat(4_000));
    assert_eq!(grammar(&long), None);
}

#[test]
fn grammars_that_some_server_cannot_afford_are_refused() {
    let check = |text: &str, part: &str| {
        let fault = grammar(text).unwrap_or_else(|| panic!("{text} passes"));
        assert!(fault.contains(part), "{text}: {fault}");
    };
    // Rules that reach themselves, named or not.
    for text in [
        "root ::= root",
        "root ::= root \"a\" | \"a\"",
        "root ::= a\na ::= b\nb ::= a",
        "root ::= \"x\"\na ::= \"(\" a \")\"",
        "root ::= \"x\" root \"y\" | \"x\" root \"z\" | \"x\"",
        "start: start \"a\" | \"a\"",
    ] {
        check(text, "reaches itself");
    }
    for text in [
        "root ::= (\"a\"*)*",
        "root ::= a+\na ::= \"x\"?",
        "root ::= (a | b)*\na ::= \"\"\nb ::= \"x\"",
        "root ::= ()*",
    ] {
        check(text, "may be nothing");
    }
    // Billions, once it is written out.
    for text in [
        "root ::= [a-z]{1,1024}{1,1024}".replace("}{", "} {"),
        "root ::= a{1000}\na ::= b{1000}\nb ::= \"x\"".into(),
        "root ::= a a a a a a a a\na ::= b b b b b b b b\nb ::= c c c c c c c c\nc ::= d d d d d d d d\nd ::= e e e e e e e e\ne ::= \"x\"".into(),
        "root ::= \"x\"\na ::= b{1000}\nb ::= [a-z]{1000}".into(),
        "root ::= a{1000}\na ::= b{1000}\nb ::= \"\"{1000}".into(),
    ] {
        assert!(grammar(&text).is_some(), "{text}");
    }
    check("root ::= a{1000}\na ::= \"xyz\"{1000}", "written out");
    check("root ::= \"a\"{1025}", "within the bounds");
    check("root ::= \"a\"{0}", "within the bounds");
    check("root ::= \"a\"{2,1}", "within the bounds");
    check("root ::= \"a\"{,2}", "within the bounds");
    check("root ::= \"a\"{2", "within the bounds");
    check("root ::= \"a\"**", "repeated");
    check("root ::= missing", "has not");
    check("rot ::= \"a\"", "no rule to begin with");
    check("", "no rule to begin with");
    check("root ::= \"a\"\nroot ::= \"b\"", "twice");
    // What leads out of it, or is read in two ways.
    for text in [
        "%import common.WS\nstart: \"a\"",
        "start: \"a\"\n%import .secret.RULE",
        "start: \"a\"\n%ignore /x/",
        "start: %json {\"type\": \"object\"}",
        "start: @other",
        "start: <think> \"a\"",
        "root ::= <think> \"a\"",
        "root ::= <[1000]>",
        "root ::= !<think>",
        "root ::= (=\"a\") \"a\"",
        "root ::= TagDispatch((\"a\", root))",
        "start: \"a\"i",
        "start: /a/i",
        "start: \"a\"..\"z\"",
        "start: \"a\"~2..3",
        "start: \"a\" -> b",
        "start.2: \"a\"",
        "?start: \"a\"",
        "start[lazy]: \"a\"",
        "start: a{\"b\"}",
        "start: \"a\" // b",
        "start: \"a\" # b",
        "start: ~\"a\"",
        "root ::= 'a'",
        "root ::= \"a",
        "root ::= \"a\nb\"",
        "root ::= \"\\q\"",
        "root ::= \"\\ud800\"",
        "root ::= \"\\x4\"",
        "root ::= \"\\u+041\"",
        "root ::= [a",
        "root ::= []",
        "root ::= [b-a]",
        "root ::= [[:alpha:]]",
        "root ::= (\"a\"",
        "root ::= \"a\")",
        "root = \"a\"",
        "root \"a\"",
        "1root ::= \"a\"",
        "start: /(a+)+/",
        "start: /[ab]*a[ab]{20}/",
        "start: /(?=a)/",
        "start: /a",
        "start: //",
    ] {
        assert!(grammar(text).is_some(), "{text} passes");
    }
    let deep = |times| format!("root ::= {}\"a\"{}", "(".repeat(times), ")".repeat(times));
    assert_eq!(grammar(&deep(16)), None);
    check(&deep(17), "groups inside groups");
    check(&deep(1_900), "groups inside groups");
    // Rules inside rules, from whichever end they are looked at.
    for backwards in [false, true] {
        for (count, good) in [(15, true), (39, false)] {
            let mut rules: Vec<String> = (0..count)
                .map(|index| format!("r{index:02} ::= \"a\" (r{:02} \"b\")?", index + 1))
                .collect();
            rules.push(format!("r{count:02} ::= \"c\""));
            if backwards {
                rules.reverse();
            }
            let all = rules.join("\n").replace("r00 ", "root ");
            assert_eq!(
                grammar(&all).is_none(),
                good,
                "{count}: {:?}",
                grammar(&all)
            );
        }
    }
    let many: String = (0..41)
        .map(|index| format!("r{index} ::= \"a\"\n"))
        .collect();
    check(&many, "more rules");
    check(&" ".repeat(5_000), "larger");
}
