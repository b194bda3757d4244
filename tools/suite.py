#!/usr/bin/env python3
"""Runs the whole test suite and ends with one list of what failed: suite.py ARGUMENTS OF CARGO TEST

As with cargo test, names after `--` select the tests whose names contain one of them.

Cargo builds the test binaries. Two of them run at once, those that take longest first. Tests that
compile handlers use all cores and the disk for minutes, so tests that put a gate under load wait
until these have ended. They do not wait if the same tests have passed before: the caches have what
they compile. The name of a test is printed when it ends, and the output of a binary with
failures when the binary ends. After a failure the others still run. The last lines name each failure
as `binary test`, and the exit status is 1 if there is any.

If one test failed, it runs once more by itself at the end. If it passes then, it is unsteady and
does not fail the run: its log is printed, and the last lines name it. They show the row to add, if
docs/explanation/testing.md does not list it. The same lines are in unsteady.txt in the target
folder. With STRICT=1 no test runs again.

A test that cannot run for a reason outside of it appends a line to the file that SUITE_SKIPPED
names. The last lines repeat these lines.

When none of a binary's tests has ended for SUITE_HANG_SECONDS (600), the tests that run then are
killed. They have failed, and the binary's remaining tests run without them.

Before the last lines come two tables: the time of each binary and the 30 slowest tests. All tests
with their times are in tests.tsv in the target folder.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

HANG_SECONDS = float(os.environ.get("SUITE_HANG_SECONDS", 600))
TICK_SECONDS = 1
# If more tests fail, none runs again.
MAX_UNSTEADY = 0 if os.environ.get("STRICT") == "1" else 1
# The page that lists unsteady tests until they are mended.
UNSTEADY_PAGE = pathlib.Path("docs/explanation/testing.md")
# Rows of the table of slow tests.
SLOWEST = 30
# The most lines of a failed test's output that are kept.
MAX_LOG_LINES = 500
# How many binaries run at once.
LANES = 2
# The packages whose tests take longest.
LONGEST = ["wit/workbench", "tests/e2e", "sandbox-host", "cli", "tests/conformance"]
# The binaries whose tests compile handlers, and those that no compiler may disturb.
COMPILING = {"wit/workbench it"}
UNDER_LOAD = {"tests/e2e it", "sandbox-host it"}
# The marker in the cache of built handlers has the digests of the COMPILING binaries in the last run
# of all tests that passed. It goes with that folder.
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
PASSED = CACHE / "tensorgate" / "builds" / "passed-tests"
# Arguments of cargo test that select targets. Cargo tests no documentation then.
SELECTS = re.compile(r"--(lib|bins?|tests?|examples?|bench(es)?|all-targets)(=|$)")

HASH = re.compile(r"-[0-9a-f]{16}$")
DOCS = re.compile(r"^ +Doc-tests (\S+)$")
ENDED = re.compile(r"^test (.+?)(?: - should panic)? \.\.\. (ok|FAILED|ignored)\b")
RESULT = re.compile(r"^test result: (\w+)\.")
OUTPUT = re.compile(r"^---- (.+) stdout ----$")
LISTED = re.compile(r"^(.+): test$")


@dataclasses.dataclass
class Failure:
    """A test that failed, or what else went wrong."""

    text: str
    # For a test that can run again: its binary and name.
    binary: "Binary | None" = None
    test: str = ""
    log: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Binary:
    """A test binary, and the folder of its package, in which cargo runs it."""

    executable: pathlib.Path
    folder: pathlib.Path

    @property
    def name(self):
        return HASH.sub("", self.executable.name)

    @property
    def shown(self):
        """The name with the folder, as several packages name a binary `it`."""
        return f"{os.path.relpath(self.folder)} {self.name}"

    def command(self, *arguments):
        """Arguments of Popen."""
        environment = {**os.environ, **CARGO, "CARGO_MANIFEST_DIR": str(self.folder)}
        return {"args": [self.executable, *arguments], "cwd": self.folder, "env": environment}

    def tests(self, *names):
        """The names of the tests that contain one of these, in the order in which they start."""
        command = self.command(*names, "--list", "--format", "terse")
        output = subprocess.run(**command, stdout=subprocess.PIPE, text=True).stdout
        return [found[1] for line in output.splitlines() if (found := LISTED.match(line))]


class Output:
    """Parses what a test binary prints."""

    def __init__(self):
        # Tests and when they ended; names of failed tests; output by test.
        self.ends, self.failed, self.logs = [], [], {}
        # Names below the last heading; failed tests that no list of a result names yet.
        self.listed, self.unlisted = [], []
        self.log, self.results = [], 0

    def line(self, text):
        """Parses one line."""
        if ended := ENDED.match(text):
            self.ends.append((ended[1], time.monotonic()))
            if ended[2] == "FAILED":
                self.unlisted.append(ended[1])
        elif output := OUTPUT.match(text):
            self.log = self.logs.setdefault(output[1], [])
        elif result := RESULT.match(text):
            self.results += 1
            if result[1] == "FAILED":
                self.failed += self.listed
            self.unlisted = []
        elif len(self.log) < MAX_LOG_LINES:
            self.log.append(text)
        # The tests' own output comes first under this heading, and their names under the last one.
        if text == "failures:":
            self.listed, self.log = [], []
        elif text.startswith("    "):
            self.listed.append(text.strip())


class Run:
    """A process whose output is parsed. It is killed when none of its tests ends for too long."""

    def __init__(self, name, **command):
        self.name = name
        self.output, self.text = Output(), []
        self.hung = False
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            **command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        reader = threading.Thread(target=self.read, daemon=True)
        reader.start()
        while self.process.poll() is None:
            try:
                self.process.wait(TICK_SECONDS)
            except subprocess.TimeoutExpired:
                self.hung = time.monotonic() - self.since > HANG_SECONDS
                if self.hung or STOPPED.is_set():
                    kill(self.process)
        # A process that a test left behind may keep the pipe open. Its output is not waited for.
        reader.join(TICK_SECONDS)

    def read(self):
        for line in self.process.stdout:
            line = line.rstrip("\r\n")
            self.text.append(line)
            self.output.line(line)
            if ENDED.match(line):
                say(f"{self.name}: {line}")

    @property
    def since(self):
        """When the last test ended."""
        return self.output.ends[-1][1] if self.output.ends else self.started


class Suite:
    """What all binaries came to. `names` selects tests."""

    def __init__(self, names=()):
        self.names = names
        self.failed, self.count = [], 0
        # Binary and seconds; binary, test and seconds.
        self.binaries, self.tests = [], []

    def run(self, binary):
        """Runs a binary's tests. Those that hang are killed, and the others run in a new process."""
        started = time.monotonic()
        self.count += 1
        left = None
        while left is None or left:
            arguments = self.names if left is None else ["--exact", *left]
            run = Run(binary.shown, **binary.command(*arguments))
            self.add(binary.name, binary.shown, run, binary)
            if not run.hung:
                break
            ended = {name for name, _ in run.output.ends}
            left = [name for name in left or binary.tests(*self.names) if name not in ended]
            # Tests start in this order, each when another has ended.
            for name in left[: threads()]:
                self.failed.append(Failure(f"{binary.name} {name} was killed: it hung"))
            left = left[threads() :]
        self.binaries.append((binary.shown, time.monotonic() - started))

    def run_docs(self, arguments):
        """Runs the tests in documentation of all packages."""
        started = time.monotonic()
        run = Run("documentation", args=["cargo", "test", "--no-fail-fast", "--doc", *arguments])
        names = [found[1] for line in run.text if (found := DOCS.match(line))]
        # Cargo rejects packages without a library.
        if names or run.process.returncode == 0:
            self.count += len(names)
            self.add("documentation", "documentation", run, None)
        self.binaries.append(("documentation", time.monotonic() - started))

    def add(self, name, shown, run, binary):
        """Adds the results of one process."""
        output = run.output
        self.tests += [(shown, *test) for test in durations(run.started, output.ends)]
        if STOPPED.is_set():
            return
        # A process that was killed, or that died, has printed no list of its failed tests.
        for test in output.failed + output.unlisted:
            failure = Failure(f"{name} {test}", binary, test, output.logs.get(test, []))
            self.failed.append(failure)
        if run.hung:
            return
        if not output.failed and (run.process.returncode != 0 or not output.results):
            self.failed.append(Failure(f"{name} ended before its tests did"))
        if output.failed or run.process.returncode != 0:
            say(*run.text)


