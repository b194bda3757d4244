"""Two outages and two attacks, replayed against a real Prometheus with the shipped rules: which alerts
fire, and after how many minutes of the rules.
"""

import signal
import time

from load import INFER, INFERENCE, Load, Rest
from outage import Gate, SmallDisk
from processes import free_ports
from prometheus import MINUTE_S, Prometheus

# Minutes of the rules: before a fault, for the rates to settle, and with it.
QUIET_MIN, FAULT_MIN = 6, 20
# The alerts that fire in each scenario, and after how many minutes, as docs/how-to/prometheus-rules.md
# says. Any other would tell a false story.
EXPECTED = {
    "a model server is frozen": {
        "TensorgateErrorBudgetBurn": 1,
        "TensorgateBackendNotReady": 4,
        "TensorgateModelNotReady": 7,
    },
    "the disk of the audit log is full": {
        "TensorgateAuditLogFailing": 1,
        "TensorgateErrorBudgetBurn": 1,
        "TensorgateHostOverloaded": 11,
    },
    "keys are guessed": {"TensorgateUnauthenticatedRequests": 11},
    "a stolen key looks for routes and sends what the model does not take": {
        "TensorgateUnusualRequests": 0,
        "TensorgateManagementAttempts": 1,
        "TensorgateRejectionSpike": 11,
    },
}
# How much earlier or later an alert may fire, in minutes of the rules.
TOLERANCE_MIN = 3


def frozen(gate, _disk):
    """Freezes the model server. Returns what mends it."""
    gate.signal("backend cpu", signal.SIGSTOP)
    return [lambda: gate.signal("backend cpu", signal.SIGCONT)]


def full(_gate, disk):
    """Fills the disk."""
    disk.fill()
    return [disk.empty]


def guesses(gate, _disk):
    """Sends keys that no client has."""
    return [Load(lambda: Rest(gate.address, "POST", INFER, "no-such-key", 1), clients=2).stop]


def steals(gate, _disk):
    """Sends requests with a client's key."""
    routes = Load(lambda: Rest(gate.address, "POST", "/v2/repository/index", "scorer", 1), clients=1, rate=5)
    values = Load(lambda: Rest(gate.address, "POST", INFER, "scorer", 17), clients=4, rate=50)
    return [routes.stop, values.stop]


FAULTS = dict(zip(EXPECTED, [frozen, full, guesses, steals], strict=True))


def replay(program, folder, redis, name):
    """One scenario: the minutes until each alert, by its name, and those that tell a false story."""
    (stats,) = free_ports(1)
    fired = {}
    with SmallDisk(folder / "gate/audit") as disk:
        gate = Gate(folder, redis, ["--stats", f"127.0.0.1:{stats}"])
        prometheus = Prometheus(program, folder, gate.readyz.split("/")[2], f"127.0.0.1:{stats}")
        load, mends = Load(lambda: Rest(gate.address, *INFERENCE), clients=2, rate=10), []
        try:
            time.sleep(QUIET_MIN * MINUTE_S)
            quiet = {alert for alert, _ in prometheus.firing()}
            mends = FAULTS[name](gate, disk)
            begun = time.monotonic()
            while (passed := time.monotonic() - begun) < FAULT_MIN * MINUTE_S:
                for alert, summary in prometheus.firing():
                    fired.setdefault(alert, (passed / MINUTE_S, summary))
                time.sleep(MINUTE_S / 4)
        finally:
            for mend in mends:
                mend()
            load.stop()
            prometheus.stop()
            gate.stop()
    return quiet, fired


def faults_of(program, folder, redis):
    """Replays all. Prints a table, and returns what is not as expected."""
    faults = []
    for number, (name, wanted) in enumerate(EXPECTED.items()):
        here = folder / f"replay-{number}"
        here.mkdir()
        quiet, fired = replay(program, here, redis, name)
        for alert, (minutes, summary) in sorted(fired.items(), key=lambda each: each[1][0]):
            print(f"{name}: after {minutes:.0f} minutes {alert}: {summary}", flush=True)
            if abs(minutes - wanted.get(alert, minutes)) > TOLERANCE_MIN:
                faults.append(f"{name}: {alert} fired after {minutes:.1f} minutes, not {wanted[alert]}")
        faults += [f"{name}: {alert} fired before it" for alert in quiet]
        faults += [f"{name}: {alert} did not fire" for alert in wanted.keys() - fired]
        faults += [f"{name}: {alert} fired" for alert in fired.keys() - wanted]
    return faults
