//! Models of the OpenAI API.

use tensorgate_policy::contract::ParameterBound;
use tensorgate_policy::contract::openai::OpenAi;
use tensorgate_policy::policy::Accepts;

use super::*;

/// The fixture with a granted model of that API.
fn with_model() -> Value {
    let mut document = document();
    put(
        &mut document,
        "/backends/llm",
        json!({"kind": "openai", "endpoints": ["http://127.0.0.1:8000"], "max_in_flight": 4, "queue": 4, "timeout_ms": 1000}),
    );
    put(
        &mut document,
        "/models/llama",
        json!({"backend": "llm", "versions": ["1"], "protocols": ["openai"],
            "parameters": {"temperature": {"float": [0, 2]}},
            "openai": {
                "chat": {"max_messages": 4, "max_message_bytes": 100, "max_prompt_bytes": 200, "max_tokens": 16, "stream": true,
                    "tools": {"max": 1, "max_bytes": 100}, "response_format": ["json_schema"], "max_schema_bytes": 100,
                    "images": {"max": 1, "max_bytes": 100, "max_tokens": 10, "media": {"types": ["png"], "max_pixels": 100}}},
                "completions": {"max_prompt_bytes": 100, "max_tokens": 16},
                "embeddings": {"max_item_bytes": 100}}}),
    );
    put(
        &mut document,
        "/grants/3",
        json!({"name": "chat", "clients": ["scorer"], "models": ["llama"], "operations": ["infer", "stream"],
            "rate": {"quota": 10, "window_s": 60}, "cost": {"tokens": 10_000, "window_s": 60}}),
    );
    document
}

/// The fixture with one value of it changed.
pub(super) fn changed(at: &str, value: Value) -> Value {
    let mut document = with_model();
    put(&mut document, at, value);
    document
}

#[test]
fn a_model_of_the_api_is_valid() {
    assert_eq!(warnings(with_model()), Vec::<String>::new());
    for (at, value) in [
        ("image_links", json!({"answers": "escape"})),
        (
            "image_links",
            json!({"answers": "refuse", "requests": "refuse"}),
        ),
        ("unoffered_calls", json!("allow")),
        ("unoffered_calls", json!("refuse")),
        ("cache_salt", json!("per-client")),
        (
            "chat/schemas",
            json!({"max_repetitions": 4096, "max_choices": 1000}),
        ),
    ] {
        let document = changed(&format!("/models/llama/openai/{at}"), value);
        assert_eq!(warnings(document), Vec::<String>::new(), "{at}");
    }
}

#[test]
fn a_model_at_the_server_may_have_a_tag() {
    for (name, passes) in [
        ("llama3.2:3b", true),
        ("hf.co/owner/model:Q4_K_M", true),
        ("a:b:c", false),
        ("a:", false),
        (":b", false),
        ("a:b/c", false),
        ("a:\n", false),
    ] {
        let document = changed("/models/llama/backend_model", json!(name));
        assert_eq!(errors(document).is_empty(), passes, "{name:?}");
    }
}

