"""The types of OpenAI's SDK against `profile: sdk`: for each member, value and part of its requests
one request to the gate. It passes, or `REFUSED` says why it does not. So a new version of the SDK
fails here until each new member is in the profile or in this list.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Union, get_args, get_origin, get_type_hints

import requests
from openai.types import completion_create_params as completions
from openai.types import embedding_create_params as embeddings
from openai.types.chat import completion_create_params as chat
from typing_extensions import Required, is_typeddict

from of_openai import PICTURE

# What the profile leaves out, by path: the member with all below it, or one value of it.
REFUSED = {
    "chat.audio": "answers have no audio",
    "chat.modalities[]='audio'": "answers have no audio",
    "chat.messages[](user).content[](input_audio)": "audio has no rule of format, size and cost",
    "chat.messages[](user).content[](file)": "a file has no rule of format, size and cost",
    "chat.messages[](assistant).audio": "it is the id of an answer that the service has stored",
    "chat.messages[](assistant).function_call": "tools have replaced it",
    "chat.messages[](function)": "tools have replaced it",
    "chat.function_call": "tools have replaced it",
    "chat.functions": "tools have replaced it",
    "chat.messages[](assistant).tool_calls[](custom)": "the input of a custom tool has no schema",
    "chat.tools[](custom)": "the input of a custom tool has no schema",
    "chat.tool_choice(custom)": "the input of a custom tool has no schema",
    "chat.tool_choice(allowed_tools)": "a second list of tools, which no local server reads",
    "chat.logit_bias": "it steers single tokens and helps to copy a model",
    "chat.moderation": "it sends the texts to another model",
    "chat.prediction": "it costs tokens of the answer that nobody bounds",
    "chat.service_tier='fast'": "it costs more",
    "chat.service_tier='priority'": "it costs more",
    "chat.service_tier='scale'": "it costs more",
    "chat.store=True": "others could read the answer with the backend's key",
    "chat.web_search_options": "the server would fetch pages",
    "completions.echo": "the answer would have the prompt, which no rule bounds",
    "completions.logit_bias": "it steers single tokens and helps to copy a model",
    "completions.prompt=null": "a completion without a prompt",
    "completions.prompt[]=1": "numbers of tokens cannot be checked",
    "completions.prompt[][]=1": "numbers of tokens cannot be checked",
    "completions.suffix": "local servers refuse it, or read it as a text of their template",
    "embeddings.input[]=1": "numbers of tokens cannot be checked",
    "embeddings.input[][]=1": "numbers of tokens cannot be checked",
}
# The policy has names of its own.
NAMED_BY_POLICY = {"model"}
# Members of a type that a server needs, although the SDK does not.
NEEDED = {"JSONSchema": {"schema"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
SAYS = [{"role": "user", "content": "one two"}, {"role": "assistant", "content": "three"}]
# Values of members that are more than any text or number.
SAMPLES = {"url": PICTURE, "name": "f", "arguments": "{}", "parameters": SCHEMA, "schema": SCHEMA, "max_tokens": 8, "max_completion_tokens": 8}
PLAIN = {str: "a", int: 1, float: 0.5, object: "a"}
# What a member is sent with.
BESIDE = {
    "stream_options": {"stream": True},
    "top_logprobs": {"logprobs": True},
    "tool_choice": {"tools": [TOOL]},
    "parallel_tool_calls": {"tools": [TOOL]},
}


def bare(hint):
    """A type without `Required`."""
    return get_args(hint)[0] if get_origin(hint) is Required else hint


def kind(hint):
    """The value of `type` or `role` by which a union tells one object from another."""
    hints = get_type_hints(hint) if is_typeddict(hint) else {}
    literal = next((hints[name] for name in ("role", "type") if get_origin(hints.get(name)) is Literal), None)
    return f"({get_args(literal)[0]})" if literal else ""


def samples(hint, name=""):
    """Values of a type with their paths: each literal, each alternative, and each member of an
    object beside those that it needs.
    """
    hint, origin = bare(hint), get_origin(bare(hint))
    if name in SAMPLES:
        yield "", SAMPLES[name]
    elif hint is type(None):
        yield "=null", None
    elif hint is bool:
        yield from ((f"={value}", value) for value in (False, True))
    elif origin is Literal:
        yield from ((f"={value!r}", value) for value in get_args(hint))
    elif origin is Union:
        yield from (sample for each in get_args(hint) for sample in samples(each))
    elif is_typeddict(hint):
        yield from ((kind(hint) + path, value) for path, value in objects(hint))
    elif origin and issubclass(origin, Mapping):
        yield from (("{}" + path, {"a": value}) for path, value in samples(get_args(hint)[1]))
    elif origin and issubclass(origin, (Iterable, Sequence)):
        yield from (("[]" + path, [value]) for path, value in samples(get_args(hint)[0]))
    else:
        yield (f"={PLAIN[hint]}" if hint is int else ""), PLAIN[hint]


def objects(hint):
    """An object with what it needs, and that with each value of each other member."""
    hints = get_type_hints(hint, include_extras=True)
    needed = {name for name in hints if get_origin(hints[name]) is Required} | NEEDED.get(hint.__name__, set())
    least = {name: next(samples(hints[name], name))[1] for name in needed}
    yield "", least
    for name in hints:
        for path, value in samples(hints[name], name):
            if least.get(name) != value:
                yield f".{name}{path}", {**least, name: value}


def of(*hints):
    """The members of a request, with the values of all its types, by name."""
    members = {}
    for hint in hints:
        for name, member in get_type_hints(hint, include_extras=True).items():
            for path, value in samples(member, name):
                members.setdefault((name, path), value)
    return [(name, path, value) for (name, path), value in members.items() if name not in NAMED_BY_POLICY]


KINDS = {
    "chat": ("/v1/chat/completions", {"messages": SAYS}, of(chat.CompletionCreateParamsNonStreaming, chat.CompletionCreateParamsStreaming)),
    "completions": ("/v1/completions", {"prompt": "one two"}, of(completions.CompletionCreateParamsNonStreaming, completions.CompletionCreateParamsStreaming)),
    "embeddings": ("/v1/embeddings", {"input": "one two"}, of(embeddings.EmbeddingCreateParams)),
}


def listed(path):
    """The entry of a path: its own, or one of what it is below. A member that is null is absent, so
    the member's entry is not its own.
    """
    if path in REFUSED:
        return path
    above = [entry for entry in REFUSED if path.startswith(tuple(entry + mark for mark in ".=[({"))]
    return next((entry for entry in above if entry != path.removesuffix("=null")), None)


def ask(table, places):
    """Sends all requests."""
    table.head("the types of OpenAI's SDK against the profile sdk")
    used = set()
    for title, (path, base, members) in KINDS.items():
        allowed, wrong = 0, []
        for name, below, value in members:
            value = [SAYS[0], *value] if name == "messages" else value
            body = {"model": "agent", **base, **BESIDE.get(name, {}), name: value}
            answer = requests.post(f"http://{places.plain}{path}", json=body, headers={"x-api-key": places.keys["scorer"]}, timeout=30)
            at = f"{title}.{name}{below}"
            entry = listed(at)
            used.add(entry)
            allowed += answer.status_code == 200
            if answer.status_code != (400 if entry else 200):
                wrong.append(f"{at}: {answer.status_code} {json.dumps(value)[:80]} {answer.text[:300] if not entry else REFUSED[entry]}")
        table.row(f"{title}: {len(members)} members, values and parts", "-", f"{allowed} pass", not wrong and allowed > 0, "; ".join(wrong))
    unused = sorted(set(REFUSED) - used)
    table.row("every refused one is a member of the SDK", [], unused, not unused)
