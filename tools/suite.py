#!/usr/bin/env python3
"""Runs the whole test suite and ends with one list of what failed: suite.py ARGUMENTS OF CARGO TEST

Output is copied as it is written. After a failure the next binary still runs. The last lines name
each failure as `binary test`, and the exit status is 1 if there is any.

If at most two tests failed, each runs once more by itself at the end. One that passes then is
unsteady and does not fail the run: its log is printed, and the last lines name it. With STRICT=1 no
test runs again. The names are also in unsteady.txt in the target folder.

A test that cannot run for a reason outside of it appends a line to the file that SUITE_SKIPPED
names. The last lines repeat these lines.

A binary is killed when none of its tests has ended for SUITE_HANG_SECONDS (600).

Before the last lines come two tables: the time of each binary and the 30 slowest tests. All tests
with their times are in tests.tsv in the target folder.
"""

import dataclasses
import os
import pathlib
import queue
import re
import signal
import subprocess
import sys
import threading
import time

HANG_SECONDS = float(os.environ.get("SUITE_HANG_SECONDS", 600))
TICK_SECONDS = 1
# If more tests fail, none runs again.
MAX_UNSTEADY = 0 if os.environ.get("STRICT") == "1" else 2
# Rows of the table of slow tests.
SLOWEST = 30
# The most lines of a failed test's output that are kept.
MAX_LOG_LINES = 500

BINARY = re.compile(r"^ +Running .*\((.+)\)$")
HASH = re.compile(r"-[0-9a-f]{16}$")
DOCS = re.compile(r"^ +Doc-tests (\S+)$")
COUNT = re.compile(r"^running \d+ tests?$")
ENDED = re.compile(r"^test (.+?)(?: - should panic)? \.\.\. ")
SLOW = re.compile(r"^test (.+) has been running for over ")
RESULT = re.compile(r"^test result: (\w+)\.")
OUTPUT = re.compile(r"^---- (.+) stdout ----$")


@dataclasses.dataclass
class Failure:
    """A test that failed, or what else went wrong."""

    text: str
    # For a test that can run again: its binary and name.
    executable: pathlib.Path | None = None
    test: str = ""
    log: list[str] = dataclasses.field(default_factory=list)


class Suite:
    """Parses cargo's output, binary by binary."""

    def __init__(self):
        self.failed = []
        self.count = 0
        # Binary and seconds; binary, test and seconds.
        self.binaries, self.tests = [], []
        self.start(None, None)

    def start(self, binary, executable):
        """Starts the next binary."""
        self.binary, self.executable = binary, executable
        self.results, self.listed, self.slow = 0, [], []
        self.logs, self.log = {}, []
        self.killed = False
        self.started = self.since = time.monotonic()
        self.ends = []
        self.count += binary is not None

    def end(self):
        """Ends a binary. One that was killed, or that crashed, has no result."""
        if self.binary:
            name = f"{shown_folder(self.executable)}{self.binary}"
            self.binaries.append((name, self.since - self.started))
            self.tests += [(name, *test) for test in durations(self.started, self.ends)]
        if self.binary and (self.killed or not self.results):
            how = "was killed: it hung" if self.killed else "ended before its tests did"
            slow = f" ({', '.join(self.slow)})" if self.slow else ""
            self.failed.append(Failure(f"{self.binary} {how}{slow}"))

    def line(self, text):
        """Parses one line of output."""
        if begun := BINARY.match(text):
            self.end()
            executable = pathlib.Path(begun[1])
            self.start(HASH.sub("", executable.name), executable)
        elif begun := DOCS.match(text):
            self.end()
            self.start(begun[1], None)
        elif slow := SLOW.match(text):
            self.slow.append(slow[1])
        elif COUNT.match(text):
            self.started = time.monotonic()
        elif ended := ENDED.match(text):
            self.since = time.monotonic()
            self.ends.append((ended[1], self.since))
            self.slow = [name for name in self.slow if name != ended[1]]
        elif output := OUTPUT.match(text):
            self.log = self.logs.setdefault(output[1], [])
        elif result := RESULT.match(text):
            self.since = time.monotonic()
            self.results += 1
            if result[1] == "FAILED":
                self.failed += [self.failure(name) for name in self.listed]
        elif len(self.log) < MAX_LOG_LINES:
            self.log.append(text)
        # The tests' own output comes first under this heading, and their names under the last one.
        if text == "failures:":
            self.listed, self.log = [], []
        elif text.startswith("    "):
            self.listed.append(text.strip())

    def failure(self, test):
        """A test of this binary that failed."""
        text = f"{self.binary} {test}"
        return Failure(text, self.executable, test, self.logs.get(test, []))

    def hangs(self):
        """Whether no test has ended for too long. Compiling, before the first, may take longer."""
        running = self.binary and not self.killed
        return running and time.monotonic() - self.since > HANG_SECONDS


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


