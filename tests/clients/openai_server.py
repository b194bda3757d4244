"""A small server of OpenAI's API, like vLLM's: chat, completions and embeddings, whole and as
server-sent events, and the other routes of such servers. Its answers depend only on the request, so
that the same request has the same answer. Prints its two ports.
"""

import base64
import hashlib
import json
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from odd_answers import ANSWERS, choice, events
from seen import DIRECT_KEY, Seen

CHAT, EMBEDDER = "local/assistant-8b", "local/embedder"
# The pause between two events of a long answer, seconds.
PACE_S = 0.02
DIMENSIONS = 16

seen = Seen()

# Several calls come at one moment. With a short backlog some would wait a second for their
# connection.
ThreadingHTTPServer.request_queue_size = 128


def words(texts):
    """What this server counts as tokens."""
    return sum(len(text.split()) for text in texts)


def text_of(content):
    """A message's text; a picture counts as a word."""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "picture") for part in content or [])


def reply(prompt, index, most, asked):
    """The answer to a prompt: its words and why it ended."""
    if (asked.get("response_format") or {}).get("type") == "json_schema":
        return ['{"digit":', "7,", '"sure":', "true}"], "stop"
    if prompt.startswith("count to "):
        said = [str(number) for number in range(1, int(prompt.split()[2]) + 1)]
    else:
        said = [f"{index}:", *reversed(prompt.split())]
    return (said[:most], "length") if len(said) > most else (said, "stop")


def pieces(said):
    """Words as a tokenizer splits them: with the preceding space."""
    return [word if number == 0 else f" {word}" for number, word in enumerate(said)]


def likely(token, most):
    """Made-up log probabilities."""
    ranks = range(most)
    return [{"token": f"{token}{rank}", "logprob": -0.5 - rank, "bytes": None} for rank in ranks]


def chat_logprobs(said, asked):
    """What `logprobs` adds to a choice of a chat."""
    if not asked.get("logprobs"):
        return None
    most = asked.get("top_logprobs", 0)
    return {"content": [{"token": token, "logprob": -0.25, "bytes": list(token.encode()), "top_logprobs": likely(token, most)} for token in pieces(said)]}


