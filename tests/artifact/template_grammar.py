"""Makes chat templates with ways to Python that scanners missed, mutated.

A way to Python is a text with the name of an internal, which a template makes in one of the ways
of `MAKERS`, and a construct of `REACHES` that takes an attribute of that name. `OTHERS` need no
such text.
"""

import json

#: Internals of Python that each value has.
NAMES = (
    "__class__", "__doc__", "__init__", "__dir__", "__reduce__", "__hash__", "__sizeof__",
    "__str__", "__subclasshook__", "__init_subclass__", "__getattribute__",
)
#: Methods of the closed list, by which a template calls what it stored.
CALLED = ("strip", "split", "startswith", "get", "items", "lower", "join", "index", "count")
#: Methods that are not on it.
STORED = ("format", "format_map", "encode", "translate", "zfill", "center", "casefold", "rjust")


def quote(pick, text):
    """A text in quotes of either kind."""
    mark = pick.choice("'\"")
    return mark + text.replace("\\", "\\\\").replace(mark, "\\" + mark).replace("\n", "\\n") + mark


def cut(pick, name):
    """A name in pieces, none of which has two underscores."""
    inner = name.strip("_")
    middle = pick.randrange(1, len(inner))
    pieces = ["_", "_" + inner[:middle], inner[middle:] + "_", "_"]
    if pick.random() < 0.5:
        pieces[1:3] = [pieces[1] + pieces[2]]
    return [piece for piece in pieces if piece]


def mark(pick):
    """A character that is in no name."""
    return pick.choice("XZQ#@ -")


def by_operator(sign):
    """Pieces with an operator between."""
    return lambda pick, name: ("", f" {sign} ".join(quote(pick, p) for p in cut(pick, name)))


def by_neighbours(pick, name):
    """Pieces that stand beside each other."""
    return "", " ".join(quote(pick, piece) for piece in cut(pick, name))


def by_replace_method(pick, name):
    """An underscore that `replace` brings in."""
    char = mark(pick)
    return "", f"{quote(pick, name.replace('_', char))}.replace({quote(pick, char)}, '_')"


def by_replace_filter(pick, name):
    """The same by a filter."""
    char = mark(pick)
    return "", f"({quote(pick, name.replace('_', char))} | replace({quote(pick, char)}, '_'))"


def by_removal(pick, name):
    """A character between underscores that `replace` takes out."""
    char = mark(pick)
    return "", f"{quote(pick, name.replace('__', f'_{char}_'))}.replace({quote(pick, char)}, '')"


def by_split(pick, name):
    """Pieces that `split` makes and `join` joins."""
    char = mark(pick)
    return "", f"({quote(pick, char.join(cut(pick, name)))}.split({quote(pick, char)}) | join)"


def by_join(pick, name):
    """Pieces of a list."""
    pieces = ", ".join(quote(pick, piece) for piece in cut(pick, name))
    return "", pick.choice(["([{}] | join)", "''.join([{}])", "(({}) | join(''))"]).format(pieces)


def by_percent(pick, name):
    """A format with characters or texts."""
    pieces = cut(pick, name)
    if pick.random() < 0.5:
        form = "%c%c" + name.strip("_").replace("_", "%c") + "%c%c"
        return "", f"({quote(pick, form)} % ({', '.join(['95'] * form.count('%c'))}))"
    values = ", ".join(quote(pick, piece) for piece in pieces)
    return "", f"({quote(pick, '%s' * len(pieces))} % ({values}))"


def by_format_filter(pick, name):
    """The filter of the same."""
    pieces = cut(pick, name)
    values = ", ".join(quote(pick, piece) for piece in pieces)
    return "", f"({quote(pick, '%s' * len(pieces))} | format({values}))"


def by_case(pick, name):
    """A name in capitals."""
    pieces = " ~ ".join(quote(pick, piece.upper()) for piece in cut(pick, name))
    return "", pick.choice(["({} | lower)", "({}).lower()"]).format(pieces)


def by_reverse(pick, name):
    """A name backwards."""
    pieces = " ~ ".join(quote(pick, piece) for piece in cut(pick, name[::-1]))
    return "", pick.choice(["({} | reverse)", "({})[::-1]"]).format(pieces)


def by_repetition(pick, name):
    """Two underscores from one."""
    twice = pick.choice(["('_' * 2)", "(2 * '_')", "(['_'] * 2) | join", "'_'.join(['', '', ''])"])
    return "", f"(({twice}) ~ {quote(pick, name[2:-2])} ~ ({twice}))"


