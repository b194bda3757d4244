#!/usr/bin/env python3
"""Prints how often code of the native module calls the allocator: allocations.py PROFILE, a file of
Callgrind.
"""

import re
import sys
from pathlib import Path

ALLOCATOR = {"malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc"}
MODULE = "libtensorgate_gate.so"
# A name stands in full at its first use, and is a number after that.
NAME = re.compile(r"c?(ob|fn)=\((\d+)\)(?: (.*))?")
CALLS = re.compile(r"calls=(\d+) ")


def allocations(profile):
    """Calls of the allocator by the module itself."""
    names, caller, callee, count = {}, "", "", 0
    for line in profile.splitlines():
        if found := NAME.fullmatch(line):
            kind, number, name = found.groups()
            if name:
                names[kind, number] = name
            if line.startswith("ob="):
                caller = names[kind, number]
            elif line.startswith("cfn="):
                callee = names[kind, number]
        elif (found := CALLS.match(line)) and caller.endswith(MODULE) and callee in ALLOCATOR:
            count += int(found[1])
    return count


if __name__ == "__main__":
    print(allocations(Path(sys.argv[1]).read_text()))