#[test]
fn each_fault_of_an_openai_model_is_reported_at_its_path() {
    let check = |at: &str, value: Value, path: &str, text: &str| {
        let shown = format!("{at} = {value}");
        let errors = errors(changed(&format!("/models/llama{at}"), value));
        let [error] = errors.as_slice() else {
            panic!("{shown}: {errors:#?}")
        };
        let path = format!("models.llama.{path}: ");
        assert!(error.starts_with(&path), "{shown}: {error}");
        assert!(error.contains(text), "{shown}: {error}");
    };
    let missing = |at: &str, path: &str| check(at, Value::Null, path, "is missing");
    missing("/openai", "openai");
    missing("/backend", "backend");
    missing("/openai/chat/max_messages", "openai.chat.max_messages");
    missing(
        "/openai/chat/max_message_bytes",
        "openai.chat.max_message_bytes",
    );
    missing(
        "/openai/chat/max_prompt_bytes",
        "openai.chat.max_prompt_bytes",
    );
    missing("/openai/chat/max_tokens", "openai.chat.max_tokens");
    missing("/openai/chat/tools/max", "openai.chat.tools.max");
    missing(
        "/openai/chat/max_schema_bytes",
        "openai.chat.max_schema_bytes",
    );
    missing("/openai/chat/images/max", "openai.chat.images.max");
    missing(
        "/openai/chat/images/max_tokens",
        "openai.chat.images.max_tokens",
    );
    missing("/openai/chat/images/media", "openai.chat.images.media");
    missing(
        "/openai/chat/images/media/max_pixels",
        "openai.chat.images.media.max_pixels",
    );
    missing(
        "/openai/completions/max_tokens",
        "openai.completions.max_tokens",
    );
    missing(
        "/openai/embeddings/max_item_bytes",
        "openai.embeddings.max_item_bytes",
    );
    check("/backend", json!("cpu"), "backend", "is not of kind openai");
    check(
        "/backend",
        json!("lm"),
        "backend",
        "there is no backend \"lm\" (llm)",
    );
    check(
        "/versions",
        json!(["1", "2"]),
        "versions",
        "name no version",
    );
    check(
        "/protocols",
        json!(["openai", "oip-rest"]),
        "protocols",
        "has no other protocol",
    );
    check("/preprocess", json!("resize"), "preprocess", "is not for");
    check("/encodings", json!(["gzip"]), "encodings", "is not for");
    check(
        "/parameters/n",
        json!({"int": [1, 2]}),
        "parameters.n",
        "has its own rule",
    );
    check("/openai", json!({}), "openai", "accepts no endpoint");
    check(
        "/openai/chat/max_messages",
        json!(0),
        "openai.chat.max_messages",
        "below the minimum",
    );
    check(
        "/openai/chat/n",
        json!(129),
        "openai.chat.n",
        "above the maximum",
    );
    check(
        "/openai/chat/stop",
        json!(65),
        "openai.chat.stop",
        "above the maximum",
    );
    check(
        "/openai/chat/schemas",
        json!({"max_choices": 0}),
        "openai.chat.schemas.max_choices",
        "below the minimum",
    );
    check(
        "/openai/chat/logprobs",
        json!(21),
        "openai.chat.logprobs",
        "above the maximum",
    );
    check(
        "/openai/chat/roles",
        json!(["root"]),
        "openai.chat.roles[0]",
        "is not known",
    );
    check(
        "/openai/chat/response_format",
        json!(["text"]),
        "openai.chat.max_schema_bytes",
        "has no effect without a member that it bounds",
    );
    check(
        "/openai/chat/images/media/types",
        json!(["png", "tiff"]),
        "openai.chat.images.media.types[1]",
        "is not a picture type of OpenAI's API",
    );
    check(
        "/openai/chat/images/media/types",
        json!(["jpg"]),
        "openai.chat.images.media.types[0]",
        "kind of file",
    );
    check(
        "/openai/completions/best_of",
        json!(0),
        "openai.completions.best_of",
        "below the minimum",
    );
    check(
        "/openai/min_bytes",
        json!(101),
        "openai.min_bytes",
        "above the maximum",
    );
    check(
        "/openai/additional_special_tokens",
        json!(["<a>", "<a>"]),
        "openai.additional_special_tokens[1]",
        "is listed twice",
    );
    for token in ["<", "a>", "<a b>", "<\\a>", "-a", "<\u{200b}"] {
        check(
            "/openai/additional_special_tokens",
            json!([token]),
            "openai.additional_special_tokens[0]",
            "is not a token that can be found in texts",
        );
    }
    check(
        "/parameters/cache_salt",
        json!({"one_of": ["a"]}),
        "parameters.cache_salt",
        "has its own rule",
    );
    check(
        "/openai/image_links",
        json!({}),
        "openai.image_links",
        "has no rule",
    );
    for (member, value) in [
        ("cache_salt", json!("per-client")),
        ("unoffered_calls", json!("refuse")),
    ] {
        let openai = json!({"embeddings": {"max_item_bytes": 100}, member: value});
        let path = format!("openai.{member}");
        check("/openai", openai, &path, "has no effect on these endpoints");
    }
    check(
        "/openai/max_answer_bytes",
        json!("2GiB"),
        "openai.max_answer_bytes",
        "above the maximum",
    );
}

#[test]
fn rules_of_texts_are_valid() {
    for word in ["allow", "escape", "refuse"] {
        let document = changed("/models/llama/openai/special_tokens", json!(word));
        assert_eq!(warnings(document), Vec::<String>::new());
    }
    let mut document = changed(
        "/models/llama/openai/additional_special_tokens",
        json!(["<extra_id_7>", "{{", "~end"]),
    );
    put(&mut document, "/models/llama/openai/min_bytes", json!(0));
    assert_eq!(warnings(document.clone()), Vec::<String>::new());
    put(
        &mut document,
        "/models/llama/openai/special_tokens",
        json!("allow"),
    );
    let errors = errors(document);
    assert!(errors[0].contains("has no effect: special_tokens allows all tokens"));
}

