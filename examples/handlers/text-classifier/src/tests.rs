//! Texts are tokenised as the file specifies. Errors in the file are reported by name, and bodies
//! that are not texts are bad input.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use serde_json::{Value, json};

use super::*;

mod rows;

/// BERT's format, with ten words.
fn wordpiece() -> Value {
    let words = [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "film", "##s", "##ly", "!",
    ];
    let vocab: serde_json::Map<_, _> = (words.iter().zip(0..))
        .map(|(word, id)| ((*word).to_owned(), json!(id)))
        .collect();
    let special = |id: usize| json!({"id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(0), special(1), special(2), special(3)],
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]}, "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab}
    })
}

/// GPT-2's format, with the bytes and three merges.
fn byte_level() -> Value {
    let mut vocab = serde_json::Map::new();
    for (c, id) in bpe::characters().iter().zip(0..) {
        vocab.insert(c.to_string(), json!(id));
    }
    for (word, id) in ["he", "\u{120}he", "l", "ll", "hell"].iter().zip(256..) {
        vocab.entry(*word).or_insert(json!(id));
    }
    json!({
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "", "end_of_word_suffix": "",
            "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
            "merges": ["h e", ["l", "l"], "he ll", "\u{120} he"]}
    })
}

fn compiled(file: &Value) -> Result<Vec<u8>, String> {
    compile(&file.to_string())
}

fn ids(file: &Value, text: &str) -> Vec<u32> {
    let made = compiled(file).unwrap();
    Tokenizer::read(&made).unwrap().encode(text, 1000, false)
}

#[test]
fn a_file_of_words_makes_their_ids() {
    for (text, expected) in [
        ("", [].as_slice()),
        ("A good film!", &[4, 5, 6, 9]),
        ("GOODLY films", &[5, 8, 6, 7]),
        ("goodlyx film", &[1, 6]),
        ("[SEP] a", &[1, 1, 1, 4]),
        ("g\u{0}ood f\u{301}ilm", &[5, 6]),
    ] {
        assert_eq!(ids(&wordpiece(), text), expected, "{text:?}");
    }
}

#[test]
fn a_file_of_merges_makes_the_first_merge_first() {
    let h = u32::from(b'h');
    for (text, expected) in [
        ("he", vec![256]),
        (" he", vec![257]),
        ("hell", vec![260]),
        // ` he` is merged after `hell`, whose `he` is gone by then.
        (" hell", vec![u32::from(b' '), 260]),
        ("hhe", vec![h, 256]),
        ("\u{e9}", vec![0xc3, 0xa9]),
    ] {
        assert_eq!(ids(&byte_level(), text), expected, "{text:?}");
    }
    let mut whole = byte_level();
    whole["model"]["ignore_merges"] = json!(true);
    whole["model"]["merges"] = json!([]);
    assert_eq!(ids(&whole, "hell he"), [260, 257]);
}

#[test]
fn bytes_without_a_token_are_left_out_or_unknown() {
    let mut file = byte_level();
    let vocab = file["model"]["vocab"].as_object_mut().unwrap();
    vocab.remove("x");
    vocab.remove("y");
    let x = vocab.insert("<unk>".to_owned(), json!(300));
    assert!(x.is_none());
    let a = u32::from(b'a');
    assert_eq!(ids(&file, "axya"), [a, a]);
    file["model"]["unk_token"] = json!("<unk>");
    assert_eq!(ids(&file, "axya"), [a, 300, 300, a]);
    file["model"]["fuse_unk"] = json!(true);
    assert_eq!(ids(&file, "axya"), [a, 300, a]);
}

#[test]
fn words_are_gpt2s() {
    let words = |text: &str| {
        let mut words = Vec::new();
        let steps = [split::Step::ByteLevel {
            prefix: false,
            words: true,
        }];
        let _ = split::each(&steps, text, &mut |word| {
            words.push(word.to_owned());
            core::ops::ControlFlow::Continue(())
        });
        words
    };
    for (text, expected) in [
        (
            "I'll go, they've",
            ["I", "'ll", " go", ",", " they", "'ve"].as_slice(),
        ),
        ("a  b", &["a", " ", " b"]),
        ("a \n b", &["a", " \n", " b"]),
        ("a\n\nb", &["a", "\n", "\n", "b"]),
        ("a  ", &["a", "  "]),
        (" 's", &[" '", "s"]),
        ("''s", &["''", "s"]),
        ("x1\u{bd}\u{2160}!?", &["x", "1\u{bd}\u{2160}", "!?"]),
        ("\u{a0}a", &["\u{a0}", "a"]),
        ("e\u{301}", &["e", "\u{301}"]),
    ] {
        assert_eq!(words(text), expected, "{text:?}");
    }
}

