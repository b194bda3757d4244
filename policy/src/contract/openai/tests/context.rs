//! Costs within the context of a model.

use super::*;

#[test]
fn a_request_costs_no_more_than_the_contexts_that_it_can_fill() {
    let costs = |context_tokens, api, document| {
        let mut rules = rules();
        rules.context_tokens = context_tokens;
        let most = rules.most().tokens;
        let cost = rules.check(api, &document, &mut Err).unwrap().tokens;
        assert!(cost <= most, "{cost} {most}");
        cost
    };
    let chat = |n| {
        let messages = user_message(Value::text("abcdefghij"));
        members([("messages", messages), ("n", Value::Int(n))])
    };
    // 10 bytes, 16 + 64 of the template, 64 generated.
    assert_eq!(costs(None, Api::Chat, chat(1)), 154);
    assert_eq!(costs(Some(1_000), Api::Chat, chat(1)), 154);
    assert_eq!(costs(Some(100), Api::Chat, chat(1)), 100);
    // The prompt is read once.
    assert_eq!(costs(Some(100), Api::Chat, chat(2)), 164);
    assert_eq!(costs(Some(40), Api::Chat, chat(2)), 80);
    let prompts = || Value::Array(vec![Value::text("abc"), Value::text("de")]);
    let completion = || members([("prompt", prompts())]);
    assert_eq!(costs(None, Api::Completions, completion()), 5 + 8 + 128);
    assert_eq!(costs(Some(10), Api::Completions, completion()), 20);
    let embedding = || members([("input", prompts())]);
    assert_eq!(costs(None, Api::Embeddings, embedding()), 13);
    assert_eq!(costs(Some(2), Api::Embeddings, embedding()), 4);
    let mut rules = rules();
    rules.context_tokens = Some(50);
    // 4 candidates for each of 3 prompts.
    assert_eq!(rules.most().tokens, 3 * (50 + 3 * 50));
    assert_eq!(rules.token_shares().len(), 1);
    rules.context_tokens = Some(u64::MAX);
    assert!(rules.token_shares().len() > 1);
}