class Jobs:
    """What the lanes still have to run, in order: pairs of a binary's name and a function.

    With `compiled`, the caches have all handlers, and no job waits for another.
    """

    def __init__(self, jobs, compiled=False):
        self.jobs = list(jobs)
        self.compiling = set() if compiled else COMPILING
        # Names of the binaries that run.
        self.running = []
        self.changed = threading.Condition()

    def next(self):
        """The first job that may start now, or None if none is left."""
        with self.changed:
            while self.jobs and not STOPPED.is_set():
                busy = self.running + [name for name, _ in self.jobs]
                compiles = not self.compiling.isdisjoint(busy)
                for job in self.jobs:
                    if not (compiles and job[0] in UNDER_LOAD):
                        self.jobs.remove(job)
                        self.running.append(job[0])
                        return job
                self.changed.wait(TICK_SECONDS)
            return None

    def ended(self, name):
        with self.changed:
            self.running.remove(name)
            self.changed.notify_all()


# Set when the user interrupts the run.
STOPPED = threading.Event()
PRINTS = threading.Lock()


def say(*lines):
    """Prints lines that no other thread's lines interrupt."""
    with PRINTS:
        print(*lines, sep="\n", flush=True)


def toolchain():
    """What cargo sets for the tests that it runs, so that they use the same toolchain."""
    if not shutil.which("rustup"):
        return {}
    ask = lambda *words: subprocess.run(["rustup", *words], capture_output=True, text=True).stdout
    active = ask("show", "active-toolchain").split()
    return {"CARGO": ask("which", "cargo").strip(), "RUSTUP_TOOLCHAIN": active[0]} if active else {}


