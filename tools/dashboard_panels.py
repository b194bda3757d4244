"""The panels of the Grafana dashboards, which tools/dashboards.py writes.

A query may name the variables `$model` and `$credential`, and `$__rate_interval`. All models
together are `.*`, which also has the requests that name no model.
"""

from dataclasses import dataclass

# Label and query of each variable, besides the data source.
VARIABLES = {
    "model": ("Model", 'label_values(tensorgate_decisions_total{model!=""}, model)'),
    "credential": ("Client kind", "label_values(tensorgate_client_decisions_total, credential)"),
}
OF_MODEL = 'model=~"$model"'
OF_KIND = 'credential=~"$credential"'
# Failures of the gate or of what is behind it, as the rules of service levels have them.
FAILURES = 'reason=~"backend-unavailable|backend-timeout|backend-fault|handler-fault|overloaded"'
LIMITS = 'reason=~"rate-limited|concurrency|cost-exceeded"'
RANGE = "$__rate_interval"


@dataclass
class Panel:
    """A panel: queries, each with its legend. `alert` names the alert whose threshold it shows."""

    title: str
    description: str
    unit: str
    queries: list
    alert: str = ""
    kind: str = "timeseries"
    width: int = 8
    height: int = 8


@dataclass
class Dashboard:
    """A dashboard: its file's name, and sections, each with a title and panels."""

    name: str
    title: str
    description: str
    sections: list


def stat(title, description, unit, query, alert=""):
    """A panel with one number."""
    return Panel(title, description, unit, [(query, "")], alert, "stat", 4, 4)


def selector(metric, matchers):
    """The series of a metric."""
    return f"{metric}{{{matchers}}}" if matchers else metric


def rate(metric, by, matchers="", per=RANGE):
    """The rate of a counter by labels."""
    return f"sum by ({by}) (rate({selector(metric, matchers)}[{per}]))"


def increase(metric, by, window, matchers=""):
    """The increase of a counter within a window, by labels."""
    return f"sum by ({by}) (increase({selector(metric, matchers)}[{window}]))"


def quantiles(metric, by, matchers=""):
    """The median and the 99th percentile of a histogram."""
    legend = " ".join(f"{{{{{label}}}}}" for label in by.split(", ") if label)
    labels = f"{by}, le" if by else "le"
    buckets = rate(f"{metric}_bucket", labels, matchers)
    return [(f"histogram_quantile({share}, {buckets})", f"{legend} p{share * 100:g}".strip()) for share in (0.5, 0.99)]


def mean(metric, matchers=""):
    """The mean of a histogram."""
    of = [f"sum(rate({selector(f'{metric}_{part}', matchers)}[{RANGE}]))" for part in ("sum", "count")]
    return " / ".join(of)


DECISIONS, KINDS = "tensorgate_decisions_total", "tensorgate_client_decisions_total"
DENIED = f'verdict="deny", {OF_MODEL}'
LATENCY = "tensorgate_host_request_seconds"
DISPATCH, HANDLER = "tensorgate_host_dispatch_seconds", "tensorgate_host_handler_seconds"
ATTEMPTS = "Counted over 15 minutes."