#[test]
fn a_function_call_without_a_second_turn_gives_a_warning() {
    let chat = "/models/llama/openai/chat";
    for (field, value, text) in [
        ("roles", json!(["system", "user"]), "lacks assistant"),
        ("max_messages", json!(2), "is too few for the result"),
    ] {
        let mut document = changed(&format!("{chat}/{field}"), value);
        let found = warnings(document.clone());
        let [warning] = found.as_slice() else {
            panic!("{found:#?}")
        };
        let path = format!("models.llama.openai.chat.{field}: ");
        assert!(warning.starts_with(&path), "{warning}");
        assert!(warning.contains(text), "{warning}");
        put(&mut document, &format!("{chat}/tools"), Value::Null);
        assert_eq!(warnings(document), Vec::<String>::new(), "{field}");
    }
}

#[test]
fn roles_follow_from_what_the_policy_allows() {
    let roles = |listed: Value, has_tools: bool| {
        let mut document = changed("/models/llama/openai/chat/roles", listed);
        if !has_tools {
            put(
                &mut document,
                "/models/llama/openai/chat/tools",
                Value::Null,
            );
        }
        let (policy, _) = validate(&raw(document)).unwrap();
        let model = policy.model(policy.model_id("llama").unwrap()).unwrap();
        let Accepts::OpenAi(rules) = model.accepts() else {
            panic!("takes documents")
        };
        rules.chat.as_ref().unwrap().roles.join(" ")
    };
    for (listed, has_tools, expected) in [
        (json!([]), true, "system user assistant developer tool"),
        (json!([]), false, "system user assistant developer"),
        (json!(["user", "assistant"]), true, "user assistant tool"),
        (json!(["user"]), false, "user"),
        (
            json!(["tool", "developer", "system"]),
            false,
            "tool developer system",
        ),
    ] {
        assert_eq!(roles(listed, has_tools), expected);
    }
}

#[test]
fn streaming_without_a_grant_gives_a_warning() {
    let warnings = warnings(changed("/grants/3/operations", json!(["infer"])));
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:#?}")
    };
    assert!(warning.starts_with("models.llama.openai: "), "{warning}");
    assert!(
        warning.contains("no grant has operation stream"),
        "{warning}"
    );
}

#[test]
fn a_grant_of_pieces_alone_has_limits_of_its_own() {
    let warnings = warnings(changed("/grants/3/operations", json!(["stream"])));
    assert_eq!(warnings, Vec::<String>::new());
    let other = json!({"name": "more", "clients": ["scorer"], "models": ["llama"], "operations": ["stream"]});
    let errors = errors(changed("/grants/4", other));
    assert!(
        errors
            .iter()
            .any(|error| error.contains("both let client \"scorer\" stream model \"llama\"")),
        "{errors:#?}"
    );
}

/// The fixture with constraints.
fn constrained(at: &str, value: Value) -> Value {
    let mut document = changed(
        "/models/llama/openai/chat/constraints",
        json!({"members": ["structured_outputs", "guided_choice", "pattern"], "max_bytes": 100, "max_depth": 2}),
    );
    put(
        &mut document,
        &format!("/models/llama/openai/chat{at}"),
        value,
    );
    document
}

#[test]
fn constraints_are_valid_with_and_without_bounds() {
    assert_eq!(warnings(constrained("/n", json!(1))), Vec::<String>::new());
    for members in [
        json!({"members": ["guided_regex"]}),
        json!({"members": ["pattern", "patternProperties"]}),
        json!({"members": ["ebnf"], "max_bytes": "64KiB", "max_depth": 0}),
        json!({}),
    ] {
        let mut document = constrained("/constraints", members);
        put(&mut document, "/grants/3/cost/tokens", json!(1_000_000));
        assert_eq!(warnings(document), Vec::<String>::new());
    }
}

