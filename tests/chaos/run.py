#!/usr/bin/env python3
"""`make test-chaos`: a gate under steady load, whose processes are killed and frozen, whose disk is
full, whose Redis is away and whose policy is wrong for a time; and outages and attacks replayed
against a real Prometheus.

run.py PROMETHEUS. Each client may get no other answer than docs/how-to/run-as-a-service.md says, and
is served again at once. No answered request lacks its line in the audit log. Exits 0 only if all of
it is as expected. It takes eight minutes.
"""

import sys
import time
from collections import Counter
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[1] / "harness"))

import log
import replay
from load import INFER, Load, Rest
from outage import MARKS, MAX_ENDS, WINDOW_S, Gate, Redis, SmallDisk
from phases import AFTER_S, GRPC, LANES, PHASES, RECOVERS_S, gives_up
from processes import begin
from rpc import Rpc

# Room for every line of the run.
DISK_BYTES = 256 << 20
# What `up` says at its end.
GIVES_UP = f"ended {MAX_ENDS} times within {WINDOW_S} s: the gate stops"
SPARE = INFER.replace("digits", "spare")


def loads_of(address):
    """The clients of each lane."""
    rest = lambda path, name: lambda: Rest(address, "POST", path, name, 1)
    made = [
        Load(rest(INFER, "scorer"), clients=3, rate=10),
        Load(rest(INFER, "reader"), clients=2, rate=10),
        Load(lambda: Rpc(address, "digits", "reader"), clients=2, rate=10),
        Load(rest(SPARE, "reader"), clients=1, rate=10),
        Load(rest(INFER, "burst"), clients=1, rate=5),
    ]
    return dict(zip(LANES, made, strict=True))