OVERVIEW = [
    ("Now", [
        stat("Requests", "Requests and messages of streams, allowed or not.", "reqps", f"sum(rate({DECISIONS}{{{OF_MODEL}}}[5m]))"),
        stat("Rejected", "Share of requests that are rejected, for any reason.", "percentunit",
             f"sum(rate({DECISIONS}{{{DENIED}}}[5m])) / sum(rate({DECISIONS}{{{OF_MODEL}}}[5m]))"),
        stat("Failures", "Share of the host's requests that fail because of a server, a handler or the host.", "percentunit",
             f"(sum(rate(tensorgate_host_requests_total{{{FAILURES}}}[5m])) or vector(0)) / sum(rate(tensorgate_host_requests_total[5m]))",
             "TensorgateErrorBudgetBurn"),
        stat("Latency, p99", "From a request's head to its answer, in the host.", "s",
             f"histogram_quantile(0.99, sum by (le) (rate({LATENCY}_bucket{{{OF_MODEL}}}[5m])))"),
        stat("Unusual requests", "Alerts of the anomaly rules in 15 minutes.", "short",
             "sum(increase(tensorgate_alerts_total[15m])) or vector(0)", "TensorgateUnusualRequests"),
        stat("Blocked clients", "Clients that are blocked or throttled.", "short", "max(tensorgate_blocked_clients)"),
    ]),
    ("Requests", [
        Panel("Requests by outcome", "Each request once, whether the gate, Envoy or the host decided it.", "reqps",
              [(rate(DECISIONS, "verdict", OF_MODEL), "{{verdict}}")]),
        Panel("Top reasons", "The ten most frequent reasons of rejections.", "reqps",
              [(f"topk(10, {rate(DECISIONS, 'reason', DENIED)})", "{{reason}}")]),
        Panel("Top models", "The ten models with the most rejections. Requests without a granted model are not among them.", "reqps",
              [(f"topk(10, {rate(DECISIONS, 'model', DENIED + ', model!=' + chr(34) * 2)})", "{{model}}")]),
        Panel("Rejections by client kind", "By the kind of the caller's credential; none without a valid one.", "reqps",
              [(rate(KINDS, "credential", f'verdict="deny", {OF_KIND}'), "{{credential}}")]),
        Panel("Decided by", "The part that decided: the filter, Envoy or the host.", "reqps", [(rate(DECISIONS, "by", OF_MODEL), "{{by}}")]),
        Panel("Shadow mode", "Denials that shadow mode allowed, by reason.", "reqps",
              [(rate("tensorgate_shadowed_total", "reason"), "{{reason}}")]),
    ]),
    ("Attempts", [
        Panel("Without a valid credential", "Callers that are unknown.", "reqps",
              [(rate(DECISIONS, "reason", 'reason="unauthenticated"', "5m"), "{{reason}}")], "TensorgateUnauthenticatedRequests"),
        Panel("Routes that are no inference", f"Loading of models, shared memory and other management. {ATTEMPTS}", "short",
              [(increase(DECISIONS, "reason", "15m", 'reason="not-an-inference-route"'), "{{reason}}")], "TensorgateManagementAttempts"),
        Panel("Models without a grant", f"Requests for a model or operation that is not granted. {ATTEMPTS}", "short",
              [(increase(DECISIONS, "reason", "15m", 'reason="not-granted"'), "{{reason}}")], "TensorgateUngrantedRequests"),
        Panel("Ambiguous requests", f"Requests that can be read in two ways. {ATTEMPTS}", "short",
              [(increase(DECISIONS, "reason", "15m", 'reason=~"ambiguous-request|header-too-large"'), "{{reason}}")], "TensorgateAmbiguousRequests"),
        Panel("Forbidden parameters", f"Parameters that the policy does not allow. {ATTEMPTS}", "short",
              [(increase(DECISIONS, "model", "15m", 'reason="parameter"'), "{{model}}")], "TensorgateForbiddenParameters"),
        Panel("Lockouts", "Rejected while a source or a credential is locked out, in 10 minutes.", "short",
              [(increase(DECISIONS, "reason", "10m", 'reason="locked-out"'), "{{reason}}")], "TensorgateLockouts"),
    ]),
    ("Time and load", [
        Panel("Latency", "From a request's head to its answer, in the host.", "s", quantiles(LATENCY, "", OF_MODEL)),
        Panel("Mean time by part", "A whole request, its calls of a server and its calls of handlers, each with its wait.", "s",
              [(mean(LATENCY, OF_MODEL), "request"), (mean(DISPATCH, OF_MODEL), "server"), (mean(HANDLER), "handler")]),
        Panel("Requests in the host", "Requests in the host, and the learned limit on those that are being read.", "short",
              [("sum(tensorgate_host_in_flight)", "in flight"), ("sum(tensorgate_host_admission_limit)", "limit on reading")]),
        Panel("Bytes in the host", "Bytes of bodies, tensors and answers.", "bytes", [("sum by (job) (tensorgate_host_buffered_bytes)", "{{job}}")]),
        Panel("Overload of hosts", "Rejections as overloaded, by cause.", "reqps",
              [(rate("tensorgate_host_overloaded_total", "cause"), "{{cause}}")]),
        Panel("Overload of the filter", "Rejections as overloaded in Envoy, by cause. From Envoy's page.", "reqps",
              [(rate("tensorgate_overloaded", "cause"), "{{cause}}")]),
    ]),
    ("Model servers", [
        Panel("Ready backends", "1 if a backend answered its last probe.", "short",
              [("min by (backend) (tensorgate_host_backend_ready)", "{{backend}}")], "TensorgateBackendNotReady"),
        Panel("Queues", "Requests that wait for a slot, and requests at a backend.", "short",
              [("sum by (backend) (tensorgate_host_backend_queue)", "{{backend}} waiting"),
               ("sum by (backend) (tensorgate_host_backend_in_flight)", "{{backend}} in flight"),
               ("sum by (backend) (tensorgate_host_backend_limit)", "{{backend}} limit")]),
        Panel("Full queues", "Requests that a full queue rejects.", "reqps",
              [(rate("tensorgate_host_shed_total", "backend", "", "5m"), "{{backend}}")], "TensorgateBackendQueueFull"),
        Panel("Open circuits", "Circuits of backends that are open, for all clients or for one.", "short",
              [("sum by (backend) (tensorgate_host_backend_circuit_open)", "{{backend}}")], "TensorgateBackendCircuitOpen"),
        Panel("Retries and ejections", "Retries to a backend, and endpoints that were ejected.", "cps",
              [(rate("tensorgate_host_backend_retries_total", "backend"), "{{backend}} retries"),
               (rate("tensorgate_host_backend_ejections_total", "backend"), "{{backend}} ejections")]),
        Panel("Strangers and panics", "Requests without a valid context, and caught panics, in 10 minutes.", "short",
              [("sum(increase(tensorgate_host_strangers_total[10m]))", "strangers"), ("sum(increase(tensorgate_host_panics_total[10m]))", "panics")],
              "TensorgateStrangers"),
    ]),
    ("Policy and audit log", [
        Panel("Policy versions", "Number of policies that are the newest one of some host.", "short",
              [("count(count by (generation) (tensorgate_policy_generation))", "versions")], "TensorgatePolicyVersionsDiffer"),
        Panel("Changes that wait", "Files of the policy whose changes are not in force.", "short",
              [("sum by (job) (tensorgate_policy_held)", "{{job}}")], "TensorgatePolicyChangeHeld"),
        Panel("Reloads", "Reloads of the policy in 15 minutes, by outcome.", "short",
              [(increase("tensorgate_policy_reloads_total", "outcome", "15m"), "{{outcome}}")]),
        Panel("Audit log fails", "1 while the audit log cannot be written.", "short",
              [("max by (job) (tensorgate_audit_failing)", "{{job}}")], "TensorgateAuditLogFailing"),
        Panel("Lost records", "Records that the audit log lost in 10 minutes, and entries of Envoy that never arrived.", "short",
              [("sum(increase(tensorgate_audit_dropped_total[10m]))", "dropped"), ("sum(increase(tensorgate_audit_lost_total[10m]))", "never arrived")],
              "TensorgateAuditRecordsDropped"),
        Panel("Export", "Lines that are not exported yet, by exporter.", "short",
              [("sum by (exporter) (tensorgate_audit_export_lag)", "{{exporter}}")]),
        Panel("Lost spans", "Spans of requests that the receiver of traces never gets, in 10 minutes by cause.", "short",
              [("sum by (cause) (increase(tensorgate_spans_dropped_total[10m]))", "{{cause}}")]),
    ]),
]