#[test]
fn added_tokens_are_found_and_special_ones_are_text() {
    let mut file = byte_level();
    let token = |id: u32, content: &str, special: bool, normalized: bool| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": normalized, "special": special});
    file["added_tokens"] = json!([
        token(300, "<s>", true, false),
        token(301, "  ", false, false),
        token(302, "    ", false, false),
        token(303, "BIG", false, true),
        token(304, "s>a", false, false)
    ]);
    file["normalizer"] = json!({"type": "Lowercase"});
    let of = |text: &str| text.bytes().map(u32::from).collect::<Vec<_>>();
    let one = |before: &str, id: u32, after: &str| [of(before), vec![id], of(after)].concat();
    assert_eq!(ids(&file, "a    b"), one("a", 302, "b"));
    assert_eq!(ids(&file, "a   b"), one("a", 301, " b"));
    assert_eq!(ids(&file, "xBigx"), one("x", 303, "x"));
    assert_eq!(ids(&file, "<s>a"), of("<s>a"));
    assert_eq!(ids(&file, "s>a"), [304]);
}

#[test]
fn a_special_token_is_no_word_where_nothing_splits_it() {
    let mut words = wordpiece();
    words["pre_tokenizer"] = json!({"type": "WhitespaceSplit"});
    words["normalizer"] = json!(null);
    assert_eq!(ids(&words, "[SEP] a [CLS]good films"), [1, 4, 1, 6, 7]);

    let mut bytes = byte_level();
    bytes["model"]["vocab"]["<s>"] = json!(300);
    bytes["model"]["ignore_merges"] = json!(true);
    bytes["pre_tokenizer"]["use_regex"] = json!(false);
    assert_eq!(ids(&bytes, "<s>"), [300]);
    let token = |id: u32, content: &str| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    bytes["added_tokens"] = json!([token(300, "<s>")]);
    assert_eq!(
        ids(&bytes, "<s>"),
        "<s>".bytes().map(u32::from).collect::<Vec<_>>()
    );
    bytes["added_tokens"] = json!([token(256, "he")]);
    assert!(
        compiled(&bytes)
            .unwrap_err()
            .contains("merge 0: makes a special token")
    );
    bytes["added_tokens"] = json!([token(u32::from(b'!'), "!")]);
    assert!(compiled(&bytes).unwrap_err().contains("cannot be special"));
}

#[test]
fn what_is_not_looked_at_is_json_too() {
    let text = wordpiece().to_string();
    assert!(compile(&text).is_ok());
    for (from, to) in [
        ("\"prefix\":\"##\"", "\"prefix\":\"\\ud800\""),
        ("\"cleanup\":true", "\"cleanup\":1e999"),
    ] {
        assert!(text.contains(from), "{from}");
        assert!(compile(&text.replace(from, to)).is_err(), "{to}");
    }
}