def by_slice(pick, name):
    """A piece of a longer text."""
    text = " ~ ".join(quote(pick, piece) for piece in cut(pick, name))
    return "", f"('a' ~ {text} ~ 'b')[1:-1]"


def between(pick, name):
    """A name with another character before each of its own."""
    char = pick.choice("axqZ")
    return "".join(char + own for own in name)


def by_stride(pick, name):
    """Every second character of a text."""
    text = quote(pick, between(pick, name))
    return pick.choice([
        (f"{{% set t = {text} %}}", "t[1::2]"), ("", f"({text})[1::2]"),
        ("", f"([{text}] | first)[1::2]"),
    ])


def by_keyword(pick, name):
    """Every second character of the name of an argument."""
    form = pick.choice(["(dict({}=1) | first)[1::2]", "(dict({}=1) | list)[0][1::2]"])
    return "", form.format(between(pick, name))


def by_block(pick, name):
    """What a block prints."""
    pieces = "".join(f"{{{{ {quote(pick, piece)} }}}}" for piece in cut(pick, name))
    return f"{{% set made %}}{pieces}{{% endset %}}", "made"


def by_macro(pick, name):
    """What a macro prints."""
    pieces = "".join(f"{{{{ {quote(pick, piece)} }}}}" for piece in cut(pick, name))
    return f"{{% macro text() %}}{pieces}{{% endmacro %}}", "text()"


def by_namespace(pick, name):
    """Pieces that a loop joins in a namespace."""
    pieces = ", ".join(quote(pick, piece) for piece in cut(pick, name))
    grown = f"{{% for p in [{pieces}] %}}{{% set own.k = own.k ~ p %}}{{% endfor %}}"
    return "{% set own = namespace(k='') %}" + grown, "own.k"


def by_append(pick, name):
    """Pieces that a list gets one after the other."""
    pieces = cut(pick, name)
    listed = pick.choice(["made", "own.made"])
    begun = "{% set made = [] %}" if listed == "made" else "{% set own = namespace(made=[]) %}"
    grown = (f"{{% set _ = {listed}.append({quote(pick, piece)}) %}}" for piece in pieces)
    return begun + "".join(grown), f"({listed} | join)"


def by_pop(pick, name):
    """A text that a list, which another name may have, gets and gives."""
    text = " ~ ".join(quote(pick, piece) for piece in cut(pick, name))
    begun = f"{{% set made = [] %}}{{% set other = made %}}{{% set _ = made.append({text}) %}}"
    return begun, pick.choice(["made.pop()", "made.pop(0)", "made[0]", "other[-1]", "other.pop()"])


def by_default(pick, name):
    """What a filter gives in place of nothing."""
    pieces = " ~ ".join(quote(pick, piece) for piece in cut(pick, name))
    form = pick.choice(["(missing | default({}))", "('x' | int({}))", "(('', {}) | last)"])
    return "", form.format(pieces)


def by_escape(pick, name):
    """Underscores as escapes."""
    escape = pick.choice(["\\x5f", "\\u005f", "\\137", "\\N{LOW LINE}"])
    return "", "'" + name.replace("_", escape) + "'"


def by_token(_pick, _name):
    """A special token, which the author of the model chooses."""
    return "", "unk_token"


MAKERS = {
    "tilde": by_operator("~"), "plus": by_operator("+"), "neighbours": by_neighbours,
    "replace": by_replace_method, "replace-filter": by_replace_filter, "removal": by_removal,
    "split": by_split, "join": by_join, "percent": by_percent, "format-filter": by_format_filter,
    "stride": by_stride, "keyword": by_keyword, "case": by_case, "reverse": by_reverse,
    "repetition": by_repetition, "slice": by_slice,
    "append": by_append, "pop": by_pop, "block": by_block, "macro": by_macro,
    "namespace": by_namespace, "default": by_default, "escape": by_escape, "token": by_token,
}

