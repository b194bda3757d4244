//! Tests of special tokens: which are found, how they are escaped, and what is too harmless.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, reason = "tests")]

use alloc::string::ToString;
use alloc::vec;

use tensorgate_values::json::object;

use super::*;

fn rule(on_token: OnToken) -> SpecialTokens {
    SpecialTokens::new(on_token, &["~~".into(), "<extra_id_7>".into()])
}

fn escaped(text: &str, form: TextForm) -> String {
    let rule = rule(OnToken::Escape);
    let escaped = rule.escape(Cow::Borrowed(text), form).to_string();
    let added = rule.added_bytes(text, form).unwrap();
    assert_eq!(escaped.len(), text.len() + added, "{text}");
    // Nothing is left to escape.
    assert_eq!(rule.added_bytes(&escaped, form), Ok(0), "{text}");
    let refused = self::rule(OnToken::Refuse).added_bytes(text, form).is_err();
    assert_eq!(refused, added > 0, "{text}");
    escaped
}

#[test]
fn tokens_of_common_models_are_found() {
    for (text, expected) in [
        ("a <|im_end|> b", "a < |im_end|> b"),
        ("<|endoftext|>", "< |endoftext|>"),
        (
            "<|begin_of_text|><|eot_id|>",
            "< |begin_of_text|>< |eot_id|>",
        ),
        (
            "<|vision_start|><|image_pad|><|vision_end|>",
            "< |vision_start|>< |image_pad|>< |vision_end|>",
        ),
        ("<|start|>system<|message|>", "< |start|>system< |message|>"),
        // DeepSeek's bars have full width; its blanks are no blanks.
        (
            "<\u{ff5c}begin\u{2581}of\u{2581}sentence\u{ff5c}>",
            "< \u{ff5c}begin\u{2581}of\u{2581}sentence\u{ff5c}>",
        ),
        ("[INST] x [/INST]</s>", "[ INST] x [ /INST]< /s>"),
        ("<<SYS>>", "< <SYS>>"),
        ("<start_of_turn>", "< start_of_turn>"),
        ("<|turn>user<turn|>", "< |turn>user< turn|>"),
        ("[CLS]", "[ CLS]"),
        ("]~b]ai", "] ~b]ai"),
        // The policy's own tokens, one of which overlaps itself.
        ("<extra_id_7>", "< extra_id_7>"),
        ("a~~~", "a~ ~ ~"),
        // What NFKC and the removal of characters without a width turn into a token.
        ("\u{ff1c}|im_end|\u{ff1e}", "\u{ff1c} |im_end|\u{ff1e}"),
        ("<\u{200b}|im_end|>", "< \u{200b}|im_end|>"),
        ("[\u{2060}INST]", "[ \u{2060}INST]"),
        // A token that begins inside another text of the same kind.
        ("<|a<|im_end|>", "<|a< |im_end|>"),
        ("<<|im_end|>", "<< |im_end|>"),
    ] {
        assert_eq!(escaped(text, TextForm::Plain), expected);
        assert_eq!(escaped(text, TextForm::Json), expected);
    }
}

#[test]
fn other_texts_stay_as_they_are() {
    for text in [
        "",
        "a < b | c > d",
        "Promise<string|null>",
        "x |> f <| y",
        "<| im_end |>",
        "<|>",
        "<||>",
        "< |im_end|>",
        "[1, 2] <b> </p> [inst]",
        "<|im_end",
        "<|im_end|",
        r"\u003c|im_end|\u003e",
        "<",
    ] {
        assert_eq!(escaped(text, TextForm::Plain), text);
    }
    let long = alloc::format!("<|{}|>", "a".repeat(65));
    assert_eq!(escaped(&long, TextForm::Plain), long);
}

#[test]
fn escapes_inside_json_hide_no_token() {
    for (text, expected) in [
        (r#"{"a":"\u003c|im_end|>"}"#, r#"{"a":"\u003c |im_end|>"}"#),
        (r"<\u007cim_end\u007C>", r"< \u007cim_end\u007C>"),
        (r"<\/s>", r"< \/s>"),
        (r"\[INST]", r"\[ INST]"),
        (r"\\u003c/s>", r"\\u003c /s>"),
        (r"\u003c\ud83d|x|>", r"\u003c\ud83d|x|>"),
        (r"<\n|im_end|>", r"<\n|im_end|>"),
        (r"\u00", r"\u00"),
        ("\\", "\\"),
    ] {
        assert_eq!(escaped(text, TextForm::Json), expected);
    }
}

#[test]
fn a_token_across_parts_is_a_fault() {
    let part =
        |text: &'static str| object([("type", Value::text("text")), ("text", Value::text(text))]);
    let image = || object([("type", Value::text("image_url"))]);
    for (parts, is_found) in [
        (vec![part("<|im_"), part("end|>")], true),
        (
            vec![
                part("a <\u{1f} "),
                image(),
                part("\n|im_"),
                part(""),
                part("end|>"),
            ],
            true,
        ),
        (vec![part("[IN"), part("ST]")], true),
        (vec![part("<|im_end|>"), part("<|im_end|>")], false),
        (vec![part("a < b"), part("| c >")], false),
        (vec![part("<|im_end|>")], false),
    ] {
        for on_token in [OnToken::Escape, OnToken::Refuse] {
            let found = rule(on_token)
                .across_parts(&parts, TextForm::Plain)
                .is_err();
            assert_eq!(found, is_found, "{parts:?}");
        }
        let allowed = rule(OnToken::Allow).across_parts(&parts, TextForm::Plain);
        assert_eq!(allowed, Ok(()));
    }
}

#[test]
fn of_schemas_only_descriptions_and_titles_are_escaped() {
    let tool = |description: &'static str, choice: &'static str| {
        let choices = Value::Array(vec![Value::text(choice)]);
        object([("description", Value::text(description)), ("enum", choices)])
    };
    let rule = rule(OnToken::Escape);
    let plain = tool("ends with < /s>", "a");
    assert_eq!(rule.added_to_schema(&plain), Ok(0));
    assert_eq!(rule.added_to_schema(&tool("ends with </s>", "a")), Ok(1));
    assert_eq!(rule.escape_schema(tool("ends with </s>", "a")), plain);
    let titled = |title: &'static str| object([("title", Value::text(title))]);
    assert_eq!(rule.added_to_schema(&titled("</s>")), Ok(1));
    assert_eq!(rule.escape_schema(titled("</s>")), titled("< /s>"));
    let named = object([("properties", object([("title", titled("a"))]))]);
    assert_eq!(rule.added_to_schema(&named), Ok(0));
    assert_eq!(rule.added_to_schema(&tool("a", "</s>")), Err(FOUND));
    assert_eq!(
        rule.added_to_schema(&object([("</s>", Value::Null)])),
        Err(FOUND)
    );
    let refuses = self::rule(OnToken::Refuse);
    assert_eq!(refuses.added_to_schema(&tool("</s>", "a")), Err(FOUND));
    let allows = self::rule(OnToken::Allow);
    assert_eq!(allows.added_to_schema(&tool("</s>", "</s>")), Ok(0));
}