#[test]
fn each_fault_of_constraints_is_reported_with_its_fix() {
    let check = |at: &str, value: Value, path: &str, text: &str, fix: &str| {
        let shown = format!("{at} = {value}");
        let errors = errors(constrained(at, value));
        let [error] = errors.as_slice() else {
            panic!("{shown}: {errors:#?}")
        };
        let path = format!("models.llama.openai.chat.constraints{path}: ");
        assert!(error.starts_with(&path), "{shown}: {error}");
        assert!(error.contains(text), "{shown}: {error}");
        assert!(error.contains(fix), "{shown}: {error}");
    };
    let members = "/constraints/members";
    check(
        members,
        json!(["structured_outputs", "guided_decoding_backend"]),
        ".members[1]",
        "is not known",
        "guided_regex",
    );
    check(
        members,
        json!(["structured_outputs", "ebnf", "ebnf"]),
        ".members[2]",
        "",
        "",
    );
    check(
        "/constraints",
        json!({"max_bytes": 10}),
        ".max_bytes",
        "has no effect without a member that it bounds",
        "members: [guided_choice]",
    );
    check(
        "/constraints/max_bytes",
        json!(0),
        ".max_bytes",
        "below the minimum",
        "",
    );
    check(
        "/constraints/max_bytes",
        json!("2GiB"),
        ".max_bytes",
        "above the maximum",
        "",
    );
    check(
        "/constraints/max_depth",
        json!(65),
        ".max_depth",
        "above the maximum",
        "",
    );
    for (name, value) in [
        ("patterns", json!({"max": 2, "max_bytes": 128})),
        ("choices", json!({"max": 4, "max_bytes": 16})),
        ("grammars", json!({"max_bytes": "1KiB", "max_rules": 8})),
        ("max_schema_bytes", json!(100)),
    ] {
        check(
            &format!("/constraints/{name}"),
            value,
            &format!(".{name}"),
            "is no longer a rule",
            "remove it; max_bytes: 4KiB and max_depth: 8",
        );
    }
}

#[test]
fn a_limit_below_one_request_names_the_sources_of_its_tokens() {
    let errors = errors(changed("/grants/3/cost/tokens", json!(10)));
    let [error] = errors.as_slice() else {
        panic!("{errors:#?}")
    };
    let shares = "which would always be rejected: 3200 by chat.max_messages (calls); 800 by \
        tools.max_bytes, max_schema_bytes and constraints of chat; 512 by chat.tools (at least ";
    assert!(error.contains(shares), "{error}");
    let cures = ", or openai.context_tokens of the model, or lower chat.max_messages (calls))";
    assert!(error.ends_with(cures), "{error}");
}

#[test]
fn a_limit_need_not_be_above_the_models_context() {
    let mut document = changed("/models/llama/openai/chat/max_tokens", json!(200_000));
    put(&mut document, "/grants/3/cost", Value::Null);
    let context = "/models/llama/openai/context_tokens";
    for (tokens, expected) in [(150_000_u64, 150_000), (8_192, 100_000)] {
        put(&mut document, context, json!(tokens));
        let found = warnings(document.clone());
        let [warning] = found.as_slice() else {
            panic!("{found:#?}")
        };
        let fix = format!("(cost: {{tokens: {expected}, window_s: 60}})");
        assert!(warning.ends_with(&fix), "{warning}");
    }
    for (tokens, is_enough) in [(8_192, true), (8_191, false)] {
        let cost = json!({"tokens": tokens, "window_s": 60});
        put(&mut document, "/grants/3/cost", cost);
        let errors = errors(document.clone());
        assert_eq!(errors.is_empty(), is_enough, "{errors:#?}");
        assert!(
            errors
                .iter()
                .all(|error| error.contains("8192 by the texts"))
        );
    }
    put(&mut document, context, json!(0));
    let errors = errors(document);
    assert!(errors[0].contains("below the minimum"), "{errors:#?}");
}

#[test]
fn a_models_own_tokens_are_valid() {
    let own = "/models/llama/openai/only_special_tokens";
    let mut document = changed(own, json!(["<|im_end|>", "<unused{n}>"]));
    assert_eq!(warnings(document.clone()), Vec::<String>::new());
    let additional = "/models/llama/openai/additional_special_tokens";
    put(&mut document, additional, json!(["<x>"]));
    let found = errors(document);
    let expected = "models.llama.openai.only_special_tokens: lists all tokens of the model";
    assert!(found[0].starts_with(expected), "{found:#?}");
    let numbered: Vec<_> = (0..17).map(|index| format!("<{index}_{{n}}>")).collect();
    for (tokens, text) in [
        (json!(["<a>", "<a>"]), "is listed twice"),
        (json!(["s>"]), "is not a token that can be found"),
        (json!(["<#{n}>"]), "is not a token that can be found"),
        (json!(["<t{n}0>"]), "is not a token that can be found"),
        (json!(["<t{n}{n}>"]), "is not a token that can be found"),
        (json!(numbered), "17 tokens have {n}, at most 16"),
        (
            json!(vec!["<a>"; 1_025]),
            "tokens are too many, at most 1024",
        ),
    ] {
        let found = errors(changed(own, tokens));
        assert!(
            found.iter().any(|error| error.contains(text)),
            "{text}: {found:#?}"
        );
    }
    let mut allowing = changed(own, json!(["<a>"]));
    put(
        &mut allowing,
        "/models/llama/openai/special_tokens",
        json!("allow"),
    );
    assert!(errors(allowing)[0].contains("has no effect: special_tokens allows all tokens"));
}

