"""A trace of requests across Envoy and the host, as it arrives behind the collector."""

import json

import log_records
from processes import wait

# Envoy sends its spans every five seconds.
ARRIVES_S = 30
ENVOY, HOST = "tensorgate-envoy", "tensorgate-host"


def spans_of(collector, service):
    """The spans of a service: IDs of trace and span -> span."""
    received = [(log_records.values(resource.attributes), span) for resource, span in collector.spans()]
    return {(span.trace_id, span.span_id): span for named, span in received if named["service.name"] == service}


def joined(collector):
    """The host's spans of requests whose parent is a span of Envoy."""
    envoys = spans_of(collector, ENVOY)
    return [span for span in spans_of(collector, HOST).values() if (span.trace_id, span.parent_span_id) in envoys]


def faults_of(collector, log):
    """Waits for a trace with spans of both. Its ID must be in the audit log, and its parts below.
    Of a request, Envoy's spans have the path without a query.
    """
    try:
        requests = wait("a trace of Envoy and the host", lambda: joined(collector), seconds=ARRIVES_S)
    except RuntimeError as error:
        return [str(error)]
    lines = [json.loads(text) for text in log.read_text().split("\n")[:-1]]
    recorded = {line["trace_id"] for line in lines if "trace_id" in line}
    faults = [f"the log lacks trace {span.trace_id.hex()}" for span in requests if span.trace_id.hex() not in recorded]
    parents = {(span.trace_id, span.parent_span_id) for span in spans_of(collector, HOST).values()}
    if not any((span.trace_id, span.span_id) in parents for span in requests):
        faults.append("no request has a span of its backend's call")
    urls = [each.value.string_value for span in spans_of(collector, ENVOY).values() for each in span.attributes if each.key == "http.url"]
    faults += [f"a span of Envoy has more of a request than its path: {url}" for url in urls if not url.startswith("/") or "?" in url]
    print(f"traces: {len(requests)} requests with spans of Envoy and the host", flush=True)
    return faults