class Run:
    """The gate, its clients, and what phases share."""

    def __init__(self, folder, disk):
        self.folder, self.disk = folder, disk
        self.redis = Redis(folder)
        self.gate = Gate(folder, self.redis)
        self.loads = loads_of(self.gate.address)
        # When the key was revoked, and the kinds of conditions that `status` named in a phase.
        self.revoked, self.named = None, set()
        # What is not as expected, and answers that no phase of a name has had.
        self.faults, self.missing = [], {}
        # The ids of wrong answers.
        self.wrong = set()
        # The end of the last phase, where the next one begins.
        self.ended = time.monotonic()

    def watch(self, seconds):
        """Waits, then asks for the status."""
        time.sleep(seconds)
        gate = self.gate.status()["gate"]
        self.named |= {each["kind"] for each in gate["holding"]} if gate else set()

    def phase(self, phase):
        """Runs a phase, prints its row, and notes what is not as expected."""
        begun, self.named = self.ended, set()
        over = phase.fails(self)
        time.sleep(AFTER_S)
        self.ended = time.monotonic()
        seen = {lane: load.during(begun, self.ended) for lane, load in self.loads.items()}
        for lane in LANES:
            if not any(each.sent >= over and each.outcome in self.usual(lane, each.sent) for each in seen[lane]):
                self.faults.append(f"{phase.name}: {lane}: not answered after it")
        failed = [each.sent - over for lane in LANES for each in seen[lane] if each.outcome not in self.usual(lane, each.sent)]
        recovered = max([0, *failed])
        answers = {lane: {each.outcome for each in seen[lane]} - self.usual(lane, begun) for lane in LANES}
        self.judge(phase, begun, seen, answers, recovered)
        texts = [f"{lane}: {', '.join(sorted(answers[lane]))}" for lane in LANES if answers[lane]]
        count = sum(len(each) for each in seen.values())
        print(f"{phase.name:<25} {count:>5} {over - begun:>7.1f} {recovered:>7.2f}  {'; '.join(texts)}", flush=True)

    def usual(self, lane, begun):
        """What a lane gets when nothing fails."""
        is_revoked = lane == "revoked" and self.revoked is not None and self.revoked < begun
        return {"401 unauthenticated"} if is_revoked else {"200"}

    def judge(self, phase, begun, seen, answers, recovered):
        """Compares a phase with what it must be."""
        allowed = {lane: phase.answers.get(lane, set()) for lane in LANES}
        allowed["grpc"] = {" ".join([GRPC.get(each.split()[0], each), *each.split()[1:]]) for each in allowed["grpc"]}
        for lane in LANES:
            self.faults += [f"{phase.name}: {lane}: {each}" for each in sorted(answers[lane] - allowed[lane])]
            self.wrong |= {each.id for each in seen[lane] if each.id and each.outcome in answers[lane] - allowed[lane]}
        self.missing[phase.name] = self.missing.get(phase.name, phase.must) - set().union(*answers.values())
        if recovered > RECOVERS_S:
            self.faults.append(f"{phase.name}: {recovered:.2f} s until every request was answered as usual")
        if phase.kind:
            self.faults += self.faults_of_reports(phase, begun)

    def faults_of_reports(self, phase, begun):
        """Whether `status` and `up` named what was wrong."""
        faults = [] if phase.kind in self.named else [f"{phase.name}: status named {self.named}, not {phase.kind}"]
        for begins, what in [(True, "began"), (False, "ended")]:
            if not self.gate.said(lambda line: is_change(line, phase.kind, begins), begun):
                faults.append(f"{phase.name}: `up` did not say that {phase.kind} {what}")
        return faults

    def faults_of_ends(self):
        """Whether `status` lists each death, with its restart and a log that is kept."""
        counts = Counter(phase.name for phase in PHASES)
        ends = self.gate.status()["ends"]
        faults = [f"status: {end['process']} does not run again" for end in ends if not end.get("again")]
        faults += [f"status: no file {end['log']}" for end in ends if "log" in end and not (self.gate.state / end["log"]).exists()]
        for process in MARKS:
            listed = sum(end["process"] == process and "SIGKILL" in end["how"] for end in ends)
            if listed != counts[f"{process} killed"]:
                faults.append(f"status lists {listed} ends of {process}")
        return faults

    def give_up(self):
        """Kills the host until `up` gives up, which says why."""
        begun, before = time.monotonic(), self.gate.ends()
        gives_up(self)
        text, code, ends = self.gate.log.read_text(), self.gate.process.returncode, self.gate.ends()
        last = next((line for line in text.splitlines() if GIVES_UP in line), "no reason")
        print(f"host killed again and again: after {time.monotonic() - begun:.1f} s `up` ended with {code}: {last}", flush=True)
        # The last one is no line of its own.
        is_right = code == 1 and GIVES_UP in text and ends + 1 >= MAX_ENDS
        return [] if is_right else [f"`up` ended with {code} after {before} and {ends - before} ends: {text}"]

    def faults_at_end(self):
        """What is not as expected once all has ended."""
        faults = self.faults + [f"{name}: nobody got {each}" for name, answers in self.missing.items() for each in sorted(answers)]
        late = [seen for seen in self.loads["revoked"].seen if seen.outcome == "200" and seen.sent > self.revoked]
        faults += [f"{len(late)} requests with a revoked key were answered"] if late else []
        said = Counter(kind_of(line) for _, line in self.gate.lines)
        print("`up` said: " + ", ".join(f"{count} {kind}" for kind, count in sorted(said.items())), flush=True)
        return faults + log.faults_of(self.gate, self.loads, self.wrong)

    def stop(self):
        """Ends all processes."""
        for load in self.loads.values():
            load.stop()
        self.gate.stop()
        self.redis.stop()


def is_change(line, kind, begins):
    """Whether a line of `up` says that a condition of a kind has begun, or ended."""
    change = line.get("change", {})
    return change.get("kind") == kind and change["begins"] is begins


def kind_of(line):
    """What a line of `up` is about."""
    if "ended" in line:
        return f"ended: {line['ended']['process']}"
    if "started_again" in line:
        return f"again: {line['started_again']}"
    if "change" in line:
        return f"{line['change']['kind']} {'began' if line['change']['begins'] else 'ended'}"
    return f"alert {line['alert']['rule']}" if "alert" in line else next(iter(line))


def faults_of_run(folder):
    """Runs all phases. Returns what is not as expected."""
    with SmallDisk(folder / "gate/audit", DISK_BYTES) as disk:
        run = Run(folder, disk)
        print(f"{'phase':<25} {'asked':>5} {'fault s':>7} {'again s':>7}  other answers than usual", flush=True)
        try:
            for phase in PHASES:
                run.phase(phase)
            run.faults += run.faults_of_ends() + run.give_up()
        finally:
            run.stop()
        return run.faults_at_end()


def main(program):
    """Runs everything."""
    folder = begin("chaos")
    faults = faults_of_run(folder)
    redis = Redis(folder)
    try:
        faults += replay.faults_of(program, folder, redis)
    finally:
        redis.stop()
    for fault in faults:
        print(f"WRONG {fault}", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
