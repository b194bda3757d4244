"""Generates docs/reference/faults.md and details.md: every fault of a policy, and every detail of a
rejection.

The texts are the string literals of the sources that make them (rust_literals.py). They pass
through variables, helpers and `Err("…")`, so which literals count does not depend on a list of
constructors: every text of at least two words counts, unless a rule below leaves it out.
"""

import dataclasses
import functools
import re

import rust_literals
from handler_reference import NOTE, ROOT, cell, table

# Where the faults that `tensorgate check` prints are written, in the order of the page.
FAULTS = (
    "cli/common/src/policy_file.rs",
    "cli/common/src/load_error.rs",
    "cli/policy-load/src/load.rs",
    "cli/policy-load/src/inline.rs",
    "cli/policy-load/src/lists.rs",
    "cli/policy-text/src",
    "policy/values/src/jwk.rs",
    "policy/values/src/published_keys.rs",
    "policy/compiler/src/raw.rs",
    "policy/compiler/src/raw",
    "policy/src/compiled/configuration.rs",
    "policy/compiler/src/validate.rs",
    "policy/compiler/src/validate",
    "policy/src/issuer_keys.rs",
    "policy/src/report.rs",
    "policy/values/src/byte_size.rs",
    "policy/values/src/file_exception.rs",
    "policy/src/policy/template.rs",
    "policy/compiler/src/pattern.rs",
    "cli/src/files.rs",
    "cli/src/certificates.rs",
    "cli/src/components.rs",
    "cli/src/model_artifacts.rs",
    "sandbox-host/net/src/tls.rs",
    "sandbox-host/net/src/pem.rs",
    "sandbox-host/limits/src/redis/connect.rs",
    "sandbox-host/audit/src/key.rs",
    "sandbox-host/settings/src/sealed_capture.rs",
    "sandbox-host/settings/src/signed.rs",
    "sandbox-host/settings/src/component.rs",
    "artifact/signature/src",
    "artifact/src/model_signing/keys.rs",
    "artifact/src/model_signing/certificate.rs",
)

# The headings of the page of faults in their order: keys of a policy, with parts of the paths of the
# files that write faults of these keys. The first part that a path has counts.
KEYS = {
    "The file": "common/src/ policy-load/src/ cli/src/files.rs text/src/parse.rs text/src/syntax.rs compiled/configuration.rs",
    "Any key": "text/src/ raw/spelling.rs values/src/byte_size.rs raw/credentials.rs values/src/jwk.rs validate.rs validate/names.rs "
    "policy/src/report.rs validate/http_url.rs",
    "`audit`, `capture` and `watch`": "validate/audit_export.rs validate/otlp_endpoint.rs "
    "validate/records.rs validate/tracing.rs validate/watch.rs validate/watch/ validate/webhook.rs "
    "audit/ sealed_capture.rs",
    "`backends`": "validate/backend_rules.rs validate/backends.rs net/src/tls.rs pem.rs",
    "`clients` and `groups`": "validate/clients.rs validate/proofs.rs",
    "`grants`": "validate/grants.rs validate/mode.rs validate/roles.rs raw/mode.rs",
    "`grants[].handlers`": "validate/grant_handlers.rs",
    "`handlers`": "validate/handlers.rs cli/src/components.rs",
    "`handlers.NAME.fetch`": "validate/egress.rs",
    "`issuers`": "values/src/published_keys.rs validate/issuers.rs validate/jwks.rs issuer_keys.rs validate/key_url.rs "
    "validate/token_text.rs",
    "`keys`, `signed_by` and `signed_as`": "validate/signing.rs settings/src/signed.rs "
    "settings/src/component.rs artifact/signature/src/key.rs signature_fault.rs",
    "`listen`": "validate/listen.rs cli/src/certificates.rs",
    "`lookups`": "validate/lookups.rs",
    "`models`": "validate/models.rs validate/model_fields.rs validate/parameters.rs "
    "validate/protocols.rs validate/versions.rs raw/composition.rs",
    "`models.NAME.artifact`": "validate/artifact.rs file_exception.rs model_artifacts.rs artifact/src/ artifact/signature/",
    "`models.NAME.ensemble`": "validate/ensemble.rs validate/interfaces.rs",
    "`models.NAME.guardrail`": "raw/guardrail.rs validate/guardrail.rs",
    "`models.NAME.inputs`, `outputs`, `accepts` and `returns`": "validate/accepts.rs "
    "validate/dims.rs validate/items.rs validate/tensors.rs validate/values.rs compiler/src/pattern",
    "`models.NAME.json`": "raw/json.rs template.rs",
    "`models.NAME.openai`": "validate/openai",
    "`rate`, `cost`, `budget`, `concurrency` and `lockout`": "validate/limits.rs validate/caller_limits.rs",
    "`rate_limit_service`": "validate/service.rs redis/",
    "`revoked`": "validate/revoked.rs",
    "`round_decimals`, `top_k` and `outputs` of grants": "validate/release.rs",
}