MODEL = [
    ("Requests", [
        Panel("Requests by outcome", "Each request for the model once.", "reqps", [(rate(DECISIONS, "verdict", OF_MODEL), "{{verdict}}")]),
        Panel("Rejections by reason", "Rejected requests for the model.", "reqps", [(rate(DECISIONS, "reason", DENIED), "{{reason}}")]),
        Panel("Rejected share", "Rejections for any reason. The alert leaves out failures and blocked clients.", "percentunit",
              [(f"{rate(DECISIONS, 'model', DENIED, '5m')} / {rate(DECISIONS, 'model', OF_MODEL, '5m')}", "{{model}}")], "TensorgateRejectionSpike"),
        Panel("Reached limits", "Share of requests that a limit rejects.", "percentunit",
              [(f"{rate(DECISIONS, 'model', f'{OF_MODEL}, {LIMITS}', '10m')} / {rate(DECISIONS, 'model', OF_MODEL, '10m')}", "{{model}}")],
              "TensorgateLimitsReached"),
        Panel("Inferences by version", "Inferences of each version, by outcome.", "reqps",
              [(rate("tensorgate_host_inferences_total", "model, version, verdict", OF_MODEL), "{{model}} {{version}} {{verdict}}")]),
        Panel("Ignored names", "Requests with a member or parameter that the policy ignores.", "reqps",
              [(rate("tensorgate_host_ignored_total", "model, name", OF_MODEL), "{{model}} {{name}}")]),
        Panel("Escaped texts", "Requests in whose texts special tokens were escaped.", "reqps",
              [(rate("tensorgate_host_escaped_total", "model", OF_MODEL), "{{model}}")]),
    ]),
    ("Time", [
        Panel("Latency", "From a request's head to its answer.", "s", quantiles(LATENCY, "model", OF_MODEL), width=12),
        Panel("Calls of its servers", "Calls of a server, with the wait for a slot.", "s", quantiles(DISPATCH, "model", OF_MODEL), width=12),
    ]),
    ("Versions", [
        Panel("Ready", "1 if a version is ready.", "short",
              [(f"max by (model, version) (tensorgate_host_model_ready{{{OF_MODEL}}})", "{{model}} {{version}}")], "TensorgateModelNotReady"),
        Panel("Versions in shadow", "Mirrored requests, by whether the answers agree.", "reqps",
              [(rate("tensorgate_host_copies_total", "model, version, outcome", OF_MODEL), "{{model}} {{version}} {{outcome}}")]),
        Panel("Shadow mode", "Denials that shadow mode allowed, by grant and reason.", "reqps",
              [(rate("tensorgate_host_shadowed_total", "model, grant, reason", OF_MODEL), "{{model}} {{grant}} {{reason}}")]),
    ]),
]