#: Takes an attribute of the name `K` of each of `V`, or of `V` itself.
REACHES = {
    "subscript": ["V[K]", "(V)[K]", "[V][0][K]", "({'a': V}).a[K]"],
    "subscript-variable": [
        "#{% set k = K %}{{ V[k] }}", "#{% for k in [K] %}{{ V[k] }}{% endfor %}",
        "#{% macro at(k) %}{{ V[k] }}{% endmacro %}{{ at(K) }}",
        "#{% set n = namespace(k=K) %}{{ V[n.k] }}",
        "#{% if not k is defined %}{% set k = K %}{% endif %}{{ V[k] }}",
        "#{% for k in V %}{% set k = K %}{{ V[k] }}{% endfor %}",
    ],
    "subscript-choice": ["V[K if true else 0]", "V[0 or K]", "V[true and K]", "V[(K, 'a')[0]]"],
    "map": ["V | map(attribute=K) | list", "V | map(attribute=K, default='') | join"],
    "sum": ["V | sum(attribute=K)", "V | sum(K)", "V | sum(start=0, attribute=K)"],
    "sort": ["V | sort(attribute=K)", "V | sort(false, false, K) | list"],
    "groupby": ["V | groupby(K)", "V | groupby(attribute=K)", "V | groupby(K, default='')"],
    "unique": ["V | unique(attribute=K) | list", "V | unique(false, K) | list"],
    "min-max": ["V | min(attribute=K)", "V | max(false, K)", "V | max(attribute=K)"],
    "join": ["V | join('', K)", "V | join(d=',', attribute=K)"],
    "select": ["V | selectattr(K) | list", "V | rejectattr(K, 'equalto', 1) | list"],
    "attr": ["V | attr(K)", "V | map('attr', K) | list", "V | first | attr(K)"],
    "nested-map": ["[V] | map('map', attribute=K) | map('list') | list"],
    "spread": ["V | map(**{'attribute': K}) | list", "V | sum(*[K])", "V | map(*['attr', K])"],
    "previous-item": ["#{% for m in V %}{{ (loop.nextitem or m)[K] }}{% endfor %}"],
}
VALUES = (
    "messages", "messages[1:]", "(messages | list)", "[messages[0]]", "['a', 'b']", "documents",
)


def other_stored(pick):
    """A method that is stored under the name of another one, and called."""
    called, stored = pick.choice(CALLED), pick.choice(STORED)
    text = quote(pick, pick.choice(["{0._class_}", "{0.real}", "a", "{}"]))
    receiver = pick.choice([text, "messages[0].content", "bos_token"])
    return pick.choice([
        f"{{% set ns = namespace() %}}{{% set ns.{called} = {receiver}.{stored} %}}"
        f"{{{{ ns.{called}(0) }}}}",
        f"{{% set ns = namespace({called}={receiver}.{stored}) %}}{{{{ ns.{called}('a') }}}}",
        f"{{% set ns = namespace({called}={receiver}[{quote(pick, stored)}]) %}}"
        f"{{{{ ns.{called}() }}}}",
    ])


def other_mapping(pick):
    """The same in a mapping, whose keys are attributes, too."""
    called, stored = pick.choice(("strip", "split", "lower", "join", "title")), pick.choice(STORED)
    receiver = pick.choice(["'a'", "messages[0].content", "bos_token", "eos_token"])
    return pick.choice([
        f"{{{{ {{'{called}': {receiver}.{stored}}}.{called}() }}}}",
        f"{{% set m = dict({called}={receiver}.{stored}) %}}{{{{ m.{called}('b') }}}}",
        f"{{{{ [{{'{called}': {receiver}.{stored}}}][0].{called}(1) }}}}",
    ])


def other_listed(pick):
    """The same in a list, which a template appends to."""
    called, stored = pick.choice(("strip", "split", "lower", "join", "title")), pick.choice(STORED)
    receiver = pick.choice(["'a'", "messages[0].content", "bos_token", "eos_token"])
    got = pick.choice(["l[0]", "l.pop()", "l.pop(0)"])
    end = pick.choice([f"{{{{ {got}('b') }}}}", f"{{{{ {{'{called}': {got}}}.{called}('b') }}}}"])
    return f"{{% set l = [] %}}{{% set _ = l.append({receiver}.{stored}) %}}{end}"


