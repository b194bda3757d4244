//! Upper bound on the tokens of a request, without a tokenizer. The bound holds for every tokenizer
//! that splits texts into bytes or longer pieces (byte-level BPE, SentencePiece with byte
//! fallback): a normalized text has at most as many tokens as bytes. Allowances for the server's
//! template are constants here. If the policy says the length of the model's context, that is a
//! second bound: a server reads and generates no more than fits.

use alloc::vec::Vec;

use tensorgate_values::json::{Members, Value, member};

use super::constraints::Constraints;
use super::{Chat, Completions, Embeddings, OpenAi};
use crate::contract::RequestCost;

/// Maximum number of function calls in one message.
pub const MAX_CALLS: usize = 32;
/// The role whose messages may have calls.
pub(super) const CALLER: &str = "assistant";
/// Template tokens per conversation: a date, a default instruction, the start of the response.
const TOKENS_AROUND: u64 = 64;
/// Template tokens per message: role, begin and end.
const TOKENS_A_MESSAGE: u64 = 16;
/// Template tokens for tools, once.
const TOKENS_ABOUT_TOOLS: u64 = 512;
/// Template tokens per function call.
const TOKENS_A_CALL: u64 = 32;
/// Expansion of rewritten JSON: schemas are indented, and call arguments are parsed and written
/// again.
const BYTES_WRITTEN_ANEW: u64 = 4;
/// Minimum size of a call's id and name.
const BYTES_OF_A_CALL: usize = 2;
/// Template tokens per single text: begin and end.
const TOKENS_A_TEXT: u64 = 4;

