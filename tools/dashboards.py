#!/usr/bin/env python3
"""Writes the Grafana dashboards in monitoring/grafana from the panels in tools/dashboard_panels.py.

dashboards.py [--check]. A panel's thresholds are those of the alert that it names, read from the
rules for Prometheus. With --check it writes nothing, and fails if a file is not what it would write.
"""

import json
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from dashboard_panels import DASHBOARDS, VARIABLES

TOP = Path(__file__).resolve().parents[1]
FOLDER = TOP / "monitoring/grafana"
RULES = TOP / "monitoring/prometheus/tensorgate.rules.yaml"
# An alert, its expression and its severity.
ALERT = re.compile(r"- alert: (\w+)\n +expr: (.*?)\n +(?:for: \w+\n +)?labels: \{severity: (\w+)\}", re.DOTALL)
# The comparison that ends an expression, or the first part of it.
COMPARISON = re.compile(r"(>|==) ([\d.]+)(?: \* ([\d.]+))?")
COLOURS = {"critical": "red", "warning": "orange", "info": "blue"}
# Grafana colours a value from its threshold on, so "more than 0" begins just above it.
ABOVE_ZERO = 1e-9
# Version of the dashboards' schema: that of Grafana 10.4. Later ones migrate it when they load it.
SCHEMA_VERSION = 39
COLUMNS, HEIGHT = 24, 8
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAG = "tensorgate"


def alerts():
    """The alerts: name -> comparison, number and severity of each."""
    found = {}
    for name, expression, severity in ALERT.findall(RULES.read_text()):
        if comparison := COMPARISON.search(expression):
            operator, number, factor = comparison.groups()
            found[name] = operator, float(number) * float(factor or 1), severity
    return found


def thresholds(alert, known):
    """The thresholds of a panel, which are those of an alert."""
    steps = [{"color": "green", "value": None}]
    if alert:
        operator, number, severity = known[alert]
        if (operator, number) == ("==", 0):
            steps = [{"color": COLOURS[severity], "value": None}, {"color": "green", "value": 1}]
        else:
            steps.append({"color": COLOURS[severity], "value": round(number, 9) or ABOVE_ZERO})
    return {"mode": "absolute", "steps": steps}


def description(panel, known):
    """What a panel shows, and when its alert fires."""
    if not panel.alert:
        return panel.description
    operator, number, _ = known[panel.alert]
    words = "is" if operator == "==" else "is more than"
    return f"{panel.description} {panel.alert} fires if it {words} {number:g}."


def drawn(panel, number, at, known):
    """The JSON of a panel. `at`: column and line."""
    is_graph = panel.kind == "timeseries"
    defaults = {"unit": panel.unit, "thresholds": thresholds(panel.alert, known), "mappings": []}
    defaults["color"] = {"mode": "palette-classic" if is_graph else "thresholds"}
    if is_graph:
        lines = "line" if panel.alert else "off"
        defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "thresholdsStyle": {"mode": lines}}
        options = {
            "legend": {"displayMode": "table", "placement": "bottom", "showLegend": True, "calcs": ["lastNotNull", "max"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    else:
        options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "orientation": "auto"}
        options |= {"colorMode": "value", "graphMode": "none", "justifyMode": "auto", "textMode": "auto"}
        options |= {"wideLayout": True, "showPercentChange": False}
    targets = [
        {"refId": chr(ord("A") + position), "datasource": DATASOURCE, "expr": query, "legendFormat": legend, "instant": not is_graph}
        for position, (query, legend) in enumerate(panel.queries)
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": description(panel, known),
        "datasource": DATASOURCE,
        "gridPos": {"x": at[0], "y": at[1], "w": panel.width, "h": panel.height},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": targets,
    }


def laid_out(sections, known):
    """The panels of all sections, each under a row with its title, from left to right."""
    panels, line = [], 0
    for title, members in sections:
        row = {"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "panels": []}
        panels.append({**row, "gridPos": {"x": 0, "y": line, "w": COLUMNS, "h": 1}})
        line, column, tallest = line + 1, 0, 0
        for panel in members:
            if column + panel.width > COLUMNS:
                line, column, tallest = line + tallest, 0, 0
            panels.append(drawn(panel, len(panels) + 1, (column, line), known))
            column, tallest = column + panel.width, max(tallest, panel.height)
        line += tallest
    return panels


def variable(name):
    """The JSON of a variable."""
    if name == "datasource":
        return {"name": name, "label": "Data source", "type": "datasource", "query": "prometheus", "hide": 0, "refresh": 1}
    label, query = VARIABLES[name]
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(made, known):
    """The JSON of a dashboard."""
    link = {"title": "tensorgate", "type": "dashboards", "tags": [TAG], "icon": "external link", "tooltip": "", "url": ""}
    link |= {"asDropdown": True, "targetBlank": False, "includeVars": True, "keepTime": True}
    return {
        "uid": f"tensorgate-{made.name}",
        "title": f"tensorgate: {made.title}",
        "description": made.description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [variable(name) for name in ("datasource", *VARIABLES)]},
        "links": [link],
        "panels": laid_out(made.sections, known),
    }


def main(arguments):
    """Writes the files, or compares them with what would be written."""
    known = alerts()
    expected = {
        f"{made.name}.json": json.dumps(dashboard(made, known), indent=1, ensure_ascii=False) + "\n" for made in DASHBOARDS
    }
    if arguments == ["--check"]:
        found = {path.name: path.read_text() for path in FOLDER.glob("*")}
        stale = [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)]
        if stale:
            sys.exit(f"stale in monitoring/grafana: {', '.join(stale)}; run tools/dashboards.py")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in expected.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
