"""Makes random chat templates, whose parts are ordinary ones and those of bypasses alike."""

ATOMS = (
    "messages", "messages[0]", "messages[0].content", "tools", "bos_token", "unk_token", "a", "b",
    "c", "ns", "ns.x", "ns.strip", "loop", "loop.index0", "loop.previtem", "'_'", "'_class_'",
    "'class'", "'role'", "'strip'", "'format'", "'XXclassXX'", "0", "1", "95", "true", "none",
    "range(3)", "namespace(x='a')", "m1(a)", "m1('_', 1)", "[]", "{}", "documents",
    "[ns]", "namespace(items=a)", "dict(x_x_xcxlxaxsxsx_x_=1)", "dict(format=1)", "'a format b'",
    "own", "own[0]", "own.pop()", "ns.own", "ns.own[0]", "ns.own.pop(0)",
    "[{'first': b}, {'first': a}]", "(messages | select)", "messages[0].items", "[[1, 2]]",
)
METHODS = (
    "strip", "split", "replace", "join", "lower", "get", "items", "values", "keys", "startswith",
    "count", "format", "index", "title",
)
FILTERS = (
    "list", "first", "last", "join", "lower", "upper", "reverse", "length", "int(V)", "float(V)",
    "default(V)", "map(attribute=V)", "map(V)", "map('first')", "map('default', V)", "items",
    "selectattr(V)", "select(V)", "sum(attribute=V)", "sum(start=V)", "sort(attribute=V)",
    "groupby(V)", "unique", "min", "replace('X', V)", "string", "tojson", "trim", "batch(2, V)",
    "slice(2)", "dictsort", "safe", "e", "attr(V)", "format(V)", "map(attribute='strip')",
    "map(attribute='role')", "groupby('a')", "groupby('x') | first", "sum(attribute='x', start=[])",
    "dictsort | first", "reject('none')", "max(attribute='role')",
)
FORMS = (
    "(V + V)", "(V ~ V)", "(V % V)", "(V * V)", "(V - V)", "(V if V else V)", "(V or V)",
    "(V and V)", "[V, V]", "(V, V)", "{'strip': V}", "{V: V}", "{'a': V}", "dict(strip=V)", "V[V]",
    "V[V]", "V[V]", "V[0]", "V[-1]", "V[1:]", "V[::-1]", "V['role']", "V['format']", "V['strip']",
    "V.role", "V.x", "V.a", "V.strip", "V.items", "V.format", "(V[V] if V in V else V)",
    "(c[a] if a in c else '')", "c[a]", "b[a]", "namespace(strip=V)", "namespace(x=V)", "(V is V)",
    "(-V)", "(not V)", "(V in V)", "(V == V)", "'_' '_class_' '_'", "('_' ~ '_class_' ~ '_')",
    "('XXclassXX'.replace('X', '_'))", "('_', '_class_', '_') | join",
    "V[1::2]", "(V | first)[1::2]", "V.list", "V.grouper", "V.first",
    "([ns] | groupby('x') | first)",
    "(V.keys() - V)", "[{'a': V}]", "V.own", "V.pop()",
)


def value(pick, depth):
    """An expression."""
    kind = pick.random()
    if depth == 0 or kind < 0.25:
        return pick.choice(ATOMS)
    if kind < 0.55:
        form = pick.choice(FORMS)
    elif kind < 0.75:
        form = f"V.{pick.choice(METHODS)}({pick.choice(('', 'V', 'V, V'))})"
    else:
        form = f"(V | {pick.choice(FILTERS)})"
    while "V" in form:
        form = form.replace("V", value(pick, depth - 1).replace("V", "W"), 1)
    return form


def statement(pick, depth):
    """A statement with what is in it."""
    def inner():
        return "".join(statement(pick, depth - 1) for _ in range(pick.randrange(1, 4)))

    name = pick.choice("abc")
    kind = pick.randrange(5 if depth == 0 else 11)
    if kind == 4:
        target = pick.choice(("own", "own", "ns.own", "ns.own", name, "messages"))
        return f"{{% set _ = {target}.append({value(pick, 2)}) %}}"
    kind -= kind > 4
    if kind < 2:
        return f"{{% set {name} = {value(pick, 3)} %}}"
    if kind == 2:
        return f"{{{{ {value(pick, 4)} }}}}"
    if kind == 3:
        attribute = pick.choice(("x", "a", "strip", "startswith"))
        return f"{{% set ns.{attribute} = {value(pick, 3)} %}}"
    if kind < 6:
        target = pick.choice((name, name, "a, b"))
        items = pick.choice(
            (value(pick, 2), "messages", "messages[0].items()", "c", "{'a': b}", "loop")
        )
        condition = pick.choice(("", "", f" if {value(pick, 1)}"))
        return f"{{% for {target} in {items}{condition} %}}{inner()}{{% endfor %}}"
    if kind < 8:
        condition = pick.choice(("else", f"elif {value(pick, 2)}"))
        other = pick.choice(("", f"{{% {condition} %}}{inner()}"))
        return f"{{% if {value(pick, 2)} %}}{inner()}{other}{{% endif %}}"
    if kind == 8:
        return f"{{% set {name} %}}{inner()}{{% endset %}}"
    return f"{{{{ m1({value(pick, 2)}, {value(pick, 1)}) }}}}"


def soup(pick):
    """A template with a namespace and a macro."""
    body = "".join(statement(pick, 1) for _ in range(pick.randrange(1, 3)))
    # A macro that calls itself may not end.
    body = "{{ a }}" if "m1(" in body else body
    macro = f"{{% macro m1(a, b='x') %}}{body}{{% endmacro %}}"
    rest = "".join(statement(pick, 2) for _ in range(pick.randrange(1, 5)))
    begun = "{% set own = [] %}{% set ns = namespace(x='a', own=[]) %}"
    return f"{begun}{macro}{rest}"
