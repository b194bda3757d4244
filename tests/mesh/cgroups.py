"""Control groups: what limits the memory of a pod's container, for a process on this machine. Version 2
of the kernel's interface is used where its root may be divided, or else version 1.
"""

import os
import subprocess
from pathlib import Path

import yaml

ROOT = Path("/sys/fs/cgroup")
MONITOR = "envoy.resource_monitors.cgroup_memory"
# Files of a group by version: limit, usage, peak.
FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.max_usage_in_bytes"),
    2: ("memory.max", "memory.current", "memory.peak"),
}


def counted():
    """Whether Envoy finds a group with its memory here, without which it does not start."""
    return (ROOT / "memory.current").exists() or (ROOT / "memory").exists()


def without_monitor(bootstrap):
    """A bootstrap whose overload manager counts no group."""
    made = yaml.safe_load(bootstrap)
    manager = made["overload_manager"]
    manager["resource_monitors"] = [one for one in manager["resource_monitors"] if one["name"] != MONITOR]
    for action in manager["actions"]:
        action["triggers"] = [one for one in action["triggers"] if one["name"] != MONITOR]
    return yaml.safe_dump(made, sort_keys=False)


def may_mount():
    """Whether a process may have mounts of its own here, so that it sees its group as the root."""
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


class Group:
    """A group with a limit of memory. Making one fails with OSError where this user may not."""

    def __init__(self, name, limit):
        divided = (ROOT / "cgroup.subtree_control").exists() and "memory" in (ROOT / "cgroup.subtree_control").read_text().split()
        self.version = 2 if divided else 1
        self.parent = ROOT if divided else ROOT / "memory"
        if not self.parent.is_dir():
            raise OSError(f"{self.parent} does not exist")
        self.path = self.parent / f"{name}-{os.getpid()}"
        self.limit_file, self.usage_file, self.peak_file = (self.path / file for file in FILES[self.version])
        self.path.mkdir()
        if not self.peak_file.exists():
            self.remove()
            raise OSError(f"this kernel has no {self.peak_file.name}")
        self.set_limit(limit)

    def set_limit(self, limit):
        """Sets the limit, bytes."""
        self.limit_file.write_text(str(limit))

    def usage(self):
        """Bytes that are in use."""
        return int(self.usage_file.read_text())

    def peak(self):
        """The most bytes that were in use."""
        return int(self.peak_file.read_text())

    def kills(self):
        """How many processes the kernel has killed for memory."""
        file = self.path / ("memory.events" if self.version == 2 else "memory.oom_control")
        return next(int(line.split()[1]) for line in file.read_text().splitlines() if line.startswith("oom_kill "))

    def launcher(self, path, program):
        """Writes a program that runs another one in this group, which it sees as its own root."""
        path.write_text(
            f"#!/bin/sh\necho $$ >{self.path}/cgroup.procs || exit 1\n"
            f"exec unshare -m sh -c 'mount --bind {self.path} {self.parent} && exec \"$0\" \"$@\"' '{program}' \"$@\"\n"
        )
        path.chmod(0o755)
        return path

    def remove(self):
        """Removes the group, which has no process any more."""
        self.path.rmdir()
