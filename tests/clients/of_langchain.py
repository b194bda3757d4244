"""An agent on LangChain's `ChatOpenAI`: three turns with a function's call and its result each, whole
and in pieces, and an answer by schema. Every request repeats all earlier messages.
"""

import functools
import operator

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from common import Part
from of_openai import DIRECT_KEY, Digit, told

CITIES = ("Delft", "Ghent", "Kyiv")


@tool
def weather(city: str, days: int | None = None) -> str:
    """The weather of a city, today or in some days."""
    return f"fine in {city}"


def said(message):
    """What a message says and calls, without ids and times."""
    return message.type, message.text, [(call["name"], call["args"]) for call in getattr(message, "tool_calls", [])]


def agent(model, in_pieces):
    """The conversation of three turns."""
    model = model.bind_tools([weather])
    messages = [SystemMessage("be brief")]
    for city in CITIES:
        messages.append(HumanMessage(f"how is it in {city}"))
        for _ in range(2):
            answer = functools.reduce(operator.add, model.stream(messages)) if in_pieces else model.invoke(messages)
            messages.append(answer)
            messages.extend(weather.invoke(call) for call in answer.tool_calls)
    return [said(message) for message in messages]


def ask(table, places):
    """Runs all calls."""
    table.head("an agent on LangChain")
    settings = {"max_retries": 0, "timeout": 30, "temperature": 0, "reasoning_effort": "low", "stream_usage": True}
    direct = ChatOpenAI(model="local/assistant-8b", base_url=f"http://{places.llm}/v1", api_key=DIRECT_KEY, **settings)
    gate = ChatOpenAI(model="agent", base_url=f"http://{places.plain}/v1", api_key=places.keys["scorer"], **settings)
    part = Part(table, "langchain", 0, told)
    for title, in_pieces in (("three turns", False), ("three turns, in pieces", True)):
        part.same(title, lambda: agent(direct, in_pieces), lambda: agent(gate, in_pieces))
    called = sum(bool(calls) for _, _, calls in agent(gate, False))
    table.row("langchain: a call in each turn", len(CITIES), called, called == len(CITIES))
    shaped = lambda model: model.with_structured_output(Digit, method="json_schema").invoke("the digit 7")
    part.same("an answer by schema", lambda: shaped(direct), lambda: shaped(gate))
