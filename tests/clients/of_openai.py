"""OpenAI's client, blocking and asynchronous: chat, completions and embeddings, whole and streamed,
its exceptions and its own retries. The calls that the server behind the gate has received are read
before and after, to show that a rejected call has not reached it.
"""

import asyncio
import json
import ssl
import time
import urllib.request

import httpx2
import openai
from common import Part, told_by_problem
from pydantic import BaseModel
from seen import DIRECT_KEY

KINDS = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    429: openai.RateLimitError,
    502: openai.InternalServerError,
}
SAY = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "one two three na\u00efve \u2713"}]
TOOL = {"type": "function", "function": {"name": "weather", "description": "today's", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
# The names of the models for callers of the gate.
NAMES = ("assistant", "embedder")
# What a request contains after the gate has encoded it.
FIELDS = {"host", "connection", "content-type", "content-length", "accept", "accept-encoding", "x-request-id"}


class Digit(BaseModel):
    """An answer by schema."""

    digit: int
    sure: bool


def told(error):
    """What OpenAI's exception shows: the status, the code, the message. It must be of the class for
    that status.
    """
    if not isinstance(error, KINDS[error.status_code]):
        raise TypeError(error)
    if error.body["code"] != error.code or not error.request_id:
        raise ValueError(error.body)
    return str(error.status_code), error.code, error.message


def plain(answer):
    """All of an answer except the ids, dates and names, which are the gate's own."""
    value = answer.model_dump(exclude_unset=True, exclude_none=True)
    for name in ("id", "created", "model", "object", "system_fingerprint", "kv_transfer_params"):
        value.pop(name, None)
    for choice in value.get("choices", []):
        choice.pop("stop_reason", None)
    return value


def joined(chunks):
    """The joined events of a stream: each choice's text and its end, and the usage."""
    texts, ends, usage, count = {}, {}, None, 0
    for chunk in chunks:
        count += 1
        for choice in chunk.choices:
            piece = choice.delta.content if hasattr(choice, "delta") else choice.text
            texts[choice.index] = texts.get(choice.index, "") + (piece or "")
            ends[choice.index] = choice.finish_reason or ends.get(choice.index)
        usage = chunk.usage.model_dump(exclude_unset=True) if chunk.usage else usage
    return {"texts": texts, "ends": ends, "usage": usage, "chunks": count}


class Side:
    """One way to the server: the names of its models there, and the calls that it has received."""

    def __init__(self, base, key, names, **more):
        self.client = openai.OpenAI(base_url=base, api_key=key, max_retries=0, timeout=30, **more)
        self.base, self.key, (self.assistant, self.embedder) = base, key, names

    def chat(self, messages=SAY, **more):
        """A chat completion."""
        return self.client.chat.completions.create(model=self.assistant, messages=messages, **more)

    def complete(self, prompt="one two three", **more):
        """A completion."""
        return self.client.completions.create(model=self.assistant, prompt=prompt, **more)

    def embed(self, texts, **more):
        """Embeddings."""
        return self.client.embeddings.create(model=self.embedder, input=texts, **more)


def sides(places):
    """The way to the server itself, and the way through the gate."""
    direct = Side(f"http://{places.llm}/v1", DIRECT_KEY, ("local/assistant-8b", "local/embedder"))
    return direct, Side(f"http://{places.plain}/v1", places.keys["scorer"], NAMES)


class Server:
    """The calls that the server behind the gate has received."""

    def __init__(self, places):
        self.url = places.llm_seen

    def calls(self):
        """Calls that were not made directly, apart from the gate's own probes of its models."""
        with urllib.request.urlopen(self.url, timeout=10) as answer:
            calls = json.load(answer)
        return [call for call in calls if call["by"] == "gate" and (call["method"], call["path"]) != ("GET", "/v1/models")]


def user(text):
    """One message."""
    return [{"role": "user", "content": text}]


def ask(table, places):
    """Runs all calls."""
    server = Server(places)
    direct, gate = sides(places)
    part = Part(table, "openai", 0, told)
    served(table, part, direct, gate)
    pieces(table, part, direct, gate, server)
    refusals(table, part, gate, places, server)
    others(table, part, direct, gate, places)
    retries(table, part, places, gate.base, server)
    asyncio.run(asynchronous(table, part, direct, gate))
    secured(table, part, places, direct)
    everything(table, part, server)


def served(table, part, direct, gate):
    """Whole answers."""
    table.head("openai: answers, equal but for ids and names")

    def same(title, call, view=plain):
        part.same(title, lambda: view(call(direct)), lambda: view(call(gate)))

    same("chat", lambda side: side.chat())
    same("chat, every bound that is set", lambda side: side.chat(max_tokens=2, temperature=0.5, seed=7, n=2, stop=["x"], user=openai.omit))
    same("chat, max_completion_tokens", lambda side: side.chat(max_completion_tokens=3))
    same("chat, log probabilities", lambda side: side.chat(logprobs=True, top_logprobs=2))
    same("chat, a tool's call", lambda side: side.chat(user("how is it in Delft"), tools=[TOOL], tool_choice="auto"))
    call = {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    answered = [*SAY, {"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "tool_call_id": "call_0", "content": "fine"}]
    same("chat, a tool's answer", lambda side: side.chat(answered, tools=[TOOL]))

    def goes_on(side):
        """A conversation that continues with the client's own dump of the earlier messages."""
        said = side.chat().choices[0].message.model_dump()
        called = side.chat(user("how is it in Delft"), tools=[TOOL]).choices[0].message.model_dump()
        result = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "fine"}
        return side.chat([*SAY, {"annotations": [], **said}, *user("and in Delft"), called, result], tools=[TOOL])

    same("chat, a conversation as the client dumps it", goes_on)

    def agent(side, dump):
        """Two questions with a call each. Every request has all earlier messages."""
        messages, heard = [], []
        for city in ("Delft", "Ghent"):
            messages += user(f"how is it in {city}")
            called = side.chat(messages, tools=[TOOL]).choices[0].message
            call = called.tool_calls[0]
            result = {"role": "tool", "tool_call_id": call.id, "name": call.function.name, "content": [{"type": "text", "text": "fine"}]}
            messages += [dump(called), result]
            said = side.chat(messages, tools=[TOOL]).choices[0].message
            messages.append(dump(said))
            heard += [call.id, called.reasoning, said.content]
        return heard

    for title, dump in (
        ("messages as they are", lambda message: message),
        ("model_dump()", lambda message: message.model_dump()),
        ("model_dump(exclude_none=True)", lambda message: message.model_dump(exclude_none=True)),
        ("calls with their index", lambda message: {**message.model_dump(), "tool_calls": [{"index": at, **call.model_dump()} for at, call in enumerate(message.tool_calls or [])]}),
    ):
        part.same(f"chat, an agent's four requests, {title}", lambda: agent(direct, dump), lambda: agent(gate, dump))
    pictured = [{"type": "text", "text": "what is this"}, {"type": "image_url", "image_url": {"url": PICTURE}}]
    same("chat, a picture in the message", lambda side: side.chat([{"role": "user", "content": pictured}]))
    parse = lambda side: side.client.chat.completions.parse(model=side.assistant, messages=SAY, response_format=Digit)
    same("chat, parse() into a model of the caller's", parse, lambda answer: answer.choices[0].message.parsed.model_dump())
    same("completions", lambda side: side.complete())
    same("completions, two prompts of two choices", lambda side: side.complete(["a b", "c d"], n=2, max_tokens=8))
    # The client requests base64 and decodes it, unless it is configured otherwise.
    same("embeddings", lambda side: side.embed(["one", "two"]))
    same("embeddings as numbers, 8 dimensions", lambda side: side.embed("one", encoding_format="float", dimensions=8))
    part.same("models.list", lambda: sorted(names_of(gate)), lambda: sorted(model.id for model in gate.client.models.list()))


def names_of(gate):
    """The models that a caller should see: the policy's names, not the server's."""
    return ["agent", gate.assistant, gate.embedder]


def pieces(table, part, direct, gate, server):
    """Answers as server-sent events."""
    table.head("openai: answers in pieces")

    def same(title, call):
        part.same(title, lambda: joined(call(direct)), lambda: joined(call(gate)))

    same("chat", lambda side: side.chat(stream=True))
    same("chat, with counts", lambda side: side.chat(stream=True, stream_options={"include_usage": True}))
    same("chat, two choices, a bound", lambda side: side.chat(stream=True, n=2, max_tokens=2))
    same("completions, with counts", lambda side: side.complete(stream=True, stream_options={"include_usage": True}))
    tool = lambda side: [chunk.choices[0].delta.tool_calls[0].function for chunk in side.chat(stream=True, tools=[TOOL]) if chunk.choices[0].delta.tool_calls]
    part.same("chat, a tool's call", lambda: tool(direct), lambda: tool(gate))

    def helper(side):
        with side.client.chat.completions.stream(model=side.assistant, messages=SAY) as stream:
            stream.until_done()
            return stream.get_final_completion().choices[0].message.content

    part.same("chat, by the stream() helper", lambda: helper(direct), lambda: helper(gate))

    def left(side):
        """The client leaves after three events of 500; whether the server noticed it in time."""
        stream = side.chat(user("count to 500"), stream=True)
        heard = [chunk.choices[0].delta.content for _, chunk in zip(range(3), stream)]
        stream.close()
        give_up = time.monotonic() + 8
        while time.monotonic() < give_up:
            last = [call for call in server.calls() if (call["asked"].get("messages") or [{}])[-1].get("content") == "count to 500"]
            if last and last[-1]["end"] == "left":
                return heard
            time.sleep(0.1)
        raise TimeoutError(last)

    part.same("a client that leaves ends the generation", lambda: ["", "1", " 2"], lambda: left(gate))

    def broken(side):
        """An event that breaks the contract: what came before it, and the exception."""
        heard = []
        try:
            for chunk in side.chat(user("break this into pieces"), stream=True):
                heard.append(chunk.choices[0].delta.content)
        except openai.APIError as error:
            return heard, type(error).__name__, error.code
        return heard, None, None

    part.same("an event that was not requested", lambda: (["", "0:", " pieces"], "APIError", "backend-fault"), lambda: broken(gate))


def refusals(table, part, gate, places, server):
    """The client's exceptions, and that the server received none of these calls."""
    table.head("openai: refusals, in the client's own exceptions")
    as_caller = lambda key: Side(gate.base, key, (gate.assistant, gate.embedder))

    def refused(title, reason, call, says="", reaches=0):
        before = len(server.calls())
        part.refused(title, reason, call, says)
        after = len(server.calls()) - before
        if after != reaches:
            table.row(f"openai: {title}: what reached the server", "-", after, False, reaches)

    refused("an unknown key", "unauthenticated", lambda: as_caller(places.keys["unknown"]).chat(), "credential")
    refused("an expired token", "unauthenticated", lambda: as_caller(places.tokens["expired"]).chat(), "credential")
    refused("a token of another's key", "unauthenticated", lambda: as_caller(places.tokens["forged"]).chat(), "credential")
    refused("a client without grants", "not-granted", lambda: as_caller(places.keys["stranger"]).chat())
    other = lambda name: gate.client.chat.completions.create(model=name, messages=SAY)
    refused("a model that is not there", "not-granted", lambda: other("gpt-4o"))
    refused("the server's own name of the model", "not-granted", lambda: other("local/assistant-8b"))
    refused("an embedding of a model that has none", "not-granted", lambda: gate.client.embeddings.create(model="assistant", input="x"))
    refused("more tokens than may be", "parameter", lambda: gate.chat(max_tokens=601), "max_tokens")
    refused("more choices than may be", "parameter", lambda: gate.chat(n=3), "n")
    refused("a temperature beyond its range", "parameter", lambda: gate.chat(temperature=2.5), "temperature")
    refused("no number", "malformed", lambda: gate.client.post("/chat/completions", cast_to=object, content=b'{"model":"assistant","messages":[],"temperature":NaN}', options={"headers": {"content-type": "application/json"}}))
    refused("a text for a number", "parameter", lambda: gate.chat(max_tokens="12"), "max_tokens")
    refused("a parameter that no rule names", "parameter", lambda: gate.chat(extra_body={"guided_regex": "(a+)+"}), "guided_regex")
    refused("logit_bias", "parameter", lambda: gate.chat(logit_bias={"50256": -100}), "logit_bias")
    refused("a message that is too long", "item-too-long", lambda: gate.chat(user("x" * 1025)), "messages[0]")
    refused("more messages than may be", "shape", lambda: gate.chat(user("x") * 9), "messages")
    refused("numbers of tokens for a prompt", "datatype", lambda: gate.complete([1, 2]), "prompt")
    url = [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data/"}}]
    refused("a picture that the server would fetch", "url-blocked", lambda: gate.chat([{"role": "user", "content": url}]), "messages[0]")
    refused("a pattern in a schema", "parameter", lambda: gate.chat(response_format=schema({"type": "string", "pattern": "(a+)+$"})), "response_format")
    refused("more texts than may be", "shape", lambda: gate.embed(["x"] * 5), "input")
    # The server answers with its own error, which repeats the prompt and names a file.
    refused("a server that fails", "backend-fault", lambda: gate.chat(user("fail")), reaches=1)
    refused("a prompt beyond the model's context", "context_length_exceeded", lambda: gate.chat(user("too long")), "context length", reaches=1)


def schema(value):
    """A schema for the answer."""
    return {"type": "json_schema", "json_schema": {"name": "form", "schema": {"type": "object", "properties": {"x": value}}}}


def others(table, part, direct, gate, places):
    """Other routes of such a server, by the client's own methods: none of them exists in the gate.
    """
    table.head("openai: everything else that the client can ask for")
    methods = [
        ("responses.create", lambda client: client.responses.create(model="assistant", input="x"), "/v1/chat/completions"),
        ("files.list", lambda client: client.files.list()),
        ("moderations.create", lambda client: client.moderations.create(input="x")),
        ("images.generate", lambda client: client.images.generate(prompt="x")),
        ("audio.speech.create", lambda client: client.audio.speech.create(input="x", model="assistant", voice="alloy")),
        ("fine_tuning.jobs.list", lambda client: client.fine_tuning.jobs.list()),
        ("batches.list", lambda client: client.batches.list()),
        ("vector_stores.list", lambda client: client.vector_stores.list()),
        ("load_lora_adapter, of vLLM", lambda client: client.post("/load_lora_adapter", cast_to=object, body={"lora_name": "x", "lora_path": "/etc"})),
    ]
    for title, call, *says in methods:
        part.refused(title, "not-an-inference-route", lambda: call(gate.client), *says, direct=lambda: call(direct.client) and "answers")
    # Beside OpenAI's paths, and at the path of a model's status in TF Serving's API, a rejection
    # has a text where OpenAI's has an object.
    beside = Part(table, "openai", 0, lambda error: told_by_problem(error.response))
    rpc = lambda client: client.post(str(client.base_url).replace("/v1/", "/collective_rpc"), cast_to=object, body={"method": "x"})
    beside.refused("collective_rpc, of vLLM", "not-an-inference-route", lambda: rpc(gate.client), direct=lambda: rpc(direct.client) and "answers")
    stranger = openai.OpenAI(base_url=gate.base, api_key=places.keys["unknown"], max_retries=0)
    part.refused("files.list, with an unknown key", "unauthenticated", lambda: stranger.files.list())
    azure = lambda: gate.client.post(gate.base.removesuffix("/v1") + "/openai/deployments/assistant/chat/completions?api-version=2024-10-21", cast_to=object, body={"messages": SAY})
    part.refused("Azure's paths", "not-an-inference-route", azure, "base URL")
    card = {"id": "assistant", "object": "model", "created": 0, "owned_by": "tensorgate"}
    part.same("models.retrieve", lambda: card, lambda: gate.client.models.retrieve("assistant").model_dump(exclude_unset=True))
    beside.refused("models.retrieve, a model that is not there", "not-granted", lambda: gate.client.models.retrieve("gpt-4o"))
    beside.refused("models.delete", "method-not-allowed", lambda: gate.client.models.delete("assistant"))


def retries(table, part, places, base, server):
    """A rate of one in two seconds: the exception, and how the client handles `Retry-After`."""
    table.head("openai: rates, and the client's own retries")
    hasty = Side(base, places.keys["burst"], NAMES)
    part.same("the first of a burst", lambda: "stop", lambda: hasty.chat().choices[0].finish_reason)
    part.refused("the second at once", "rate-limited", hasty.chat, "too many")
    before, started = len(server.calls()), time.monotonic()
    patient = hasty.client.with_options(max_retries=2)
    raw = patient.chat.completions.with_raw_response.create(model="assistant", messages=SAY)
    took = time.monotonic() - started
    # The client waits as long as `Retry-After` says, in whole seconds rounded up, and retries once.
    seen = {"retries": raw.retries_taken, "served": len(server.calls()) - before, "waited 1 to 3 s": 0.5 < took < 3.5}
    part.same("the same with retries", lambda: {"retries": 1, "served": 1, "waited 1 to 3 s": True}, lambda: seen)
    fields = lambda: {name: raw.headers.get(name) for name in ("ratelimit", "ratelimit-policy")}
    expected = {"ratelimit": '"one-in-two-seconds";r=0;t=2', "ratelimit-policy": '"one-in-two-seconds";q=1;w=2'}
    part.same("what it is told of the limit", lambda: expected, fields)


async def asynchronous(table, part, direct, gate):
    """The asynchronous client: eight calls at once, and streams."""
    table.head("openai, asynchronous")
    async with (
        openai.AsyncOpenAI(base_url=direct.base, api_key=direct.key, max_retries=0) as one,
        openai.AsyncOpenAI(base_url=gate.base, api_key=gate.key, max_retries=0) as other,
    ):

        async def several(client, model):
            asked = [client.chat.completions.create(model=model, messages=user(f"number {number}")) for number in range(8)]
            return [plain(answer) for answer in await asyncio.gather(*asked)]

        async def stream(client, model):
            chunks = await client.chat.completions.create(model=model, messages=SAY, stream=True, stream_options={"include_usage": True})
            return joined([chunk async for chunk in chunks])

        for title, call in (("eight at once", several), ("chat in pieces", stream)):
            expected, given = await call(one, direct.assistant), await call(other, gate.assistant)
            part.same(title, lambda: expected, lambda: given)


def secured(table, part, places, direct):
    """Other settings of the same client: a token instead of a key, HTTP/2, TLS."""
    table.head("openai with a token for a key, over HTTP/1.1 and HTTP/2, with TLS and without")
    trust = ssl.create_default_context(cafile=places.ca)
    for title, base, more in (
        ("HTTP/2", f"http://{places.plain}/v1", {"http1": False, "http2": True}),
        ("HTTP/1.1 with TLS", f"https://{places.tls}/v1", {"verify": trust}),
        ("HTTP/2 with TLS", f"https://{places.tls}/v1", {"verify": trust, "http2": True}),
    ):
        versions = set()
        hooks = {"response": [lambda answer: versions.add(answer.http_version)]}
        with httpx2.Client(timeout=30, event_hooks=hooks, **more) as client:
            side = Side(base, places.tokens["good"], NAMES, http_client=client)
            part.same(f"{title}: chat", lambda: plain(direct.chat()), lambda: plain(side.chat()))
            part.same(f"{title}: chat in pieces", lambda: joined(direct.chat(stream=True)), lambda: joined(side.chat(stream=True)))
            part.refused(f"{title}: more choices than may be", "parameter", lambda: side.chat(n=3), "n")
            part.same(f"{title} it was", lambda: {title.split()[0]}, lambda: versions)


def everything(table, part, server):
    """All calls that reached the server, whichever client sent them, have the form that the gate
    gives them.
    """
    table.head("openai: what the server behind the gate has seen")
    calls = server.calls()
    fields = sorted({name for call in calls for name in call["headers"]} - FIELDS)
    part.same("header fields that are not the gate's own", list, lambda: fields)
    part.same("other paths than the three", list, lambda: sorted({call["path"] for call in calls} - {"/v1/chat/completions", "/v1/completions", "/v1/embeddings"}))
    models = sorted({call["asked"]["model"] for call in calls})
    part.same("models, by the server's names", lambda: ["local/assistant-8b", "local/embedder"], lambda: models)
    bounded = [call for call in calls if call["path"] != "/v1/embeddings" and not (call["asked"].get("max_tokens") or call["asked"].get("max_completion_tokens"))]
    part.same("requests without a bound on tokens", list, lambda: bounded)
