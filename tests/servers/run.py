"""`make test-servers`: real servers of every kind that the gate supports, with the gate in front of
them. Valid requests get the servers' own answers, every fault has its expected answer, and
management calls are not reachable. Exits 0 only if every line is as expected. Arguments: a folder
that tools/servers.sh filled, then names of servers (none: all). Logs stay in target/servers.
"""

import re
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.dont_write_bytecode = True
sys.path += [str(Path(__file__).resolve().parents[1] / "harness"), str(Path(__file__).resolve().parent / "models")]

import management
import processes
import sides
from faults import Case, Matrix
from processes import TOP, wait
from servers import KINDS
from table import Table


def policy(text, servers):
    """The policy for the servers that are available."""
    ports = {kind.name: kind.place for kind in KINDS}
    here = {server.name: server.backend_port() for server in servers}
    lines, skips = [], False
    for line in text.splitlines():
        block = re.match(r"  ([\w-]+):", line)
        if block or not line.startswith("    "):
            skips = bool(block) and block[1] in ports and block[1] not in here
        if not skips:
            lines.append(line)
    text = "\n".join(lines) + "\n"
    for name, port in here.items():
        text = text.replace(f"http://127.0.0.1:{ports[name]}", f"http://127.0.0.1:{port}")
    return text.replace(", ".join(ports), ", ".join(here))


def start(kinds, made, folder, stack):
    """Starts all of them in parallel."""
    servers = [kind(made, folder) for kind in kinds]
    for server in servers:
        stack.callback(server.end)
        server.launch()
    for server in servers:
        print(f"{server.name} is ready after {server.wait_until_ready():.1f} s", flush=True)
    return servers


def missing(kind, made):
    """Why a server is not available, if it is not."""
    if (made / kind.name).exists():
        return None
    why = made / f"{kind.name}.missing"
    return why.read_text().strip() if why.exists() else "it is not installed"


def main(made, names):
    """Starts everything, runs the checks, and stops everything."""
    begun = time.monotonic()
    folder = processes.begin("servers")
    key = (TOP / "examples/policies/digits/keys/scorer.key").read_text().strip()
    wanted = [kind for kind in KINDS if not names or kind.name in names]
    absent = {kind.name: why for kind in wanted if (why := missing(kind, made))}
    for name, why in absent.items():
        print(f"{name}: NOT RUN: {why}", flush=True)
    table, took = Table(), {}
    matrix = Matrix(table)
    with ExitStack() as stack:
        servers = start([kind for kind in wanted if kind.name not in absent], made, folder, stack)
        if not servers:
            raise RuntimeError("no server is here")
        file = folder / "gate.yaml"
        file.write_text(policy((TOP / "tests/servers/gate.yaml").read_text(), servers))
        up = processes.Gate(file, folder)
        stack.callback(up.stop)
        wait("every model is ready", up.all_ready, up.process)
        print(f"servers and gate are up after {time.monotonic() - begun:.1f} s", flush=True)
        gate, anonymous = sides.Gate(up.address, key), sides.Gate(up.address)
        cases = [Case(matrix, server, gate, up.readyz) for server in servers]
        table.head("good requests")
        for case in cases:
            case.answers()
        for at, case in enumerate(cases):
            since = time.monotonic()
            table.head(f"{case.server.name}: faults")
            case.neighbour = cases[at - 1] if len(cases) > 1 else None
            try:
                case.run()
                management.refused(table, case.server, gate, anonymous)
            except (RuntimeError, OSError, ValueError) as error:
                table.row(f"{case.server.name} to its end", "-", error, False, f"{error!r}\n{case.server.tail()}")
                matrix.put(case.server.name, "to its end", "WRONG")
                case.server.again()
            case.again("all of it", time.monotonic())
            took[case.server.name] = f"{case.server.name} {time.monotonic() - since:.0f} s"
        if table.wrong:
            print((folder / "gate/host.log").read_text()[-4096:])
    matrix.show([kind.name for kind in wanted], absent)
    for name, why in absent.items():
        print(f"{name}: NOT RUN: {why}")
    print("tf-stand-in is a server of ours with TF Serving's messages: TF Serving itself is not packaged for this")
    print(f"\n{table.rows} calls, {table.wrong} wrong, {time.monotonic() - begun:.0f} s ({', '.join(took.values())}); logs in {folder}")
    return 1 if table.wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
    except (KeyboardInterrupt, RuntimeError) as error:
        sys.exit(f"test-servers: {error or 'stopped'}")
