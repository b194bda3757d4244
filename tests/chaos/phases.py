"""The phases of a chaos run: what fails, what clients may get meanwhile, and what must be said of it.
The answers are those of the tables in docs/how-to/run-as-a-service.md and rejections.md.
"""

import os
import signal
import time
from collections import namedtuple

from outage import MAX_ENDS, Redis
from processes import LOOK_EVERY_S

# Clients by what their requests depend on: limits in Redis, gRPC, another backend. The last one's
# key is revoked early in the run.
LANES = ["limits", "plain", "grpc", "spare", "revoked"]
# What revokes the key of `burst`.
REVOCATION = 'revoked: {keys: ["8508dedd4876fd055e6fd83cf1ef62ba2fa353fe8caf7b46704df62bb789144c"]}'
# Answers in the words of REST. Those over gRPC have the same reasons.
GRPC = {"503": "UNAVAILABLE", "504": "DEADLINE_EXCEEDED"}
AWAY, OVERLOADED, LATE = "503 backend-unavailable", "503 overloaded", "504 backend-timeout"
# What a client without a connection sees.
CUT = {"closed", "refused"}
# How long a fault lasts that does not end by itself, and how long is watched after each.
FAULT_S, AFTER_S = 8, 5
# The longest time from the end of a fault to the last request without a result.
RECOVERS_S = 1

# `fails` has a fault happen, and returns when it was over. `answers` has what each lane may get in it
# beside its usual answer, and `must` what some lane must get in a phase of that name. `kind` is the
# condition that `up` and `status` name.
Phase = namedtuple("Phase", "name fails answers must kind", defaults=(set(), None))


def everyone(*answers):
    """The same answers for all whose key is valid."""
    return {lane: set(answers) for lane in LANES if lane != "revoked"}


def death(process, answers, must):
    """A process is killed."""

    def killed(run):
        while run.gate.ends() >= MAX_ENDS - 1:
            time.sleep(1)
        return run.gate.kill(process)

    return Phase(f"{process} killed", killed, answers, must)


def frozen(run, pid):
    """Stops a process for a time."""
    os.kill(pid, signal.SIGSTOP)
    try:
        run.watch(FAULT_S)
    finally:
        os.kill(pid, signal.SIGCONT)
    return time.monotonic()


def full_disk(run):
    """Fills the disk of the audit log for a time."""
    run.disk.fill()
    try:
        run.watch(FAULT_S)
    finally:
        run.disk.empty()
    return time.monotonic()


def no_redis(run):
    """Ends Redis, saves a wrong policy that revokes a key, and starts Redis again."""
    run.redis.stop()
    begun = time.monotonic()
    run.gate.save(f"{REVOCATION}\nversion: one")
    run.revoked = run.gate.says("the revocation", lambda line: line.get("tightened") is True, begun)
    run.gate.says("the held policy", lambda line: line.get("held"), begun)
    run.watch(FAULT_S)
    run.redis = Redis(run.folder, run.redis.port)
    return time.monotonic()


def new_policy(run):
    """Saves a right policy with the same revocation."""
    begun = time.monotonic()
    run.gate.save(f"{REVOCATION}\nversion: 1")
    return run.gate.says("the new policy", lambda line: line.get("reloaded") is True, begun)


def gives_up(run):
    """Kills the host each time that it runs, until `up` ends."""
    while run.gate.process.poll() is None:
        pid = run.gate.pid("host")
        if pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(LOOK_EVERY_S)
    return time.monotonic()


def quiet(run):
    """Nothing fails."""
    run.watch(FAULT_S)
    return time.monotonic()


HOST = death("host", {**everyone(AWAY), "limits": {AWAY, OVERLOADED}}, {AWAY, OVERLOADED})
ENVOY = death("Envoy", {lane: CUT for lane in LANES}, {"refused"})
BACKEND = death("backend cpu", {**everyone(AWAY), "spare": set()}, {AWAY})
BACKEND_FROZEN = Phase(
    "backend cpu frozen",
    lambda run: frozen(run, run.gate.pid("backend cpu")),
    {**everyone(LATE, AWAY), "spare": set()},
    {LATE, AWAY},
    "backend-away",
)
HOST_FROZEN = Phase(
    "host frozen",
    lambda run: frozen(run, run.gate.pid("host")),
    {**everyone(LATE), "limits": {LATE, OVERLOADED}},
    {LATE, OVERLOADED},
)
DISK = Phase("disk full", full_disk, everyone(OVERLOADED), {OVERLOADED}, "audit-failing")
REDIS = Phase(
    "Redis away, wrong policy",
    no_redis,
    {"limits": {OVERLOADED}, "revoked": {"401 unauthenticated"}},
    {OVERLOADED},
    "limit-service-away",
)
REDIS_FROZEN = Phase(
    "Redis frozen",
    lambda run: frozen(run, run.redis.process.pid),
    {"limits": {OVERLOADED}},
    {OVERLOADED},
    "limit-service-away",
)
POLICY = Phase("right policy", new_policy, {})
QUIET = Phase("quiet", quiet, {})
PHASES = [QUIET, REDIS, POLICY]
for last in (BACKEND_FROZEN, HOST_FROZEN, DISK, REDIS_FROZEN, QUIET):
    PHASES += [HOST, BACKEND, ENVOY, last]
