"""Every server and every fault. It checks the gate's answer, its report at /readyz, that other
servers' models are served meanwhile, and that everything works again once the fault is over.
"""

import json
import signal
import threading
import time

import numpy as np
import triggers
from processes import fetch, wait
from servers import exchange
from sides import chat, rows, said

GOOD = [[1.5, -2], [0.25, 1000], [-1000, 3e-5]]
# The limits in gate.yaml.
TIMEOUT_S = 2
# The gate's own overhead, and a health check each second, on a busy machine.
MARGIN_S = 2
RECOVERY_S = 20
INSTANT_S = 1
# In the middle of a longer request.
MIDDLE_S = 0.6

# Faults that a request triggers: the model's input, and the expected answer.
ASKED = [
    ("its own code fails", triggers.RAISES, 502, "backend-fault"),
    ("an answer of another shape", triggers.SHAPE, 502, "backend-fault"),
    ("an answer of another datatype", triggers.DATATYPE, 502, "backend-fault"),
    ("an answer that is NaN", triggers.NOT_A_NUMBER, 502, "backend-fault"),
    ("an output of another name", triggers.MISNAMED, 502, "backend-fault"),
    ("an answer of 1 MiB", triggers.OVERSIZED, 502, "backend-fault"),
    ("slower than the gate waits", triggers.TOO_SLOW, 504, "backend-timeout"),
]
# The faults that a language model can have.
TOLD = ("its own code fails", "an answer of 1 MiB", "slower than the gate waits")
UNDESCRIBED = "it does not describe its models"
NO_CODE = "no code of a model's own, no tensors"


class Matrix:
    """The result of each fault at each server."""

    def __init__(self, table):
        self.table, self.faults, self.cells = table, [], {}

    def cell(self, server, fault, direct, gate, right, why=""):
        """One result, from a row of the table."""
        self.table.row(f"{server}: {fault}", direct, gate, right, why)
        self.put(server, fault, "ok" if right else "WRONG")

    def none(self, server, fault, why):
        """A fault that this server cannot have."""
        self.table.row(f"{server}: {fault}", "-", f"not run: {why}", True)
        self.put(server, fault, "-")

    def put(self, server, fault, what):
        """The worst result wins if a fault has several rows."""
        if fault not in self.faults:
            self.faults.append(fault)
        if self.cells.get((server, fault)) != "WRONG":
            self.cells[server, fault] = what

    def show(self, names, absent):
        """Faults by servers."""
        width = max(map(len, self.faults)) + 2
        print(f"\n{'fault':<{width}}" + "".join(f"{name:<13}" for name in names))
        for fault in self.faults:
            cells = ("not here" if name in absent else self.cells.get((name, fault), "-") for name in names)
            print(f"{fault:<{width}}" + "".join(f"{cell:<13}" for cell in cells))


