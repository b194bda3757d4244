//! Tests of the limits of a request: the maximum that a contract accepts, and what the backend
//! gets.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests"
)]

use alloc::borrow::Cow;
use alloc::vec;
use alloc::vec::Vec;

use tensorgate_values::json::object;

use super::special_tokens::OnToken;
use super::*;
use crate::contract::ParameterBound;
use crate::contract::media::MediaType;

mod context;

/// The document for the backend.
fn rebuild<'a>(rules: &OpenAi, api: Api, model: &str, document: Members<'a>) -> Value<'a> {
    super::rebuild(rules, api, model, document).document
}

fn generation() -> Generation {
    Generation {
        max_tokens: 64,
        n: 2,
        stop: 4,
        stream: true,
        logprobs: None,
        constraints: None,
    }
}

fn rules() -> OpenAi {
    OpenAi {
        chat: Some(Chat {
            max_messages: 4,
            max_message_bytes: 100,
            max_prompt_bytes: 300,
            roles: ["user", "assistant"].map(String::from).into(),
            generation: generation(),
            tools: Some(Tools {
                max: 2,
                max_bytes: 1_000,
                compiled: false,
            }),
            formats: ["json_schema"].map(String::from).into(),
            max_schema_bytes: 500,
            schemas: SchemaLimits::COMPILED,
            images: Some(Images {
                max: 2,
                max_bytes: 40,
                max_tokens: 1_000,
                media: MediaRule {
                    types: [MediaType::Jpeg].into(),
                    min_width: 1,
                    min_height: 1,
                    max_width: 9,
                    max_height: 9,
                    max_pixels: 81,
                    max_frames: 1,
                    max_duration_ms: 0,
                },
                url: None,
            }),
        }),
        completions: Some(Completions {
            max_prompts: 3,
            max_prompt_bytes: 10,
            best_of: 4,
            generation: generation(),
        }),
        embeddings: Some(Embeddings {
            max_items: 2,
            max_item_bytes: 7,
        }),
        parameters: Vec::new(),
        ignored: Vec::new(),
        ignored_members: IgnoredMembers::default(),
        context_tokens: None,
        min_bytes: 1,
        special_tokens: SpecialTokens::new(OnToken::Escape, &[]),
        max_answer_bytes: 1 << 20,
        screening: Screening::default(),
    }
}

