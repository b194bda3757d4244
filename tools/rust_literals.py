"""Reads string literals from Rust sources, each with the calls around it.

A small lexer, not a parser: comments, attributes and items under `#[cfg(test)]` are left out, raw
strings, escapes and continued lines are read as rustc reads them. `#[error("…")]` is the one
attribute whose texts count: they are what the error says.
"""

import dataclasses
import re

TOKEN = re.compile(
    r"""
    (?P<blank>\s+|//[^\n]*)
  | (?P<block>/\*)
  | (?P<raw>(?:b|c)?r(?P<hashes>\#*)"(?P<raw_text>.*?)"(?P=hashes))
  | (?P<text>(?P<prefix>b|c)?"(?P<inner>(?:[^"\\]|\\.)*)")
  | (?P<char>b?'(?:[^'\\\n]|\\(?:x[0-9A-Fa-f]{2}|u\{[0-9A-Fa-f_]+\}|.))')
  | (?P<life>'[A-Za-z_]\w*)
  | (?P<word>(?:r\#)?[A-Za-z_]\w*)
  | (?P<number>\d[\w]*(?:\.\d[\w]*)?)
  | (?P<mark>=>|->|::|==|!=|.)
    """,
    re.X | re.S,
)
ESCAPE = re.compile(r"\\(?:\n\s*|x([0-9A-Fa-f]{2})|u\{([0-9A-Fa-f_]+)\}|(.))", re.S)
PLAIN = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}
CLOSERS = {"(": ")", "[": "]", "{": "}"}
KINDS = ("blank", "block", "raw", "text", "char", "life", "word", "number", "mark")

# How `#[cfg(all(test, …))]` begins.
ALL = ("cfg", "(", "all", "(")

# The name under which `#[error("…")]` is a call.
ERROR = "#error"
# Macros whose text has placeholders, each with the argument that is the text.
FORMATS = {"format!": 0, "format_args!": 0, "write!": 1, ERROR: 0}


@dataclasses.dataclass
class Token:
    kind: str
    text: str
    line: int


def unescape(text):
    def one(found):
        code = found.group(1) or found.group(2)
        if code:
            return chr(int(code.replace("_", ""), 16))
        # A continued line: its break and the blanks of the next line are no part of the text.
        return PLAIN.get(found.group(3), found.group(3)) if found.group(3) else ""

    return ESCAPE.sub(one, text)


def after_comment(text, start):
    """The end of a block comment. They nest."""
    depth = 0
    for found in re.compile(r"/\*|\*/").finditer(text, start):
        depth += 1 if found.group() == "/*" else -1
        if depth == 0:
            return found.end()
    raise ValueError("a block comment without an end")


def tokens(text):
    """The tokens of a source. Byte strings are left out: nobody reads them."""
    at, line, out = 0, 1, []
    while at < len(text):
        found = TOKEN.match(text, at)
        kind = next(name for name in KINDS if found.group(name) is not None)
        end = found.end()
        if kind == "block":
            end = after_comment(text, at)
        elif kind == "raw":
            value = found.group("raw_text")
            out.append(Token("bytes" if found.group()[0] == "b" else "text", value, line))
        elif kind == "text":
            value = unescape(found.group("inner"))
            out.append(Token("bytes" if found.group("prefix") == "b" else "text", value, line))
        elif kind != "blank":
            out.append(Token(kind, found.group(), line))
        line += text.count("\n", at, end)
        at = end
    return out


def closing(all_tokens, at):
    """The index of the delimiter that closes the one at `at`."""
    depth = 0
    for index in range(at, len(all_tokens)):
        token = all_tokens[index]
        if token.kind == "mark":
            depth += token.text in CLOSERS
            depth -= token.text in CLOSERS.values()
            if depth == 0:
                return index
    raise ValueError(f"line {all_tokens[at].line}: a delimiter that nothing closes")


