"""OpenAI's client reads answers of real servers that differ in form from OpenAI's, whole and in
pieces.
"""

from common import Part
from odd_answers import ANSWERS
from of_openai import TOOL, sides, told, user

COUNTS = {"stream_options": {"include_usage": True}}


def said(message):
    """What a message says: text, reasoning of either name, ids and names of calls."""
    reasoning = [getattr(message, name, None) for name in ("reasoning", "reasoning_content")]
    calls = [(call.id, call.type, call.function.name, call.function.arguments) for call in message.tool_calls or []]
    return message.content or "", reasoning, calls


def whole(side, name):
    """A whole answer and its usage."""
    answer = side.chat(user(f"as {name}"), tools=[TOOL])
    return (answer.choices[0].message.role, *said(answer.choices[0].message)), answer.usage.model_dump(exclude_unset=True)


def pieces(side, name, **more):
    """The same, joined from its pieces."""
    content, reasoning, calls, role, usage = "", [None, None], [], None, None
    for chunk in side.chat(user(f"as {name}"), tools=[TOOL], stream=True, **more):
        for choice in chunk.choices:
            role = role or choice.delta.role
            text, thought, called = said(choice.delta)
            content, calls = content + text, calls + called
            reasoning = [one or other for one, other in zip(reasoning, thought, strict=True)]
        usage = chunk.usage.model_dump(exclude_unset=True) if chunk.usage else usage
    return (role, content, reasoning, joined(calls)), usage


def joined(calls):
    """The only call of these pieces, whose texts a client joins."""
    return [tuple("".join(filter(None, texts)) for texts in zip(*calls, strict=True))] if calls else []


def expected(odd):
    """What each must come to."""
    calls = [(call["id"], "function", call["function"]["name"], call["function"]["arguments"]) for call in odd.message.get("tool_calls") or []]
    reasoning = [odd.message.get(name) for name in ("reasoning", "reasoning_content")]
    return ("assistant", odd.message.get("content") or "", reasoning, calls), odd.usage


def ask(table, places):
    """Runs all calls."""
    table.head("answers of real servers, read by OpenAI's client")
    _, gate = sides(places)
    part = Part(table, "answers", 0, told)
    for name, odd in ANSWERS.items():
        part.same(f"{name}, whole", lambda: expected(odd), lambda: whole(gate, name))
        part.same(f"{name}, in pieces", lambda: expected(odd), lambda: pieces(gate, name, **COUNTS))
    # The gate asks the server for usage in any case; the server would send no event otherwise.
    part.same("no usage requested", lambda: (expected(ANSWERS["reasoning"])[0], None), lambda: pieces(gate, "reasoning"))