# Where the details of rejections are written: the filter, the host, and what `explain` says of a
# request that the proxy rejects.
DETAILS = (
    "policy/src/denial.rs",
    "policy/src/decision.rs",
    "policy/src/decision",
    "policy/src/contract.rs",
    "policy/src/contract",
    "policy/values/src",
    "policy/src/policy/egress.rs",
    "policy/src/policy/lookup.rs",
    "wire/src",
    "identity/src",
    "filters/core/src",
    "filters/wasm/src",
    "filters/envoy-module/src",
    "filters/in-memory/src",
    "sandbox-host/src/admission.rs",
    "sandbox-host/src/admission",
    "sandbox-host/src/service.rs",
    "sandbox-host/src/service",
    "sandbox-host/src/policy_store/pending_policy.rs",
    "sandbox-host/src/policy_store/policy_versions.rs",
    "sandbox-host/audit/src/writer.rs",
    "sandbox-host/watch/src/blocks.rs",
    "sandbox-host/judge/src",
    "sandbox-host/src/pipeline.rs",
    "sandbox-host/src/pipeline",
    "sandbox-host/src/dispatch.rs",
    "sandbox-host/src/dispatch",
    "sandbox-host/src/backends.rs",
    "sandbox-host/src/backends",
    "sandbox-host/net/src",
    "sandbox-host/sandbox/src",
    "sandbox-host/src/egress.rs",
    "sandbox-host/src/egress",
    "cli/src/message.rs",
)

# Files of those folders that write neither, by what they do instead.
LEFT_OUT = {
    "files of models": ("policy/values/src/file_exception.rs",),
    "sizes in a policy": ("policy/values/src/byte_size.rs",),
    "keys of issuers": ("policy/values/src/jwk.rs", "policy/values/src/published_keys.rs"),
    "what bounds the cost of a request, which faults of a policy name": (
        "policy/src/contract/openai/tokens.rs",
    ),
    "configuration of the filter": (
        "filters/core/src/root.rs",
        "filters/core/src/root/configuration.rs",
        "filters/envoy-module/src/configuration.rs",
        "filters/load/src/lib.rs",
        "filters/in-memory/src/configuration.rs",
        "filters/core/src/filter.rs",
        "filters/core/src/host/listener_bounds.rs",
    ),
    "start and health of the host": (
        "sandbox-host/judge/src/budget.rs",
        "sandbox-host/judge/src/context_keys.rs",
        "sandbox-host/net/src/pem.rs",
        "sandbox-host/src/backends/signature.rs",
        "sandbox-host/src/service/audit_server.rs",
        "sandbox-host/src/service/block_follower.rs",
        "sandbox-host/net/src/tls",
        "sandbox-host/src/dispatch/health",
        "sandbox-host/src/service/admin",
        "sandbox-host/src/service/readiness.rs",
        "sandbox-host/src/service/reload.rs",
        "sandbox-host/sandbox/src/capture",
        "sandbox-host/sandbox/src/compile",
        "sandbox-host/sandbox/src/engine",
        "sandbox-host/sandbox/src/error",
        "sandbox-host/sandbox/src/load",
        "sandbox-host/os-sandbox/src",
        "sandbox-host/sandbox/src/pool",
        "sandbox-host/sandbox/src/priority",
        "sandbox-host/sandbox/src/structure",
    ),
    "texts of servers that are recognised": ("sandbox-host/src/backends/rejection/table.rs",),
    "receivers of alerts, of the audit log and of traces": (
        "sandbox-host/audit/src/export",
        "sandbox-host/net/src/post",
    ),
}

