"""The Grafana dashboards in monitoring/grafana fit the schema that Grafana publishes. `FAULTY` shows
that the schema refuses what Grafana would not read.
"""

import copy
import json
from pathlib import Path

import jsonschema

HERE = Path(__file__).resolve().parent
SCHEMA = HERE / "data/grafana-dashboard.schema.json"
FOLDER = HERE.parents[1] / "monitoring/grafana"


def panel_of(dashboard):
    """The first panel that is no row."""
    return next(panel for panel in dashboard["panels"] if panel["type"] != "row")


# What no dashboard may be: name, change.
FAULTY = {
    "a panel without a description": lambda one: panel_of(one).pop("description"),
    "an unknown member of a panel": lambda one: panel_of(one).update(datasourceUid="x"),
    "a panel that is too wide": lambda one: panel_of(one)["gridPos"].update(w=25),
    "a query that is no text": lambda one: panel_of(one)["targets"][0].update(expr=["up"]),
    "a threshold that is a text": lambda one: panel_of(one)["fieldConfig"]["defaults"]["thresholds"]["steps"][0].update(value="1"),
    "a fixed data source": lambda one: panel_of(one)["datasource"].update(uid="prometheus"),
    "an unknown kind of variable": lambda one: one["templating"]["list"][0].update(type="model"),
    "a version that is a text": lambda one: one.update(schemaVersion="39"),
}


def check():
    """Validates every dashboard. Returns how many faults there are."""
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))
    dashboards = {path.name: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
    faults = [f"{name}: {error.message[:300]}" for name, one in dashboards.items() for error in validator.iter_errors(one)]
    for name, one in dashboards.items():
        numbers = [panel["id"] for panel in one["panels"]]
        if len(numbers) != len(set(numbers)):
            faults.append(f"{name}: two panels have the same number")
    if len({one["uid"] for one in dashboards.values()}) != len(dashboards) or not dashboards:
        faults.append(f"{len(dashboards)} dashboards without names of their own")
    for what, change in FAULTY.items():
        broken = copy.deepcopy(next(iter(dashboards.values())))
        change(broken)
        if validator.is_valid(broken):
            faults.append(f"the schema accepts {what}")
    for fault in faults:
        print(f"dashboards: {fault}")
    print(f"dashboards: {len(dashboards)} files, {len(FAULTY)} faulty ones refused, {len(faults)} faults")
    return len(faults)