CLIENT_KIND = [
    ("Requests", [
        Panel("Requests by outcome", "Requests of this kind of client. No metric names a client: the audit log and the console do.", "reqps",
              [(rate(KINDS, "credential, verdict", OF_KIND), "{{credential}} {{verdict}}")]),
        Panel("Rejections by reason", "Rejected requests of this kind of client.", "reqps",
              [(rate(KINDS, "reason", f'verdict="deny", {OF_KIND}'), "{{reason}}")]),
        Panel("Rejected share", "Share of the requests of this kind that are rejected.", "percentunit",
              [(f"""{rate(KINDS, 'credential', f'verdict="deny", {OF_KIND}')} / {rate(KINDS, 'credential', OF_KIND)}""", "{{credential}}")]),
        Panel("Reached limits", "Requests beyond a rate, a number at once, or a cost.", "reqps",
              [(rate(KINDS, "credential, reason", f"{OF_KIND}, {LIMITS}"), "{{credential}} {{reason}}")]),
        Panel("Not granted", f"Requests for what is not granted. {ATTEMPTS}", "short",
              [(increase(KINDS, "credential", "15m", f'{OF_KIND}, reason="not-granted"'), "{{credential}}")], "TensorgateUngrantedRequests"),
        Panel("Clients that left", "Requests that ended before their answer was complete.", "reqps",
              [(rate(KINDS, "credential", f'{OF_KIND}, verdict="aborted"'), "{{credential}}")]),
    ]),
    ("Credentials", [
        Panel("Without a valid credential", "Callers that are unknown.", "reqps",
              [(rate(KINDS, "credential", 'reason="unauthenticated"', "5m"), "{{credential}}")], "TensorgateUnauthenticatedRequests"),
        Panel("Key sets", "Fetches of issuers' key sets in 15 minutes. From Envoy's page.", "short",
              [(increase("tensorgate_key_sets", "issuer, outcome", "15m"), "{{issuer}} {{outcome}}")], "TensorgateKeySetUnavailable"),
        Panel("Revoked", "Requests of clients that the newest policy revokes, in 10 minutes.", "short",
              [("sum(increase(tensorgate_host_revoked_total[10m]))", "revoked")], "TensorgateRevokedClients"),
    ]),
    ("Behaviour", [
        Panel("Unusual requests", "Alerts of the anomaly rules in 15 minutes, by rule.", "short",
              [(increase("tensorgate_alerts_total", "rule", "15m"), "{{rule}}")], "TensorgateUnusualRequests"),
        Panel("Blocked clients", "Clients that are blocked or throttled.", "short", [("max(tensorgate_blocked_clients)", "blocked")]),
        Panel("Not blocked", "Alerts that blocked no client, because rules block too many already, in 15 minutes.", "short",
              [("sum(increase(tensorgate_blocks_beyond_total[15m]))", "not blocked")], "TensorgateClientNotBlocked"),
    ]),
]