# Calls and macros whose texts nobody reads as a fault or a detail: of panics, of logs, of the JSON
# Schema, of comparisons, separators, and units and kinds within another text.
SILENT = frozenset(
    "expect panic! unreachable! assert! assert_eq! assert_ne! debug_assert! matches! json_schema! "
    "trace! debug! info! warn! error! log env! option_env! include_str! join contains starts_with "
    "ends_with strip_prefix strip_suffix trim_end_matches trim_start_matches split split_once "
    "debug_struct units! within bytes_within unknown unknown_of".split()
)

# Functions whose texts stand on another page, or only within another text.
SILENT_FUNCTIONS = {
    ("policy/src/denial.rs", "row"): "titles, which reasons.md has",
    ("cli/policy-text/src/typed.rs", "in_words"): "types, which stand in another text",
    ("policy/compiler/src/raw/number.rs", "schema_name"): "names of schemas",
}

# Calls that end with a message and its fix.
WITH_FIX = ("fail_with_fix", "error_with_fix", "warn")
# Calls that end with a fix, and their message.
FIX_OF = {"required": "is missing", "not_empty": "is empty"}


@dataclasses.dataclass
class Source:
    path: str
    subject: str
    tokens: list
    literals: list
    functions: list


@functools.cache
def source(path):
    text = (ROOT / path).read_text()
    tokens = rust_literals.shipped(rust_literals.tokens(text))
    return Source(path, subject(text), tokens, *rust_literals.read(tokens))


def subject(text):
    """The first sentence of a module, as a heading."""
    lines = re.match(r"(?://!.*\n)*", text).group().splitlines()
    text = " ".join(line[3:].strip() for line in lines).split("  ")[0]
    text = re.sub(r"\[`(?:(?:super|crate)::)?([^`]+)`\](?:\([^)]*\))?", r"`\1`", text)
    return re.match(r"(?:`[^`]*`|[.:](?! |$)|[^.:`])+", text).group()


def is_tests(path):
    """Whether only tests are built from a file."""
    if "tests" in path.parts or path.stem == "tests":
        return True
    above = path.parent.with_suffix(".rs")
    above = above if above.is_file() else path.parent / "lib.rs"
    declared = rf"#\[cfg\((?:all\()?test\b[^\n]*\n(?:pub(?:\(\w+\))? )?mod {path.stem};"
    return above.is_file() and re.search(declared, above.read_text()) is not None


def sources(roots):
    """The files of some folders, in their order."""
    left_out = [prefix for prefixes in LEFT_OUT.values() for prefix in prefixes]
    for root in roots:
        files = sorted((ROOT / root).rglob("*.rs")) if not root.endswith(".rs") else [ROOT / root]
        assert files, f"{root} has no sources"
        for file in files:
            path = str(file.relative_to(ROOT))
            is_out = any(path.startswith(each) and not root.startswith(each) for each in left_out)
            if not is_out and not is_tests(file):
                yield source(path)


def shown(literal):
    """The text as its reader sees it, with … for what differs between requests or policies."""
    text = literal.text
    if literal.is_format():
        marked = text.replace("{{", "\1").replace("}}", "\2")
        text = re.sub(r"(?:\{[^{}]*\}|…)+", "…", marked).replace("\1", "{").replace("\2", "}")
    return " ".join(text.split())