CARGO = toolchain()


def threads():
    """How many tests of a binary run at once."""
    return int(os.environ.get("RUST_TEST_THREADS") or len(os.sched_getaffinity(0)))


def durations(started, ends):
    """The seconds of each test of a binary, from when its tests ended: (test, time) in that order.

    A binary starts its tests in the order of their names, and the next one when one has ended.
    """
    starts = [started] * threads() + [at for _, at in ends]
    began = dict(zip(sorted(name for name, _ in ends), starts))
    return [(name, at - began[name]) for name, at in ends]


def table(title, rows):
    """Prints rows of seconds and a text."""
    print(f"suite: {title}:")
    for seconds, text in rows:
        print(f"  {seconds:7.1f} s  {text}")


def report(suite, file):
    """Prints what took long, and writes the times of all tests into a file."""
    binaries = sorted(((seconds, binary) for binary, seconds in suite.binaries), reverse=True)
    tests = ((seconds, f"{binary} {test}") for binary, test, seconds in suite.tests)
    tests = sorted(tests, reverse=True)
    table("binaries", [row for row in binaries if row[0] >= 0.1])
    table(f"the {SLOWEST} slowest tests", tests[:SLOWEST])
    file.write_text("".join(f"{seconds:.2f}\t{text}\n" for seconds, text in tests))


def descendants(parent):
    """All descendants of a process, from /proc."""
    children = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                above = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(above, []).append(int(pid))
    found, left = [], [parent]
    while left:
        below = children.get(left.pop(), [])
        found += below
        left += below
    return found


