"""Custom resources against their definitions as an API server checks them on creation: the structural
schema without unknown fields, defaults, lists with keys, and all rules in CEL.
"""

import base64
import copy
import ipaddress
import json
import re
from datetime import datetime

import cel_rules
import yaml

LIMITS = {"int32": 2**31, "int64": 2**63}
DURATION = re.compile(r"-?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)){2,})")
# What a schema may contain. A keyword that is not here is an error, because it would go unchecked.
CHECKED = {
    "type", "properties", "additionalProperties", "items", "required", "enum", "pattern", "format", "default",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength",
    "minItems", "maxItems", "minProperties", "maxProperties", "uniqueItems", "nullable",
    "allOf", "anyOf", "oneOf", "not",
    "x-kubernetes-validations", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
}
DESCRIBED = {"description", "title", "example", "externalDocs"}


def load(folder):
    """All versions of all definitions in a folder of YAML files: {(apiVersion, kind): schema}."""
    found = {}
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.load_all(path.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if not document or document.get("kind") != "CustomResourceDefinition":
                continue
            spec = document["spec"]
            for version in spec["versions"]:
                if version["served"]:
                    key = f"{spec['group']}/{version['name']}", spec["names"]["kind"]
                    found[key] = version["schema"]["openAPIV3Schema"]
    if not found:
        raise RuntimeError(f"{folder} has no CustomResourceDefinition")
    return found


def _is(kind, value):
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and value.is_integer()
    if kind == "number":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, {"object": dict, "array": list, "string": str, "boolean": bool}[kind])


def _name(value):
    return json.dumps(value, ensure_ascii=False)[:120]


def with_defaults(schema, value):
    """The value with the schema's defaults, as rules see it."""
    if isinstance(value, dict):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        filled = {}
        for name, member in value.items():
            inner = properties.get(name, rest if isinstance(rest, dict) else None)
            if member is None and inner and not inner.get("nullable") and "default" in inner:
                continue  # null where no null is allowed: the default replaces it
            filled[name] = with_defaults(inner, member) if inner else member
        for name, inner in properties.items():
            if name not in filled and "default" in inner:
                filled[name] = with_defaults(inner, copy.deepcopy(inner["default"]))
        return filled
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [with_defaults(schema["items"], item) for item in value]
    return value


def in_rules(schema, value):
    """The value as rules see it: declared names escaped, numbers of the declared type."""
    if isinstance(value, dict):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        if properties:
            # A property without a schema cannot be named by a rule.
            return {cel_rules.escaped(name): in_rules(properties[name], member) for name, member in value.items() if name in properties}
        return {name: in_rules(rest if isinstance(rest, dict) else {}, member) for name, member in value.items()}
    if isinstance(value, list):
        return [in_rules(schema.get("items", {}), item) for item in value]
    if schema.get("type") == "number" and isinstance(value, int):
        return float(value)
    if schema.get("type") == "integer" and isinstance(value, float):
        return int(value)
    return value


