#!/usr/bin/env python3
"""Runs a command that consists of stages, and ends with a table of them: stages.py COMMAND...

The stages are those of tools/stage.sh. A stage that runs twice has one row. The exit status is the
command's. With `--expect SECONDS` first, a line warns if all stages together took over 10 % more
seconds of CPU than that.
"""

import os
import subprocess
import sys
import tempfile
import time

# How far above the expected seconds of CPU is no reason for a warning.
TOLERANCE = 0.1


def rows(log):
    """The seconds and the seconds of CPU of each stage, in the order of their first ends."""
    stages = {}
    for line in log:
        name, seconds, cpu = line.split(maxsplit=2)
        before = stages.get(name, (0.0, 0.0))
        stages[name] = (before[0] + float(seconds), before[1] + float(cpu))
    return stages


def main():
    arguments, expected = sys.argv[1:], None
    if arguments[0] == "--expect":
        expected, arguments = float(arguments[1]), arguments[2:]
    started = time.monotonic()
    with tempfile.NamedTemporaryFile("r", prefix="stages-") as log:
        status = subprocess.run(arguments, env={**os.environ, "STAGES_LOG": log.name}).returncode
        stages = rows(log)
    print(f"\n{'stage':<14} {'seconds':>8} {'CPU':>8}")
    for name, (seconds, cpu) in stages.items():
        print(f"{name:<14} {seconds:8.1f} {cpu:8.1f}")
    total = sum(cpu for _, cpu in stages.values())
    print(f"{'all':<14} {time.monotonic() - started:8.1f} {total:8.1f}")
    if expected and total > expected * (1 + TOLERANCE):
        print(
            f"stages: warning: {total:.0f} seconds of CPU. The cap, which only falls, is"
            f" {expected:.0f} (CI_CPU_SECONDS in the Makefile). Find what became slower."
        )
    # A command that a signal ended has a negative status.
    sys.exit(status if status >= 0 else 1)


if __name__ == "__main__":
    main()
