//! The policy of a server with OpenAI's API. Its list of models has names only, so the bounds are
//! defaults. A context's length, if the server says it, bounds prompts and answers.

use std::collections::BTreeSet;

use tensorgate_cli_common::ui::printable;

use super::super::import::TextModel;
use super::plain;

/// Name of the backend.
pub(super) const BACKEND: &str = "llm";
/// Maximum prompt without a known context, bytes.
const PROMPT_BYTES: u64 = 128 << 10;
/// Minimum and maximum prompt by the context, bytes. The default policy holds 8 MiB of a body.
const LEAST_PROMPT_BYTES: u64 = 4 << 10;
const MOST_PROMPT_BYTES: u64 = 4 << 20;
/// Bytes of a usual token.
const BYTES_A_TOKEN: u64 = 4;
/// Maximum answer without a known context, tokens.
const ANSWER_TOKENS: u64 = 1_024;
/// Maximum answer by the context, tokens: at most a quarter of it, since the gate always asks for
/// one, and servers refuse a prompt that leaves no room for it.
const MOST_ANSWER_TOKENS: u64 = 4_096;
/// Maximum length of a model's name in a policy.
const MAX_NAME_BYTES: usize = 128;
/// Maximum characters of a name in a message.
const MAX_SHOWN_CHARS: usize = 128;
/// Parts of the names of models that embed texts.
const EMBEDDERS: [&str; 10] = [
    "embed",
    "bge-",
    "e5-",
    "gte-",
    "gtr-",
    "labse",
    "minilm",
    "mpnet",
    "sentence-t",
    "stella_",
];

/// A model of the policy.
pub(super) struct NamedModel<'m> {
    /// Its name in the policy, which clients use.
    pub(super) name: String,
    model: &'m TextModel,
}

impl NamedModel<'_> {
    /// Whether the server or its name says that it embeds texts. Few servers say it.
    pub(super) fn embeds(&self) -> bool {
        let name = self.name.to_ascii_lowercase();
        self.model.embeds || EMBEDDERS.iter().any(|part| name.contains(part))
    }
}

/// The models with names for a policy, and a note about each other one.
pub(super) fn named(models: &[TextModel]) -> (Vec<NamedModel<'_>>, Vec<String>) {
    let (mut named, mut notes) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for model in models {
        let name = model.id.replace(':', "-");
        let shown: String = model.id.chars().take(MAX_SHOWN_CHARS).collect();
        let shown = printable(&shown);
        if !is_name(&name) || !names.insert(name.clone()) {
            notes.push(format!(
                "model {shown} is left out: give it a name of letters, digits, `.`, `_`, `-` and single `/` at the server (vLLM: --served-model-name)"
            ));
            continue;
        }
        if name != model.id {
            notes.push(format!("clients call model {shown} {name}"));
        }
        named.push(NamedModel { name, model });
    }
    (named, notes)
}

/// Whether a policy takes a name.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.');
    name.len() <= MAX_NAME_BYTES && name.bytes().all(plain) && name.split('/').all(is_part)
}

/// The section `models`, with the special tokens of the model if they are known.
pub(super) fn section(models: &[NamedModel<'_>], tokens: &[String]) -> String {
    let mut yaml = String::from("models:\n");
    for named in models {
        let (name, id) = (plain(&named.name), plain(&named.model.id));
        yaml.push_str(&format!(
            "  {name}:
    backend: {BACKEND}
    backend_model: {id}
    versions: [\"1\"]
    protocols: [openai]
"
        ));
        if named.embeds() {
            yaml.push_str(
                "    openai:
      profile: sdk    # the usual members of SDKs, within bounds
      # It embeds texts, as its name or the server says: adjust the bounds to the model.
      embeddings: {max_items: 64, max_item_bytes: 32KiB}
",
            );
        } else {
            yaml.push_str(&chat(named.model));
        }
        yaml.push_str(&tokenizer_rules(named.model, tokens));
    }
    yaml
}

/// What is known of the model's tokenizer and context.
fn tokenizer_rules(model: &TextModel, tokens: &[String]) -> String {
    let mut yaml = String::new();
    if let Some(context) = model.context_tokens {
        yaml.push_str(&format!(
            "      context_tokens: {context}    # as the server says: no request costs more of a budget\n"
        ));
    }
    if !tokens.is_empty() {
        yaml.push_str(
            "      # The special tokens of its tokenizer: no others are looked for in texts.\n",
        );
        yaml.push_str("      only_special_tokens:\n");
    }
    for token in tokens {
        yaml.push_str(&format!("        - {}\n", plain(token)));
    }
    yaml
}

fn chat(model: &TextModel) -> String {
    let by_context = |tokens: u64| {
        let bytes = tokens.saturating_mul(BYTES_A_TOKEN);
        let bytes = bytes.clamp(LEAST_PROMPT_BYTES, MOST_PROMPT_BYTES);
        (bytes, (tokens / 4).clamp(1, MOST_ANSWER_TOKENS))
    };
    let (prompt_bytes, tokens) =
        (model.context_tokens).map_or((PROMPT_BYTES, ANSWER_TOKENS), by_context);
    let about = match model.context_tokens {
        Some(context) => format!("the server's context has {context} tokens"),
        None => "defaults: adjust them to the model's context".to_owned(),
    };
    let compiled = if model.compiles_tools {
        ", compiled: true"
    } else {
        ""
    };
    format!(
        "    openai:
      profile: sdk    # the usual members of SDKs, within bounds
      chat:
        max_messages: 256
        # Prompts and answers: {about}.
        max_message_bytes: {prompt_bytes}
        max_prompt_bytes: {prompt_bytes}
        max_tokens: {tokens}
        stream: true
        # `constraints: {{members: [pattern]}}` allows patterns in schemas that the server compiles.
        # A server that compiles the schema of every tool, as llama.cpp and TGI do, is `compiled`.
        tools: {{max: 64, max_bytes: 64KiB{compiled}}}
        response_format: [text, json_object, json_schema]
        max_schema_bytes: 16KiB
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_servers_are_names_of_the_policy_or_left_out() {
        for (id, expected) in [
            ("meta-llama/Llama-3.1-8B", Some("meta-llama/Llama-3.1-8B")),
            ("llama3.2:3b", Some("llama3.2-3b")),
            ("/models/llama", None),
            ("a//b", None),
            ("../a", None),
            ("a\n  admin: x", None),
            ("a\"b", None),
            ("\u{202e}a", None),
            ("", None),
        ] {
            let models = [TextModel {
                id: id.to_owned(),
                context_tokens: None,
                compiles_tools: false,
                embeds: false,
            }];
            let (named, notes) = named(&models);
            let name = named.first().map(|model| model.name.as_str());
            assert_eq!(name, expected, "{id:?}");
            assert_eq!(notes.is_empty(), expected == Some(id), "{notes:?}");
            assert!(notes.iter().all(|note| !note.contains('\n')));
        }
    }
}
