"""Servers and the gate as processes on loopback: started, waited for, and stopped in any case.

Each runs in a process group of its own and writes its log to a file. If this process is killed, the
kernel kills each of them, and a warden kills their child processes.
"""

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
# Servers start processes of their own; Envoy and the host compile.
START_S = 90
STOP_S = 20
LOOK_EVERY_S = 0.05
LOG_TAIL_BYTES = 4096
FIRST_PORT, PORTS = 10_000, 20_000
# Counts the ports that were tried.
TRIED = itertools.count()

# Waits until the other end of its standard input is closed, then kills a process group and its
# leftovers.
WARDEN = """
import glob, os, signal, sys
if sys.stdin.read() != "ended":
    try:
        os.killpg(int(sys.argv[1]), signal.SIGKILL)
    except ProcessLookupError:
        pass
for file in glob.glob(sys.argv[2] + "*") if sys.argv[2] else []:
    os.unlink(file)
"""

# Becomes a user, if one is named, asks the kernel for a SIGKILL at its parent's death
# (PR_SET_PDEATHSIG, which a change of user would clear), then becomes the program. It is a process
# of its own: code between fork and exec would run gRPC's fork handlers in this one, whose threads
# sometimes abort there. And another user may not be able to read this interpreter.
LEASHED = """
import ctypes, os, signal, sys
if sys.argv[1]:
    os.setgroups([])
    os.setgid(int(sys.argv[1]))
    os.setuid(int(sys.argv[1]))
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def free_ports(count):
    """Ports of loopback that are free at this moment. They are below the range from which the
    kernel picks ports for others, so no other process gets one before it is used.
    """
    found = []
    while len(found) < count:
        port = FIRST_PORT + (os.getpid() * 97 + next(TRIED)) % PORTS
        with socket.socket() as each:
            try:
                each.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
    return found


def begin(name):
    """An empty folder for a run. From here on a signal ends the run as Ctrl-C does, so that all
    processes are stopped.
    """
    for sent in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sent, signal.default_int_handler)
    folder = TOP / "target" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def wait(what, condition, process=None, seconds=START_S):
    """Waits until a condition holds; if it never does, the error names it."""
    give_up = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if process is not None and process.poll() is not None:
            raise RuntimeError(f"{what}: the process ended with {process.returncode}")
        if time.monotonic() > give_up:
            raise RuntimeError(f"{what}: not within {seconds} s")
        time.sleep(LOOK_EVERY_S)


def fetch(url, seconds=2):
    """Status and text of a GET, or None without an answer."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError:
        return None


class Process:
    """One process and its log. `user` is the number of another user whom it runs as."""

    def __init__(self, name, arguments, log, environment=None, stdout=None, leaves="", cwd=None, user=None):
        self.name, self.log = name, log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", LEASHED, str(user or ""), *(str(argument) for argument in arguments)],
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=stdout or file,
                stderr=file,
                start_new_session=True,
            )
        warden = [sys.executable, "-c", WARDEN, str(self.process.pid), leaves]
        self.warden = subprocess.Popen(warden, stdin=subprocess.PIPE, start_new_session=True)

    def tail(self):
        """The end of its log."""
        text = self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
        return f"--- the end of {self.log}\n{text}"

    def stop(self):
        """Asks it to end, then kills its whole group. True if it ended by itself with 0."""
        self.process.terminate()
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            code = None
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.warden.communicate(b"ended")
        return code == 0


class Gate(Process):
    """`tensorgate up`: a real Envoy with the filter, and the sandbox host, with a policy from a
    file. `more`: further arguments.
    """

    def __init__(self, policy, folder, name="gate", serving=True, more=(), program=TOP / "target/debug/tensorgate"):
        (admin,) = free_ports(1)
        self.readyz = f"http://127.0.0.1:{admin}/readyz"
        arguments = [program, "--json", "up", "-c", policy, "--state", folder / name]
        arguments += ["--listen", "127.0.0.1:0", "--admin", f"127.0.0.1:{admin}", "--concurrency", "2", *more]
        super().__init__(name, arguments, folder / f"{name}.log", os.environ, subprocess.PIPE)
        self.address = self.ready_address() if serving else None

    def all_ready(self):
        """Whether the gate and every model of it are ready."""
        return fetch(self.readyz) == (200, "ready\n")

    def ready_address(self):
        """The gate's address, from its readiness line."""
        for line in self.process.stdout:
            said = json.loads(line)
            if "ready" in said:
                return said["ready"].split("://")[1]
        raise RuntimeError(f"the gate ended before it was ready\n{self.tail()}")
