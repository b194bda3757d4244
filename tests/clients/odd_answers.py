"""Answers of real servers that differ in form from OpenAI's, as public bug reports show them: whole
and in pieces. The server of these tests sends them, and a client must read what they say.
"""

from typing import NamedTuple

CALL = {"id": "functions.weather:0", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Delft"}'}}
USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
# Tokens of reasoning that only the total counts.
APART = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 20, "completion_tokens_details": {"reasoning_tokens": 12}}
DONE = "data: [DONE]\n\n"


class Odd(NamedTuple):
    """One answer: the whole message, the pieces of the same, and what comes after them."""

    message: dict
    pieces: list
    usage: dict = USAGE
    end: str = DONE


TEXT, HALVES = {"role": "assistant", "content": "hello"}, ({"content": "hel"}, {"content": "lo"})
CALLS = [{"tool_calls": [{"index": 0, **CALL}]}]
# The ID and the name with each piece of the arguments.
REPEATED = [
    {"tool_calls": [{"index": 0, **CALL, "function": {**CALL["function"], "arguments": piece}}]} for piece in ("", '{"city": ', '"Delft"}')
]
ANSWERS = {
    "reasoning": Odd({**TEXT, "reasoning": "hm"}, [{"reasoning": "hm"}, *HALVES]),
    "reasoning_content": Odd({**TEXT, "reasoning_content": "hm"}, [{"reasoning_content": "hm"}, *HALVES]),
    "empty roles": Odd({**TEXT, "role": ""}, [{"role": "", **half} for half in HALVES]),
    "null roles": Odd({**TEXT, "role": None, "tool_calls": None}, [{"role": None, "tool_calls": None, **half} for half in HALVES]),
    "empty calls": Odd({**TEXT, "tool_calls": []}, [{"tool_calls": [], **half} for half in HALVES]),
    "a call": Odd({"role": "assistant", "content": None, "tool_calls": [CALL]}, CALLS),
    "a call whose id and name are repeated": Odd({"role": "assistant", "content": None, "tool_calls": [CALL]}, REPEATED),
    "a call without content": Odd({"role": "assistant", "tool_calls": [CALL]}, CALLS),
    "a call without role and type": Odd({"content": [], "tool_calls": [{**CALL, "type": ""}]}, [{"tool_calls": [{"index": 0, **CALL, "type": ""}]}]),
    "a blank after the end": Odd(TEXT, HALVES, end="data: [DONE] \n\n"),
    "no end": Odd(TEXT, HALVES, end=""),
    "a total that is no sum": Odd(TEXT, HALVES, APART),
}


def choice(odd):
    """The only choice of a whole answer."""
    return {"index": 0, "message": odd.message, "finish_reason": reason(odd)}


def events(odd):
    """The events of a streamed answer."""
    for piece in odd.pieces:
        yield {"choices": [{"index": 0, "delta": piece, "finish_reason": None}]}
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": reason(odd)}]}
    yield {"choices": [], "usage": odd.usage}


def reason(odd):
    """Why the choice has ended."""
    return "tool_calls" if odd.message.get("tool_calls") else "stop"
