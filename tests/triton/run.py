"""`make test-triton`: a real Triton, the unmodified tritonclient, and the gate between them. Each
call is made directly and through the gate; the table shows both answers. Then the first tutorial is
followed, block by block, and real models are verified before they are served. Exits 0 only if every
line is as expected. Logs stay in target/triton.
"""

import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[1] / "harness"))

import answers
import drift
import management
import several
import verified
from clients import Side
from processes import TOP, begin
from servers import Gate, Triton
from table import Table
from tutorial import tutorial


def main(made):
    """Starts everything, runs the calls, and stops everything."""
    started = time.monotonic()
    folder = begin("triton")
    key = (TOP / "examples/policies/digits/keys/scorer.key").read_text().strip()
    table = Table()
    with ExitStack() as stack:
        triton = Triton(made, folder)
        stack.callback(triton.stop)
        gate = Gate(triton, folder)
        stack.callback(gate.stop)
        print(f"Triton and the gate are up after {time.monotonic() - started:.1f} s")
        at = f"127.0.0.1:{triton.http_port}", f"127.0.0.1:{triton.grpc_port}"
        sides = [Side("directly", *at), Side("gate", gate.address, gate.address, key), Side("anonymous", gate.address, gate.address)]
        direct, through, anonymous = (stack.enter_context(closing(side)) for side in sides)

        answers.same_answers(table, direct, through)
        answers.readable_refusals(table, direct, through, anonymous)
        several.several_answers(table, folder, direct, through)
        before = direct.http.get_model_repository_index()
        management.code_in_a_load(table, folder, direct, through)
        management.refused_by_name(table, direct, through)
        management.refused_by_spelling(table, direct, through, anonymous)
        management.nothing_changed(table, direct, before)
        drift.wrong_contracts(table, triton, folder)
        drift.another_model(table, triton, gate, direct, through)
        if table.wrong:
            print(triton.tail(), (folder / "gate/host.log").read_text()[-4096:], sep="\n")
    tutorial(table, made, folder)
    verified.follow(table, made, folder)
    took = time.monotonic() - started
    print(f"\n{table.rows} calls, {table.wrong} wrong, {took:.1f} s; logs in {folder}")
    return 1 if table.wrong else 0


def triton_crashed():
    """Whether Triton itself ended by a fault: seldom, when several streams of a model end at once."""
    log = TOP / "target/triton/triton.log"
    return log.is_file() and "Signal (11) received" in log.read_text(errors="replace")


def run(made):
    """All checks; once more if Triton crashed."""
    try:
        return main(made)
    except Exception:
        if not triton_crashed():
            raise
        print("Triton crashed (target/triton/triton.log): once more", flush=True)
    return main(made)


if __name__ == "__main__":
    try:
        sys.exit(run(Path(sys.argv[1])))
    except (KeyboardInterrupt, RuntimeError) as error:
        sys.exit(f"test-triton: {error or 'stopped'}")