def embedding(text, asked):
    """A vector made of a text."""
    size = asked.get("dimensions", DIMENSIONS)
    digest = hashlib.shake_256(text.encode()).digest(size)
    values = [(byte - 128) / 128 for byte in digest]
    if asked.get("encoding_format") == "base64":
        return base64.b64encode(struct.pack(f"<{size}f", *values)).decode()
    return values


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.note(None)
        if self.path == "/v1/models":
            models = [{"id": name, "object": "model", "created": 1, "owned_by": "vllm", "root": "/srv/weights"} for name in (CHAT, EMBEDDER)]
            self.answer(200, {"object": "list", "data": models})
        else:
            # Every other request of such servers: all of them are answered.
            self.answer(200, {"path": self.path})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        asked = json.loads(body) if body[:1] == b"{" else {}
        # The outcome is recorded once the call is over.
        self.noted = self.note(asked)
        answers = {"/v1/chat/completions": self.chat, "/v1/completions": self.completion, "/v1/embeddings": self.embeddings}
        answers.get(self.path, lambda _: self.answer(200, {"path": self.path}))(asked)

    def note(self, asked):
        """Records the call and its caller."""
        by = "directly" if self.headers.get("authorization") == f"Bearer {DIRECT_KEY}" else "gate"
        headers = sorted(name.lower() for name in self.headers)
        return seen.note(method=self.command, path=self.path, by=by, headers=headers, asked=asked, end=None)

    def answer(self, status, value):
        """Sends a whole answer."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-served-by", "vllm 0.24 on gpu-7.internal")
        self.end_headers()
        self.wfile.write(body)

    def chat(self, asked):
        prompt = text_of(asked["messages"][-1].get("content"))
        if prompt == "fail":
            return self.answer(500, {"error": {"message": f"CUDA out of memory in /srv/vllm/worker.py while serving {prompt!r}", "code": "internal"}})
        if prompt == "too long":
            text = "This model's maximum context length is 64 tokens. However, you requested 65 tokens (/srv/vllm)."
            return self.answer(400, {"error": {"message": text, "type": "BadRequestError", "param": None, "code": 400}})
        if odd := ANSWERS.get(prompt.removeprefix("as ")):
            return self.odd(asked, odd)
        most = asked.get("max_completion_tokens") or asked.get("max_tokens") or 1024
        choices = []
        for index in range(asked.get("n") or 1):
            said, reason = reply(prompt, index, most, asked)
            message = {"role": "assistant", "content": "".join(pieces(said))}
            if asked.get("tools") and asked["messages"][-1]["role"] == "user":
                function = {"name": asked["tools"][0]["function"]["name"], "arguments": json.dumps({"city": prompt.split()[-1]})}
                # Ids as Kimi K2 writes them: the function, and the number of the call.
                done = sum(message["role"] == "tool" for message in asked["messages"])
                call = {"id": f"functions.{function['name']}:{done + index}", "type": "function", "function": function}
                message = {"role": "assistant", "content": None, "reasoning": f"look at {function['name']}", "tool_calls": [call]}
                reason = "tool_calls"
            choices.append({"index": index, "message": message, "finish_reason": reason, "logprobs": chat_logprobs(said, asked), "stop_reason": "/srv"})
        self.finish_answer(asked, "chat.completion", choices, words(text_of(message.get("content")) for message in asked["messages"]))

    def odd(self, asked, odd):
        """Sends an answer of another form. Without a request for usage a stream is cut."""
        self.noted["end"] = "told"
        if not asked.get("stream"):
            return self.answer(200, {"model": asked["model"], "choices": [choice(odd)], "usage": odd.usage})
        self.begin_stream()
        if (asked.get("stream_options") or {}).get("include_usage"):
            for event in events(odd):
                self.event(event)
            if odd.end:
                self.piece(odd.end)
            self.wfile.write(b"0\r\n\r\n")

    def completion(self, asked):
        prompts = asked["prompt"] if isinstance(asked["prompt"], list) else [asked["prompt"]]
        many = asked.get("n") or 1
        choices = []
        for number, prompt in enumerate(prompts):
            for index in range(many):
                said, reason = reply(prompt, index, asked.get("max_tokens") or 16, asked)
                choices.append({"index": number * many + index, "text": "".join(pieces(said)), "finish_reason": reason, "logprobs": None})
        self.finish_answer(asked, "text_completion", choices, words(prompts))

    def finish_answer(self, asked, kind, choices, prompt_tokens):
        """Sends choices, whole or streamed, with their usage."""
        said = [choice["text"] if "text" in choice else choice["message"]["content"] or "call" for choice in choices]
        completion_tokens = words(said)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": prompt_tokens + completion_tokens}
        whole = {"id": "cmpl-of-the-server", "created": 1, "model": asked["model"], "system_fingerprint": "gpu-7.internal", "kv_transfer_params": None}
        if asked.get("stream"):
            return self.stream(asked, kind, choices, usage, whole)
        self.answer(200, {**whole, "object": kind, "choices": choices, "usage": usage})
        self.noted["end"] = "told"

    def begin_stream(self):
        """Sends the head of a streamed answer."""
        self.send_response(200)
        self.send_header("content-type", "text/event-stream; charset=utf-8")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    def stream(self, asked, kind, choices, usage, whole):
        """The same as server-sent events, each in a chunk of its own."""
        self.begin_stream()
        chat = kind == "chat.completion"
        whole["object"] = "chat.completion.chunk" if chat else kind
        prompt = text_of(asked["messages"][-1]["content"]) if chat else ""
        try:
            self.piece(": comments are no events\n\n")
            for choice in choices:
                index = choice["index"]
                start = {"role": "assistant", "content": ""}
                if chat:
                    self.event({**whole, "choices": [{"index": index, "delta": start, "finish_reason": None}]})
                if chat and choice["message"].get("reasoning"):
                    self.event({**whole, "choices": [{"index": index, "delta": {"reasoning": choice["message"]["reasoning"]}, "finish_reason": None}]})
                text = choice["message"]["content"] if chat else choice["text"]
                for number, word in enumerate(pieces((text or "").split(" "))):
                    if prompt.startswith("break") and number == 2:
                        # A choice that was not requested.
                        index = 9
                    said = {"delta": {"content": word}} if chat else {"text": word}
                    self.event({**whole, "choices": [{"index": index, **said, "finish_reason": None}]})
                    if prompt.startswith("count"):
                        time.sleep(PACE_S)
                calls = choice["message"].get("tool_calls") if chat else None
                if calls:
                    self.event({**whole, "choices": [{"index": index, "delta": {"tool_calls": [{"index": 0, **calls[0]}]}, "finish_reason": None}]})
                end = {"delta": {}} if chat else {"text": ""}
                self.event({**whole, "choices": [{"index": index, **end, "finish_reason": choice["finish_reason"]}]})
            if (asked.get("stream_options") or {}).get("include_usage"):
                self.event({**whole, "choices": [], "usage": usage})
            self.piece("data: [DONE]\n\n")
            self.wfile.write(b"0\r\n\r\n")
            self.noted["end"] = "told"
        except OSError:
            # The client has closed the connection.
            self.noted["end"] = "left"

    def event(self, value):
        self.piece(f"data: {json.dumps(value)}\n\n")

    def piece(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def embeddings(self, asked):
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        data = [{"object": "embedding", "index": index, "embedding": embedding(text, asked)} for index, text in enumerate(texts)]
        count = words(texts)
        self.answer(200, {"object": "list", "id": "e", "data": data, "model": asked["model"], "usage": {"prompt_tokens": count, "total_tokens": count}})
        self.noted["end"] = "told"

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(json.dumps({"port": server.server_port, "seen": seen.tell()}), flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit()