class Case:
    """One server behind a gate, and another one beside it."""

    def __init__(self, matrix, server, gate, readyz):
        self.matrix, self.server, self.gate, self.readyz, self.neighbour = matrix, server, gate, readyz, None
        self.talks = server.name == "llama"

    def good(self):
        """A request that must be served, through the gate."""
        return self.gate.chat("hello", 24) if self.talks else self.gate.infer(self.server.name, GOOD)

    def right(self, answer):
        """Whether the answer was right."""
        if answer.status != 200:
            return False
        if self.talks:
            return said(answer.text) == self.directly()
        return same(rows(answer), self.doubled)

    def directly(self):
        """The language model's answer at its server."""
        status, text = self.server.ask_chat(chat("tiny", "hello", 24))
        assert status == 200, text
        return said(text)

    def again(self, fault, since):
        """Waits until valid requests are served again; returns how long that took."""
        answer = wait(f"{self.server.name} is served again after: {fault}", lambda: self.served(), seconds=RECOVERY_S)
        return time.monotonic() - since, answer

    def served(self):
        answer = self.good()
        return answer if self.right(answer) else None

    def row(self, fault, direct, answer, status, reason, least=0, most=TIMEOUT_S + MARGIN_S):
        """One answer of the gate, compared with the expected one."""
        right = (answer.status, answer.reason) == (status, reason) and least <= answer.took <= most and not answer.leaks()
        self.matrix.cell(self.server.name, fault, direct, answer, right, f"{status} {reason} {answer.leaks()} {answer.text[:300]}")

    def run(self):
        """Runs all checks once there are answers to compare with."""
        self.asked()
        self.frozen()
        self.taken_away()
        self.killed()
        self.drifted()

    def answers(self):
        """Valid requests have the server's own answers."""
        name = self.server.name
        if self.talks:
            one = self.directly()
            for fault, more in (("good requests", {}), ("good requests", {"stream": True})):
                answer = self.gate.chat("hello", 24, **more)
                other = said(answer.text) if answer.status == 200 else answer.text
                self.matrix.cell(name, fault, one, f"{answer}: {other}", one == other)
            return
        self.doubled = self.server.doubled(GOOD)
        answer = self.gate.infer(name, GOOD)
        self.matrix.cell(name, "good requests", self.doubled, f"{answer}", self.right(answer), answer.text)
        slow = [[triggers.SLOW, 1]]
        answer, one = self.gate.infer(name, slow), self.server.doubled(slow)
        right = answer.status == 200 and same(rows(answer), one) and answer.took >= triggers.WAITS_S[triggers.SLOW]
        self.matrix.cell(name, "slow, but in time", one, answer, right, answer.text)

    def asked(self):
        """Faults of the model itself."""
        if self.talks:
            for fault, *_ in ASKED:
                if fault not in TOLD:
                    self.matrix.none(self.server.name, fault, NO_CODE)
            self.told()
            return
        for fault, number, status, reason in ASKED:
            asked = [[number, 1]]
            # The fault is the server's own: it also occurs without a gate.
            code, text = self.server.ask(asked)
            direct = f"{code}, {len(text)} bytes: {text[:60]}"
            as_asked = code != 200 or number == triggers.TOO_SLOW or not self.plain(text)
            answer = self.gate.infer(self.server.name, asked)
            least = TIMEOUT_S if status == 504 else 0
            if as_asked:
                self.row(fault, direct, answer, status, reason, least)
            else:
                self.matrix.cell(self.server.name, fault, direct, answer, False, "no fault directly")
            self.again(fault, time.monotonic())

    def told(self):
        """Faults of a language model. A prompt that is too long gives the server's own error; the
        gate ends an answer that takes too long or is too large.
        """
        fails, oversized, slow = TOLD
        status, answer = self.server.ask_chat(chat("tiny", "x" * 20_000, 8))
        # Older servers have another status.
        expected = (400, "backend-too-long") if status == 400 else (502, "backend-fault")
        self.row(fails, f"{status}, {len(answer)} bytes", self.gate.chat("x" * 20_000, 8), *expected)
        self.again(fails, time.monotonic())
        self.row(slow, "-", self.gate.chat("hello", 12_000), 504, "backend-timeout", TIMEOUT_S)
        self.again(slow, time.monotonic())
        # Its head is already answered: the last event has the error.
        answer = self.gate.chat("hello", 400, stream=True)
        piece, ended = said(answer.text)
        right = answer.status == 200 and ended == "error" and "backend-fault" in str(piece) and len(answer.text) < 32 << 10
        self.matrix.cell(self.server.name, oversized, "400 pieces", f"{len(answer.text)} bytes, then {piece}", right)
        self.again(oversized, time.monotonic())

    def plain(self, text):
        """Whether an answer has no fault: one row of two numbers."""
        try:
            (row,) = self.server.rows(json.loads(text))
        except (ValueError, KeyError, TypeError):
            return False
        return len(row) == 2 and all(isinstance(each, float) and each == each for each in row) and '"INT64"' not in text and '"z"' not in text

    def frozen(self):
        """All of its processes are suspended for longer than the gate waits."""
        fault, name = "frozen (SIGSTOP)", self.server.name
        self.server.signal(signal.SIGSTOP)
        try:
            self.row(fault, "-", self.good(), 504, "backend-timeout", TIMEOUT_S)
            text = wait("a frozen server is told of", lambda: unready(self.readyz, name), seconds=RECOVERY_S)
            self.matrix.cell(name, fault, "/readyz", text, True)
            self.row(fault, "told of", self.good(), 503, "backend-unavailable", most=INSTANT_S)
            self.beside(fault)
        finally:
            self.server.signal(signal.SIGCONT)
        took, _ = self.again(fault, time.monotonic())
        self.matrix.cell(name, "thawed (SIGCONT)", "-", f"served again after {took:.1f} s", True)

    def beside(self, fault):
        """The model of another server is served meanwhile."""
        if self.neighbour is None:
            return
        answer = self.neighbour.good()
        self.matrix.cell(self.server.name, fault, f"{self.neighbour.server.name} meanwhile", answer, self.neighbour.right(answer) and answer.took < INSTANT_S, answer.text)

    def taken_away(self):
        """The server's administrator unloads its model while it keeps running. Then the model is
        loaded again, or the server restarts if it has no call for that.
        """
        fault, name = "its model is unloaded", self.server.name
        if self.server.unload is None:
            return self.matrix.none(name, fault, "no call that unloads a model")
        (method, path), back = self.server.unload, self.server.load
        status, _ = exchange(self.server.port[0], method, path)
        gone = lambda: self.good().reason == "backend-unavailable"
        wait("a model that is away is told of", gone, seconds=RECOVERY_S)
        self.row(fault, f"{method} {path}: {status}", self.good(), 503, "backend-unavailable", most=INSTANT_S)
        if back is None:
            self.server.again()
        else:
            exchange(self.server.port[0], *back)
        took, _ = self.again(fault, time.monotonic())
        self.matrix.cell(name, fault, "loaded again", f"served after {took:.1f} s", True)

    def killed(self):
        """The server is killed in the middle of a request, stays down, and comes back."""
        name, came = self.server.name, []
        if self.talks:
            # Its answers are quick, so it is suspended during the request.
            self.server.signal(signal.SIGSTOP)
            ask = lambda: came.append(self.good())
        else:
            ask = lambda: came.append(self.gate.infer(name, [[triggers.TOO_SLOW, 1]]))
        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(MIDDLE_S)
        self.server.kill()
        asking.join()
        self.row("kill -9 in mid-request", "-", came[0], 503, "backend-unavailable", MIDDLE_S / 2)
        self.row("connection refused", "-", self.good(), 503, "backend-unavailable", most=INSTANT_S)
        self.beside("connection refused")
        text = wait("a dead server is told of", lambda: unready(self.readyz, name), seconds=RECOVERY_S)
        self.matrix.cell(name, "connection refused", "/readyz", text, True)
        start = self.server.start()
        took, answer = self.again("a restart", time.monotonic())
        self.matrix.cell(name, "restarted", f"ready after {start:.1f} s", f"served {took:.1f} s after that", self.right(answer))

    def drifted(self):
        """It comes back with another model, and then with the right one."""
        fault, name = "another signature", self.server.name
        if not (self.server.describes or self.talks):
            return self.matrix.none(name, fault, UNDESCRIBED)
        self.server.kill()
        self.server.start("another")
        if self.talks:
            says, status, reason = "list", 503, "backend-unavailable"
        else:
            says, status, reason = 'no output "y"', 502, "backend-fault"
        text = wait("a drift is told of", lambda: unready(self.readyz, name, says), seconds=RECOVERY_S)
        self.matrix.cell(name, fault, "/readyz", text, True)
        self.row(fault, "-", self.good(), status, reason, most=INSTANT_S)
        self.server.kill()
        self.server.start()
        took, _ = self.again(fault, time.monotonic())
        self.matrix.cell(name, fault, "as it was", f"served after {took:.1f} s", True)


def same(one, other):
    """Whether two answers are the same 32-bit floats, which JSON can write in many ways."""
    return np.array_equal(np.array(one, np.float32), np.array(other, np.float32))


def unready(readyz, name, says=""):
    """What /readyz reports about a model that is not ready, once it does. The gate stays ready."""
    status, text = fetch(readyz) or (0, "")
    lines = [line for line in text.splitlines() if name in line and says in line]
    return lines[0] if status == 200 and lines else None