def is_phrase(literal):
    """Whether a text has two words of its own, and is not a piece that is put behind another."""
    if literal.text[:1] in (" ", ",", ";") or literal.text[-1:] == " ":
        return False
    words = [word.rstrip(".,:;!?)") for word in shown(literal).split()]
    words = [word for word in words if re.fullmatch(r"\(?[A-Za-z][A-Za-z'’-]*", word)]
    return len(words) > 1 and any(word.islower() for word in words)


def is_compared(tokens, literal):
    """Whether a text is a pattern or an operand."""
    before = tokens[literal.at - 1].text if literal.at else ""
    after = tokens[literal.at + 1].text if literal.at + 1 < len(tokens) else ""
    return after in ("=>", "|", "==", "!=") or before in ("==", "!=")


def function_of(source, literal):
    """The innermost function around a text."""
    around = [each for each in source.functions if each.start < literal.at < each.end]
    return max(around, key=lambda each: each.start, default=None)


def is_silent(source, literal):
    function = function_of(source, literal)
    if function and (source.path, function.name) in SILENT_FUNCTIONS:
        return True
    in_block = False
    for group, _ in literal.groups:
        in_block |= group.open == "{"
        # A block within a call's closure has texts of its own, one within a macro has not.
        if group.name in SILENT and (not in_block or group.name.endswith("!")):
            return True
    return is_compared(source.tokens, literal)


def texts(source):
    """The texts of a source that may be read."""
    return [each for each in source.literals if each.text.strip() and not is_silent(source, each)]


def place(source, literal):
    """The group that ends with a message and its fix, and which of the two a text is."""
    function = function_of(source, literal)
    if function and function.name == "fix" or binding(source, literal).lower().endswith("fix"):
        return None, "fix"
    for group, argument in literal.groups:
        last = len(group.arguments) - 1
        ends = "fix" if argument == last else "message"
        if group.name in FIX_OF and argument == last:
            return group, "fix"
        is_located = group.name == "fault" and last == 3
        is_tuple = group.open == "(" and not group.name and last > 0
        if group.name in WITH_FIX or is_located or is_tuple:
            return (group, ends) if argument >= last - 1 else (None, "message")
        if group.open == "{":
            name, colon = (each.text for each in source.tokens[group.arguments[argument] :][:2])
            name = "fix" if name.endswith("_fix") else name
            is_field = colon == ":" and name in ("message", "fix")
            return (group, name) if is_field else (None, "message")
    return None, "message"


def binding(source, literal):
    """The name that a `let` or `const` gives to a text or to what is made of it, or nothing."""
    start = next((g.arguments[at] for g, at in literal.groups if g.open == "{"), literal.at - 6)
    words = [each.text for each in source.tokens[max(start, 0) :][:7]]
    words = words[1:] if words[0] == "pub" else words
    return words[1] if words[0] in ("let", "const") else ""


def faults_of(source):
    """The messages of a source, each with its fixes, and the fixes of other messages."""
    pairs = {}
    for literal in texts(source):
        group, kind = place(source, literal)
        at = group.start if group else -literal.at
        message, fix = pairs.setdefault(at, ([], []))
        if group and group.name in FIX_OF:
            message[:] = [FIX_OF[group.name]]
        # A tuple's last text is a fix only if there is a message before it.
        is_tuple = group and not group.name and group.open == "("
        if kind == "fix" and (message or not is_tuple):
            fix.append(shown(literal))
        elif is_phrase(literal):
            message.append(shown(literal))
    rows, fixes = [], []
    for message, fix in pairs.values():
        rows += [(code(each), " or ".join(map(code, fix))) for each in message]
        fixes += [code(each) for each in fix if " " in each and not message]
    return rows, fixes


