"""Renders chat templates in Jinja without its sandbox, and notes each way out to Python."""

import copy
import datetime
import sys
import types
import warnings

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.runtime

#: Methods of texts, lists and mappings that templates may call.
METHODS = set(
    "capitalize count endswith find get index isalpha isdigit isspace isupper items join keys "
    "lower lstrip replace rfind rsplit rstrip split splitlines startswith strip title upper values"
    .split()
)
#: Those that change a list.
LIST_METHODS = {"append", "pop"}
#: A keyword of JSON Schema, which gives a method of a text. It may be read, and is not called.
KEYWORD = "format"
DATA = (str, int, float, list, tuple, dict, range, type(None))
CODE = (
    type, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.ModuleType,
    types.FrameType, types.CodeType, types.MethodWrapperType, types.WrapperDescriptorType,
    types.MethodDescriptorType, types.GetSetDescriptorType, types.MappingProxyType,
)
#: Names of Python's audit events that no template has a reason for.
EVENTS = (
    "compile", "ctypes.", "exec", "ftplib.", "import", "open", "os.", "pty.", "shutil.", "socket.",
    "subprocess.", "tempfile.", "urllib.",
)


class Tripped(Exception):
    """A template left its data."""


class Refused(Exception):
    """A template refused its data by `raise_exception`."""


def raise_exception(message):
    """As loaders offer it."""
    raise Refused(message)


def strftime_now(form):
    """As loaders offer it."""
    return datetime.datetime(2026, 1, 2).strftime(form)


OFFERED = (raise_exception, strftime_now, range, dict, jinja2.utils.Namespace)


def is_offered(value):
    """Whether a template may have and call this."""
    if isinstance(value, types.BuiltinMethodType) and not isinstance(value.__self__, type):
        if isinstance(value.__self__, list) and value.__name__ in LIST_METHODS:
            return True
        return isinstance(value.__self__, DATA) and value.__name__ in METHODS
    return isinstance(value, jinja2.runtime.Macro) or any(value is one for one in OFFERED)


class Context(jinja2.runtime.Context):
    """Looks at each call of a template."""

    def call(self, *arguments, **named):
        called = arguments[0]
        if callable(called) and not isinstance(called, jinja2.Undefined) and not is_offered(called):
            # Markup is a class of Jinja's own, and has its methods in Python.
            text = getattr(called, "__self__", None)
            if not isinstance(text, str) or called.__name__ not in METHODS:
                self.environment.trip(f"a call of {called!r}")
        return super().call(*arguments, **named)


class Environment(jinja2.Environment):
    """Jinja as it is without a sandbox, with a wire around the data."""

    context_class = Context

    def __init__(self):
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", Generation]
        )
        self.tripped = None
        self.filters["attr"] = attribute

    def handle_exception(self, source=None):
        """Passes an exception on as it is. Jinja would make a traceback by compiling code."""
        raise  # pylint: disable=misplaced-bare-raise

    def trip(self, why):
        """Notes that a template left its data, and ends it."""
        self.tripped = self.tripped or why
        raise Tripped(why)

    def look(self, value, name):
        """Looks at what a name reached."""
        if isinstance(value, jinja2.Undefined):
            return value
        if isinstance(name, str) and name.startswith("_"):
            self.trip(f"the name {name}")
        is_markup_method = (
            isinstance(value, types.MethodType)
            and isinstance(value.__self__, str)
            and name in METHODS
        )
        is_keyword = name == KEYWORD and isinstance(getattr(value, "__self__", None), str)
        is_read = is_offered(value) or is_markup_method or is_keyword
        if isinstance(value, CODE) and not is_read:
            self.trip(f"{name} is {value!r}")
        return value

    def getattr(self, obj, attribute):
        """The attribute that a name after a dot gives."""
        return self.look(super().getattr(obj, attribute), attribute)

    def getitem(self, obj, argument):
        """The element or attribute that a subscript gives."""
        return self.look(super().getitem(obj, argument), argument)


class Generation(jinja2.ext.Extension):
    """The block that Transformers adds."""

    tags = {"generation"}

    def parse(self, parser):
        """Its content as it is."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


@jinja2.pass_environment
def attribute(environment, value, name):
    """The filter `attr`."""
    return environment.getattr(value, name)


#: The environment whose template is rendered now.
watched = []


def audit(event, arguments):
    """Notes what Python itself reports while a template is rendered."""
    if watched and event.startswith(EVENTS):
        environment = watched[0]
        watched.clear()
        environment.trip(f"{event} {arguments!r}")


sys.addaudithook(audit)
# Jinja compiles calls of numbers, which Python warns of.
warnings.simplefilter("ignore", SyntaxWarning)


def variables(is_plain):
    """What loaders pass to a template: a plain conversation, or one with tools and parts."""
    tool = {"type": "function", "function": {
        "name": "weather", "description": "Tells the weather.", "parameters": {
            "type": "object", "required": ["city"], "properties": {
                "city": {"type": "string", "description": "A city.", "items": {"type": "string"}},
                "days": {"type": "integer", "enum": [1, 2]}}}}}
    call = {"id": "123456789", "type": "function", "function": {
        "name": "weather", "arguments": {"city": "Paris", "days": 2}}}
    plain = [
        {"role": role, "content": content}
        for role, content in (("user", "Hello"), ("assistant", "Hi."), ("user", "And now?"))
    ]
    return {
        "messages": plain if is_plain else [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello <b>you</b>"},
            {"role": "assistant", "content": "<think>so</think>Hi.", "tool_calls": [call]},
            {"role": "tool", "content": "rain", "name": "weather", "tool_call_id": "123456789"},
            {"role": "user", "content": [{"type": "text", "text": "And now?"}]},
        ],
        "tools": None if is_plain else [tool], "documents": [{"title": "A", "text": "a text"}],
        "functions": None, "function_call": None, "add_generation_prompt": True,
        "bos_token": "<s>", "eos_token": "</s>", "enable_thinking": False,
        # The author of a model chooses this one.
        "unk_token": "__class__",
        "raise_exception": raise_exception, "strftime_now": strftime_now,
    }


def run(template):
    """Renders a template. Returns why it tripped, and why it failed; None for what is not so."""
    environment = Environment()
    failed = None
    for is_plain in (False, True):
        try:
            compiled = environment.from_string(template)
            values = variables(is_plain)
            before = copy.deepcopy(values["messages"])
            watched[:] = [environment]
            compiled.render(**values)
            if values["messages"] != before:
                environment.trip("the data of a request is another one")
        except Refused:
            pass
        except Exception as error:  # pylint: disable=broad-except
            failed = f"{type(error).__name__}: {error}"
        finally:
            watched.clear()
        if environment.tripped or failed:
            break
    return environment.tripped, failed
