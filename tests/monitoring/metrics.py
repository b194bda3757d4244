"""The metrics that exist: those of the host's reference page, and those on a real Envoy's page."""

import re

from processes import TOP
from rules import ADDED_LABELS, grouping_labels, selectors

ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.*?) \|", re.MULTILINE)
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def in_reference():
    """The host's metrics: name of the series -> names of its labels."""
    known = {}
    for name, kind, labels in ROW.findall((TOP / "docs/reference/metrics.md").read_text()):
        labels = set(re.findall(r"`(\w+)`", labels))
        if kind == "histogram":
            known |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            known[name] = labels
    return known


def values(text):
    """The samples of a page: (name, labels, value)."""
    return [(name, dict(LABEL.findall(labels)), value) for name, labels, value in SAMPLE.findall(text)]


def samples(text):
    """The samples of a page without their values: (name, labels)."""
    return [(name, labels) for name, labels, _ in values(text)]


def on_page(text):
    """The series of a page: name -> labels -> values."""
    found = {}
    for name, labels in samples(text):
        values_of = found.setdefault(name, {})
        for label, value in labels.items():
            values_of.setdefault(label, set()).add(value)
    return found


def reasons():
    """The reasons of the reference page."""
    return set(re.findall(r"^\| `([a-z-]+)` \|", (TOP / "docs/reference/reasons.md").read_text(), re.MULTILINE))


def faults_of_rule(expression, recorded, host, envoy):
    """Metrics, labels and values of an expression that exist nowhere. `recorded` has the expressions of
    recorded series by name, `envoy` a page's series.
    All values of the filter's labels are on that page.
    """
    faults, labels_of_all = [], set(ADDED_LABELS)
    for name, matchers in selectors(expression):
        if name in recorded:
            for source, _ in selectors(recorded[name]):
                labels_of_all |= host.get(source, set())
            continue
        if name not in host and name not in envoy:
            faults.append(f"no metric {name}")
            continue
        labels = set(host.get(name) or envoy.get(name, {}))
        labels_of_all |= labels
        for label, _, wanted in matchers:
            known = envoy[name].get(label) if name in envoy else reasons() if label == "reason" else None
            if label not in labels:
                faults.append(f"{name} has no label {label}")
            elif known is not None:
                faults += [f"{name} has no {label} {value}" for value in wanted if value not in known]
    return faults + [f"no metric has the label {label}" for label in grouping_labels(expression) - labels_of_all]
