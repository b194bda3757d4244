"""The rules for Prometheus and their tests as data, and the metrics that expressions name."""

import re

import yaml
from processes import TOP

FOLDER = TOP / "monitoring/prometheus"
RULES = FOLDER / "tensorgate.rules.yaml"
TESTS = [FOLDER / "tensorgate.tests.yaml", FOLDER / "tensorgate.audit.tests.yaml"]
PAGES = ["docs/how-to/prometheus-rules.md", "docs/how-to/prometheus-rules-audit.md"]
# An alert's section: its name, what it means, and what to do.
SECTION = re.compile(r"^### (\w+)\n\n.+?\n\n.+?(?=\n\n#|\n\Z)", re.MULTILINE | re.DOTALL)
SEVERITIES = {"critical", "warning", "info"}
# Names of functions and operators have none of these prefixes.
NAMED = re.compile(r"\b((?:tensorgate|gate_host|envoy)[a-zA-Z0-9_:]*)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'([a-z_]+)\s*(=~|!=|!~|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
# Labels that Prometheus or Kubernetes add.
ADDED_LABELS = {"instance", "job", "pod"}


def read():
    """All rules: alerts, and recorded series."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    return [rule for rule in rules if "alert" in rule], [rule for rule in rules if "record" in rule]


def selectors(expression):
    """The metrics of an expression, each with its matchers: (label, operator, values)."""
    for name, matchers in NAMED.findall(expression):
        yield name, [(label, operator, value.split("|")) for label, operator, value in MATCHER.findall(matchers)]


def grouping_labels(expression):
    """The labels by which an expression groups or joins."""
    return {label.strip() for labels in GROUPING.findall(expression) for label in labels.split(",") if label.strip()}


def faults_of_tests(alerts):
    """Alerts without a test that fires or without one that is silent, and tests of no alert."""
    fires, silent = set(), set()
    groups = [group for file in TESTS for group in yaml.safe_load(file.read_text())["tests"]]
    for test in [test for group in groups for test in group["alert_rule_test"]]:
        (fires if test.get("exp_alerts") else silent).add(test["alertname"])
    names = {alert["alert"] for alert in alerts}
    faults = [f"{name}: no test in which it fires" for name in names - fires]
    faults += [f"{name}: no test in which it is silent" for name in names - silent]
    return faults + [f"{name}: a test, but no rule" for name in (fires | silent) - names]


def faults_of_page(alerts):
    """Alerts without a section in one of the pages, sections of no alert, and missing labels or texts."""
    texts_of_pages = {page: (TOP / page).read_text() for page in PAGES}
    sections = [(name, page) for page, text in texts_of_pages.items() for name in SECTION.findall(text)]
    names = [alert["alert"] for alert in alerts]
    in_order = [name for name, _ in sections] == names
    faults = [] if in_order else [f"{', '.join(PAGES)}: their sections are not the rules, in their order"]
    if f"{len(names)} alerting rules" not in texts_of_pages[PAGES[0]]:
        faults.append(f"{PAGES[0]} does not say {len(names)} alerting rules")
    page_of = dict(sections)
    for alert in alerts:
        texts = alert["annotations"]
        if alert["labels"].get("severity") not in SEVERITIES:
            faults.append(f"{alert['alert']}: severity {alert['labels'].get('severity')}")
        if set(texts) != {"summary", "description", "runbook_url"}:
            faults.append(f"{alert['alert']}: annotations {', '.join(texts)}")
        if texts.get("runbook_url") != f"{page_of.get(alert['alert'])}#{alert['alert'].lower()}":
            faults.append(f"{alert['alert']}: runbook_url {texts.get('runbook_url')}")
    return faults