#[test]
fn what_a_file_may_not_say_is_told_by_name() {
    let check = |name: &str, change: &dyn Fn(&mut Value), bytes: bool, says: &str| {
        let mut file = if bytes { byte_level() } else { wordpiece() };
        change(&mut file);
        let Err(why) = compiled(&file) else {
            panic!("{name}")
        };
        assert!(why.contains(says), "{name}: {why}");
    };
    type Change = fn(&mut Value);
    let of_words: &[(&str, Change, &str)] = &[
        (
            "another model",
            |file| file["model"]["type"] = json!("WordLevel"),
            "WordLevel",
        ),
        (
            "Unigram",
            |file| file["model"]["vocab"] = json!([["a", 0.5]]),
            "Unigram",
        ),
        (
            "no vocabulary",
            |file| file["model"]["vocab"] = json!({}),
            "no vocabulary",
        ),
        (
            "an id twice",
            |file| file["model"]["vocab"]["film"] = json!(5),
            "id 5",
        ),
        (
            "an id far off",
            |file| file["model"]["vocab"]["film"] = json!(1 << 21),
            "ids go up to",
        ),
        (
            "an id below 0",
            |file| file["model"]["vocab"]["film"] = json!(-1),
            "u32",
        ),
        (
            "an added token elsewhere",
            |file| file["added_tokens"][1]["id"] = json!(700),
            "two ids",
        ),
        (
            "a special token elsewhere",
            |file| file["post_processor"]["special_tokens"]["[SEP]"]["ids"] = json!([9]),
            "[SEP]",
        ),
        (
            "a special token of nothing",
            |file| file["post_processor"]["special_tokens"] = json!({}),
            "[CLS]",
        ),
        (
            "a template of two texts",
            |file| {
                file["post_processor"]["single"][2] = json!({"Sequence": {"id": "B", "type_id": 1}})
            },
            "one text",
        ),
        (
            "a template without a text",
            |file| file["post_processor"]["single"] = json!([]),
            "without a text",
        ),
        (
            "no unknown token",
            |file| file["model"]["unk_token"] = json!("<unk>"),
            "<unk>",
        ),
        (
            "another normalizer",
            |file| file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": ""}),
            "Precompiled",
        ),
        (
            "a regular expression",
            |file| file["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false}),
            "Split",
        ),
        (
            "another behaviour",
            |file| file["pre_tokenizer"] = json!({"type": "Punctuation", "behavior": "Removed"}),
            "Removed",
        ),
        (
            "an unknown field",
            |file| file["model"]["limit_alphabet"] = json!(1),
            "limit_alphabet",
        ),
        (
            "too long a word",
            |file| file["model"]["max_input_chars_per_word"] = json!(1 << 30),
            "max_input_chars_per_word",
        ),
        (
            "a long token",
            |file| file["added_tokens"][0]["content"] = json!("x".repeat(2000)),
            "bytes",
        ),
        (
            "many steps",
            |file| {
                file["normalizer"] =
                    json!({"type": "Sequence", "normalizers": vec![json!({"type": "NFC"}); 17]})
            },
            "steps",
        ),
        (
            "cut off at nothing",
            |file| file["truncation"] = json!({"direction": "Right", "max_length": 0, "strategy": "LongestFirst", "stride": 0}),
            "max_length",
        ),
        (
            "padding without end",
            |file| file["padding"] = json!({"strategy": {"Fixed": 1_u64 << 40}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"}),
            "padding",
        ),
        (
            "an added token's sides",
            |file| {
                file["added_tokens"][0]["special"] = json!(false);
                file["added_tokens"][0]["lstrip"] = json!(true);
            },
            "lstrip",
        ),
        (
            "merges of words",
            |file| file["model"]["merges"] = json!([]),
            "no merges",
        ),
    ];
    for (name, change, says) in of_words {
        check(name, change, false, says);
    }
    let of_bytes: &[(&str, Change, &str)] = &[
        (
            "a merge twice",
            |file| file["model"]["merges"] = json!(["h e", "h e"]),
            "twice",
        ),
        (
            "a merge of nothing",
            |file| {
                file["model"]["vocab"][""] = json!(400);
                file["model"]["merges"] = json!([["", "h"]]);
            },
            "of nothing",
        ),
        (
            "a merge of three",
            |file| file["model"]["merges"] = json!(["h e l"]),
            "not of two",
        ),
        (
            "a merge of one",
            |file| file["model"]["merges"] = json!(["he"]),
            "not of two",
        ),
        (
            "a merge of strangers",
            |file| file["model"]["merges"] = json!(["xx yy"]),
            "vocabulary",
        ),
        (
            "a merge to a stranger",
            |file| file["model"]["merges"] = json!(["x y"]),
            "vocabulary",
        ),
        (
            "no merges",
            |file| file["model"]["merges"] = json!(null),
            "merges",
        ),
        (
            "chance",
            |file| file["model"]["dropout"] = json!(0.1),
            "dropout",
        ),
        (
            "bytes for characters",
            |file| file["model"]["byte_fallback"] = json!(true),
            "byte_fallback",
        ),
        (
            "ends of words",
            |file| file["model"]["end_of_word_suffix"] = json!("</w>"),
            "end_of_word_suffix",
        ),
        (
            "characters",
            |file| file["pre_tokenizer"] = json!({"type": "Whitespace"}),
            "ByteLevel",
        ),
        (
            "digits of bytes",
            |file| file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [file["pre_tokenizer"].clone(), {"type": "Digits", "individual_digits": true}]}),
            "after ByteLevel",
        ),
    ];
    for (name, change, says) in of_bytes {
        check(name, change, true, says);
    }
}

#[test]
fn what_is_no_such_file_is_told() {
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_steps = {
        let step = r#"{"type":"Sequence","normalizers":["#;
        format!(
            r#"{{"normalizer":{}{}}}"#,
            step.repeat(1000),
            "]}".repeat(1000)
        )
    };
    let twice = wordpiece().to_string().replace("\"##s\"", "\"##ly\"");
    for text in [
        "",
        "{}",
        "[]",
        "null",
        "{\"model\": 1}",
        &deep,
        &deep_steps,
        &twice,
    ] {
        assert!(compile(text).is_err(), "{:.40}", text);
    }
    assert!(compile(&twice).unwrap_err().contains("twice"));
    // Truncated tables are rejected at every length.
    let whole = compiled(&byte_level()).unwrap();
    assert!((0..whole.len()).all(|end| Tokenizer::read(&whole[..end]).is_none()));
}

#[test]
fn long_words_cost_little() {
    let begun = std::time::Instant::now();
    let long = "l".repeat(1 << 20);
    assert_eq!(ids(&wordpiece(), &long), [1]);
    let count = ids(&byte_level(), &long).len();
    assert_eq!(count, 1000);
    // A quadratic algorithm would take an hour here.
    assert!(begun.elapsed().as_secs() < 60);
}
