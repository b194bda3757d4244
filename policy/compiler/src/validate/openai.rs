//! Models of OpenAI's API: rules per kind of request, and model fields without meaning.

mod generation;
mod ignored;
mod profile;
mod roles;
mod schemas;
mod screening;
mod texts;

use std::collections::{BTreeMap, BTreeSet};

use tensorgate_policy::contract::openai::constraints;
use tensorgate_policy::contract::openai::{
    Chat, Completions, Embeddings, Images, METADATA, OpenAi, Screening, Tools,
};
use tensorgate_policy::contract::{MediaRule, ParameterRules};
use tensorgate_policy::policy::{Accepts, Model, ModelArtifacts, ModelId, Routing, Rules};
use tensorgate_policy::report::{Path, optional, quote};
use tensorgate_policy::request::{Operation, Protocol};
use tensorgate_policy::values::BackendKind;

use super::{items, limits, model_fields, names, parameters};
use crate::raw::{self, ByteSize, Items, ParameterRule, Profile, Within};
use generation::GenerationSpec;
use texts::TextRules;

const FORMATS: [&str; 3] = ["text", "json_object", "json_schema"];

/// Members with their own rules, which `parameters` cannot allow.
const NAMED: [&str; 23] = [
    "model",
    "messages",
    "prompt",
    "input",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "best_of",
    "stop",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "response_format",
    "stream",
    "stream_options",
    "encoding_format",
    "suffix",
    "prompt_embeds",
    "cache_salt",
];

/// Whether a model is of this kind.
pub(super) fn is(raw: &raw::Model) -> bool {
    raw.openai.is_some()
        || raw
            .protocols
            .iter()
            .any(|name| name == Protocol::OpenAi.name())
}

/// A model with documents instead of tensors.
pub(super) fn rules(path: &Path, raw: &raw::Model, policy: &raw::Policy) -> Option<Rules> {
    let backend_path = path.field("backend");
    let backend = backend_path.required(raw.backend.as_ref(), "the name of a backend");
    let kind = backend.and_then(|backend| policy.backends.get(backend)?.kind);
    if kind.is_some_and(|kind| kind != BackendKind::OpenAi) {
        backend_path.error_with_fix(
            "is not of kind openai, which a model of OpenAI's API needs",
            "a backend of kind openai",
        );
    }
    if let Some(backend) = backend
        && !policy.backends.contains_key(backend)
    {
        backend_path.unknown::<_, ()>("backend", backend, policy.backends.keys());
    }
    let backend_model = optional(raw.backend_model.as_ref(), |model| {
        names::served_model(&path.field("backend_model"), model).map(|()| model.clone())
    });
    let versions = versions(&path.field("versions"), &raw.versions);
    let protocols = protocols(&path.field("protocols"), &raw.protocols);
    meaningless(path, raw);
    let hold_bytes = policy.listen.limits.hold_bytes().0;
    let parameters = own_parameters(path, raw);
    let ignored = ignored::ignored(path, raw);
    let rules_path = path.field("openai");
    let fix = "openai: {chat: {…}}";
    let rules = rules_path
        .required(raw.openai.as_ref(), fix)
        .and_then(|raw| endpoints(&rules_path, raw, hold_bytes));
    let openai = raw.openai.as_ref();
    let texts = openai.and_then(|raw| texts::texts(&rules_path, raw));
    let limits = limits::model(
        &path.field("limits"),
        raw.limits.as_ref(),
        &policy.listen.limits,
        true,
    );
    let requires = model_fields::requires(&path.field("requires"), raw.requires.as_ref());
    let EndpointRules {
        chat,
        completions,
        embeddings,
        max_answer_bytes,
        screening,
    } = rules?;
    let TextRules {
        min_bytes,
        special_tokens,
        context_tokens,
    } = texts?;
    let ignored = ignored?;
    Some(Rules {
        decoupled: None,
        limits: limits?,
        encodings: Vec::new(),
        requires: requires?,
        backend: backend
            .filter(|_| kind == Some(BackendKind::OpenAi))?
            .clone(),
        backend_model: backend_model?,
        versions: versions?,
        routing: Routing::default(),
        protocols: protocols?,
        accepts: Accepts::OpenAi(Box::new(OpenAi {
            chat,
            completions,
            embeddings,
            parameters: parameters?,
            ignored: ignored.names,
            ignored_members: ignored.members,
            context_tokens,
            min_bytes,
            special_tokens,
            max_answer_bytes,
            screening,
        })),
        backend_inputs: Vec::new(),
        backend_outputs: Vec::new(),
        returns: Vec::new(),
        preprocess: Vec::new(),
        postprocess: Vec::new(),
        template: None,
        backend_template: None,
        is_guardrail: false,
        artifacts: ModelArtifacts::default(),
    })
}