TOKENS = [
    ("Tokens", [
        Panel("Tokens by model", "Tokens that a model has read and generated, a second.", "short",
              [(rate("tensorgate_tokens_total", "model, kind", OF_MODEL), "{{model}} {{kind}}")]),
        Panel("Tokens a request", "Tokens divided by allowed requests of the same model.", "short",
              [(f"""{rate('tensorgate_tokens_total', 'model', OF_MODEL)} / {rate(DECISIONS, 'model', f'verdict="allow", {OF_MODEL}')}""", "{{model}}")]),
        Panel("Tokens in 24 hours", "Tokens of the last 24 hours.", "short",
              [(increase("tensorgate_tokens_total", "model, kind", "24h", OF_MODEL), "{{model}} {{kind}}")]),
        Panel("Usage that cannot be right", "Answers whose counts of tokens cannot be right, in 15 minutes.", "short",
              [(increase("tensorgate_host_backend_usage_faults_total", "backend", "15m"), "{{backend}}")]),
        Panel("Too long for the model", "Requests beyond the model's context, which its server rejects.", "reqps",
              [(rate(DECISIONS, "model", f'reason="backend-too-long", {OF_MODEL}'), "{{model}}")]),
        Panel("Forbidden URLs", f"Requests that name a URL which the policy blocks. {ATTEMPTS}", "short",
              [(increase(DECISIONS, "model", "15m", f'reason="url-blocked", {OF_MODEL}'), "{{model}}")], "TensorgateBlockedUrls"),
    ]),
    ("Limits", [
        Panel("Rejected by a limit", "Requests that cost more than is left, or exceed a rate.", "reqps",
              [(rate(DECISIONS, "model, reason", f"{OF_MODEL}, {LIMITS}"), "{{model}} {{reason}}")]),
        Panel("Refunds of tokens", "Token reservations of shared limits that the host gave back or adjusted, by outcome.", "cps",
              [(rate("tensorgate_limits_settlements_total", "outcome"), "{{outcome}}")]),
        Panel("Redis of shared limits", "0 while there is no connection to the Redis of shared limits.", "short",
              [("min by (job) (tensorgate_limits_redis_up)", "{{job}}")], "TensorgateRedisDown"),
    ]),
    ("Servers", [
        Panel("Latency", "From a request's head to its answer, or to the head of a stream.", "s", quantiles(LATENCY, "model", OF_MODEL), width=12),
        Panel("Queues", "Requests at a backend, and requests that wait for a slot.", "short",
              [("sum by (backend) (tensorgate_host_backend_in_flight)", "{{backend}} in flight"),
               ("sum by (backend) (tensorgate_host_backend_queue)", "{{backend}} waiting")], width=12),
    ]),
]