def kill(process):
    """Kills a process and its descendants. It is stopped first: else a test that waits for one of
    them could go on, and end.
    """
    process.send_signal(signal.SIGSTOP)
    for pid in descendants(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    process.kill()


def build(arguments):
    """Builds the test binaries: them, and the status of cargo."""
    command = ["cargo", "test", "--no-run", "--message-format=json-render-diagnostics", *arguments]
    process = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    binaries = []
    for line in process.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message.get("profile", {}).get("test"):
            executable = pathlib.Path(message["executable"])
            folder = pathlib.Path(message["manifest_path"]).parent
            binaries.append(Binary(executable, folder))
    return binaries, process.returncode


def digests(binaries):
    """What PASSED holds when these binaries that compile handlers have passed."""
    files = sorted(binary.executable for binary in binaries if binary.shown in COMPILING)
    return "".join(hashlib.sha256(file.read_bytes()).hexdigest() + "\n" for file in files)


def place(binary, compiled):
    """What comes first, for sorting: what compiles, or else what takes longest."""
    folder = os.path.relpath(binary.folder)
    rank = LONGEST.index(folder) if folder in LONGEST else len(LONGEST)
    waits = compiled and binary.shown in COMPILING
    return rank + waits, binary.shown


def split(arguments):
    """The arguments of cargo, and the names of tests after `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:end], arguments[end + 1 :]


def run(arguments):
    """Runs the suite and returns its results."""
    arguments, names = split(arguments)
    suite = Suite(names)
    binaries, status = build(arguments)
    if status != 0:
        suite.failed.append(Failure(f"cargo test: exit status {status}"))
        return suite
    marker = digests(binaries)
    compiled = PASSED.exists() and PASSED.read_text() == marker
    listed = [
        (binary.shown, lambda binary=binary: suite.run(binary))
        for binary in sorted(binaries, key=lambda binary: place(binary, compiled))
    ]
    if not names and not any(SELECTS.match(argument) for argument in arguments):
        listed.append(("documentation", lambda: suite.run_docs(arguments)))
    jobs = Jobs(listed, compiled)

    def work():
        while job := jobs.next():
            name, function = job
            try:
                function()
            except Exception as error:
                suite.failed.append(Failure(f"suite.py: {error!r}"))
            finally:
                jobs.ended(name)

    lanes = [threading.Thread(target=work) for _ in range(LANES)]
    for lane in lanes:
        lane.start()
    try:
        for lane in lanes:
            lane.join()
    except KeyboardInterrupt:
        STOPPED.set()
        for lane in lanes:
            lane.join()
        suite.failed.append(Failure("interrupted"))
    suite.failed.sort(key=lambda failure: failure.text)
    if marker and not names and not suite.failed and PASSED.parent.is_dir():
        PASSED.write_text(marker)
    return suite


def passes_alone(failure):
    """Runs a test again by itself."""
    say(f"suite: once more: {failure.text}")
    # A filter without a match, or an ignored test, would also end with status 0.
    again = Run(failure.binary.shown, **failure.binary.command("--exact", failure.test))
    say(*again.text)
    return again.process.returncode == 0 and len(again.output.ends) == 1


def unsteady(failed):
    """The failures that pass when they run again. If there are too many, none is run."""
    if len(failed) > MAX_UNSTEADY or not all(failure.binary for failure in failed):
        return []
    return [failure for failure in failed if passes_alone(failure)]


def named(failure):
    """Lines about a test that passed when it ran again: its name, and the row that it lacks."""
    row = f"| `{failure.binary.shown} {failure.test}` |"
    listed = UNSTEADY_PAGE.read_text() if UNSTEADY_PAGE.exists() else ""
    lines = [f"unsteady: {failure.text}"]
    if row not in listed:
        lines.append(f"add to {UNSTEADY_PAGE}: {row} SINCE | WHAT IS KNOWN |")
    return lines


def main():
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")).resolve()
    target.mkdir(parents=True, exist_ok=True)
    skipped = target / "skipped.txt"
    skipped.write_text("")
    os.environ["SUITE_SKIPPED"] = str(skipped)
    suite = run(sys.argv[1:])
    passed = unsteady(suite.failed)
    failed = [failure for failure in suite.failed if failure not in passed]
    report(suite, target / "tests.tsv")
    for failure in passed:
        print(f"suite: log of {failure.text}, which passed by itself:", *failure.log, sep="\n  ")
    names = [line for failure in passed for line in named(failure)]
    target.joinpath("unsteady.txt").write_text("".join(f"{name}\n" for name in names))
    names += [f"skipped: {line}" for line in skipped.read_text().splitlines()]
    if failed:
        texts = [failure.text for failure in failed]
        print(f"suite: {len(failed)} failed, of {suite.count} binaries:", *texts, *names, sep="\n  ")
        sys.exit(1)
    print(f"suite: all passed, in {suite.count} binaries", *names, sep="\n  ")


if __name__ == "__main__":
    main()