/// Warns of models with streamed responses that no grant allows.
pub(super) fn streams(
    path: &Path,
    granted: impl Iterator<Item = (ModelId, Operation)>,
    models: &[Model],
) {
    let streamed: BTreeSet<ModelId> = granted
        .filter(|(_, operation)| *operation == Operation::Stream)
        .map(|(model, _)| model)
        .collect();
    for (model, id) in models.iter().zip((0..).map(ModelId)) {
        if let Accepts::OpenAi(rules) = model.accepts()
            && rules.streams()
            && !streamed.contains(&id)
        {
            path.key(model.name()).field("openai").warn(
                "allows streamed answers, and no grant has operation stream",
                "operations: [infer, stream]",
            );
        }
    }
}

fn versions(path: &Path, raw: &raw::Versions) -> Option<Vec<String>> {
    let raw::Versions::Listed(raw) = raw else {
        return path.fail_with_fix(
            "requests of OpenAI's API name no version, so that versions cannot have weights",
            "[\"1\"], and a model for each",
        );
    };
    path.not_empty(raw, "[\"1\"]")?;
    match raw.as_slice() {
        [version] => names::version(&path.index(0), version).map(|()| raw.clone()),
        _ => path.fail_with_fix(
            "requests of OpenAI's API name no version, so that the model can have only one",
            "a model for each",
        ),
    }
}

fn protocols(path: &Path, raw: &[String]) -> Option<Vec<Protocol>> {
    match raw {
        [only] if only == Protocol::OpenAi.name() => Some([Protocol::OpenAi].into()),
        _ => path.fail_with_fix("a model of OpenAI's API has no other protocol", "[openai]"),
    }
}

/// Rejects fields for tensors and handlers.
fn meaningless(path: &Path, raw: &raw::Model) {
    for (name, is_there) in [
        ("inputs", !raw.inputs.is_empty()),
        ("outputs", !raw.outputs.is_empty()),
        ("preprocess", raw.preprocess.is_some()),
        ("accepts", raw.accepts.is_some()),
        ("postprocess", raw.postprocess.is_some()),
        ("returns", raw.returns.is_some()),
        ("encodings", !raw.encodings.is_empty()),
        ("json", raw.json.is_some()),
        ("guardrail", raw.guardrail.is_some()),
        ("sticky", raw.sticky.is_some()),
        ("decoupled", raw.decoupled.is_some()),
        ("ensemble", raw.ensemble.is_some()),
    ] {
        if is_there {
            path.field(name)
                .error_with_fix("is not for a model of OpenAI's API", "remove it");
        }
    }
}

/// Members that are allowed besides those with their own rules: those of the policy, and the others
/// of its profile.
fn own_parameters(path: &Path, raw: &raw::Model) -> Option<ParameterRules> {
    let path = path.field("parameters");
    let mut valid = Some(());
    for (name, rule) in &raw.parameters {
        valid = valid.and(extra_member(&path.key(name), name));
        if name == METADATA && (rule.text.is_none() || rule.max_items.is_some()) {
            valid = path.key(name).fail_with_fix(
                "is an object: its rule bounds each value",
                "text: {max_bytes: 512}",
            );
        }
    }
    valid = valid.and(no_program(&path, &raw.parameters));
    let mut rules = valid.and(parameters::members(&path, &raw.parameters))?;
    let profile = raw.openai.as_ref().and_then(|openai| openai.profile);
    if profile == Some(Profile::Sdk) {
        for (name, bound) in profile::sdk_members() {
            if !raw.parameters.contains_key(name) && !raw.ignored.iter().any(|own| own == name) {
                rules.push((name.into(), bound));
            }
        }
    }
    Some(rules)
}

/// Members that are programs: a chat template, and what SGLang and vLLM load as Python.
const PROGRAMS: [&str; 3] = [
    "chat_template",
    "custom_logit_processor",
    "logits_processors",
];

/// Rejects a program of the caller, at any depth.
fn no_program(path: &Path, rules: &BTreeMap<String, ParameterRule>) -> Option<()> {
    let mut valid = Some(());
    for (name, rule) in rules {
        let path = path.key(name);
        if PROGRAMS.contains(&name.as_str()) {
            valid = path.fail_with_fix("is a program that the server would run", "remove it");
        }
        if let Some(members) = &rule.object {
            valid = valid.and(no_program(&path.field("object"), members));
        }
    }
    valid
}