#[test]
fn keywords_need_schemas() {
    let errors = errors(changed(
        "/models/llama/openai/completions/constraints",
        json!({"members": ["regex", "pattern"]}),
    ));
    let [error] = errors.as_slice() else {
        panic!("{errors:#?}")
    };
    assert!(error.starts_with("models.llama.openai.completions.constraints.members[1]: "));
    assert!(error.contains("keyword of JSON schemas"), "{error}");
}

#[test]
fn parameters_let_no_constraint_in() {
    let errors = errors(changed(
        "/models/llama/parameters/guided_regex",
        json!({"one_of": ["(a+)+"]}),
    ));
    let [error] = errors.as_slice() else {
        panic!("{errors:#?}")
    };
    assert!(error.contains("has its own rule"), "{error}");
}

#[test]
fn a_profile_allows_members_that_no_rule_names() {
    let rules_of = |document: Value| {
        let model = model(document, "llama");
        let Accepts::OpenAi(rules) = model.accepts() else {
            panic!("takes documents")
        };
        (**rules).clone()
    };
    let bound = |rules: &OpenAi, name: &str| {
        let mut rules = rules.parameters.iter();
        let found = rules.find(|(known, _)| known == name);
        found.map(|(_, bound)| bound.clone())
    };
    let mut document = changed("/models/llama/openai/profile", json!("sdk"));
    put(
        &mut document,
        "/models/llama/parameters/store",
        json!({"bool": true}),
    );
    put(&mut document, "/models/llama/ignored", json!(["user"]));
    put(&mut document, "/models/llama/openai/chat/stop", json!(1));
    assert_eq!(warnings(document.clone()), Vec::<String>::new());
    let rules = rules_of(document);
    assert_eq!(bound(&rules, "store"), Some(ParameterBound::Bool));
    assert_eq!(bound(&rules, "user"), None);
    assert_eq!(rules.ignored, ["user"]);
    let seed = ParameterBound::Int(i64::MIN, i64::MAX);
    assert_eq!(bound(&rules, "seed"), Some(seed));
    let chat = rules.chat.as_ref().unwrap();
    assert_eq!((chat.generation.stop, chat.generation.n), (1, 1));
    assert_eq!(chat.generation.logprobs, Some(5));
    assert_eq!(chat.formats, ["json_schema"]);
    let completions = rules.completions.as_ref().unwrap();
    assert_eq!(completions.generation.stop, 4);
    let plain = rules_of(with_model());
    assert_eq!(bound(&plain, "store"), None);
    assert_eq!(plain.chat.unwrap().generation.logprobs, None);
    // All formats, where the policy has none of its own.
    let mut document = changed("/models/llama/openai/profile", json!("sdk"));
    let budget = json!({"tokens": 1_000_000, "window_s": 60});
    put(&mut document, "/grants/3/cost", budget);
    let chat = document.pointer_mut("/models/llama/openai/chat").unwrap();
    let chat = chat.as_object_mut().unwrap();
    chat.remove("response_format");
    chat.remove("max_schema_bytes");
    let chat = rules_of(document).chat.unwrap();
    assert_eq!(chat.formats, ["text", "json_object", "json_schema"]);
    assert_eq!(chat.max_schema_bytes, 8_192);
}

#[test]
fn ignored_members_have_no_rule_of_their_own() {
    let check = |at: &str, value: Value, path: &str, text: &str| {
        let errors = errors(changed(&format!("/models/llama{at}"), value));
        let [error] = errors.as_slice() else {
            panic!("{at}: {errors:#?}")
        };
        assert!(
            error.starts_with(&format!("models.llama.{path}: ")),
            "{error}"
        );
        assert!(error.contains(text), "{error}");
    };
    for name in [
        "messages",
        "tools",
        "max_tokens",
        "stream",
        "cache_salt",
        "guided_json",
    ] {
        check("/ignored", json!([name]), "ignored[0]", "has its own rule");
    }
    let text = "has a rule under parameters";
    check("/ignored", json!(["temperature"]), "ignored[0]", text);
    let metadata = json!({"bool": true});
    let text = "bounds each value";
    check(
        "/parameters/metadata",
        metadata,
        "parameters.metadata",
        text,
    );
}