HANDLERS = [
    ("Calls", [
        Panel("Calls", "Calls of each handler.", "cps", [(rate(f"{HANDLER}_count", "handler, role"), "{{handler}} {{role}}")]),
        Panel("Time", "Time of a call, with the wait for a thread.", "s", quantiles(HANDLER, "handler")),
        Panel("Fuel", "Fuel of a call.", "short", quantiles("tensorgate_host_handler_fuel", "handler")),
    ]),
    ("Faults", [
        Panel("Faults", "Faults in 10 minutes, by cause.", "short",
              [(increase("tensorgate_host_handler_faults_total", "handler, cause", "10m"), "{{handler}} {{cause}}")], "TensorgateHandlerFaults"),
        Panel("Cut off", "1 while a handler is cut off for all clients.", "short",
              [("max by (handler, role) (tensorgate_host_handler_cut_off)", "{{handler}} {{role}}")], "TensorgateHandlerCutOff"),
        Panel("Cut off for a client", "Times that a handler was cut off for one client, in 10 minutes.", "short",
              [(increase("tensorgate_host_handler_client_cut_offs_total", "handler", "10m"), "{{handler}}")], "TensorgateHandlerClientCutOff"),
        Panel("Shed", "Calls that did not run or found no more memory, by cause.", "cps",
              [(rate("tensorgate_host_handler_shed_total", "handler, cause"), "{{handler}} {{cause}}")]),
        Panel("Rejected inputs", "Requests that a handler rejects, by model.", "reqps",
              [(rate(DECISIONS, "model", f'reason="handler-rejected", {OF_MODEL}'), "{{model}}")]),
        Panel("Lost log lines", "Log lines of handlers beyond their limit, in 15 minutes.", "short",
              [("sum(increase(tensorgate_host_handler_log_lines_dropped_total[15m]))", "lines")]),
    ]),
    ("Resources", [
        Panel("Memory", "Memory of running handlers and their code, and its limit.", "bytes",
              [("sum(tensorgate_handler_memory_bytes)", "used"), ("sum(tensorgate_handler_memory_limit_bytes)", "limit")]),
        Panel("Fetches and lookups", "What handlers fetch and look up, by outcome.", "cps",
              [(rate("tensorgate_host_handler_asks_total", "handler, lookup, outcome"), "{{handler}} {{lookup}} {{outcome}}")]),
        Panel("Time of fetches and lookups", "Time of a fetch or a lookup.", "s", quantiles("tensorgate_host_handler_ask_seconds", "handler")),
    ]),
]

ARTIFACTS = [
    ("Files of models", [
        Panel("Verified", "1 if the files of a version are verified, for versions with an artifact in the policy.", "short",
              [(f"min by (model, version) (tensorgate_host_model_verified{{{OF_MODEL}}})", "{{model}} {{version}}")], "TensorgateModelUnverified"),
        Panel("Ready", "1 if a backend can serve a version, and its files are verified if the policy asks for that.", "short",
              [(f"max by (model, version) (tensorgate_host_model_ready{{{OF_MODEL}}})", "{{model}} {{version}}")], "TensorgateModelNotReady"),
        Panel("Rejected files", "Times that the files of a version were rejected, in 15 minutes.", "short",
              [(increase("tensorgate_host_model_rejections_total", "model, version", "15m", OF_MODEL), "{{model}} {{version}}")],
              "TensorgateModelFilesRejected"),
    ]),
    ("What it costs", [
        Panel("Unavailable", "Requests for models that no server can serve, as for unverified ones.", "reqps",
              [(rate(DECISIONS, "model", f'reason="backend-unavailable", {OF_MODEL}'), "{{model}}")], width=12),
        Panel("Policy in force", "1 for the newest policy of each host, whose artifacts are checked.", "short",
              [("max by (generation) (tensorgate_policy_generation)", "{{generation}}")], width=12),
    ]),
]

DASHBOARDS = [
    Dashboard("overview", "overview", "What is rejected, why and since when; load, servers, policy and audit log.", OVERVIEW),
    Dashboard("model", "one model", "Requests, time and versions of a model.", MODEL),
    Dashboard("client-kind", "one client kind", "Requests by the kind of the client's credential: key, jwt, mtls, or none.", CLIENT_KIND),
    Dashboard("tokens", "LLM tokens", "Tokens of language models, their limits and their servers.", TOKENS),
    Dashboard("handlers", "handlers", "Calls, faults and resources of handlers.", HANDLERS),
    Dashboard("artifacts", "artifacts", "Verified files of models.", ARTIFACTS),
]
