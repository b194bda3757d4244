"""What an OTLP log record must say of a line of the audit log: the table of
`docs/how-to/export-audit.md`.
"""

import datetime
import json
import tomllib

from processes import TOP

EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)
VERSION = tomllib.loads((TOP / "Cargo.toml").read_text())["workspace"]["package"]["version"]
# OpenTelemetry's numbers and names.
INFO, WARN, ERROR = (9, "INFO"), (13, "WARN"), (17, "ERROR")
# Attributes that the page names: the line's member -> the record's attribute.
ATTRIBUTES = {
    "client": "tensorgate.client",
    "model": "tensorgate.model",
    "name": "tensorgate.artifact.name",
    "reason": "tensorgate.reason",
    "request_id": "tensorgate.request_id",
    "source": "client.address",
    "status": "http.response.status_code",
    "verdict": "tensorgate.verdict",
}


def values(attributes):
    """Attributes by name. Each must occur once."""
    found = {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}
    if len(found) != len(attributes):
        raise RuntimeError(f"an attribute occurs twice: {', '.join(each.key for each in attributes)}")
    return found


def uid(log, line):
    """The ID that a line's record must have. `log`: the log's ID."""
    return f"{log}-{line['seq']}"


def uid_of(record):
    """The ID that a record has, or None."""
    return values(record.attributes).get("log.record.uid")


def severity(line):
    """The severity of a line. The test's log has no damage, rejected artifact or open circuit."""
    if line["type"] in ("alert", "dropped", "lost"):
        return ERROR
    return INFO if line.get("verdict", "allow") == "allow" else WARN


def nanoseconds(time):
    """The nanoseconds since 1970 of a line's time."""
    since = datetime.datetime.fromisoformat(time) - EPOCH
    return since // datetime.timedelta(microseconds=1) * 1000


def trace(line):
    """The trace ID, span ID and flags that a line's record must have."""
    if "trace_id" in line:
        return bytes.fromhex(line["trace_id"]), b"", 0
    if "traceparent" not in line:
        return b"", b"", 0
    _, trace_id, span_id, flags = line["traceparent"].split("-")
    return bytes.fromhex(trace_id), bytes.fromhex(span_id), int(flags, 16)


def faults_of(log, text, resource, record):
    """What a record and its resource say otherwise than their line."""
    line, attributes = json.loads(text), values(record.attributes)
    named = {name: line[member] for member, name in ATTRIBUTES.items() if member in line}
    others = attributes.keys() - set(ATTRIBUTES.values()) - {"log.record.uid", "tensorgate.audit.log"}
    compared = {
        "body": (record.body.string_value, text),
        "event name": (record.event_name, f"tensorgate.audit.{line['type']}"),
        "severity": ((record.severity_number, record.severity_text), severity(line)),
        "time": (record.time_unix_nano, nanoseconds(line["time"])),
        "trace": ((record.trace_id, record.span_id, record.flags), trace(line)),
        "resource": (
            values(resource.attributes),
            {"service.name": "tensorgate-host", "service.version": VERSION, "service.instance.id": log},
        ),
        "attributes": (
            {name: value for name, value in attributes.items() if name not in others},
            named | {"log.record.uid": uid(log, line), "tensorgate.audit.log": log},
        ),
    }
    differing = [(name, *pair) for name, pair in compared.items() if pair[0] != pair[1]]
    faults = [f"{name} is {found}; expected {expected}" for name, found, expected in differing]
    unknown = [name for name in others if attributes[name] not in line.values()]
    faults += [f"attribute {name} is {attributes[name]}, which the line lacks" for name in unknown]
    if record.observed_time_unix_nano < record.time_unix_nano:
        faults.append(f"it was sent at {record.observed_time_unix_nano}, before its time {record.time_unix_nano}")
    return [f"record of line {line['seq']}: {fault}" for fault in faults]
