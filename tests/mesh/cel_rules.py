"""The rules in Common Expression Language of custom resource definitions, evaluated as the API server
does: by CEL's own C++ implementation, with the strings library and Kubernetes' URL functions.
"""

import functools
import re
from urllib.parse import urlsplit

from cel_expr_python import cel
from cel_expr_python.ext import ext_strings

# A property with one of these names is accessed as `__name__` (Kubernetes' CRD validation rules).
RESERVED = {
    "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in", "let",
    "loop", "namespace", "null", "package", "return", "true", "var", "void", "while",
}


def is_url(text):
    """Whether Kubernetes' `isURL` accepts it: Go's `url.ParseRequestURI`, which wants a scheme or an
    absolute path. `registry:5000/filter` has the scheme `registry`.
    """
    if re.search(r"[\x00-\x20\x7f]", text) or re.search(r"%(?![0-9A-Fa-f]{2})", text):
        return False
    try:
        parts = urlsplit(text)
        parts.port  # raises for a port that is no number
    except ValueError:
        return False
    return bool(parts.scheme) or text.startswith("/")


def _environment():
    kind = cel.Type
    url = kind.Map(kind.STRING, kind.STRING)
    return cel.NewEnv(
        variables={"self": kind.DYN},
        extensions=[ext_strings.ExtStrings()],
        functions=[
            cel.FunctionDecl("isURL", [cel.Overload("is_url_string", kind.BOOL, [kind.STRING], False, is_url)]),
            cel.FunctionDecl("url", [cel.Overload("url_string", url, [kind.STRING], False, lambda text: {"scheme": urlsplit(text).scheme})]),
            cel.FunctionDecl("getScheme", [cel.Overload("url_get_scheme", kind.STRING, [url], True, lambda parts: parts["scheme"])]),
        ],
    )


ENVIRONMENT = _environment()


@functools.cache
def _compiled(rule):
    return ENVIRONMENT.compile(rule)


def escaped(name):
    """A property's name in a rule, as Kubernetes escapes it."""
    if name in RESERVED:
        return f"__{name}__"
    name = name.replace("__", "__underscores__")
    return name.replace(".", "__dot__").replace("-", "__dash__").replace("/", "__slash__")


def violation(rule, value):
    """None if the rule holds for the value, otherwise why not. A rule that cannot be evaluated does
    not hold.
    """
    try:
        result = _compiled(rule).eval(data={"self": value})
    except Exception as error:  # The library raises RuntimeError and several others.
        return f"cannot be evaluated: {error}"
    if result.type() != cel.Type.BOOL:
        return f"cannot be evaluated: {result.value()}"
    return None if result.value() else "does not hold"


def matches(pattern, text):
    """Whether RE2, which the API server uses too, finds the pattern in the text."""
    result = _compiled("self.text.matches(self.pattern)").eval(data={"self": {"text": text, "pattern": pattern}})
    if result.type() != cel.Type.BOOL:
        raise ValueError(f"the pattern {pattern!r} is not for RE2: {result.value()}")
    return result.value()
