//! Which texts a pattern matches, and which patterns are refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::{PatternFault, compile};

#[track_caller]
fn check(expression: &str, accepted: &[&str], refused: &[&str]) {
    let pattern = compile(expression).unwrap_or_else(|fault| panic!("{expression}: {fault}"));
    for text in accepted {
        assert!(pattern.matches(text), "{expression} matches {text:?}");
    }
    for text in refused {
        assert!(
            !pattern.matches(text),
            "{expression} does not match {text:?}"
        );
    }
}

#[test]
fn a_pattern_matches_all_of_a_text_or_nothing() {
    check("", &[""], &["a"]);
    check("abc", &["abc"], &["", "ab", "abcd", "xabc", "ABC"]);
    check("^abc$", &["abc"], &["xabc", "abcd", "abc\n"]);
    check("^a|bc$", &["a", "bc"], &["ax", "xbc"]);
    check("a|bc|", &["a", "bc", ""], &["abc", "b"]);
    check("a|ab", &["a", "ab"], &["abb"]);
    check("a+?b??", &["aaa", "ab"], &["b"]);
    check("a(b|c)d", &["abd", "acd"], &["ad", "abcd"]);
    check("a(?:b|c)?d", &["abd", "ad"], &["abcd"]);
    check("[a-c-]+", &["a-b", "-"], &["", "d"]);
    check("[^a-c]", &["d", "é", "\n", "🦀"], &["a", "", "dd"]);
    check("[\\]\\-^]{2}", &["]-", "^^"], &["]", "a-"]);
    check("[[:alpha:]-]+", &["a-c"], &["", "é"]);
    check("(?m)^a$", &["a"], &["a\n", "\na", "b\na"]);
    check("(?s).{2}", &["a\n"], &["a"]);
    check("(?x) a b # c", &["ab"], &["a b"]);
    check("(?-u)[a-z]\\x41", &["aA"], &["éA"]);
    check(".", &["a", "é", "🦀"], &["\n", "", "ab"]);
    check("(ab){2}", &["abab"], &["ab", "ababab"]);
    check("a{0}", &[""], &["a"]);
    check("a{2,}", &["aa", "aaaaaa"], &["a"]);
    check("(a*)*b", &["b", "aaab"], &["a", "ba"]);
    check("é[à-ü]🦀?", &["éà", "éü🦀"], &["éa", "e\u{301}à"]);
    check("\\.\\*\\(\\)\\\\\\/", &[".*()\\/"], &["x*()\\/"]);
    check("\\p{Greek}+\\p{Lu}", &["αβΓ"], &["αβγ", "abG"]);
    check("(?i)straße", &["STRAßE", "straße"], &["strasse"]);
    check(
        "[A-Z]{2}-[0-9]{1,4}",
        &["DE-1", "FR-1234"],
        &["DE-", "DE-12345", "de-1"],
    );
    let long = "é".repeat(1024);
    check(".{1,1024}", &[&long], &["", &format!("{long}é")]);
    check("((((){1024}){1024}){1024}){1024}", &[""], &["a"]);
    check(
        "[A-Za-z0-9 ,.!?'-]{1,512}",
        &["It works, doesn't it?"],
        &["", "a\u{a0}b"],
    );
}

#[test]
fn perl_classes_are_ascii() {
    check("\\d{2,3}", &["12", "123"], &["1", "1234", "١٢"]);
    check("\\w+\\s\\W", &["ab_9 !", "a\u{b}é"], &["ab_9 a", "é !"]);
    check("[\\D\\-]", &["-", "١", "é"], &["7"]);
    check("[^\\w\\s]+", &["-é!"], &["a", " ", "_"]);
    check("[[\\d]x]", &["2", "x"], &["٣"]);
    // What Unicode folds to ASCII letters.
    check("(?i)\\w", &["K", "k", "\u{212a}", "\u{17f}"], &["é"]);
    check("(\\S|[\\d])*", &["é7", "\u{85}"], &["\u{c}"]);
}

#[test]
fn a_fault_names_the_character() {
    let wrong = |expression: &str, at: usize, text: &str| match compile(expression) {
        Err(PatternFault::Syntax { at: found, what }) => {
            assert!(what.contains(text), "{expression}: {what}");
            assert_eq!(found, at, "{expression}: {what}");
        }
        other => panic!("{expression}: {other:?}"),
    };
    wrong("*a", 1, "missing expression");
    wrong("é(a", 2, "unclosed group");
    wrong("a)", 2, "unopened group");
    wrong("[a", 1, "unclosed character class");
    wrong("[b-a]", 2, "invalid character class range");
    wrong("a{3,1}", 2, "invalid repetition count range");
    wrong("a{x}", 3, "repetition quantifier expects");
    wrong("éé\\b", 3, "word boundaries are not supported");
    wrong("a\\<", 2, "write < or > for the character");
    for class in ["[^<&&>]", "[a~~b]", "[+--]", "[^ --/]", "[^[a&&b]]"] {
        let at = if class.contains("[a&&") { 4 } else { 2 };
        let at = if class.contains("[^<") || class.contains("[^ ") {
            3
        } else {
            at
        };
        wrong(class, at, "operators in classes");
    }
    wrong("[^--a]", 3, "operators in classes");
    wrong("(a)\\1", 4, "backreferences are not supported");
    wrong("^(?!a)", 2, "look-around");
    wrong("(?-u:\\xff)", 6, "invalid UTF-8");
    wrong("\\p{Nonsense}", 1, "property not found");
    wrong("a\\", 2, "incomplete escape");
    let deep = ["(".repeat(99), ")".repeat(99)].concat();
    wrong(&deep, 33, "maximum number of nested");
    assert_eq!(compile(&"a".repeat(513)).err(), Some(PatternFault::Long));
    for nothing in ["a$b", "a^", "[^\\s\\S]", "(?m)a^b"] {
        assert_eq!(
            compile(nothing).err(),
            Some(PatternFault::Empty),
            "{nothing}"
        );
    }
}

#[test]
fn large_automata_are_refused() {
    let wide: String = (0..240)
        .filter_map(|at| char::from_u32(0x4e00 + 2 * at))
        .collect();
    let wide = format!("([{wide}]{{1024}}){{4}}");
    for expression in [
        "(a|b)*a(a|b){20}",
        "((a{64}){64}){64}",
        "(.*a){512}(.*b){512}",
        "((((((((((a?){9}){9}){9}){9}){9}){9}){9}){9}){9}){9}",
        "((((a|b|){1024}){1024}){1024}){1024}",
        "a{4294967295}",
        "\\p{L}{99}",
        &wide,
    ] {
        let refused = compile(expression).err();
        assert_eq!(refused, Some(PatternFault::Large), "{expression}");
    }
}

#[test]
fn the_same_pattern_has_the_same_automaton() {
    let expression = "(?i)[a-zß-ü]{1,64}|\\d+(\\.\\d+)?";
    let (first, second) = (compile(expression).unwrap(), compile(expression).unwrap());
    assert_eq!(first, second);
    assert_ne!(first, compile("[a-z]").unwrap());
}
