"""The OCSF events of the audit log's export, checked with a validator that is not ours: the schemas
of the package `ocsf-json-schema`, and `jsonschema`.

The events are those of `sandbox-host/audit/src/export/ocsf/vectors.json`, which a test of the host
holds against what it makes of each line.
"""

import copy
import json

import jsonschema
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from processes import TOP

VECTORS = TOP / "sandbox-host/audit/src/export/ocsf/vectors.json"
# The latest version that the validator knows. It has neither `attestation_list` nor its profile.
KNOWN = "1.8.0"


def of_known_version(event):
    """An event of a later version without what the known version lacks."""
    event = copy.deepcopy(event)
    if event["metadata"]["version"] != KNOWN:
        event.pop("attestation_list", None)
        profiles = event["metadata"].get("profiles", [])
        event["metadata"]["profiles"] = [name for name in profiles if name != "record_integrity"]
        event["metadata"]["version"] = KNOWN
    return event


def faults_of(schemas, event):
    """What OCSF's schema says against an event. Without its class, the event has no schema."""
    event = of_known_version(event)
    name = schemas.lookup_class_name_from_uid(event["class_uid"])
    schema = schemas.get_class_schema(name, event["metadata"].get("profiles", []))
    validator = jsonschema.Draft202012Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(event)]


def faults():
    """Checks every vector, and that a wrong event is found."""
    schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=KNOWN))
    vectors = json.loads(VECTORS.read_text())
    found = [f"{each['name']}: {fault}" for each in vectors for fault in faults_of(schemas, each["event"])]
    for name, value in [("activity_id", 5), ("not_in_ocsf", 1), ("actor", {})]:
        if not faults_of(schemas, vectors[0]["event"] | {name: value}):
            found.append(f"the validator accepts an event with {name} {value}")
    later = sum(each["ocsf_version"] != KNOWN for each in vectors)
    print(f"OCSF: {len(vectors)} events checked against {KNOWN}, {later} of them reduced to it", flush=True)
    return found