def end_of_item(all_tokens, at):
    """The index after an item, or after a statement: behind its `;` or its block."""
    while at < len(all_tokens):
        text = all_tokens[at].text if all_tokens[at].kind == "mark" else ""
        if text in ("(", "["):
            at = closing(all_tokens, at)
        elif text == "{":
            return closing(all_tokens, at) + 1
        elif text in (";", ","):
            return at + 1
        elif text in CLOSERS.values():
            return at
        at += 1
    return at


def shipped(all_tokens):
    """Tokens without attributes and without what only tests have."""
    out, at = [], 0
    while at < len(all_tokens):
        token = all_tokens[at]
        after = at + 1
        if token.kind == "mark" and token.text == "#" and after < len(all_tokens):
            after += all_tokens[after].text == "!"
            if all_tokens[after].text == "[" and all_tokens[after].kind == "mark":
                end = closing(all_tokens, after)
                inside = all_tokens[after + 1 : end]
                words = [each.text for each in inside]
                at = end + 1
                is_test = words[:3] == ["cfg", "(", "test"] or words[:5] == [*ALL, "test"]
                if is_test or words == ["test"]:
                    at = end_of_item(all_tokens, at)
                elif words[0] == "error":
                    out += [Token("word", ERROR, inside[0].line), *inside[1:]]
                continue
        out.append(token)
        at += 1
    return out


@dataclasses.dataclass
class Group:
    """What stands between two delimiters."""

    open: str
    # The call, macro (with `!`) or struct that it belongs to; empty for a tuple, list or block.
    name: str
    # Its delimiters among the tokens.
    start: int
    end: int = 0
    # Where each argument, field or statement begins.
    arguments: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Literal:
    text: str
    # Its place among the tokens.
    at: int
    # The groups around it from the innermost, each with the number of the argument that it is in.
    groups: list

    def is_format(self):
        """Whether it is the text of a macro with placeholders."""
        if not self.groups:
            return False
        group, argument = self.groups[0]
        return FORMATS.get(group.name) == argument


@dataclasses.dataclass
class Function:
    name: str
    start: int
    end: int


def called(all_tokens, at):
    """The name of what a delimiter belongs to. Also of a call with a turbofish: `fail::<T>(`."""
    if at == 0:
        return ""
    before = all_tokens[at - 1]
    if before.kind == "word":
        return before.text
    if before.text == "!" and at > 1:
        return all_tokens[at - 2].text + "!"
    if before.text != ">" or all_tokens[at].text != "(":
        return ""
    depth = 0
    for index in range(at - 1, 1, -1):
        depth += (all_tokens[index].text == ">") - (all_tokens[index].text == "<")
        if depth == 0:
            return all_tokens[index - 2].text if all_tokens[index - 1].text == "::" else ""
    return ""


def read(all_tokens):
    """The string literals and the functions among tokens that ship."""
    groups, found, functions, name = [], [], [], ""
    for at, token in enumerate(all_tokens):
        if token.kind == "word" and at and all_tokens[at - 1].text == "fn":
            name = token.text
        if token.kind == "text":
            around = [(group, len(group.arguments) - 1) for group in reversed(groups)]
            found.append(Literal(token.text, at, around))
        if token.kind != "mark":
            continue
        if token.text in CLOSERS:
            groups.append(Group(token.text, called(all_tokens, at), at, arguments=[at + 1]))
            if token.text == "{" and name:
                functions.append((Function(name, at, at), groups[-1]))
                name = ""
        elif token.text in CLOSERS.values():
            group = groups.pop()
            group.end = at
            # A trailing comma begins no argument.
            if group.arguments[-1] == at and len(group.arguments) > 1:
                group.arguments.pop()
        elif token.text == ";" and groups and groups[-1].open != "{":
            name = ""
        elif token.text in (",", ";") and groups:
            name = "" if token.text == ";" else name
            groups[-1].arguments.append(at + 1)
    for function, group in functions:
        function.end = group.end
    return found, [function for function, _ in functions]
