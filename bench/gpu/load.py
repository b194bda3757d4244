"""Load with several connections, and the CPU time that each program needs for it."""

import os
import threading
import time

from answers import infer
from clients import Side

TICKS = os.sysconf("SC_CLK_TCK")


def processes():
    """All processes: number -> (parent, name, seconds of CPU time of all its threads)."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat") as file:
                head, _, rest = file.read().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        seconds = (int(fields[11]) + int(fields[12])) / TICKS
        found[int(name)] = int(fields[1]), head.partition("(")[2], seconds
    return found


def cpu_seconds(roots):
    """CPU time of programs below these processes: name -> seconds."""
    known, seconds = processes(), {}
    for number in known:
        above = number
        while above in known and above not in roots:
            above = known[above][0]
        if above in roots:
            _, name, spent = known[number]
            seconds[name] = seconds.get(name, 0) + spent
    return seconds


class Load:
    """What one way took: times of all requests in seconds, and CPU time by program."""

    def __init__(self, at, protocol, model, inputs, connections, seconds, roots):
        self.times, self.errors = [], []
        self.ends = time.monotonic() + seconds
        before = cpu_seconds(roots)
        begins = time.monotonic()
        threads = [threading.Thread(target=self.run, args=(at, protocol, model, inputs)) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.took = time.monotonic() - begins
        after = cpu_seconds(roots)
        self.cpu = {name: after[name] - before.get(name, 0) for name in after}

    def run(self, at, protocol, model, inputs):
        """Sends requests on one connection."""
        side = Side("load", *at)
        try:
            while time.monotonic() < self.ends:
                begins = time.monotonic()
                infer(side, protocol, model, inputs)
                self.times.append(time.monotonic() - begins)
        except Exception as error:  # An error of any kind ends this connection, and the run says so.
            self.errors.append(str(error))
        finally:
            side.close()

    def per_second(self):
        """Requests a second."""
        return len(self.times) / self.took

    def quantile(self, share):
        """A quantile of the times, in milliseconds."""
        times = sorted(self.times) or [float("nan")]
        return 1000 * times[min(len(times) - 1, int(share * len(times)))]

    def microseconds(self, program):
        """CPU time of a program for one request, in microseconds."""
        spent = sum(seconds for name, seconds in self.cpu.items() if name.startswith(program))
        return 1e6 * spent / max(1, len(self.times))
