"""What `envoy-relabel.yaml` makes of the counters of an Envoy without tags. Such an Envoy writes
labels into a counter's name, and every character but letters and digits as an underscore.
"""

import re

import rules
import yaml

# Counters that the filter defines, with their labels in the order of Envoy's names.
COUNTERS = {
    "tensorgate_requests": ["verdict", "reason"],
    "tensorgate_shadowed": ["reason"],
    "tensorgate_overloaded": ["cause"],
    "tensorgate_unconfirmed_tokens": ["cause"],
    "tensorgate_rate_limit_service": ["outcome"],
    "tensorgate_key_sets": ["issuer", "outcome"],
}

# What Envoy puts before the counters of a native module.
NATIVE_PREFIX = "envoy_dynamicmodulescustom_"


def configurations():
    """The relabelling steps."""
    return yaml.safe_load((rules.FOLDER / "envoy-relabel.yaml").read_text())["metric_relabel_configs"]


def scrape_configuration(folder):
    """A configuration of Prometheus with these steps, for promtool."""
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump({"scrape_configs": [{"job_name": "mesh", "metric_relabel_configs": configurations()}]}))
    return path


def relabelled(labels):
    """The labels after all steps. Each replaces its target if its whole pattern matches."""
    labels = dict(labels)
    for step in configurations():
        value = ";".join(labels.get(name, "") for name in step["source_labels"])
        if found := re.fullmatch(step["regex"], value):
            labels[step["target_label"]] = re.sub(r"\$(\d)", lambda group: found[int(group[1])], step["replacement"])
    return labels


def untagged(name, labels):
    """The name of a counter in an Envoy without tags."""
    return re.sub(r"\W", "_", name + "".join(f";{label}={labels[label]}" for label in COUNTERS[name]) + ";")


def faults_of(samples):
    """Counters of a page with tags, (name, labels), that the steps do not restore."""
    faults = []
    ours = [(name, labels) for name, labels in samples if name in COUNTERS]
    for name in COUNTERS.keys() - {name for name, _ in ours}:
        faults.append(f"Envoy has no {name}")
    for name, labels in ours:
        for prefix in ["", NATIVE_PREFIX]:
            found = relabelled({"__name__": prefix + untagged(name, labels)})
            if found != {"__name__": name, **labels}:
                faults.append(f"envoy-relabel.yaml makes {found} of {prefix}{name}{labels}")
    return faults
