#!/usr/bin/env python3
"""Runs the whole test suite and ends with one list of what failed: suite.py ARGUMENTS OF CARGO TEST

Output is copied as it is written. After a failure the next binary still runs. The last lines name
each failure as `binary test`, and the exit status is 1 if there is any.

A binary is killed when none of its tests has ended for SUITE_HANG_SECONDS (600).
"""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time

HANG_SECONDS = float(os.environ.get("SUITE_HANG_SECONDS", 600))
TICK_SECONDS = 1

BINARY = re.compile(r"^ +Running .*\((?:.*/)?(.+?)(?:-[0-9a-f]{16})?\)$")
DOCS = re.compile(r"^ +Doc-tests (\S+)$")
ENDED = re.compile(r"^test (.+) \.\.\. ")
SLOW = re.compile(r"^test (.+) has been running for over ")
RESULT = re.compile(r"^test result: (\w+)\.")


class Suite:
    """Parses cargo's output, binary by binary."""

    def __init__(self):
        self.failed = []
        self.count = 0
        self.start(None)

    def start(self, binary):
        """Starts the next binary."""
        self.binary, self.results, self.listed, self.slow = binary, 0, [], []
        self.killed = False
        self.since = time.monotonic()
        self.count += binary is not None

    def end(self):
        """Ends a binary. One that was killed, or that crashed, has no result."""
        if self.binary and (self.killed or not self.results):
            how = "was killed: it hung" if self.killed else "ended before its tests did"
            slow = f" ({', '.join(self.slow)})" if self.slow else ""
            self.failed.append(f"{self.binary} {how}{slow}")

    def line(self, text):
        """Parses one line of output."""
        if begun := BINARY.match(text) or DOCS.match(text):
            self.end()
            self.start(begun[1])
        elif slow := SLOW.match(text):
            self.slow.append(slow[1])
        elif ended := ENDED.match(text):
            self.since = time.monotonic()
            self.slow = [name for name in self.slow if name != ended[1]]
        elif text == "failures:":
            # The tests' own output comes first under this heading, and their names under the last
            # one.
            self.listed = []
        elif text.startswith("    "):
            self.listed.append(text.strip())
        elif result := RESULT.match(text):
            self.results += 1
            if result[1] == "FAILED":
                self.failed += [f"{self.binary} {name}" for name in self.listed]

    def hangs(self):
        """Whether no test has ended for too long. Compiling, before the first, may take longer."""
        running = self.binary and not self.killed
        return running and time.monotonic() - self.since > HANG_SECONDS


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
    """Kills cargo's descendants. Cargo continues with the next binary."""
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
    """Runs the suite and returns the failures and the number of binaries."""
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
        suite.failed.append("interrupted")
    # A process that a test left behind may keep the pipe open. Its output is not waited for.
    reader.join(TICK_SECONDS)
    while not lines.empty():
        suite.line(lines.get())
    suite.end()
    if process.returncode != 0 and not suite.failed:
        suite.failed.append(f"cargo test: exit status {process.returncode}")
    return suite.failed, suite.count


def main():
    failed, count = run(sys.argv[1:])
    if failed:
        print(f"suite: {len(failed)} failed, of {count} binaries:", *failed, sep="\n  ")
        sys.exit(1)
    print(f"suite: all passed, in {count} binaries")


if __name__ == "__main__":
    main()