/// Rejects a member that has its own rule.
fn extra_member(path: &Path, name: &str) -> Option<()> {
    if NAMED.contains(&name) || constraints::is_member(name) {
        return path.fail_with_fix(
            "is not an extra member: it has its own rule under openai, or is never accepted",
            "remove it",
        );
    }
    Some(())
}

/// The rules of each kind of request and of its answer.
struct EndpointRules {
    chat: Option<Chat>,
    completions: Option<Completions>,
    embeddings: Option<Embeddings>,
    max_answer_bytes: usize,
    screening: Screening,
}

fn endpoints(path: &Path, raw: &raw::OpenAi, hold_bytes: u64) -> Option<EndpointRules> {
    if raw.chat.is_none() && raw.completions.is_none() && raw.embeddings.is_none() {
        return path.fail_with_fix("accepts no endpoint", "chat, completions or embeddings");
    }
    let rules = Reader {
        hold_bytes,
        profile: raw.profile,
    };
    let chat = raw
        .chat
        .as_ref()
        .map(|raw| rules.chat(&path.field("chat"), raw));
    let completions = raw
        .completions
        .as_ref()
        .map(|raw| rules.completions(&path.field("completions"), raw));
    let embeddings = raw
        .embeddings
        .as_ref()
        .map(|raw| rules.embeddings(&path.field("embeddings"), raw));
    let answer = raw.max_answer_bytes.check(&path.field("max_answer_bytes"));
    // The outer `Option` is validity, as everywhere in these modules.
    let chat = chat.map_or(Some(None), |chat| chat.map(Some));
    let completions = completions.map_or(Some(None), |rule| rule.map(Some));
    let embeddings = embeddings.map_or(Some(None), |rule| rule.map(Some));
    let screening = screening::rules(path, raw);
    Some(EndpointRules {
        chat: chat?,
        completions: completions?,
        embeddings: embeddings?,
        max_answer_bytes: answer?,
        screening: screening?,
    })
}

struct Reader {
    hold_bytes: u64,
    profile: Option<Profile>,
}

impl Reader {
    fn chat(&self, path: &Path, raw: &raw::Chat) -> Option<Chat> {
        let max_messages = self.number(&path.field("max_messages"), raw.max_messages, "64");
        let max_message_bytes = self.bytes(&path.field("max_message_bytes"), raw.max_message_bytes);
        let max_prompt_bytes = self.bytes(&path.field("max_prompt_bytes"), raw.max_prompt_bytes);
        let roles = self.words(&path.field("roles"), &raw.roles, &roles::ROLES);
        let formats = match self.profile {
            Some(Profile::Sdk) if raw.response_format.is_empty() => {
                FORMATS.map(String::from).to_vec()
            }
            Some(Profile::Sdk) | None => raw.response_format.clone(),
        };
        let schemas = formats.iter().any(|word| word == "json_schema");
        let compiles = raw.tools.is_some() || schemas;
        let generation = self.generation(
            path,
            &GenerationSpec {
                max_tokens: raw.max_tokens,
                n: raw.n,
                stop: raw.stop,
                stream: raw.stream,
                logprobs: raw.logprobs,
                constraints: raw.constraints.as_ref(),
                schemas: compiles,
            },
        );
        let tools = raw.tools.as_ref().map(|raw| {
            let path = path.field("tools");
            let max = self.number(&path.field("max"), raw.max, "8");
            let max_bytes = self.bytes(&path.field("max_bytes"), raw.max_bytes);
            Some(Tools {
                max: max?,
                max_bytes: max_bytes?,
                compiled: raw.compiled,
            })
        });
        let formats_path = path.field("response_format");
        let formats = self.words(&formats_path, &formats, &FORMATS);
        let schema_path = path.field("max_schema_bytes");
        let max_schema_bytes = match raw.max_schema_bytes {
            None if !schemas => Some(0),
            None if raw.response_format.is_empty() => {
                let size = ByteSize(profile::SDK_SCHEMA_BYTES.min(self.hold_bytes));
                self.bytes(&schema_path, Some(size))
            }
            size if schemas => self.bytes(&schema_path, size),
            _ => {
                let fix = "response_format: [json_schema]";
                schema_path.fail_with_fix("has no effect without a member that it bounds", fix)
            }
        };
        let compiled = schemas::limits(&path.field("schemas"), raw.schemas.as_ref(), compiles);
        let images = raw.images.as_ref().map(|raw| {
            let path = path.field("images");
            let max = self.number(&path.field("max"), raw.max, "4");
            let max_bytes = self.bytes(&path.field("max_bytes"), raw.max_bytes);
            let tokens_path = path.field("max_tokens");
            let max_tokens = tokens_path
                .required(raw.max_tokens, "max_tokens: 2048")
                .and_then(|tokens| tokens.check(&tokens_path));
            let media_path = path.field("media");
            let fix = "media: {types: [png, jpeg], max_pixels: 4000000}";
            let media = media_path
                .required(raw.media.as_ref(), fix)
                .and_then(|raw| self.pictures(&media_path, raw));
            let url = optional(raw.url.as_ref(), |raw| items::url(&path.field("url"), raw));
            Some(Images {
                max: max?,
                max_bytes: max_bytes?,
                max_tokens: max_tokens?,
                media: media?,
                url: url?,
            })
        });
        let tools = tools.map_or(Some(None), |tools| tools.map(Some));
        let images = images.map_or(Some(None), |images| images.map(Some));
        let roles = roles.map(|roles| roles::with_implied(roles, raw.tools.is_some()));
        if let Some(roles) = roles.as_deref().filter(|_| raw.tools.is_some()) {
            roles::check_second_turns(path, roles, max_messages);
        }
        Some(Chat {
            max_messages: max_messages?,
            max_message_bytes: max_message_bytes?,
            max_prompt_bytes: max_prompt_bytes?,
            roles: roles?,
            generation: generation?,
            tools: tools?,
            formats: formats?,
            max_schema_bytes: max_schema_bytes?,
            schemas: compiled?,
            images: images?,
        })
    }

