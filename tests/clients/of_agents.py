"""An agent on OpenAI's client with streamed answers: each turn joins the pieces of reasoning, text
and calls, and sends them back with the results of its functions.
"""

from common import Part
from of_openai import TOOL, sides, told, user

CITIES = ("Delft", "Ghent", "Kyiv")


def joined(stream):
    """The message that a streamed answer comes to, as agents keep it."""
    message, calls, reasoning = {"role": "assistant", "content": ""}, {}, ""
    for chunk in stream:
        for choice in chunk.choices:
            delta = choice.delta
            message["content"] += delta.content or ""
            reasoning += getattr(delta, "reasoning", None) or ""
            for piece in delta.tool_calls or []:
                call = calls.setdefault(piece.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
                call["id"] += piece.id or ""
                call["function"]["name"] += piece.function.name or ""
                call["function"]["arguments"] += piece.function.arguments or ""
    if reasoning:
        message["reasoning"] = reasoning
    if calls:
        message["tool_calls"] = list(calls.values())
    return message


def agent(side):
    """Three turns with a call and its result each. Every request repeats all earlier messages."""
    messages, heard = [], []
    for city in CITIES:
        messages += user(f"how is it in {city}")
        for _ in range(2):
            message = joined(side.chat(messages, tools=[TOOL], stream=True))
            messages.append(message)
            heard.append(message)
            for call in message.get("tool_calls", []):
                messages.append({"role": "tool", "tool_call_id": call["id"], "content": "fine"})
    return heard


def ask(table, places):
    """Runs all calls."""
    table.head("an agent on OpenAI's client, in pieces")
    direct, gate = sides(places)
    gate.assistant = "agent"
    part = Part(table, "agent", 0, told)
    part.same("three turns with calls and reasoning", lambda: agent(direct), lambda: agent(gate))