def kill_below(process):
    """Kills a process's descendants. Cargo continues with the next binary."""
    for pid in descendants(process.pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def pass_on(process, lines):
    """Copies the output as it is written, and passes it on line by line."""
    for line in process.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
        lines.put(line.decode(errors="replace").rstrip("\r\n"))


def run(arguments):
    """Runs the suite and returns what it parsed."""
    command = ["cargo", "test", "--no-fail-fast", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    suite, lines = Suite(), queue.Queue()
    reader = threading.Thread(target=pass_on, args=(process, lines), daemon=True)
    reader.start()
    try:
        while process.poll() is None or not lines.empty():
            try:
                suite.line(lines.get(timeout=TICK_SECONDS))
            except queue.Empty:
                if suite.hangs():
                    suite.killed = True
                    kill_below(process)
    except KeyboardInterrupt:
        process.wait()
        suite.failed.append(Failure("interrupted"))
    # A process that a test left behind may keep the pipe open. Its output is not waited for.
    reader.join(TICK_SECONDS)
    while not lines.empty():
        suite.line(lines.get())
    suite.end()
    if process.returncode != 0 and not suite.failed:
        suite.failed.append(Failure(f"cargo test: exit status {process.returncode}"))
    return suite


def package_folder(executable):
    """The folder of a test binary's package. Cargo's list of sources begins with the main one."""
    with open(f"{executable}.d") as sources:
        # A space in a name is escaped with a backslash.
        main = re.split(r"(?<!\\) ", sources.readline().partition(": ")[2].strip())[0]
    folders = pathlib.Path(main.replace("\\ ", " ")).resolve().parents
    return next(folder for folder in folders if folder.joinpath("Cargo.toml").is_file())


def shown_folder(executable):
    """The folder of a binary's package with a space, as several packages name a binary `it`."""
    if not executable or not pathlib.Path(f"{executable}.d").is_file():
        return ""
    folder = os.path.relpath(package_folder(executable))
    return f"{folder} "


def passes_alone(failure):
    """Runs a test again by itself, in its package's folder as cargo does."""
    print(f"suite: once more: {failure.text}", flush=True)
    executable = failure.executable.resolve()
    folder = package_folder(executable)
    # A filter without a match, or an ignored test, would also end with status 0.
    process = subprocess.Popen(
        [executable, "--exact", failure.test],
        cwd=folder,
        env={**os.environ, "CARGO_MANIFEST_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        output, _ = process.communicate(timeout=HANG_SECONDS)
    except subprocess.TimeoutExpired:
        kill_below(process)
        process.kill()
        output, _ = process.communicate()
    print(output, flush=True)
    return process.returncode == 0 and "test result: ok. 1 passed" in output


def unsteady(failed):
    """The failures that pass when they run again. If there are too many, none is run."""
    if len(failed) > MAX_UNSTEADY or not all(failure.executable for failure in failed):
        return []
    return [failure for failure in failed if passes_alone(failure)]


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
    names = [f"unsteady: {failure.text}" for failure in passed]
    target.joinpath("unsteady.txt").write_text("".join(f"{name}\n" for name in names))
    names += [f"skipped: {line}" for line in skipped.read_text().splitlines()]
    if failed:
        texts = [failure.text for failure in failed]
        print(f"suite: {len(failed)} failed, of {suite.count} binaries:", *texts, *names, sep="\n  ")
        sys.exit(1)
    print(f"suite: all passed, in {suite.count} binaries", *names, sep="\n  ")


if __name__ == "__main__":
    main()