fn members<const N: usize>(members: [(&str, Value<'static>); N]) -> Members<'static> {
    match object(members) {
        Value::Object(members) => members,
        _ => Vec::new(),
    }
}

fn user_message(content: Value<'static>) -> Value<'static> {
    Value::Array(vec![object([
        ("role", Value::text("user")),
        ("content", content),
    ])])
}

#[test]
fn accepted_requests_cost_no_more_than_the_contracts_maximum() {
    let mut rules = rules();
    assert_eq!(rules.most().bytes, 300 + 1_000 + 500 + 2 * 40);
    let tools = 512 + 4 * (1_000 + 500);
    // 32 calls per message, each with an ID and a name of one byte, and arguments for the rest.
    let calls = 4 * 32;
    let texts = 2 * calls + 4 * (300 - 2 * calls) + 32 * calls;
    let tokens = 64 + texts + 4 * 16 + tools + 2 * 1_000 + 64 * 2;
    assert_eq!(rules.most().tokens, tokens);
    let chat = rules.chat.as_mut().unwrap();
    chat.roles.retain(|role| role != "assistant");
    let tokens = 64 + 300 + 4 * 16 + tools + 2 * 1_000 + 64 * 2;
    assert_eq!(rules.most().tokens, tokens);
    rules.chat = None;
    assert_eq!(rules.most().bytes, 30);
    assert_eq!(rules.most().tokens, 30 + 3 * 4 + 3 * 64 * 4);
    rules.completions = None;
    assert_eq!(rules.most().bytes, 14);
    assert_eq!(rules.most().tokens, 14 + 2 * 4);
    assert!(!rules.takes(Api::Chat) && rules.takes(Api::Embeddings));
    let chat = rules.check(Api::Chat, &members([]), &mut Err);
    assert_eq!(chat.unwrap_err().reason, Reason::NotGranted);
}

#[test]
fn every_text_counts() {
    let rules = rules();
    let cost = |api, document| rules.check(api, &document, &mut Err).unwrap().bytes;
    let picture = |digits: &'static str| {
        object([
            ("type", Value::text("image_url")),
            ("image_url", object([("url", Value::text(digits))])),
        ])
    };
    let text = object([("type", Value::text("text")), ("text", Value::text("abc"))]);
    for (content, bytes) in [
        (Value::text("hello"), 5),
        // One for each part, and the digits of the image.
        (
            Value::Array(vec![
                text,
                picture("data:image/png;base64,/9j/wAALCAABAAEBAREA/9o="),
            ]),
            3 + 2 + 24,
        ),
    ] {
        let document = members([("messages", user_message(content))]);
        assert_eq!(cost(Api::Chat, document), bytes);
    }
    let prompts = Value::Array(vec![Value::text("ab"), Value::text("c")]);
    assert_eq!(cost(Api::Completions, members([("prompt", prompts)])), 3);
    let input = members([("input", Value::text("abcd"))]);
    assert_eq!(cost(Api::Embeddings, input), 4);
}

#[test]
fn tokens_are_bounded_by_bytes_and_by_what_may_be_generated() {
    let rules = rules();
    let tokens = |api, document| rules.check(api, &document, &mut Err).unwrap().tokens;
    let texts = || Value::Array(vec![Value::text("ab"), Value::text("c")]);
    for (more, expected) in [
        (vec![], 64),
        (vec![("n", 2)], 2 * 64),
        (vec![("n", 2), ("max_tokens", 10)], 2 * 10),
        (vec![("max_completion_tokens", 10)], 10),
    ] {
        let mut document = members([("messages", user_message(Value::text("hello")))]);
        let more = more.into_iter();
        document.extend(more.map(|(name, value)| (Cow::Borrowed(name), Value::Int(value))));
        assert_eq!(tokens(Api::Chat, document), 64 + 16 + 5 + expected);
    }
    let prompt = members([("prompt", texts()), ("best_of", Value::Int(3))]);
    assert_eq!(tokens(Api::Completions, prompt), 3 + 2 * 4 + 2 * 3 * 64);
    assert_eq!(
        tokens(Api::Embeddings, members([("input", texts())])),
        3 + 2 * 4
    );
}

#[test]
fn a_text_that_a_normaliser_makes_longer_costs_what_it_becomes() {
    let rules = rules();
    let tokens = |text: &'static str| {
        let document = members([("messages", user_message(Value::text(text)))]);
        let checked = rules.check(Api::Chat, &document, &mut Err);
        checked.map(|cost| cost.tokens - 64 - 16 - 64)
    };
    assert_eq!(tokens("\u{1d1c0}\u{1d1c0}").unwrap(), 24);
    assert_eq!(tokens("\u{e9}\u{d55c}").unwrap(), 5);
    // A hundred bytes each, in any encoding.
    let long = "\u{1d1c0}\u{1d1c0}\u{1d1c0}\u{1d1c0}\u{1d1c0}\u{1d1c0}\u{1d1c0}\u{1d1c0}";
    assert_eq!(tokens(long).unwrap(), 96);
    let beyond = "\u{fdfa}\u{fdfa}\u{fdfa}\u{fdfa}";
    assert_eq!(tokens(beyond).unwrap_err().reason, Reason::ItemTooLong);
}

#[test]
fn calls_cost_what_a_template_writes_around_them_and_of_their_arguments() {
    let rules = rules();
    let call = |arguments: &'static str| {
        let function = object([
            ("name", Value::text("f")),
            ("arguments", Value::text(arguments)),
        ]);
        object([
            ("id", Value::text("a")),
            ("type", Value::text("function")),
            ("function", function),
        ])
    };
    let tokens = |calls: Vec<Value<'static>>| {
        let message = object([
            ("role", Value::text("assistant")),
            ("tool_calls", Value::Array(calls)),
        ]);
        let document = members([("messages", Value::Array(vec![message]))]);
        let cost = rules.check(Api::Chat, &document, &mut Err).unwrap();
        (cost.tokens - 64 - 16 - 64, cost.bytes)
    };
    assert_eq!(tokens(vec![call("")]), (2 + 32, 2));
    assert_eq!(tokens(vec![call("{}")]), (2 + 32 + 4 * 2, 4));
    let (most, _) = tokens(vec![call("[1,2]"), call(""), call("{}")]);
    assert_eq!(most, 3 * (2 + 32) + 4 * (5 + 2));
    // As many as one message has, which is the maximum of a conversation.
    let (most, _) = tokens(vec![call(""); 32]);
    assert_eq!(most, 32 * (2 + 32));
    assert!(most + 64 + 16 + 64 < rules.most().tokens);
}

