//! Objects and lists among the parameters of OpenAI's API, and pointers among its ignored members.

use tensorgate_policy::contract::ParameterBound;
use tensorgate_policy::contract::openai::Owner;
use tensorgate_policy::policy::Accepts;

use super::openai::changed;
use super::*;

#[test]
fn objects_lists_and_pointers_are_valid_rules() {
    let object = json!({"object": {
        "think": {"bool": true}, "size": {"object": {"edge": {"int": [1, 9]}}}}});
    let mut document = changed("/models/llama/parameters/chat_template_kwargs", object);
    let list = json!({"int": [0, 9], "max_items": 3});
    put(
        &mut document,
        "/models/llama/parameters/stop_token_ids",
        list,
    );
    let ignored = json!(["user", "/messages/*/agent", "/tools/*/function/x"]);
    put(&mut document, "/models/llama/ignored", ignored);
    assert_eq!(warnings(document.clone()), Vec::<String>::new());
    let model = model(document, "llama");
    let Accepts::OpenAi(rules) = model.accepts() else {
        panic!("takes documents")
    };
    let size = ParameterBound::Object(vec![("edge".into(), ParameterBound::Int(1, 9))]);
    let object = vec![
        ("size".into(), size),
        ("think".into(), ParameterBound::Bool),
    ];
    let list = ParameterBound::List(3, Box::new(ParameterBound::Int(0, 9)));
    let expected: Vec<(String, ParameterBound)> = vec![
        (
            "chat_template_kwargs".into(),
            ParameterBound::Object(object),
        ),
        ("stop_token_ids".into(), list),
    ];
    assert_eq!(rules.parameters[..2], expected);
    assert_eq!(rules.ignored, ["user"]);
    let members: Vec<(Owner, String)> = vec![
        (Owner::Message, "agent".into()),
        (Owner::Function, "x".into()),
    ];
    assert_eq!(rules.ignored_members.0, members);
}

#[test]
fn each_fault_of_objects_lists_and_pointers_is_reported() {
    let check = |at: &str, value: Value, path: &str, text: &str| {
        let shown = value.to_string();
        let errors = errors(changed(&format!("/models/llama{at}"), value));
        let [error] = errors.as_slice() else {
            panic!("{at}: {errors:#?}")
        };
        let path = format!("models.llama.{path}: ");
        assert!(error.starts_with(&path), "{shown:.100}: {error}");
        assert!(error.contains(text), "{shown:.100}: {error}");
    };
    let template = "is a program that the server would run";
    for (at, value, path) in [
        ("chat_template", json!({"text": {"max_bytes": 9}}), ""),
        (
            "custom_logit_processor",
            json!({"text": {"max_bytes": 9}}),
            "",
        ),
        (
            "x",
            json!({"object": {"a": {"object": {"chat_template": {"bool": true}}}}}),
            ".object.a.object.chat_template",
        ),
    ] {
        let path = format!("parameters.{at}{path}");
        check(&format!("/parameters/{at}"), value, &path, template);
    }
    let many: serde_json::Map<String, Value> = (0..10_000)
        .map(|index| (format!("m{index}"), json!({"bool": true})))
        .collect();
    let exactly_one = "needs exactly one of";
    for (value, path, text) in [
        (json!({"object": {}}), ".object", "names no member"),
        (
            json!({"object": {"a": {"bool": true}}, "bool": true}),
            "",
            exactly_one,
        ),
        (json!({"object": {"a": {}}}), ".object.a", exactly_one),
        (
            json!({"object": {"a": {"bool": true}}, "max_items": 2}),
            ".max_items",
            "is for lists of scalars",
        ),
        (json!({"max_items": 2}), "", exactly_one),
        (
            json!({"bool": true, "max_items": 0}),
            ".max_items",
            "below the minimum",
        ),
        (
            json!({"object": many}),
            ".object",
            "10000 parameters are too many",
        ),
    ] {
        check("/parameters/x", value, &format!("parameters.x{path}"), text);
    }
    let metadata = json!({"text": {"max_bytes": 5}, "max_items": 2});
    let text = "bounds each value";
    check(
        "/parameters/metadata",
        metadata,
        "parameters.metadata",
        text,
    );
    let checked = "is a member that the gate checks";
    let nowhere = "points at no member that can be ignored";
    for (pointer, text) in [
        ("/messages/*/role", checked),
        ("/messages/*/tool_calls", checked),
        ("/messages/*/reasoning", checked),
        ("/tools/*/function", checked),
        ("/tools/*/function/parameters", checked),
        ("/stream_options/include_usage", checked),
        ("/messages/agent", nowhere),
        ("/messages/0/agent", nowhere),
        ("/messages/*", nowhere),
        ("/messages", nowhere),
        ("/", nowhere),
        ("/chat_template_kwargs/x", nowhere),
        ("/messages/*/", "is empty"),
        ("/messages/*/a b", "allowed"),
    ] {
        check("/ignored", json!([pointer]), "ignored[0]", text);
    }
    let twice = json!(["/messages/*/a", "/messages/*/a"]);
    check("/ignored", twice, "ignored[1]", "is listed twice");
}

#[test]
fn parameters_of_tensors_are_scalars() {
    for (field, rule) in [
        ("object", json!({"object": {"a": {"bool": true}}})),
        ("max_items", json!({"int": [0, 9], "max_items": 2})),
    ] {
        let errors = errors(changed("/models/digits/parameters", json!({"x": rule})));
        let [error] = errors.as_slice() else {
            panic!("{errors:#?}")
        };
        let path = format!("models.digits.parameters.x.{field}: is for models of OpenAI's API");
        assert!(error.starts_with(&path), "{error}");
    }
}
