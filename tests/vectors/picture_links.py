"""Renders what the gate makes of random answers, and finds pictures in it.

    python tests/vectors/picture_links.py [SEED]

Links to pictures are mutated with the characters that Markdown and HTML know, and with control
characters. The gate's scanner escapes them (`tests/vectors/examples/picture_links.rs`). The rest is
rendered as it is and without control characters, which some readers remove first. No picture may
be left, and a request with one must be refused. CommonMark is pinned in
`tools/requirements-templates.txt`.
"""

import html.parser
import json
import pathlib
import random
import subprocess
import sys
import unicodedata

import commonmark

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCANNER = "cargo run --quiet --locked -p tensorgate-vectors --example picture_links".split()
#: Texts, and the least number of them that show a picture before they are escaped.
TEXTS, LEAST_SHOWN = 60_000, 10_000
#: The most characters that are put into a link.
INSERTED = 7
LINKS = (
    "![x](u)", "![x](u \"t\")", "[![x](u)](v)", "![a [x] b](u)", "![a\n[x]\n\nb](u)",
    "![x][1]\n\n[1]: u", "[1]: u\n\n![x][1]", "![1]\n\n[1]: u", "![1][]\n[1]: u",
    "![a][b]\n> [b]: u", "- [b]: u\n\n![b]", "[b]:\nu\n\n![b]",
    "<img src=u>", "|<td background=u>", "<table><tr><th background='u'>", "<video poster=u>",
    "<tbody background=u>", "<iframe\nsrc=u>", "<object data=u>", "<input type=image src=u>",
)
MARKS = (
    "![", "](", "[", "]", "!", "(u)", "[1]", ":", "\n", "\n", "\n\n", "\r", "\r\n", "\t", " ",
    "    ",
    "\0", "\1", "\v", "\f", "\f", "\x7f", "\x85", "\xa0", "\u2028", "\u200b", "\ufeff",
    "\\", "`", "``", "<", ">", "/", "\"", "'", "&#10;", "&lt;", "- ", "1. ", "> ", "# ", "=", "---",
    "```", "~~~", "|", "*", "_", "<!--", "-->", "<div>\n", "<b title=\"", "a", "x",
)
#: Attributes by which elements load a picture or a page, in HTML's standard.
LOADS = {
    "background": "body table tbody td tfoot th thead tr",
    "data": "object",
    "poster": "video",
    "src": "audio embed frame iframe img input script source track video",
    "srcset": "img source",
}


class Loaded(html.parser.HTMLParser):
    """What a page loads."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        self.found += [(tag, name) for name, _ in attributes if tag in LOADS.get(name, "").split()]

    def parse_marked_section(self, i, report=1):
        """`<![`, which is a comment in a browser."""
        return self.parse_bogus_comment(i, report)


def shown(text):
    """What a page with this Markdown loads. Nothing if the renderer cannot read it."""
    page = Loaded()
    try:
        page.feed(commonmark.commonmark(text))
    except IndexError:  # A fault of the package: an entity alone in a line after a definition.
        return []
    page.close()
    return page.found


def bare(text):
    """The text as readers have it that remove control characters."""
    return "".join(c for c in text if c in "\n\r\t" or unicodedata.category(c) != "Cc")


def made(pick):
    """A link with marks put into it."""
    text = pick.choice(LINKS)
    for _ in range(pick.randint(0, INSERTED)):
        at = pick.randint(0, len(text))
        text = text[:at] + pick.choice(MARKS) + text[at:]
    return text


def main():
    """Prints the figures, and what is wrong."""
    if len(sys.argv) > 2:
        raise SystemExit(__doc__)
    pick = random.Random(int(sys.argv[1]) if len(sys.argv) == 2 else 1)
    texts = [made(pick) for _ in range(TEXTS)]
    scanned = subprocess.run(
        SCANNER, cwd=ROOT, input=json.dumps(texts), stdout=subprocess.PIPE, text=True, check=True
    )
    wrong, before = [], 0
    for text, (whole, joined, is_refused) in zip(texts, json.loads(scanned.stdout), strict=True):
        found = shown(text)
        before += bool(found)
        if whole != joined:
            wrong.append(f"other in pieces: {text!r}: {whole!r}, {joined!r}")
        for kind, read in (("", whole), (" without control characters", bare(whole))):
            if left := shown(read):
                wrong.append(f"left{kind}: {left}: {text!r} as {read!r}")
        # In requests only the form without a definition is refused, and no element.
        is_inline = ("img", "src") in found and "<" not in text and "]:" not in text
        if is_inline and not is_refused:
            wrong.append(f"passes in a request: {text!r}")
    if before < LEAST_SHOWN:
        wrong.append(f"only {before} texts show a picture")
    for line in wrong[:100]:
        print(f"WRONG  {line}")
    print(f"{TEXTS} texts, {before} show a picture before they are escaped, {len(wrong)} wrong")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
