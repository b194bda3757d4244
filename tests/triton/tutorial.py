"""The tutorial "Protect a Triton server", followed as its reader follows it: every block of the
page is written or run, in order, and its output is compared with what the page shows.

A block that cannot be followed is an error, so none is skipped. What is done with a block, by its
language and attributes:

- `file=NAME`: the block is written to that file.
- `sh`: bash runs it. Commands that keep running are started, and waited for until they are ready.
  `REQUEST_ID` is the request that the last rejection named.
- `json` or `text` right after `sh`: the output contains it. Times, ids and digests may differ.
- `yaml`: its sections replace those of `gate.yaml`, and the running gate puts them in force.
"""

import os
import re
import shlex
import shutil
import subprocess
import time

from processes import LOOK_EVERY_S, TOP, Process, free_ports, wait
from servers import environment, flags, is_ready, shared_memory

PAGE = TOP / "docs/tutorial/protect-triton.md"
# Where the page says that its reader works.
WRITTEN_FOLDER = "/srv/gate"
# Addresses as the page writes them: Triton's two, the gate's, and its admin address.
WRITTEN_ADDRESSES = ["127.0.0.1:8000", "127.0.0.1:8001", "127.0.0.1:8080", "127.0.0.1:9902"]
# This Triton has no other backend.
WRITTEN_BACKEND, BACKEND = 'backend: "onnxruntime"', 'backend: "python"'
LANGUAGES_OF_OUTPUT = ("json", "text")
# Commands that report what the gate has done. Envoy's part reaches the audit log a moment later, so
# they are run until they show what the page shows.
REPORTS = ("tensorgate status", "tensorgate explain", "tensorgate audit")
REPORT_S = 10
BLOCK_S = 60
READY, RELOADED = "tensorgate ready: ", "reloaded: "
REQUEST_ID = re.compile(r'"instance": ?"([^"]+)"')
# What differs from run to run.
VARYING = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\dT[\d:.]+Z)"
    r"|(?P<request>\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b)"
    r"|(?P<digest>\b[0-9a-f]{64}\b)"
    r"|(?P<version>\b[0-9a-f]{16}\b)"
    r"|(?P<process>\bpid \d+)"
    r"|(?P<duration>\b\d+ ?[um]s\b)"
)


class Block:
    """A fenced block of the page."""

    def __init__(self, line, info, body):
        language, *words = info.split() or [""]
        self.line, self.language, self.body = line, language, body
        self.attributes = dict(word.partition("=")[::2] for word in words)
        # For a shell block: the block of output right after it.
        self.shows = ""

    def title(self):
        """Its line on the page, and its first line."""
        return f"line {self.line}: {self.body.splitlines()[0] if self.body else ''}"


def blocks(text):
    """The fenced blocks of a page. Output belongs to the shell block before it, if only empty
    lines are between them.
    """
    found, shell = [], None
    lines = iter(enumerate(text.splitlines(), 1))
    for number, line in lines:
        if not line.startswith("```"):
            shell = shell if line == "" else None
            continue
        body = []
        for _, inner in lines:
            if inner == "```":
                break
            body.append(inner)
        else:
            raise RuntimeError(f"{PAGE}:{number}: this block has no end")
        block = Block(number, line[3:], "\n".join(body))
        if shell and block.language in LANGUAGES_OF_OUTPUT and not block.attributes:
            shell.shows, shell = block.body, None
            continue
        found.append(block)
        shell = block if block.language == "sh" else None
    return found


def sections(policy):
    """The sections of a policy: each with its name and its text, in order."""
    starts = [match.start() for match in re.finditer(r"^\w+:", policy, re.MULTILINE)]
    ends = [*starts[1:], len(policy)]
    texts = [policy[start:end] for start, end in zip(starts, ends)]
    return {text.split(":")[0]: text for text in texts}


def stable(text):
    """A text with a word for each part that differs from run to run."""
    return VARYING.sub(lambda found: f"<{found.lastgroup}>", text)


