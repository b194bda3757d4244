//! Tests of complete and streamed responses in the forms that servers write.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests"
)]

use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use tensorgate_judge::document::Document;
use tensorgate_policy::contract::openai::{AnswerLinks, OfferedCalls};
use tensorgate_policy::request::Api;

use super::answer::{CheckedResponse, check};
use super::check_coding;
use super::chunk::ChunkChecker;
use crate::backends::BackendError;

const REQUEST_ID: &str = "id-1";

fn document(api: Api) -> Document {
    Document {
        api,
        json: Bytes::new(),
        choices: 1,
        generated: 1,
        max_tokens: (api != Api::Embeddings).then_some(16),
        likely: None,
        stream: false,
        include_usage: true,
        claims: HeaderMap::new(),
        answer_links: None,
        offered_calls: OfferedCalls::Any,
        escaped: false,
    }
}

fn checked(document: &Document, answer: &Value) -> Result<CheckedResponse, BackendError> {
    check(document, answer.to_string().as_bytes(), "m", REQUEST_ID)
}

/// The message of a chat's answer with this message.
fn message(message: Value) -> Result<Value, BackendError> {
    let answer = json!({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]});
    let checked = checked(&document(Api::Chat), &answer)?;
    let body: Value = serde_json::from_slice(&checked.body).unwrap();
    Ok(body["choices"][0]["message"].clone())
}

/// The encoded chunk, `None` if nothing is sent.
fn chunk(checker: &mut ChunkChecker, chunk: Value) -> Result<Option<Value>, BackendError> {
    let event = checker.check(&chunk.to_string())?;
    Ok(event.map(|event| serde_json::from_slice(&event["data: ".len()..]).unwrap()))
}

/// The deltas that a caller gets for these deltas of one choice.
fn deltas(deltas: &[Value]) -> Result<Vec<Value>, BackendError> {
    let mut checker = ChunkChecker::new(document(Api::Chat), "m", REQUEST_ID);
    let sent = deltas.iter().map(|delta| -> Result<Value, BackendError> {
        let choice = json!({"index": 0, "delta": delta, "finish_reason": null});
        let sent = chunk(&mut checker, json!({"choices": [choice]}))?;
        Ok(sent.unwrap()["choices"][0]["delta"].clone())
    });
    sent.collect()
}

#[test]
fn constants_are_written_and_never_judged() {
    for odd in [
        json!("assistant"),
        json!("system"),
        json!(""),
        json!(null),
        json!([1]),
        json!(7),
    ] {
        let call = json!({"id": "functions.f:0", "type": odd, "function": {"name": "f", "arguments": "{}"}});
        let sent = message(json!({"role": odd, "content": null, "tool_calls": [call]})).unwrap();
        let expected = json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": "{}"}}]});
        assert_eq!(sent, expected, "{odd}");
        let piece = json!({"index": 0, "id": "c", "type": odd, "function": {"name": "f"}});
        let rest =
            json!({"index": 0, "id": "", "type": odd, "function": {"name": "", "arguments": "{}"}});
        let sent = deltas(&[
            json!({"role": odd, "content": "a", "tool_calls": []}),
            json!({"role": odd, "tool_calls": [piece]}),
            json!({"role": odd, "tool_calls": [rest]}),
        ]);
        let expected = [
            json!({"role": "assistant", "content": "a"}),
            json!({"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f"}}]}),
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}),
        ];
        assert_eq!(sent.unwrap(), expected, "{odd}");
    }
}

#[test]
fn both_names_of_the_reasoning_pass_and_other_kinds_are_left_out() {
    for name in ["reasoning", "reasoning_content"] {
        let sent = message(json!({"content": "a", name: "b", "reasoning_details": [{}]})).unwrap();
        assert_eq!(
            sent,
            json!({"role": "assistant", "content": "a", name: "b"})
        );
        let sent = deltas(&[json!({name: "a"}), json!({name: "b"})]).unwrap();
        assert_eq!(
            sent,
            [json!({"role": "assistant", name: "a"}), json!({name: "b"})]
        );
        let sent = message(json!({"content": "a", name: {"effort": 1}})).unwrap();
        assert_eq!(sent, json!({"role": "assistant", "content": "a"}));
    }
}