def other_change(pick):
    """A change of the data of a request."""
    value = quote(pick, pick.choice(STORED))
    change = pick.choice([f"append({value})", "pop()", "pop(0)"])
    return pick.choice([
        f"{{% set _ = messages.{change} %}}", f"{{% set l = messages %}}{{{{ l.{change} }}}}",
        f"{{% set l = [messages] %}}{{% set _ = l[0].{change} %}}",
        f"{{% set ns = namespace(l=messages) %}}{{% set _ = ns.l.{change} %}}",
        f"{{% set l = [] %}}{{% for l in [messages] %}}{{% set _ = l.{change} %}}{{% endfor %}}",
        f"{{% set l = [] if none else messages %}}{{% set _ = l.{change} %}}",
        f"{{% macro f(l) %}}{{% set _ = l.{change} %}}{{% endmacro %}}{{{{ f(messages) }}}}",
        f"{{% set l = [] %}}{{% set _ = l.append(messages) %}}{{% set _ = l.pop().{change} %}}",
        f"{{% if none %}}{{% set messages = [] %}}{{% endif %}}{{% set _ = messages.{change} %}}",
    ])


def other_format(pick):
    """A method or function that formats, or that is called as a value."""
    receiver = pick.choice(["'{0.__class__}'", "messages[0].content", "(bos_token ~ 'a')", "'{}'"])
    stored = pick.choice(STORED)
    variable = pick.choice(["f", "g1", "call_it", "x"])
    return pick.choice([
        f"{{{{ {receiver}.{stored}(5) }}}}", f"{{{{ {receiver}[{quote(pick, stored)}](5) }}}}",
        f"{{% set {variable} = {receiver}.{stored} %}}{{{{ {variable}(5) }}}}",
        f"{{% for {variable} in [{receiver}.{stored}] %}}{{{{ {variable}(5) }}}}{{% endfor %}}",
    ])


def other_generator(pick):
    """The frame of a generator has Python's globals."""
    made = pick.choice(
        ["map('upper')", "select", "reject('none')", "map(attribute='role')", "batch(2)"]
    )
    part = pick.choice(["gi_frame", "gi_code", "send", "throw", "close"])
    access = pick.choice([".{}", "[{!r}]", "['' {!r}]", " | attr({!r})"]).format(part)
    value = pick.choice(VALUES[:3])
    if pick.random() < 0.3:
        return f"{{{{ [{value} | {made}] | map(attribute={part!r}) | list }}}}"
    return f"{{{{ ({value} | {made}){access} }}}}"


def other_global(pick):
    """Functions and classes of Jinja."""
    name = pick.choice(
        ("lipsum", "cycler", "joiner", "namespace", "range", "dict", "raise_exception")
    )
    inner = pick.choice(("__globals__", "__init__", "__class__", "__doc__", "__call__"))
    access = pick.choice([".{0}", "['{0}']", "['_' ~ '{1}']", " | attr('{0}')"])
    prefix, value = pick.choice([("", name), ("{% set f = NAME %}", "f"), ("", "[NAME][0]")])
    access = access.format(inner, inner[1:])
    return prefix.replace("NAME", name) + f"{{{{ {value.replace('NAME', name)}{access} }}}}"


def other_namespace(pick):
    """What a namespace stored, which a filter gives."""
    key = " ~ ".join(quote(pick, piece) for piece in cut(pick, pick.choice(NAMES)))
    at = pick.choice("gkv")
    return pick.choice([
        "{% set ns = namespace(A=K) %}{{ messages[([ns] | groupby('A') | first).grouper] }}",
        "{% set ns = namespace(A=K) %}"
        "{{ messages[[ns] | groupby('A') | map(attribute='grouper') | first] }}",
        "{% set ns = namespace(n=1, A=K) %}"
        "{% set same = ([ns] | groupby('n') | first).list | first %}{{ messages[same.A] }}",
        "{% set ns = namespace(A=[K]) %}"
        "{{ messages[[ns] | sum(attribute='A', start=[]) | first] }}",
        "{% set ns = namespace(A=K) %}{% for n in [ns] | list %}{{ messages[n.A] }}{% endfor %}",
        "{% set ns = namespace(A=K) %}{{ messages[{'a': ns}.a.A] }}",
        "{% set ns = namespace(A=K) %}{{ messages[(dict(a=ns)).a.A] }}",
    ]).replace("A", at).replace("K", key)


def other_items(pick):
    """The method `items` that a namespace stored, which a filter calls."""
    made = pick.choice(["select", "reject('none')", "map('upper')", "batch(2)", "unique"])
    name, end = pick.choice("abc"), pick.choice(["gi_frame", "gi_code"])
    values = pick.choice(VALUES[:4])
    filters = pick.choice(["dictsort | first", "dictsort | list | last", "dictsort | sort | first"])
    return (
        f"{{% set d = {{'{name}': {values} | {made}}} %}}"
        f"{{% set ns = namespace(items=d.items) %}}{{{{ (ns | {filters})[1].{end} }}}}"
    )


