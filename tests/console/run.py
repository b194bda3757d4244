#!/usr/bin/env python3
"""`make test-console`: the console of a real gate with the demo's traffic, in a real Chromium.

run.py CHROMIUM AXE, where CHROMIUM may be empty: all is left out then. At 400 and 1280 pixels, dark
and light, axe-core must have no finding, and the page must not scroll sideways. Screenshots and
axe-core's report, axe.json, are in target/console. The page must ask no other server, and show new
requests without a reload. 64 readers that do not read must hold nothing up. Exits 0 only if all of
it is as expected.
"""

import json
import socket
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[1] / "harness"))

import traffic
from browser import Browser
from processes import TOP, Gate, begin, fetch, wait

POLICY = TOP / "examples/policies/digits/gate.yaml"
WIDTHS, SCHEMES = (400, 1280), ("light", "dark")
SLOW_READERS = 64
# Longer than one look of the script, which asks every five seconds.
REFRESH_S = 20
# A probe while slow readers hold all connections.
PROBE_S = 1
# A view's report: rules that found something, with the first elements, and the IDs of others.
# `incomplete` is what axe-core cannot decide by itself.
REPORT = """axe.run().then(found => {
    const rule = it => ({id: it.id, help: it.help, elements: it.nodes.length,
                         first: it.nodes.slice(0, 3).map(node => node.html.slice(0, 200))});
    return {axe: found.testEngine.version, violations: found.violations.map(rule),
            incomplete: found.incomplete.map(rule), passes: found.passes.map(it => it.id)};
})"""


def status(url, method="GET", headers=None):
    """The status of a request, and its header fields."""
    request = urllib.request.Request(url, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.headers


def faults_of_server(base):
    """What the server answers beside pages."""
    faults = []
    for method, path, headers, expected in [
        ("GET", "/", {}, 200),
        ("HEAD", "/", {}, 200),
        ("POST", "/", {}, 405),
        ("DELETE", "/console/sections", {}, 405),
        ("GET", "/console/none", {}, 404),
        ("GET", "/", {"Host": "gate.example"}, 421),
    ]:
        found, fields = status(base + path, method, headers)
        if found != expected:
            faults.append(f"{method} {path} {headers}: {found}; expected {expected}")
        policy = fields.get("content-security-policy", "")
        if expected == 200 and not policy.startswith("default-src 'none';"):
            faults.append(f"{method} {path} has the content security policy {policy!r}")
    return faults


def faults_of_report(name, report):
    """The violations in axe-core's report of a view. Prints the number of each kind."""
    violations = report["violations"]
    print(f"axe: {name}: {len(violations)} violations, {len(report['passes'])} rules passed, "
          f"{len(report['incomplete'])} incomplete", flush=True)
    faults = [f"{name}: axe: {it['id']}: {it['help']}: {' '.join(it['first'])}" for it in violations]
    return faults if report["passes"] else [*faults, f"{name}: axe has checked nothing"]


def faults_of_page(browser, base, axe, folder):
    """Looks at the page in every width and with every preference, and writes screenshots and
    axe-core's report of each.
    """
    faults, reports = [], {}
    for scheme in SCHEMES:
        for width in WIDTHS:
            name = f"console-{scheme}-{width}"
            browser.prefer(scheme, width)
            browser.open(f"{base}/")
            browser.screenshot(folder / f"{name}.png")
            scrolled = browser.run("document.documentElement.scrollWidth")
            if scrolled > width:
                faults.append(f"{name}: the page is {scrolled} pixels wide")
            faults += [f"{name}: {one}" for one in browser.complaints()]
            faults += [f"{name}: {url} is of another server" for url in browser.requested() if not url.startswith(base)]
            browser.run(f"{axe}\n;undefined")
            reports[name] = browser.run(REPORT)
            faults += faults_of_report(name, reports[name])
    (folder / "axe.json").write_text(json.dumps(reports, indent=1) + "\n")
    return faults


def faults_of_keyboard(browser):
    """The first key leads to the link that skips the navigation, and tables have the focus in turn."""
    browser.press("Tab")
    faults = [] if browser.run("document.activeElement.className === 'skip'") else ["Tab does not lead to the skip link first"]
    browser.press("Enter")
    browser.press("Tab")
    if not browser.run("document.activeElement.closest('main') !== null"):
        faults.append("the skip link does not lead to the content")
    return faults


def faults_of_content(browser, gate):
    """The page shows what was sent: as text, and new requests without a reload."""
    texts = "document.querySelector('main').textContent"
    faults = []
    for expected in ["out-of-range", "unauthenticated", "scorer", "digits", "<script>document.title", "\\u{202e}"]:
        if not browser.run(f"{texts}.includes({expected!r})"):
            faults.append(f"the page does not show {expected}")
    if browser.run("document.title") != "tensorgate console":
        faults.append("a script of a client has run")
    browser.run("document.getElementById('top').focus(); window.isTheSame = true")
    traffic.digit(gate.address, "batch")
    browser.wait_for(f"{texts}.includes('batch')", "a new client on the page", REFRESH_S)
    if not browser.run("window.isTheSame && document.activeElement.id === 'top'"):
        faults.append("a refresh has reloaded the page or lost the focus")
    return faults


def faults_of_slow_readers(base, gate):
    """Readers that ask for the page and do not read it. Probes, requests and other readers go on."""
    host, port = base.removeprefix("http://").split(":")
    readers = []
    for _ in range(SLOW_READERS):
        reader = socket.socket()
        # So small that the page does not fit.
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        reader.connect((host, int(port)))
        reader.sendall(f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode() * 16)
        readers.append(reader)
    faults = []
    for path in ["/healthz", "/metrics", "/"]:
        started = time.monotonic()
        answer = fetch(base + path, 10)
        took = time.monotonic() - started
        if answer is None or answer[0] != 200 or took > PROBE_S:
            faults.append(f"{path} beside slow readers: {answer and answer[0]} after {took:.1f} s")
    if traffic.digit(gate.address, "scorer") != 200:
        faults.append("a request beside slow readers was not answered")
    for reader in readers:
        reader.close()
    return faults


def main(chromium, axe):
    """Runs everything."""
    if not chromium:
        print("the console: left out, there is no Chromium")
        return 0
    folder = begin("console")
    gate = Gate(POLICY, folder)
    try:
        base = gate.readyz.removesuffix("/readyz")
        faults = traffic.run(gate.address)
        wait("the requests on the page", lambda: "out-of-range" in (fetch(f"{base}/console/sections") or (0, ""))[1], gate.process, 20)
        faults += faults_of_server(base)
        browser = Browser(chromium, folder)
        try:
            faults += faults_of_page(browser, base, Path(axe).read_text(), folder)
            browser.open(f"{base}/")
            faults += faults_of_keyboard(browser)
            faults += faults_of_content(browser, gate)
        finally:
            browser.close()
        faults += faults_of_slow_readers(base, gate)
    finally:
        gate.stop()
    for fault in faults:
        print(f"WRONG {fault}")
    print(f"the console: {len(faults)} faults; screenshots and axe.json are in {folder}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
