"""A gate, a small disk and a Redis that a run can have fail."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import processes
from processes import TOP, Process, free_ports, wait

HERE = Path(__file__).resolve().parent
# The program and an argument of a gate's process, by the process's name in the lines of `up`.
MARKS = {"host": ("tensorgate-host", ""), "Envoy": ("envoy", ""), "backend cpu": ("tensorgate-embedded", "backend-0.sock")}
# The disk of an audit log.
DISK_BYTES = 8 << 20
# How long `up` may take for a line about what happens.
LINE_S = 30
# `up` ends at this many ends of the host and Envoy within this time.
MAX_ENDS, WINDOW_S = 5, 60


class Gate(processes.Gate):
    """A gate whose lines are kept: `lines` has when it said what, as JSON."""

    def __init__(self, folder, redis, more=()):
        text = (HERE / "gate.yaml").read_text().replace("16379", str(redis.port))
        self.policy = folder / "gate.yaml"
        self.text = text.replace("examples/models", str(TOP / "examples/models"))
        self.policy.write_text(self.text)
        self.state, self.lines = folder / "gate", []
        super().__init__(self.policy, folder, more=more)
        wait("every model", self.all_ready, self.process)
        # Its lines are read until it ends, or it would wait for a reader.
        threading.Thread(target=self.read, daemon=True).start()

    def save(self, version):
        """Saves the policy with another text in place of its version."""
        new = self.policy.with_suffix(".new")
        new.write_text(self.text.replace("version: 1", version))
        new.rename(self.policy)

    def read(self):
        """Keeps each line."""
        for line in self.process.stdout:
            self.lines.append((time.monotonic(), json.loads(line)))

    def said(self, has, since=0):
        """When a line was said after a time that a function looks for, or None."""
        return next((at for at, line in self.lines if at >= since and has(line)), None)

    def says(self, what, has, since):
        """Waits for such a line, and returns when it was said."""
        return wait(what, lambda: self.said(has, since), self.process, LINE_S)

    def pid(self, name):
        """The id of a process of the gate, or None."""
        command = ["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)]
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        program, argument = MARKS[name]
        for pid, path, *arguments in (line.split() for line in listed.splitlines()):
            if path.endswith(f"/{program}") and argument in " ".join(arguments):
                return int(pid)
        return None

    def signal(self, name, number):
        """Sends a signal to a process of the gate."""
        os.kill(self.pid(name), number)

    def ends(self):
        """The ends of the host and Envoy in the last minute."""
        since = time.monotonic() - WINDOW_S
        return sum(at >= since and line.get("ended", {}).get("process") in ("host", "Envoy") for at, line in self.lines)

    def kill(self, name):
        """Kills a process. Returns when `up` has said both its end and its restart."""
        begun = time.monotonic()
        self.signal(name, signal.SIGKILL)
        self.says(f"the end of {name}", lambda line: line.get("ended", {}).get("process") == name, begun)
        return self.says(f"the restart of {name}", lambda line: line.get("started_again") == name, begun)

    def command(self, *arguments):
        """Runs `tensorgate` with the state folder."""
        command = [TOP / "target/debug/tensorgate", "--json", *arguments, "--state", self.state]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def status(self):
        """What `tensorgate status` says."""
        return json.loads(self.command("status").stdout)


class SmallDisk:
    """A file system in memory, which can be filled. It needs the right to mount: `make test-chaos` runs
    in a mount namespace of its own.
    """

    def __init__(self, folder, size=DISK_BYTES):
        self.folder, self.size = folder, size

    def __enter__(self):
        self.folder.mkdir(parents=True)
        self.folder.chmod(0o700)
        options = f"size={self.size},mode=0700"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)], check=True)
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def fill(self):
        """Leaves no byte."""
        with open(self.folder / "rest", "wb", buffering=0) as file:
            for size in [1 << 16, 1 << 12]:
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    pass

    def empty(self):
        """Makes room again."""
        (self.folder / "rest").unlink()


class Redis(Process):
    """A Redis in memory. A port that is given is used again."""

    def __init__(self, folder, port=None):
        program = os.environ.get("REDIS_SERVER") or Path.home() / ".cache/tensorgate/redis/redis-server"
        self.port = port or free_ports(1)[0]
        arguments = [program, "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        super().__init__("Redis", arguments, folder / "redis.log", cwd=folder)
        wait("Redis", self.answers, self.process)

    def answers(self):
        """Whether it takes connections."""
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True