def other_loop(pick):
    """The items of `loop`, whose attributes have the names of its own."""
    key = " ~ ".join(quote(pick, piece) for piece in cut(pick, pick.choice(NAMES)))
    name = pick.choice(["first", "last", "index", "index0", "length", "revindex", "depth"])
    template = pick.choice([
        "{% for m in [1, {'A': K}] %}{% for a, b in loop %}{{ messages[a.A] }}{% endfor %}"
        "{% endfor %}",
        "{% for m in [1, {'A': K}] %}{% set l = loop %}{% for a, b in l %}{{ messages[a.A] }}"
        "{% endfor %}{% endfor %}",
        "{% macro at(l) %}{% for a, b in l %}{{ messages[a.A] }}{% endfor %}{% endmacro %}"
        "{% for m in [1, {'A': K}] %}{{ at(loop) }}{% endfor %}",
    ])
    return template.replace("A", name).replace("K", key)


def other_guard(pick):
    """A part of a text, which its subscript takes for an attribute."""
    name = pick.choice(STORED)
    middle = pick.randrange(1, len(name))
    key = f"{quote(pick, name[:middle])} ~ {quote(pick, name[middle:])}"
    text = quote(pick, f"{pick.choice('abx')} {name} {pick.choice('cdy')}")
    end = pick.choice(["c[k] if k in c else ''", "(c[k] if k in c)"])
    return f"{{% set k = {key} %}}{{% set c = {text} %}}{{{{ {end} }}}}"


def other_set(pick):
    """A method of a set, which is the difference of two views."""
    name = pick.choice(["union", "difference", "intersection", "issubset", "issuperset"])
    view = pick.choice(["keys", "items"])
    value = pick.choice(["messages[0]", "messages[1]", "{'a': 1}", "{'strip': 2, 'b': 3}"])
    called = pick.choice(["strip", "split", "lower", "title", "upper"])
    made = f"({value}.{view}() - {pick.choice(['[]', '{}', '[1]', '()'])})"
    return f"{{{{ {{'{called}': {made}.{name}}}.{called}('ab') }}}}"


OTHERS = {
    "namespace-filter": other_namespace, "namespace-items": other_items, "loop-items": other_loop,
    "text-guard": other_guard, "set-method": other_set,
    "stored-method": other_stored, "stored-in-mapping": other_mapping,
    "stored-in-list": other_listed, "changed-data": other_change,
    "method-as-value": other_format, "generator": other_generator, "global": other_global,
}


def reached(pick, reach, maker):
    """A template with a way to Python."""
    before, key = MAKERS[maker](pick, pick.choice(NAMES))
    form = pick.choice(REACHES[reach]).replace("V", pick.choice(VALUES)).replace("K", key)
    return before + (form[1:] if form.startswith("#") else f"{{{{ {form} }}}}")


def decorate(pick, template):
    """The same within an ordinary template."""
    before = pick.choice(
        ["", "{{ bos_token }}", "{# a note #}", "<|im_start|>\n", "{%- set z = 1 -%}"]
    )
    after = pick.choice(
        ["", "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}", "\n"]
    )
    if pick.random() < 0.3 and "{% macro" not in template:
        template = f"{{% if messages %}}{template}{{% endif %}}"
    if pick.random() < 0.3:
        template = template.replace("{{ ", "{{- ").replace(" %}", " -%}")
    return before + template + after


def bypasses(pick):
    """Kinds of bypasses with a function each that makes one."""
    def by_maker(maker):
        return lambda: decorate(pick, reached(pick, pick.choice(list(REACHES)), maker))

    def by_reach(reach):
        return lambda: decorate(pick, reached(pick, reach, pick.choice(list(MAKERS))))

    def by_other(make):
        return lambda: decorate(pick, make(pick))

    kinds = {f"name by {maker}": by_maker(maker) for maker in MAKERS}
    kinds.update({f"reach by {reach}": by_reach(reach) for reach in REACHES})
    kinds.update({name: by_other(make) for name, make in OTHERS.items()})
    return kinds


def as_config(template):
    """A configuration of a tokenizer with this template."""
    return json.dumps({"bos_token": "<s>", "chat_template": template})