class Reader:
    """A reader of the page, with an empty folder and a Triton that has only the Python backend."""

    def __init__(self, table, made, folder):
        self.table, self.logs = table, folder
        self.desk = folder / "tutorial"
        self.started = []
        self.gate = None
        self.request_id = None
        ports = free_ports(5)
        self.http_port, self.grpc_port, gate_port, admin_port, metrics_port = ports
        self.replaced = dict(zip(WRITTEN_ADDRESSES, (f"127.0.0.1:{port}" for port in ports)))
        model = self.desk / "models/resnet50/1/model.py"
        model.parent.mkdir(parents=True)
        shutil.copy(TOP / "tests/triton/resnet50.py", model)
        programs = folder / "programs"
        programs.mkdir()
        variables = [f"{name}={value}" for name, value in environment(made, folder).items()]
        own = flags(made, self.http_port, self.grpc_port, metrics_port)
        command = shlex.join(["exec", "env", "-i", *variables, str(made / "bin/tritonserver"), *own])
        server = programs / "tritonserver"
        server.write_text(f'#!/bin/sh\n{command} "$@"\n')
        server.chmod(0o755)
        path = [programs, made / "bin", TOP / "target/debug", os.environ.get("PATH", "")]
        self.environment = os.environ | {
            "PATH": os.pathsep.join(str(part) for part in path),
            "TENSORGATE_ADMIN": f"127.0.0.1:{admin_port}",
        }

    def follow(self):
        """Follows the page up to its end, or to the first block that is wrong."""
        text = PAGE.read_text()
        for written, own in {**self.replaced, WRITTEN_BACKEND: BACKEND}.items():
            if written not in text:
                raise RuntimeError(f"{PAGE} does not contain {written}: adapt {__file__}")
            text = text.replace(written, own)
        for block in blocks(text):
            output, fault = self.do(block)
            self.table.row(block.title(), "", output, not fault, fault)
            if fault:
                return

    def do(self, block):
        """Does what a block says. Returns its output, and what is wrong with it."""
        if list(block.attributes) == ["file"] and block.language != "sh":
            return self.write(block)
        if block.language == "sh" and block.attributes in ({}, {"needs": "server"}):
            script = block.body.replace("REQUEST_ID", self.request_id or "REQUEST_ID")
            if script.startswith("tritonserver "):
                return self.start(block, script, "triton", lambda _: is_ready(self.http_port))
            if script.startswith("tensorgate up "):
                return self.start(block, script, "gate", lambda gate: self.printed(gate, READY))
            return self.run(block, script)
        if block.language == "yaml" and not block.attributes:
            return self.change(block)
        raise RuntimeError(f"{PAGE}:{block.line}: no rule says how to follow this block: adapt it, or {__file__}")

    def write(self, block):
        """Writes a file."""
        file = self.desk / block.attributes["file"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{block.body}\n")
        return f"written to {block.attributes['file']}", ""

    def run(self, block, script):
        """Runs commands, those that report until they show what the page shows."""
        give_up = time.monotonic() + REPORT_S
        while True:
            ran = self.bash(script)
            fault = self.compared(block, ran.stdout)
            if ran.returncode != 0:
                fault = f"exit code {ran.returncode}\n{fault or ran.stdout}"
            if not fault or not script.startswith(REPORTS) or time.monotonic() > give_up:
                break
            time.sleep(LOOK_EVERY_S)
        named = REQUEST_ID.search(ran.stdout)
        self.request_id = named[1] if named else self.request_id
        return ran.stdout, fault and f"{fault}\n{ran.stderr}"

    def bash(self, script):
        """Runs a script in the reader's folder."""
        try:
            return subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script],
                cwd=self.desk,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=BLOCK_S,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(f"the tutorial: {error}") from error

    def start(self, block, script, name, ready):
        """Starts one command that keeps running."""
        if "\n" in script.replace("\\\n", ""):
            raise RuntimeError(f"{PAGE}:{block.line}: a block that keeps running has one command")
        command = ["bash", "-euo", "pipefail", "-c", f"exec {script}"]
        leaves = f"/dev/shm/{shared_memory(self.grpc_port)}" if name == "triton" else ""
        log = self.logs / f"tutorial-{name}.log"
        process = Process(name, command, log, self.environment, leaves=leaves, cwd=self.desk)
        self.started.append(process)
        if name == "gate":
            self.gate = process
        try:
            wait(f"{name} is ready", lambda: ready(process), process.process)
        except RuntimeError as error:
            return "not ready", f"{error}\n{process.tail()}"
        return "ready", self.compared(block, log.read_text())

    def printed(self, process, start):
        """The number of lines of its log that start like this."""
        return sum(line.startswith(start) for line in process.log.read_text().splitlines())

    def change(self, block):
        """Changes the policy, and waits until the running gate has put it in force."""
        if self.gate is None:
            raise RuntimeError(f"{PAGE}:{block.line}: the policy changes before a gate runs")
        file = self.desk / "gate.yaml"
        before, after = sections(file.read_text()), sections(f"{block.body}\n")
        unknown = after.keys() - before.keys()
        if unknown or not after:
            raise RuntimeError(f"{PAGE}:{block.line}: gate.yaml has no section {unknown or block.body}")
        count = self.printed(self.gate, RELOADED)
        file.write_text("".join((before | after).values()))
        try:
            wait("the policy is in force", lambda: self.printed(self.gate, RELOADED) > count, self.gate.process)
        except RuntimeError as error:
            return "not reloaded", f"{error}\n{self.gate.tail()}"
        return f"in force: {', '.join(after)}", ""

    def compared(self, block, output):
        """Why an output does not contain what the page shows; empty if it does."""
        output = output.replace(str(self.desk), WRITTEN_FOLDER)
        if stable(block.shows) in stable(output):
            return ""
        return f"{PAGE}:{block.line}\n--- printed\n{output}\n--- the page shows\n{block.shows}"

    def stop(self):
        """Stops everything that was started, the last first."""
        for process in reversed(self.started):
            process.stop()


def tutorial(table, made, folder):
    """The page, from its first block to its last."""
    table.head("the tutorial, block by block")
    reader = Reader(table, made, folder)
    try:
        reader.follow()
    finally:
        reader.stop()