    /// File types that the API accepts.
    fn pictures(&self, path: &Path, raw: &raw::Media) -> Option<MediaRule> {
        let mut valid = Some(());
        for (index, name) in raw.types.iter().enumerate() {
            if matches!(name.as_str(), "tiff" | "wav") {
                let path = path.field("types").index(index);
                let fix = "png, jpeg, gif or webp";
                valid = path.fail_with_fix("is not a picture type of OpenAI's API", fix);
            }
        }
        valid.and(items::media(path, raw))
    }

    fn completions(&self, path: &Path, raw: &raw::Completions) -> Option<Completions> {
        let max_prompts = self.number(
            &path.field("max_prompts"),
            raw.max_prompts.or(Some(1.into())),
            "1",
        );
        let max_prompt_bytes = self.bytes(&path.field("max_prompt_bytes"), raw.max_prompt_bytes);
        let best_of = raw.best_of.check(&path.field("best_of"));
        let generation = self.generation(
            path,
            &GenerationSpec {
                max_tokens: raw.max_tokens,
                n: raw.n,
                stop: raw.stop,
                stream: raw.stream,
                logprobs: raw.logprobs,
                constraints: raw.constraints.as_ref(),
                schemas: false,
            },
        );
        Some(Completions {
            max_prompts: max_prompts?,
            max_prompt_bytes: max_prompt_bytes?,
            best_of: best_of?,
            generation: generation?,
        })
    }

    fn embeddings(&self, path: &Path, raw: &raw::Embeddings) -> Option<Embeddings> {
        let max_items = self.number(
            &path.field("max_items"),
            raw.max_items.or(Some(1.into())),
            "1",
        );
        let max_item_bytes = self.bytes(&path.field("max_item_bytes"), raw.max_item_bytes);
        Some(Embeddings {
            max_items: max_items?,
            max_item_bytes: max_item_bytes?,
        })
    }

    fn number<const MOST: u64>(
        &self,
        path: &Path,
        raw: Option<Within<1, MOST, Items>>,
        fix: &str,
    ) -> Option<usize> {
        path.required(raw, fix)?.check(path)
    }

    fn bytes(&self, path: &Path, raw: Option<ByteSize>) -> Option<usize> {
        let size = path.required(raw, "32KiB")?;
        path.bytes_within(size, 1, self.hold_bytes)
    }

    /// Keywords of a fixed list, each once.
    fn words(&self, path: &Path, raw: &[String], known: &[&str]) -> Option<Vec<String>> {
        let mut valid = path.distinct(raw);
        for (index, word) in raw.iter().enumerate() {
            if !known.contains(&word.as_str()) {
                valid = path
                    .index(index)
                    .fail_with_fix(format!("{} is not known", quote(word)), known.join(", "));
            }
        }
        valid.map(|()| raw.to_vec())
    }
}