#[test]
fn the_backend_always_gets_a_token_limit() {
    let rules = rules();
    let built = |api, more: Vec<(&'static str, Value<'static>)>| {
        let mut document = members([("messages", user_message(Value::text("x")))]);
        let more = more
            .into_iter()
            .map(|(name, value)| (Cow::Borrowed(name), value));
        document.extend(more);
        rebuild(&rules, api, "their-name", document)
    };
    for (name, value, tokens) in [
        ("max_tokens", Value::Int(3), 3),
        ("max_completion_tokens", Value::Int(4), 4),
        ("max_tokens", Value::Null, 64),
        ("stream", Value::Bool(false), 64),
    ] {
        let document = built(Api::Chat, vec![(name, value)]);
        assert_eq!(document.get("max_tokens"), Some(&Value::Int(tokens)));
        assert_eq!(document.get("model"), Some(&Value::text("their-name")));
        assert_eq!(document.get("max_completion_tokens"), None);
        assert_eq!(document.get("stream"), None);
        assert!(document.get("messages").is_some());
        let names = document.as_object().unwrap();
        assert_eq!(names.len(), 3, "{name}");
    }
    let none = built(Api::Embeddings, vec![]);
    assert_eq!(none.get("max_tokens"), None);
}

#[test]
fn absent_members_are_not_sent_to_the_backend() {
    let rules = rules();
    let message = |role: &'static str, more: Vec<(&'static str, Value<'static>)>| {
        let both = [("role", Value::text(role)), ("content", Value::text("x"))];
        let all = both.into_iter().chain(more);
        Value::Object(all.map(|(name, value)| (name.into(), value)).collect())
    };
    let none = || Value::Array(vec![]);
    let dumped = || {
        let names = [
            "refusal",
            "audio",
            "function_call",
            "reasoning_content",
            "name",
        ];
        let mut more: Vec<_> = names.map(|name| (name, Value::Null)).into();
        more.extend([("annotations", none()), ("tool_calls", none())]);
        more
    };
    let document = |message| members([("messages", Value::Array(vec![message]))]);
    let whole = document(message("assistant", dumped()));
    assert!(rules.check(Api::Chat, &whole, &mut Err).is_ok());
    let built = rebuild(&rules, Api::Chat, "m", whole);
    let plain = Value::Array(vec![message("assistant", vec![])]);
    assert_eq!(built.get("messages"), Some(&plain));
    let of_user = document(message("user", dumped()));
    assert!(rules.check(Api::Chat, &of_user, &mut Err).is_ok());
    let call = vec![("tool_calls", Value::Array(vec![object([])]))];
    let denial = rules.check(Api::Chat, &document(message("user", call)), &mut Err);
    assert_eq!(denial.unwrap_err().reason, Reason::Parameter);
}