class Check:
    """One object's faults, each as `path: what is wrong`."""

    def __init__(self):
        self.faults = []
        self.rules = 0

    def fault(self, path, text):
        self.faults.append(f"{path or 'the object'}: {text}")

    def value(self, schema, value, path, structural=True):
        """Checks a value. Within allOf, anyOf, oneOf and not, a schema describes only a part of it, so
        unknown fields are no faults there.
        """
        for keyword in schema.keys() - CHECKED - DESCRIBED:
            self.fault(path, f"its schema has {keyword}, which is not checked here")
        if value is None:
            if not schema.get("nullable"):
                self.fault(path, "is null")
            return
        kind = schema.get("type")
        if schema.get("x-kubernetes-int-or-string"):
            if not _is("integer", value) and not _is("string", value):
                return self.fault(path, f"{_name(value)} is neither an integer nor a string")
        elif kind and not _is(kind, value):
            return self.fault(path, f"{_name(value)} is no {kind}")
        if "enum" in schema and value not in schema["enum"]:
            self.fault(path, f"{_name(value)} is not one of {', '.join(map(str, schema['enum']))}")
        if isinstance(value, dict):
            self._object(schema, value, path, structural)
        elif isinstance(value, list):
            self._list(schema, value, path, structural)
        elif isinstance(value, str):
            self._string(schema, value, path)
        elif not isinstance(value, bool):
            self._number(schema, value, path)
        self._parts(schema, value, path)
        if structural:
            self._rules(schema, value, path)

    def _object(self, schema, value, path, structural):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        for name in schema.get("required", []):
            if name not in value:
                self.fault(path, f"lacks {name}")
        self._count(schema, len(value), path, "Properties", "members")
        for name, member in value.items():
            at = f"{path}.{name}" if path else name
            if not isinstance(name, str):
                self.fault(at, "its name is no string")
            elif name in properties:
                self.value(properties[name], member, at, structural)
            elif isinstance(rest, dict):
                self.value(rest, member, at, structural)
            elif structural and rest is not True and not schema.get("x-kubernetes-preserve-unknown-fields"):
                self.fault(at, "unknown field")

    def _list(self, schema, value, path, structural):
        self._count(schema, len(value), path, "Items", "items")
        # What is below a list without a schema of its items is kept, if the list's schema says so.
        described = "items" in schema or not schema.get("x-kubernetes-preserve-unknown-fields")
        for number, item in enumerate(value):
            self.value(schema.get("items", {}), item, f"{path}[{number}]", structural and described)
        shape, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys", [])
        seen = set()
        for number, item in enumerate(value):
            if shape == "map" and isinstance(item, dict):
                declared = schema["items"].get("properties", {})
                key = _name({name: item.get(name, declared.get(name, {}).get("default")) for name in keys})
            elif shape == "set" or schema.get("uniqueItems"):
                key = json.dumps(item, sort_keys=True)
            else:
                continue
            if key in seen:
                self.fault(f"{path}[{number}]", f"a second item with {key}")
            seen.add(key)

    def _string(self, schema, value, path):
        self._count(schema, len(value), path, "Length", "characters")
        if "pattern" in schema and not cel_rules.matches(schema["pattern"], value):
            self.fault(path, f"{_name(value)} does not match {schema['pattern']}")
        form = schema.get("format")
        if form == "duration" and not DURATION.fullmatch(value):
            self.fault(path, f"{_name(value)} is no duration")
        elif form in ("ipv4", "ipv6", "cidr"):
            try:
                {"ipv4": ipaddress.IPv4Address, "ipv6": ipaddress.IPv6Address, "cidr": ipaddress.ip_network}[form](value)
            except ValueError:
                self.fault(path, f"{_name(value)} is no {form}")
        elif form == "byte":
            try:
                base64.b64decode(value, validate=True)
            except ValueError:
                self.fault(path, f"{_name(value)} is no base64")
        elif form == "date-time":
            try:
                datetime.fromisoformat(value)
            except ValueError:
                self.fault(path, f"{_name(value)} is no time")
        elif form not in (None, "duration"):
            self.fault(path, f"its schema has the format {form}, which is not checked here")

    def _number(self, schema, value, path):
        limit = LIMITS.get(schema.get("format"))
        if limit and not -limit <= value < limit:
            self.fault(path, f"{value} is no {schema['format']}")
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None and (value < low or schema.get("exclusiveMinimum") and value == low):
            self.fault(path, f"{value} is below {low}")
        if high is not None and (value > high or schema.get("exclusiveMaximum") and value == high):
            self.fault(path, f"{value} is above {high}")
        if "multipleOf" in schema and value % schema["multipleOf"]:
            self.fault(path, f"{value} is no multiple of {schema['multipleOf']}")

    def _count(self, schema, count, path, what, name):
        low, high = schema.get(f"min{what}"), schema.get(f"max{what}")
        if low is not None and count < low:
            self.fault(path, f"has {count} {name}, fewer than {low}")
        if high is not None and count > high:
            self.fault(path, f"has {count} {name}, more than {high}")

    def _holds(self, schema, value, path):
        inner = Check()
        inner.value(schema, value, path, structural=False)
        return inner.faults

    def _parts(self, schema, value, path):
        for part in schema.get("allOf", []):
            self.faults += self._holds(part, value, path)
        for keyword, right in (("anyOf", lambda count: count > 0), ("oneOf", lambda count: count == 1)):
            if keyword in schema:
                holding = sum(not self._holds(part, value, path) for part in schema[keyword])
                if not right(holding):
                    self.fault(path, f"{holding} of the {len(schema[keyword])} alternatives of {keyword} hold")
        if "not" in schema and not self._holds(schema["not"], value, path):
            self.fault(path, "holds what `not` excludes")

    def _rules(self, schema, value, path):
        for entry in schema.get("x-kubernetes-validations", []):
            if re.search(r"\boldSelf\b", entry["rule"]):
                continue  # about changes; an API server does not evaluate it on creation
            self.rules += 1
            why = cel_rules.violation(entry["rule"], in_rules(schema, value))
            if why:
                text = " ".join(entry.get("message", "").split())
                self.fault(path, f"the rule `{' '.join(entry['rule'].split())}` {why}" + (f" ({text})" if text else ""))


def check(schema, document):
    """The faults of an object, and how many rules in CEL were evaluated."""
    schema = {**schema, "properties": {**schema["properties"]}}
    # An API server checks these itself; definitions say only that they exist.
    for name in ("apiVersion", "kind"):
        schema["properties"][name] = {"type": "string"}
    schema["properties"]["metadata"] = METADATA
    found = Check()
    found.value(schema, with_defaults(schema, document), "")
    return found.faults, found.rules


_LABELS = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63, "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"}}
METADATA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "maxLength": 253, "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"},
        "namespace": {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "labels": _LABELS,
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        "finalizers": {"type": "array", "items": {"type": "string"}},
    },
}


def metadata(document):
    """The faults of the metadata of an object of any kind."""
    found = Check()
    found.value({"type": "object", "required": ["metadata"], "properties": {"metadata": METADATA}, "x-kubernetes-preserve-unknown-fields": True}, document, "")
    return found.faults