/// Contents of a checked request.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Contents {
    /// Bytes of texts at their maximum length, including calls.
    pub(super) texts: usize,
    /// Bytes of call arguments among them.
    pub(super) arguments: usize,
    /// Function calls.
    pub(super) calls: usize,
    /// Messages, prompts or texts.
    pub(super) items: usize,
    /// Bytes of tools, schemas and output constraints. A template may include them.
    pub(super) schemas: usize,
    /// Bytes of images.
    pub(super) pictures: usize,
    /// Number of images.
    pub(super) images: usize,
    /// Whether the request has tools.
    pub(super) tools: bool,
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl Contents {
    /// Adds the contents of one message.
    pub(super) fn add(&mut self, message: Self) {
        let Self {
            texts,
            arguments,
            calls,
            items,
            schemas,
            pictures,
            images,
            tools,
        } = message;
        for (sum, more) in [
            (&mut self.texts, texts),
            (&mut self.arguments, arguments),
            (&mut self.calls, calls),
            (&mut self.items, items),
            (&mut self.schemas, schemas),
            (&mut self.pictures, pictures),
            (&mut self.images, images),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.tools |= tools;
    }

    /// All bytes.
    fn bytes(&self) -> u64 {
        [self.texts, self.schemas, self.pictures]
            .into_iter()
            .map(number)
            .fold(0, u64::saturating_add)
    }

    /// Tokens of a conversation, each part with what bounds it.
    fn conversation(&self, rule: &Chat) -> [TokenShare; 8] {
        let images = rule.images.as_ref().map_or(0, |images| images.max_tokens);
        let about = if self.tools { TOKENS_ABOUT_TOOLS } else { 0 };
        let texts = self.texts.saturating_sub(self.arguments);
        let anew = |bytes: usize| number(bytes).saturating_mul(BYTES_WRITTEN_ANEW);
        [
            ("chat.max_prompt_bytes", number(texts)),
            (
                "chat.max_prompt_bytes (arguments of calls)",
                anew(self.arguments),
            ),
            (
                "tools.max_bytes, max_schema_bytes and constraints of chat",
                anew(self.schemas),
            ),
            (
                "chat.max_messages",
                number(self.items).saturating_mul(TOKENS_A_MESSAGE),
            ),
            (
                "chat.max_messages (calls)",
                number(self.calls).saturating_mul(TOKENS_A_CALL),
            ),
            (
                "max and max_tokens of chat.images",
                number(self.images).saturating_mul(images),
            ),
            ("chat.tools", about),
            ("the server's template", TOKENS_AROUND),
        ]
    }

    /// Tokens of single texts. They have no template, so the model never sees a schema.
    fn texts(&self) -> u64 {
        let around = number(self.items).saturating_mul(TOKENS_A_TEXT);
        number(self.texts).saturating_add(around)
    }
}

/// What of the policy bounds a part of a request, and its tokens.
pub(crate) type TokenShare = (&'static str, u64);

/// Members that determine how much is generated.
#[derive(Clone, Copy, Debug)]
struct Generated {
    max_tokens: u64,
    choices: u64,
}

impl Generated {
    fn tokens(self) -> u64 {
        self.max_tokens.saturating_mul(self.choices)
    }

    /// Maximum tokens of a text and of all choices for it: each choice shares a context with the
    /// text, which is read once.
    fn within(self, context_tokens: u64) -> u64 {
        let others = self.choices.saturating_sub(1);
        let others = others.saturating_mul(self.max_tokens.min(context_tokens));
        context_tokens.saturating_add(others)
    }
}

/// A checked integer, if present.
fn integer_member(document: &Members<'_>, name: &str) -> Option<u64> {
    match member(document, name) {
        Some(Value::Int(number)) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// The request's limit, or the contract's: the charge equals what the backend receives.
pub(super) fn max_tokens(document: &Members<'_>, most: u64) -> u64 {
    integer_member(document, "max_tokens")
        .or_else(|| integer_member(document, "max_completion_tokens"))
        .unwrap_or(most)
}

impl Chat {
    pub(super) fn cost(
        &self,
        contents: Contents,
        document: &Members<'_>,
        context_tokens: Option<u64>,
    ) -> RequestCost {
        let generated = Generated {
            max_tokens: max_tokens(document, self.generation.max_tokens),
            choices: integer_member(document, "n").unwrap_or(1),
        };
        self.sum(contents, generated, context_tokens)
    }

    fn most(&self, context_tokens: Option<u64>) -> RequestCost {
        let (contents, generated) = self.largest();
        self.sum(contents, generated, context_tokens)
    }

    /// The largest request.
    fn largest(&self) -> (Contents, Generated) {
        let tools = self.tools.as_ref().map_or(0, |tools| tools.max_bytes);
        let constraints = self.generation.constraints.as_ref();
        // The schema of a format, or a constraint.
        let schema = self
            .max_schema_bytes
            .max(constraints.map_or(0, Constraints::most));
        let images = self.images.as_ref();
        // A call costs more than its argument bytes, and arguments more than text: the maximum
        // number of calls, and arguments.
        let calls = self.most_calls();
        let named = calls.saturating_mul(BYTES_OF_A_CALL);
        let arguments = if calls == 0 {
            0
        } else {
            self.max_prompt_bytes.saturating_sub(named)
        };
        let contents = Contents {
            texts: self.max_prompt_bytes,
            arguments,
            calls,
            items: self.max_messages,
            schemas: tools.saturating_add(schema),
            pictures: images.map_or(0, |images| images.max.saturating_mul(images.max_bytes)),
            images: images.map_or(0, |images| images.max),
            tools: self.tools.is_some(),
        };
        let generated = Generated {
            max_tokens: self.generation.max_tokens,
            choices: self.generation.n,
        };
        (contents, generated)
    }

    /// Maximum number of calls in a conversation: each has an id and a name.
    fn most_calls(&self) -> usize {
        let called = self.roles.iter().any(|role| role == CALLER);
        if self.tools.is_none() || !called {
            return 0;
        }
        let message = self.max_message_bytes.min(self.max_prompt_bytes) / BYTES_OF_A_CALL;
        let all = self.max_messages.saturating_mul(message.min(MAX_CALLS));
        all.min(self.max_prompt_bytes / BYTES_OF_A_CALL)
    }

    fn sum(
        &self,
        contents: Contents,
        generated: Generated,
        context_tokens: Option<u64>,
    ) -> RequestCost {
        let shares = contents.conversation(self).into_iter();
        let tokens = shares.fold(generated.tokens(), |sum, (_, tokens)| {
            sum.saturating_add(tokens)
        });
        let in_context = context_tokens.map(|context| generated.within(context));
        RequestCost {
            tokens: tokens.min(in_context.unwrap_or(u64::MAX)),
            ..RequestCost::raw(contents.bytes())
        }
    }
}

impl Completions {
    pub(super) fn cost(
        &self,
        contents: Contents,
        document: &Members<'_>,
        context_tokens: Option<u64>,
    ) -> RequestCost {
        let n = integer_member(document, "n").unwrap_or(1);
        let choices = n.max(integer_member(document, "best_of").unwrap_or(1));
        let max_tokens = max_tokens(document, self.generation.max_tokens);
        sum(
            contents,
            Generated {
                max_tokens,
                choices,
            },
            context_tokens,
        )
    }

    fn most(&self, context_tokens: Option<u64>) -> RequestCost {
        let constraints = self.generation.constraints.as_ref();
        let contents = Contents {
            texts: self.max_prompts.saturating_mul(self.max_prompt_bytes),
            schemas: constraints.map_or(0, Constraints::most),
            items: self.max_prompts,
            ..Contents::default()
        };
        let generated = Generated {
            max_tokens: self.generation.max_tokens,
            choices: self.generation.n.max(self.best_of),
        };
        sum(contents, generated, context_tokens)
    }
}

/// Every text has the requested choices, and a context of its own.
fn sum(contents: Contents, each: Generated, context_tokens: Option<u64>) -> RequestCost {
    let items = number(contents.items);
    let generated = each.tokens().saturating_mul(items);
    let in_contexts = context_tokens.map(|context| each.within(context).saturating_mul(items));
    let tokens = contents.texts().saturating_add(generated);
    RequestCost {
        tokens: tokens.min(in_contexts.unwrap_or(u64::MAX)),
        ..RequestCost::raw(contents.bytes())
    }
}

impl Embeddings {
    pub(super) fn cost(&self, contents: Contents, context_tokens: Option<u64>) -> RequestCost {
        let nothing = Generated {
            max_tokens: 0,
            choices: 0,
        };
        sum(contents, nothing, context_tokens)
    }

    fn most(&self, context_tokens: Option<u64>) -> RequestCost {
        let contents = Contents {
            texts: self.max_items.saturating_mul(self.max_item_bytes),
            items: self.max_items,
            ..Contents::default()
        };
        self.cost(contents, context_tokens)
    }
}

impl OpenAi {
    /// Where the tokens of the largest request come from, the largest share first.
    pub fn token_shares(&self) -> Vec<TokenShare> {
        let mut shares = Vec::new();
        let context = self.context_tokens;
        let most = self.most().tokens;
        if most < self.most_within(None).tokens {
            shares.push((
                "the texts and choices of a request, each within context_tokens",
                most,
            ));
        } else if let Some(chat) =
            (self.chat.as_ref()).filter(|rule| rule.most(context).tokens == most)
        {
            let (contents, generated) = chat.largest();
            shares.extend(contents.conversation(chat));
            shares.push(("max_tokens and n of chat", generated.tokens()));
        } else if let Some(rule) =
            (self.completions.as_ref()).filter(|rule| rule.most(context).tokens == most)
        {
            let texts = number(rule.max_prompts.saturating_mul(rule.max_prompt_bytes));
            let generated = "max_prompts, max_tokens, n and best_of of completions";
            shares.push(("max_prompts and max_prompt_bytes of completions", texts));
            shares.push((generated, most.saturating_sub(texts)));
        } else {
            shares.push(("max_items and max_item_bytes of embeddings", most));
        }
        shares.sort_by_key(|(_, tokens)| core::cmp::Reverse(*tokens));
        shares.retain(|(_, tokens)| *tokens > 0);
        shares
    }

    /// Maximum cost of a request that satisfies the contract.
    pub fn most(&self) -> RequestCost {
        self.most_within(self.context_tokens)
    }

    fn most_within(&self, context: Option<u64>) -> RequestCost {
        let all = [
            self.chat.as_ref().map(|rule| rule.most(context)),
            self.completions.as_ref().map(|rule| rule.most(context)),
            self.embeddings.as_ref().map(|rule| rule.most(context)),
        ];
        all.into_iter()
            .flatten()
            .fold(RequestCost::default(), |most, one| RequestCost {
                elements: 0,
                bytes: most.bytes.max(one.bytes),
                tokens: most.tokens.max(one.tokens),
            })
    }
}