def reasons():
    """The variants of `Reason` in their order, each with its name."""
    source_of = source("policy/src/denial.rs")
    words = [each.text for each in source_of.tokens]
    start = next(at for at in range(len(words)) if words[at : at + 3] == ["enum", "Reason", "{"])
    variants = [each for each in words[start + 3 : words.index("}", start)] if each != ","]
    names = {each: re.sub(r"(?<!^)(?=[A-Z])", "-", each).lower() for each in variants}
    known = {each.text for each in source_of.literals}
    assert set(names.values()) <= known, "names of reasons are not their variants'"
    return names


def reason_of(source, literal, names):
    """The reason in the same call, or in the statement that uses what a `let` makes of the text."""

    def only(words):
        pairs = zip(words, words[1:], words[2:])
        found = {c for a, b, c in pairs if (a, b) == ("Reason", "::") and c in names}
        return names[found.pop()] if len(found) == 1 else None

    def words(start, end):
        return [each.text for each in source.tokens[start:end]]

    name = binding(source, literal)
    for group, argument in literal.groups:
        if group.open == "{":
            begins = [*group.arguments[argument + 1 :], group.end]
            later = [words(*each) for each in zip(begins, begins[1:])]
            uses = [each for each in later if name and name in each]
            return only(uses[0]) if uses else None
        if "Reason" in words(group.start, group.end):
            return only(words(group.start, group.end))
    return None


def code(text):
    """A text as Markdown's code."""
    fence = "``" if "`" in text else "`"
    blank = " " if "`" in text else ""
    return f"{fence}{blank}{text}{blank}{fence}"


def key_of(path):
    """The heading of a file's faults."""
    headings = (key for key, parts in KEYS.items() if any(part in path for part in parts.split()))
    heading = next(headings, None)
    assert heading, f"{path} writes faults of no key: add it to KEYS"
    return heading


def faults():
    out = [
        "# Faults of a policy\n\n",
        NOTE,
        "What `tensorgate check` prints when a policy is wrong or weaker than it looks. Search this "
        "page for a\npart of your message: `…` stands for what differs, such as a name or a number. "
        "A heading names the\nkeys of the policy that its faults are about, and the fix is a "
        "suggestion.\n",
    ]
    groups = {heading: ({}, {}) for heading in KEYS}
    for each in sources(FAULTS):
        more_rows, more_fixes = faults_of(each)
        if not more_rows and not more_fixes:
            continue
        rows, fixes = groups[key_of(each.path)]
        rows.update(dict.fromkeys(more_rows))
        fixes.update(dict.fromkeys(more_fixes))
    for heading, (rows, fixes) in groups.items():
        if rows or fixes:
            out.append(f"\n## {heading}\n")
        if rows:
            cells = [(cell(message), cell(fix)) for message, fix in rows]
            out.append("\n" + table(("fault", "fix"), cells))
        if fixes:
            out.append(f"\nOther fixes: {'; '.join(fixes)}\n")
    return "".join(out)


def details():
    names = reasons()
    by_reason = {name: {} for name in names.values()}
    by_subject = {}
    for each in sources(DETAILS):
        for literal in filter(is_phrase, texts(each)):
            reason = reason_of(each, literal, names)
            group = by_reason[reason] if reason else by_subject.setdefault(each.subject, {})
            group[shown(literal)] = None
    out = [
        "# Details of a rejection\n\n",
        NOTE,
        "A response names a reason only. The audit log has its `detail`, which `tensorgate explain` "
        "shows: see\n[Find out why a request was rejected](../how-to/rejections.md). Search this page "
        "for a part of yours:\n`…` stands for what differs, such as a name or a number, and one detail "
        "may consist of several texts.\n",
    ]
    for name, found in by_reason.items():
        if found:
            out.append(f"\n## `{name}`\n\n" + "".join(f"- {code(text)}\n" for text in found))
    out.append("\n## Texts of several reasons\n\nBy the part of the gate or host that writes them.\n")
    for heading, found in by_subject.items():
        out.append(f"\n### {heading}\n\n" + "".join(f"- {code(text)}\n" for text in found))
    return "".join(out)


PAGES = {"faults": faults, "details": details}