#[test]
fn a_message_with_nothing_in_it_has_an_empty_content() {
    for empty in [
        json!({}),
        json!({"content": null, "tool_calls": []}),
        json!({"content": [], "reasoning_content": "", "refusal": null}),
    ] {
        assert_eq!(message(empty.clone()).unwrap()["content"], "", "{empty}");
    }
    for odd in [
        json!({"reasoning": "a"}),
        json!({"refusal": "a"}),
        json!({"tool_calls": [{"function": {"name": "f"}}]}),
    ] {
        assert_eq!(message(odd.clone()).unwrap()["content"], Value::Null);
    }
    let last = |first: Value| {
        let mut checker = ChunkChecker::new(document(Api::Chat), "m", REQUEST_ID);
        chunk(&mut checker, json!({"choices": [{"delta": first}]})).unwrap();
        let end = json!({"choices": [{"delta": {}, "finish_reason": "length"}]});
        let sent = chunk(&mut checker, end).unwrap().unwrap();
        sent["choices"][0]["delta"].clone()
    };
    for empty in [json!({}), json!({"content": null, "reasoning": ""})] {
        assert_eq!(last(empty.clone()), json!({"content": ""}), "{empty}");
    }
    for odd in [
        json!({"content": ""}),
        json!({"reasoning": "a"}),
        json!({"tool_calls": [{"function": {"name": "f"}}]}),
    ] {
        assert_eq!(last(odd.clone()), json!({}), "{odd}");
    }
}

#[test]
fn a_rule_for_links_holds_for_both_names_of_the_reasoning() {
    let refuses = Document {
        answer_links: Some(AnswerLinks::Refuse),
        ..document(Api::Chat)
    };
    for name in ["content", "refusal", "reasoning", "reasoning_content"] {
        let text = json!({name: "![x](http://u)"});
        let complete = json!({"choices": [{"message": text}]});
        assert!(checked(&refuses, &complete).is_err(), "{name}");
        let mut checker = ChunkChecker::new(refuses.clone(), "m", REQUEST_ID);
        let piece = json!({"choices": [{"delta": text}]});
        assert!(chunk(&mut checker, piece).is_err(), "{name}");
    }
    let parts = json!([{"text": "![x]"}, {"text": "(http://u)"}]);
    let complete = json!({"choices": [{"message": {"content": parts}}]});
    assert!(
        checked(&refuses, &complete).is_err(),
        "over parts of a content"
    );
}