#[test]
fn special_tokens_are_escaped_wherever_a_caller_writes() {
    let rules = rules();
    let part =
        |text: &'static str| object([("type", Value::text("text")), ("text", Value::text(text))]);
    let picture = || {
        let url = object([(
            "url",
            Value::text("data:image/png;base64,/9j/wAALCAABAAEBAREA/9o="),
        )]);
        object([("type", Value::text("image_url")), ("image_url", url)])
    };
    let document = |token: &'static str, arguments: &'static str| {
        let function = object([
            ("name", Value::text("f")),
            ("arguments", Value::text(arguments)),
        ]);
        let call = object([
            ("id", Value::text("a")),
            ("type", Value::text("function")),
            ("function", function),
        ]);
        let messages = vec![
            object([
                ("role", Value::text("user")),
                ("content", Value::Array(vec![part(token), picture()])),
            ]),
            object([
                ("role", Value::text("assistant")),
                ("content", Value::text(token)),
                ("tool_calls", Value::Array(vec![call])),
            ]),
        ];
        let tool = object([
            ("name", Value::text("f")),
            ("description", Value::text(token)),
        ]);
        let tool = object([("type", Value::text("function")), ("function", tool)]);
        members([
            ("messages", Value::Array(messages)),
            ("tools", Value::Array(vec![tool])),
            // Never a part of the prompt, and what clients of templates send.
            ("stop", Value::text("<|im_end|>")),
        ])
    };
    let written = document("<|im_end|>", r#"{"a":"\u003c|im_end|>"}"#);
    let expected = document("< |im_end|>", r#"{"a":"\u003c |im_end|>"}"#);
    let cost = |document: &Members<'_>| rules.check(Api::Chat, document, &mut Err).unwrap();
    // Escaped texts are longer, which is charged.
    assert_eq!(cost(&written), cost(&expected));
    let build = |document| rebuild(&rules, Api::Chat, "m", document);
    assert_eq!(build(written), build(expected));
    for (api, name) in [(Api::Completions, "prompt"), (Api::Embeddings, "input")] {
        let texts = Value::Array(vec![Value::text("</s>"), Value::text("a")]);
        let document = members([(name, texts)]);
        assert!(rules.check(api, &document, &mut Err).is_ok());
        let built = rebuild(&rules, api, "m", document);
        let texts = Value::Array(vec![Value::text("< /s>"), Value::text("a")]);
        assert_eq!(built.get(name), Some(&texts));
    }
}

#[test]
fn the_policy_chooses_what_a_special_token_leads_to() {
    let mut rules = rules();
    let document = || members([("messages", user_message(Value::text("</s>")))]);
    rules.special_tokens.on_token = OnToken::Allow;
    assert!(rules.check(Api::Chat, &document(), &mut Err).is_ok());
    let built = rebuild(&rules, Api::Chat, "m", document());
    assert_eq!(built.get("messages"), Some(&document()[0].1));
    rules.special_tokens.on_token = OnToken::Refuse;
    let denial = rules.check(Api::Chat, &document(), &mut Err).unwrap_err();
    assert_eq!(denial.reason, Reason::Parameter);
    assert_eq!(denial.field.as_deref(), Some("messages[0].content"));
}

#[test]
fn a_document_for_the_backend_has_a_mark_for_escaped_texts() {
    let rules = rules();
    for (text, expected) in [("a </s>", true), ("a < b", false)] {
        let function = object([("description", Value::text(text))]);
        let tools = Value::Array(vec![object([("function", function)])]);
        for document in [
            members([("messages", user_message(Value::text(text)))]),
            members([("tools", tools)]),
        ] {
            let built = super::rebuild(&rules, Api::Chat, "m", document);
            assert_eq!(built.escaped, expected, "{built:?}");
        }
    }
}

#[test]
fn what_is_too_long_is_not_searched_for_special_tokens() {
    let mut rules = rules();
    rules.special_tokens.on_token = OnToken::Refuse;
    let text = |bytes: usize| Value::String(Cow::Owned("</s>".repeat(bytes / 4)));
    let part = |bytes| object([("type", Value::text("text")), ("text", text(bytes))]);
    let tool = |bytes| object([("description", text(bytes))]);
    for (api, name, value, expected) in [
        (
            Api::Chat,
            "messages",
            user_message(text(104)),
            Reason::ItemTooLong,
        ),
        (
            Api::Chat,
            "messages",
            user_message(Value::Array(vec![part(104), part(4)])),
            Reason::ItemTooLong,
        ),
        (Api::Embeddings, "input", text(8), Reason::ItemTooLong),
        (
            Api::Chat,
            "messages",
            user_message(text(100)),
            Reason::Parameter,
        ),
        (Api::Embeddings, "input", text(4), Reason::Parameter),
    ] {
        let denial = rules.check(api, &members([(name, value)]), &mut Err);
        assert_eq!(denial.unwrap_err().reason, expected, "{api:?}");
    }
    for (bytes, expected) in [
        (2_000, "larger than the contract allows"),
        (4, "has a special token of the model"),
    ] {
        let tools = Value::Array(vec![tool(bytes)]);
        let document = members([
            ("messages", user_message(Value::text("a"))),
            ("tools", tools),
        ]);
        let denial = rules.check(Api::Chat, &document, &mut Err).unwrap_err();
        assert!(denial.cause.contains(expected), "{denial:?}");
    }
}

#[test]
fn a_fault_of_a_function_names_its_member() {
    let mut rules = rules();
    rules.chat.as_mut().unwrap().tools = Some(Tools {
        max: 2,
        max_bytes: 8_192,
        compiled: false,
    });
    let check = |name: &'static str, value: Value<'static>| {
        let function = object([("name", Value::text("f")), (name, value)]);
        let tool = object([("type", Value::text("function")), ("function", function)]);
        let document = members([
            ("messages", user_message(Value::text("a"))),
            ("tools", Value::Array(vec![tool])),
        ]);
        rules.check(Api::Chat, &document, &mut Err)
    };
    // Bounded by max_bytes alone.
    let long = || Value::String(Cow::Owned("d".repeat(6_000)));
    assert!(check("description", long()).is_ok());
    let typed = object([("type", Value::Int(1))]);
    for (name, value, expected) in [
        ("description", Value::Int(1), "/function/description is not"),
        (
            "url",
            long(),
            "/function/url is a member of a function that no",
        ),
        ("strict", Value::Int(1), "/function/strict is not a boolean"),
        ("parameters", typed, "/function/parameters/type has a value"),
    ] {
        let denial = check(name, value).unwrap_err();
        assert_eq!(denial.field.as_deref(), Some("parameter \"tools\"[0]"));
        let shown = denial.described_field().unwrap();
        assert!(shown.contains(expected), "{shown}");
        assert!(denial.cause.contains(expected), "{denial:?}");
    }
}

#[test]
fn a_server_that_compiles_every_function_gets_no_long_repetitions() {
    for (compiled, expected) in [(false, true), (true, false)] {
        let mut rules = rules();
        if let Some(tools) = rules.chat.as_mut().and_then(|chat| chat.tools.as_mut()) {
            tools.compiled = compiled;
        }
        let text = object([
            ("type", Value::text("string")),
            ("minLength", Value::Int(1_000_000_000)),
        ]);
        let function = object([("name", Value::text("f")), ("parameters", text)]);
        let tool = object([("type", Value::text("function")), ("function", function)]);
        let document = members([
            ("messages", user_message(Value::text("a"))),
            ("tools", Value::Array(vec![tool])),
        ]);
        let checked = rules.check(Api::Chat, &document, &mut Err);
        assert_eq!(checked.is_ok(), expected, "{checked:?}");
    }
}

#[test]
fn texts_have_the_size_that_the_policy_requires() {
    let mut rules = rules();
    let reason = |rules: &OpenAi, api, document: Members<'static>| {
        let checked = rules.check(api, &document, &mut Err);
        checked.err().map(|denial| denial.reason)
    };
    for (least, text, expected) in [
        (1, "", Some(Reason::OutOfRange)),
        (1, "a", None),
        (0, "", None),
        (3, "ab", Some(Reason::OutOfRange)),
    ] {
        rules.min_bytes = least;
        let message = object([
            ("role", Value::text("user")),
            ("content", Value::text(text)),
        ]);
        let chat = members([("messages", Value::Array(vec![message]))]);
        assert_eq!(reason(&rules, Api::Chat, chat), expected);
        let prompt = members([("prompt", Value::text(text))]);
        assert_eq!(reason(&rules, Api::Completions, prompt), expected);
        let input = members([("input", Value::Array(vec![Value::text(text)]))]);
        assert_eq!(reason(&rules, Api::Embeddings, input), expected);
    }
}

#[test]
fn the_charge_equals_the_token_limit_sent_to_the_backend() {
    let rules = rules();
    let twice = members([
        ("prompt", Value::text("a")),
        ("max_tokens", Value::Int(1)),
        ("max_completion_tokens", Value::Int(32)),
    ]);
    let denial = rules.check(Api::Completions, &twice, &mut Err).unwrap_err();
    assert_eq!(denial.reason, Reason::Parameter);
    for (name, value) in [("max_tokens", 7), ("max_completion_tokens", 9)] {
        let document = members([("prompt", Value::text("a")), (name, Value::Int(value))]);
        let tokens = rules
            .check(Api::Completions, &document, &mut Err)
            .unwrap()
            .tokens;
        let built = rebuild(&rules, Api::Completions, "m", document);
        assert_eq!(built.get("max_tokens"), Some(&Value::Int(value)));
        assert_eq!(tokens, 1 + 4 + u64::try_from(value).unwrap());
    }
}

fn check_compiled(schema: &Value<'_>) -> Result<(), schema::SchemaFault> {
    let rules = schema::SchemaRules::compiled(SchemaLimits::COMPILED, None);
    schema::check(schema, &rules)
}

fn definition(name: &'static str) -> Value<'static> {
    object([("$ref", Value::text(name))])
}

/// This many nested schemas, each the `items` of the one around it. The last is a reference.
fn nested(levels: usize, reference: Value<'static>) -> Value<'static> {
    (0..levels).fold(reference, |inner, _| object([("items", inner)]))
}

#[test]
fn definitions_on_definitions_go_no_deeper_than_one_document_may() {
    for (each, count, valid) in [
        (17, 3, true),
        (17, 4, false),
        (17, 64, false),
        (1, 31, true),
    ] {
        for backwards in [false, true] {
            let mut definitions: Members<'static> = (0..count)
                .map(|index: usize| {
                    let next = index + 1;
                    let inner = if next < count {
                        let path = format!("#/$defs/d{next:02}");
                        object([("$ref", Value::String(Cow::Owned(path)))])
                    } else {
                        object([("type", Value::text("null"))])
                    };
                    (Cow::Owned(format!("d{index:02}")), nested(each, inner))
                })
                .collect();
            if backwards {
                definitions.reverse();
            }
            let schema = Value::Object(vec![
                (Cow::Borrowed("$defs"), Value::Object(definitions)),
                (Cow::Borrowed("items"), definition("#/$defs/d00")),
            ]);
            assert_eq!(check_compiled(&schema).is_ok(), valid, "{count} of {each}");
        }
    }
}

#[test]
fn repetitions_inside_repetitions_multiply() {
    let array = |most, items| object([("maxItems", Value::Int(most)), ("items", items)]);
    let text = |most| object([("maxLength", Value::Int(most))]);
    for (schema, valid) in [
        (array(1_000, text(10)), true),
        (array(1_000, text(20)), false),
        (array(100, array(100, text(1))), true),
        (array(200, array(100, text(1))), false),
        (array(1_024, array(1_024, text(1))), false),
        (text(1_024), true),
    ] {
        assert_eq!(check_compiled(&schema).is_ok(), valid, "{schema:?}");
    }
}

#[test]
fn of_several_faults_the_first_with_the_highest_priority_is_reported() {
    let mut faults = Faults::default();
    for (reason, field) in [
        (Reason::ItemTooLong, "a"),
        (Reason::Parameter, "b"),
        (Reason::Parameter, "c"),
        (Reason::Shape, "d"),
    ] {
        faults.add(reason, || field.into(), "cause");
    }
    let first = faults.first.unwrap();
    assert_eq!(
        (first.reason, first.field.as_deref()),
        (Reason::Parameter, Some("b"))
    );
}

#[test]
fn shadow_mode_for_values_allows_invalid_pictures_but_no_earlier_faults() {
    let rules = rules();
    let picture = |url| {
        let image = object([("url", Value::text(url))]);
        let part = object([("type", Value::text("image_url")), ("image_url", image)]);
        members([("messages", user_message(Value::Array(vec![part])))])
    };
    let check = |document: &Members<'_>, passes: bool| {
        let mut told = Vec::new();
        let checked = rules.check(Api::Chat, document, &mut |denial: Denial| {
            told.push(denial.reason);
            if passes { Ok(()) } else { Err(denial) }
        });
        (checked.map_err(|denial| denial.reason).err(), told)
    };
    let huge = picture("data:image/jpeg;base64,/9j/wAALCA//D/8BAREA/9o=");
    let told = vec![Reason::OutOfRange];
    assert_eq!(check(&huge, true), (None, told.clone()));
    assert_eq!(
        check(&huge, false),
        (Some(Reason::OutOfRange), told.clone())
    );
    let mut both = huge.clone();
    both.push((Cow::Borrowed("x"), Value::Int(1)));
    assert_eq!(check(&both, true), (Some(Reason::Parameter), vec![]));
    let image = object([("url", Value::text("http://a/b"))]);
    let part = object([("type", Value::text("image_url")), ("image_url", image)]);
    let Some((_, Value::Array(messages))) = both.first_mut() else {
        panic!("no messages");
    };
    let more = user_message(Value::Array(vec![part]));
    messages.extend(more.as_array().unwrap().to_vec());
    both.truncate(1);
    assert_eq!(check(&both, true), (Some(Reason::UrlBlocked), told.clone()));
    assert_eq!(check(&both, false), (Some(Reason::OutOfRange), told));
}

#[test]
fn constraints_cost_bytes_and_what_a_template_writes() {
    use super::constraints::Constraints;
    let mut rules = rules();
    let before = rules.most();
    let held = |name: &str| Constraints {
        members: vec![name.into()],
        max_bytes: 700,
        max_depth: 1,
    };
    let set = |rules: &mut OpenAi, held: Constraints| {
        rules.chat.as_mut().unwrap().generation.constraints = Some(held.clone());
        rules.completions.as_mut().unwrap().generation.constraints = Some(held);
    };
    // A keyword has no member of its own.
    set(&mut rules, held("pattern"));
    assert_eq!(rules.most(), before);
    set(&mut rules, held("json_schema"));
    // A constraint of 700 bytes instead of a format's 500.
    let most = rules.most();
    assert_eq!(most.bytes, before.bytes + 200);
    assert_eq!(most.tokens, before.tokens + 4 * 200);
    let schema = || object([("type", Value::text("null"))]);
    let size = u64::try_from(schema().text_bytes()).unwrap();
    for (api, first, tokens) in [
        (
            Api::Chat,
            ("messages", user_message(Value::text("hi"))),
            64 + 16 + 2 + 64 + 4 * size,
        ),
        (Api::Completions, ("prompt", Value::text("hi")), 2 + 4 + 64),
    ] {
        let document = members([first, ("json_schema", schema())]);
        let cost = rules.check(api, &document, &mut Err).unwrap();
        assert_eq!((cost.bytes, cost.tokens), (2 + size, tokens));
    }
}

#[test]
fn ignored_members_are_removed_and_rules_come_first() {
    let mut rules = rules();
    rules.ignored = ["user", "seed"].map(String::from).into();
    rules.parameters = vec![("seed".into(), ParameterBound::Int(0, 9))];
    let document = |seed: i64| {
        members([
            ("messages", user_message(Value::text("x"))),
            ("user", object([("a", Value::text("secret"))])),
            ("seed", Value::Int(seed)),
        ])
    };
    assert!(rules.check(Api::Chat, &document(9), &mut Err).is_ok());
    let denial = rules.check(Api::Chat, &document(10), &mut Err).unwrap_err();
    assert_eq!(denial.field.as_deref(), Some("parameter \"seed\""));
    let mut sent = document(9);
    assert_eq!(rules.drop_ignored(&mut sent), ["user"]);
    let built = rebuild(&rules, Api::Chat, "m", sent);
    assert_eq!(built.get("user"), None);
    assert_eq!(built.get("seed"), Some(&Value::Int(9)));
}

#[test]
fn a_fault_names_the_roles_and_the_kinds_of_pictures_that_are_allowed() {
    let described = |messages: Value<'static>| {
        let document = members([("messages", messages)]);
        let denial = rules().check(Api::Chat, &document, &mut Err).unwrap_err();
        denial.described_field().unwrap().into_owned()
    };
    let picture = |url: &'static str| {
        user_message(Value::Array(vec![object([
            ("type", Value::text("image_url")),
            ("image_url", object([("url", Value::text(url))])),
        ])]))
    };
    let role = Value::Array(vec![object([
        ("role", Value::text("critic")),
        ("content", Value::text("x")),
    ])]);
    for (messages, expected) in [
        (role, "messages[0].role: expected one of user, assistant"),
        (
            picture("data:image/gif;base64,R0lGODlhAQABAAAA"),
            "messages[0].content: expected a file of type jpeg within the contract's bounds",
        ),
        (
            picture("data:image/svg+xml;base64,PHN2Zy8+"),
            "messages[0].content: expected data:image/…;base64,… of type jpeg",
        ),
    ] {
        assert_eq!(described(messages), expected);
    }
}

#[test]
fn a_fault_of_a_member_lists_what_the_policy_allows_to_caller_and_operator() {
    let formats = rules().chat.unwrap().formats.join(", ");
    let format = object([("type", Value::text("xml"))]);
    for (name, value, expected) in [
        ("response_format", format, format!("a type of {formats}")),
        ("stop", Value::Int(1), "texts of 1 to 256 bytes".into()),
    ] {
        let messages = user_message(Value::text("a"));
        let document = members([("messages", messages), (name, value)]);
        let denial = rules().check(Api::Chat, &document, &mut Err).unwrap_err();
        let shown = denial.described_field().unwrap();
        assert!(shown.ends_with(&*expected), "{shown}");
        assert!(denial.cause.ends_with(&*expected), "{denial:?}");
    }
}