#[test]
fn a_call_may_lack_its_id_its_index_and_the_text_of_its_arguments() {
    let function = |arguments: Value| json!({"function": {"name": "f", "arguments": arguments}});
    let calls = [function(json!({"a": [1, "\""]})), function(Value::Null)];
    let sent = message(json!({"tool_calls": calls})).unwrap();
    for (index, arguments) in [(0, r#"{"a":[1,"\""]}"#), (1, "{}")] {
        let call = &sent["tool_calls"][index];
        assert_eq!(call["id"], format!("call_id-1_0_{index}"));
        assert_eq!(call["function"]["arguments"], arguments);
    }
    let sent = deltas(&[
        json!({"tool_calls": [function(json!({"a": 1})), function(json!("{"))]}),
        json!({"tool_calls": [{"function": {"arguments": "}"}}]}),
    ]);
    let sent = sent.unwrap();
    let first = &sent[0]["tool_calls"];
    assert_eq!(first[0]["function"]["arguments"], "{\"a\":1}");
    assert_eq!(
        (&first[0]["index"], &first[1]["index"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(first[1]["id"], "call_id-1_0_1");
    assert_eq!(
        sent[1],
        json!({"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]})
    );
    // A name is what the caller acts on.
    for call in [
        json!({}),
        json!({"function": {}}),
        json!({"function": {"name": null}}),
    ] {
        assert!(message(json!({"tool_calls": [call]})).is_err());
    }
    let name = "f".repeat(129);
    assert!(message(json!({"tool_calls": [{"id": "a", "function": {"name": name}}]})).is_err());
}

#[test]
fn a_single_call_may_stand_for_a_list_of_one() {
    let call = json!({"id": "a", "index": 0, "function": {"name": "f", "arguments": "{}"}});
    let sent = message(json!({"tool_calls": call})).unwrap();
    assert_eq!(sent["tool_calls"][0]["id"], "a");
    let sent = deltas(&[json!({"tool_calls": call})]).unwrap();
    assert_eq!(sent[0]["tool_calls"][0]["id"], "a");
    for odd in [json!("f"), json!(1), json!([1]), json!({"function": 1})] {
        assert!(message(json!({"tool_calls": odd})).is_err(), "{odd}");
        assert!(deltas(&[json!({"tool_calls": odd})]).is_err(), "{odd}");
    }
}

#[test]
fn calls_with_one_index_are_numbered() {
    // As vLLM and SGLang have streamed several calls, and gateways those of Gemini.
    let piece = |id: &str, function: Value| json!({"tool_calls": [{"index": 0, "id": id, "function": function}]});
    let sent = deltas(&[
        piece("a", json!({"name": "f", "arguments": ""})),
        piece("", json!({"name": null, "arguments": "{}"})),
        piece("b", json!({"name": "f", "arguments": ""})),
        piece("", json!({"arguments": "{}"})),
    ]);
    let sent = sent.unwrap();
    let indexes: Vec<_> = sent
        .iter()
        .map(|delta| &delta["tool_calls"][0]["index"])
        .collect();
    assert_eq!(indexes, [&json!(0), &json!(0), &json!(1), &json!(1)]);
}

#[test]
fn an_id_that_no_request_could_carry_is_replaced_in_each_piece() {
    let id = |bytes: usize| "x".repeat(bytes);
    for (bytes, expected) in [(128, id(128)), (129, "call_id-1_0_0".to_owned())] {
        let call = json!({"id": id(bytes), "function": {"name": "f"}});
        let sent = message(json!({"tool_calls": [call]})).unwrap();
        assert_eq!(sent["tool_calls"][0]["id"], json!(expected));
        let pieces = [json!({"name": "f"}), json!({"arguments": "{}"})];
        let pieces = pieces.map(
            |function| json!({"tool_calls": [{"index": 0, "id": id(bytes), "function": function}]}),
        );
        let sent = deltas(&pieces).unwrap();
        assert_eq!(sent[0]["tool_calls"][0]["id"], json!(expected));
        assert_eq!(sent[1]["tool_calls"][0].get("id"), None);
    }
}

#[test]
fn an_id_and_a_name_that_are_repeated_with_each_piece_are_sent_once() {
    // As NVIDIA NIM has streamed the calls of MiniMax models, and gateways those of GLM.
    let piece = |id: Value, name: Value, arguments: &str| {
        let function = json!({"name": name, "arguments": arguments});
        json!({"tool_calls": [{"index": 0, "id": id, "type": "function", "function": function}]})
    };
    let sent = deltas(&[
        piece(json!("c1"), json!("look_up"), ""),
        piece(json!("c1"), json!("look_up"), "{\"q\":"),
        piece(json!("c1"), json!("look_up"), "1}"),
    ]);
    let first = json!({"role": "assistant", "tool_calls": [{"index": 0, "id": "c1", "type": "function",
        "function": {"name": "look_up", "arguments": ""}}]});
    let rest = |arguments: &str| json!({"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]});
    assert_eq!(sent.unwrap(), [first, rest("{\"q\":"), rest("1}")]);
    // Fragments of a name stay.
    let sent = deltas(&[
        piece(json!("c1"), json!("look"), ""),
        piece(json!("c1"), json!("_up"), ""),
        piece(json!("c2"), Value::Null, "{}"),
    ]);
    let sent = sent.unwrap();
    let of = |at: usize| &sent[at]["tool_calls"][0];
    assert_eq!(of(0)["function"]["name"], "look");
    assert_eq!(of(1)["function"]["name"], "_up");
    assert_eq!((of(1).get("id"), of(2).get("id")), (None, None));
}

#[test]
fn a_repeated_name_is_one_name_where_other_functions_are_refused() {
    let offers = Document {
        offered_calls: OfferedCalls::Named(vec!["look_up".to_owned()]),
        ..document(Api::Chat)
    };
    for (names, passes) in [
        (&["look_up", "look_up"][..], true),
        (&["look", "_up", "look_up"], true),
        (&["look_up", "_other"], false),
        (&["look", "look"], false),
    ] {
        let mut checker = ChunkChecker::new(offers.clone(), "m", REQUEST_ID);
        let is_refused = names.iter().any(|name| {
            let call = json!({"index": 0, "id": "c1", "function": {"name": name}});
            let piece = json!({"choices": [{"delta": {"tool_calls": [call]}}]});
            chunk(&mut checker, piece).is_err()
        });
        assert_eq!(!is_refused, passes, "{names:?}");
    }
}

#[test]
fn ids_and_names_have_no_characters_that_the_next_request_may_not_have() {
    let call = |arguments: &str| json!({"id": "f\n:0", "function": {"name": "f\u{202e}", "arguments": arguments}});
    let written = json!({"name": "f", "arguments": "{}"});
    let sent = message(json!({"content": "a\0", "tool_calls": [call("{}\0")]})).unwrap();
    assert_eq!(sent["content"], "a");
    let expected = json!([{"id": "f:0", "type": "function", "function": written}]);
    assert_eq!(sent["tool_calls"], expected);
    let sent = deltas(&[json!({"content": "a\0", "tool_calls": [call("{}\0")]})]).unwrap();
    let expected = json!([{"index": 0, "id": "f:0", "type": "function", "function": written}]);
    assert_eq!(sent[0]["content"], "a");
    assert_eq!(sent[0]["tool_calls"], expected);
    // An id of such characters alone is none.
    let hidden = json!({"id": "\n", "function": {"name": "f"}});
    let sent = message(json!({"tool_calls": [hidden]})).unwrap();
    assert_eq!(sent["tool_calls"][0]["id"], "call_id-1_0_0");
}

#[test]
fn an_index_may_be_missing_and_stays_within_what_was_requested() {
    let two = Document {
        choices: 2,
        generated: 2,
        ..document(Api::Chat)
    };
    let choice = |index: Value| match index {
        Value::Null => json!({"message": {"content": "a"}}),
        index => json!({"index": index, "message": {"content": "a"}}),
    };
    for (indexes, expected) in [
        (vec![json!(null), json!(null)], Some(vec![0, 1])),
        (vec![json!(1.0), json!(0)], Some(vec![1, 0])),
        (vec![json!(1), json!(null)], None),
        (vec![json!(2)], None),
        (vec![json!(-1)], None),
        (vec![json!("0")], None),
        (vec![json!(null); 3], None),
    ] {
        let choices: Vec<_> = indexes.iter().cloned().map(choice).collect();
        let answer = checked(&two, &json!({"choices": choices}));
        let sent = answer.ok().map(|answer| {
            let body: Value = serde_json::from_slice(&answer.body).unwrap();
            let choices = body["choices"].as_array().unwrap();
            let index = |choice: &Value| choice["index"].as_u64().unwrap();
            choices.iter().map(index).collect::<Vec<_>>()
        });
        assert_eq!(sent, expected, "{indexes:?}");
    }
    let piece = || json!({"choices": [{"delta": {"content": "a"}}]});
    let mut single = ChunkChecker::new(document(Api::Chat), "m", REQUEST_ID);
    assert_eq!(
        chunk(&mut single, piece()).unwrap().unwrap()["choices"][0]["index"],
        0
    );
    let mut several = ChunkChecker::new(two, "m", REQUEST_ID);
    assert!(
        chunk(&mut several, piece()).is_err(),
        "of which choice is not known"
    );
}

#[test]
fn a_chunk_has_a_bounded_number_of_elements() {
    let empty = |count: usize| vec![json!({}); count];
    let calls = |count: usize| json!([{"delta": {"tool_calls": empty(count)}}]);
    for (choices, passes) in [
        (Value::Array(empty(1_024)), true),
        (Value::Array(empty(1_025)), false),
        (calls(32), true),
        (calls(33), false),
    ] {
        let mut checker = ChunkChecker::new(document(Api::Chat), "m", REQUEST_ID);
        let sent = chunk(&mut checker, json!({"choices": choices}));
        assert_eq!(sent.is_ok(), passes, "{sent:?}");
    }
}

#[test]
fn a_chunk_may_lack_choices_only_if_it_reports_usage() {
    let usage = json!({"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2});
    for (event, passes) in [
        (json!({"choices": [], "usage": null}), true),
        (json!({"usage": usage}), true),
        (json!({"choices": null, "usage": usage}), true),
        (
            json!({"choices": [{"finish_reason": "stop"}], "created": 1.5}),
            true,
        ),
        (
            json!({"choices": [{"delta": null, "finish_reason": ""}]}),
            true,
        ),
        (json!({"type": "ping"}), true),
        (json!({}), false),
        (json!({"type": "error"}), false),
        (json!({"choices": null}), false),
        (json!({"error": {"message": "secret"}}), false),
        (json!({"choices": [{"delta": {"content": {}}}]}), false),
    ] {
        let mut checker = ChunkChecker::new(document(Api::Chat), "m", REQUEST_ID);
        assert_eq!(
            chunk(&mut checker, event.clone()).is_ok(),
            passes,
            "{event}"
        );
    }
}

#[test]
fn a_stream_is_complete_once_each_requested_choice_has_its_finish_reason() {
    let two = Document {
        choices: 2,
        ..document(Api::Completions)
    };
    let mut checker = ChunkChecker::new(two, "m", REQUEST_ID);
    for (index, reason, expected) in [
        (0, Value::Null, false),
        (0, json!("stop"), false),
        (1, json!(""), false),
        (1, json!("length"), true),
    ] {
        let choice = json!({"index": index, "text": "a", "finish_reason": reason});
        chunk(&mut checker, json!({"choices": [choice]})).unwrap();
        assert_eq!(checker.is_complete(), expected, "{index} {reason}");
    }
}

/// What the caller gets of a usage, the charged tokens, and whether it counts as faulty.
fn usage(api: Api, usage: &Value) -> Result<(Value, Option<u64>, bool), BackendError> {
    let mut answer = json!({"usage": usage});
    if api == Api::Embeddings {
        answer["data"] = json!([{"embedding": [1]}]);
    } else {
        answer["choices"] = json!([{"message": {"content": "a"}}]);
    }
    let checked = checked(&document(api), &answer)?;
    let body: Value = serde_json::from_slice(&checked.body).unwrap();
    let sent = body["usage"].clone();
    Ok((sent, checked.tokens, checked.has_faulty_usage))
}

#[test]
fn of_a_usage_that_does_not_add_up_the_larger_count_is_charged() {
    let counts = |prompt: Value, completion: Value, total: Value| json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total});
    let sent = |prompt: u64, completion: u64, total: u64| {
        counts(json!(prompt), json!(completion), json!(total))
    };
    let none = Value::Null;
    let most = (1_u64 << 53) - 1;
    for (reported, expected) in [
        (
            counts(json!(5), json!(3), json!(8)),
            (sent(5, 3, 8), Some(8), false),
        ),
        (
            counts(json!(5.0), json!(3), none.clone()),
            (sent(5, 3, 8), Some(8), false),
        ),
        // Reasoning apart, and too small a total.
        (
            counts(json!(5), json!(3), json!(20)),
            (sent(5, 3, 20), Some(20), true),
        ),
        (
            counts(json!(5), json!(3), json!(0)),
            (sent(5, 3, 8), Some(8), true),
        ),
        (
            counts(json!(5), none.clone(), json!(9)),
            (sent(5, 4, 9), Some(9), false),
        ),
        (
            counts(none.clone(), json!(3), json!(9)),
            (sent(6, 3, 9), Some(9), false),
        ),
        // No usage.
        (json!(null), (none.clone(), None, false)),
        (json!({}), (none.clone(), None, false)),
        (
            counts(none.clone(), none.clone(), none.clone()),
            (none.clone(), None, false),
        ),
        // The cost is not known.
        (
            counts(json!(5), none.clone(), none.clone()),
            (none.clone(), None, true),
        ),
        (
            counts(none.clone(), json!(3), none.clone()),
            (none.clone(), None, true),
        ),
        (
            counts(json!(-1), json!(3), json!(8)),
            (none.clone(), None, true),
        ),
        (
            counts(json!(5), json!(3), json!(8.5)),
            (none.clone(), None, true),
        ),
        (
            counts(json!(5), json!("3"), json!(8)),
            (none.clone(), None, true),
        ),
        (
            counts(json!(most), json!(3), json!(8)),
            (none.clone(), None, true),
        ),
        (
            counts(json!(u64::MAX), json!(3), json!(8)),
            (none.clone(), None, true),
        ),
    ] {
        assert_eq!(usage(Api::Chat, &reported), Ok(expected), "{reported}");
    }
    let reported = json!({"prompt_tokens": 5});
    let expected = json!({"prompt_tokens": 5, "total_tokens": 5});
    assert_eq!(
        usage(Api::Embeddings, &reported),
        Ok((expected, Some(5), false))
    );
    let beyond = counts(json!(5), json!(18), json!(23));
    assert!(
        usage(Api::Chat, &beyond).is_err(),
        "more tokens than requested"
    );
}

#[test]
fn details_of_usage_are_counts_within_the_total() {
    let reported = json!({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8, "reasoning_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 9, "other": {"a": 1}},
        "completion_tokens_details": {"accepted_prediction_tokens": -1, "rejected_prediction_tokens": "1", "audio_tokens": null}});
    let (sent, tokens, is_faulty) = usage(Api::Chat, &reported).unwrap();
    let expected = json!({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 4}, "completion_tokens_details": {"reasoning_tokens": 2}});
    assert_eq!((sent, tokens, is_faulty), (expected, Some(8), false));
}

#[test]
fn a_stream_is_charged_for_its_largest_usage_unless_one_cannot_be_read() {
    let report = |prompt: i64, completion: i64| {
        let total = prompt + completion;
        json!({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}})
    };
    for (reports, expected) in [
        (&[(5, 0), (5, 2), (5, 3)][..], (Some(8), false)),
        (&[(5, 3), (0, 0)], (Some(8), false)),
        (&[(5, 1), (-1, 3)], (None, true)),
        (&[(-1, 3), (5, 1)], (None, true)),
    ] {
        let mut checker = ChunkChecker::new(document(Api::Chat), "m", REQUEST_ID);
        for (prompt, completion) in reports {
            chunk(&mut checker, report(*prompt, *completion)).unwrap();
        }
        let tally = checker.tally();
        assert_eq!((tally.tokens(), tally.is_faulty()), expected, "{reports:?}");
    }
    let mut checker = ChunkChecker::new(document(Api::Chat), "m", REQUEST_ID);
    chunk(&mut checker, report(1, 1)).unwrap();
    assert!(chunk(&mut checker, report(1, 18)).is_err());
    assert_eq!(checker.tally().tokens(), None);
}

#[test]
fn a_compressed_answer_is_a_fault_with_its_cause() {
    let of = |codings: &[&str]| {
        let mut headers = HeaderMap::new();
        for coding in codings {
            headers.append("content-encoding", coding.parse().unwrap());
        }
        check_coding(&headers).map_err(|error| error.to_string())
    };
    for codings in [&[][..], &["identity"], &["Identity"], &["", "identity"]] {
        assert_eq!(of(codings), Ok(()), "{codings:?}");
    }
    for codings in [&["gzip"][..], &["identity", "br"], &["gzip, identity"]] {
        let cause = of(codings).unwrap_err();
        let expected = "turn compression off at the server";
        assert!(cause.ends_with(expected), "{cause}");
    }
}

#[test]
fn members_of_other_apis_beside_a_text_do_not_matter() {
    let answer = json!({"id": null, "object": 1, "created": "now", "model": [], "service_tier": null, "system_fingerprint": "",
        "choices": [{"text": null, "logprobs": {"content": [{"token": "a"}]}, "finish_reason": false, "stop_reason": 1}], "timings": {}});
    let answer = checked(&document(Api::Completions), &answer).unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let choice = json!({"index": 0, "text": "", "logprobs": null, "finish_reason": null});
    assert_eq!(
        body,
        json!({"id": "cmpl-id-1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]})
    );
}

#[test]
fn log_probabilities_and_details_of_another_form_are_left_out() {
    // Together writes an empty list for what was not requested.
    for odd in [json!([]), json!([1]), json!("none"), json!(0), json!(false)] {
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5,
            "prompt_tokens_details": odd, "completion_tokens_details": odd});
        let message = json!({"role": "assistant", "content": "a"});
        let answer = json!({"usage": usage, "choices": [
            {"index": 0, "message": message, "logprobs": odd, "finish_reason": "stop"}]});
        let response = checked(&document(Api::Chat), &answer).unwrap();
        assert_eq!(
            (response.tokens, response.has_faulty_usage),
            (Some(5), false)
        );
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(body["choices"][0]["message"]["content"], json!("a"));
        assert_eq!(body["choices"][0].get("logprobs"), None);
        assert_eq!(body["usage"].get("prompt_tokens_details"), None);

        let text = json!({"choices": [{"text": "a", "logprobs": odd}]});
        assert!(checked(&document(Api::Completions), &text).is_ok());
        let delta = json!({"index": 0, "delta": {"content": "a"}, "logprobs": odd});
        let mut checker = ChunkChecker::new(document(Api::Chat), "m", REQUEST_ID);
        let sent = chunk(&mut checker, json!({"choices": [delta]})).unwrap();
        assert_eq!(sent.unwrap()["choices"][0].get("logprobs"), None);
        let text = json!({"index": 0, "text": "a", "logprobs": odd});
        let mut checker = ChunkChecker::new(document(Api::Completions), "m", REQUEST_ID);
        assert!(chunk(&mut checker, json!({"choices": [text]})).is_ok());
    }
    // An object with entries of another kind is still a fault.
    let message = json!({"role": "assistant", "content": "a"});
    let answer = json!({"choices": [{"message": message, "logprobs": {"content": [1]}}]});
    assert!(checked(&document(Api::Chat), &answer).is_err());
}
