"""Measures `tensorgate model scan` against other scanners of models, and prints Markdown tables.

    make bench-scan
    PYTHON bench/scan/run.py [--program PROGRAM] [--rounds N] [--quick] [--out FILE]

PYTHON has the packages of `bench/peers/requirements-scan.txt`. `bench/README.md` says what is
compared, and how to read a figure.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import files

HERE = pathlib.Path(__file__).resolve().parent
MB = 1_000_000
#: A contender that takes longer for one scan, in seconds, has few rounds, of one scan each.
SLOW_SECONDS = 2
MIN_ROUNDS = 3
#: What a peer has at most for one run.
LIMIT_SECONDS = 600
#: How often a command scans a path, unless it is slow.
TIMES = 10
#: The least time that a scan is taken to need, seconds.
RESOLUTION = 0.000_01

OURS = "tensorgate"
PICKLESCAN, MODELSCAN = "picklescan", "modelscan"
MODELAUDIT = "modelaudit-picklescan"
#: How many times as fast as a peer `model scan` should be.
TARGETS = {MODELSCAN: 20, MODELAUDIT: 2}
#: Each file, its title, the peers that read its format.
FILES = (
    ("state.pt", "a state dict of torch: zip, members stored", (PICKLESCAN, MODELSCAN, MODELAUDIT)),
    ("arrays.pkl", "a pickle of large numpy arrays", (PICKLESCAN, MODELSCAN, MODELAUDIT)),
    ("objects.pkl", "a pickle of many small objects", (PICKLESCAN, MODELSCAN, MODELAUDIT)),
    ("arrays.npz", "`.npz`, compressed", (PICKLESCAN, MODELSCAN)),
    ("tensors.safetensors", "safetensors", ()),
    ("model.onnx", "ONNX with its weights inside", ()),
)
SMALL = ("small", "small pickles and state dicts", (PICKLESCAN, MODELSCAN, MODELAUDIT))

# No peer reports to a server.
ENVIRONMENT = {
    "PATH": os.environ["PATH"],
    "HOME": tempfile.gettempdir(),
    "LC_ALL": "C.UTF-8",
    "DO_NOT_TRACK": "1",
    "NO_ANALYTICS": "1",
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
}


class Run:
    """One run of a command: its time, and the CPU time of it and its children."""

    def __init__(self, command):
        with tempfile.TemporaryFile() as output:
            begin = time.perf_counter()
            child = subprocess.Popen(
                [*map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
                cwd=HERE,
            )
            try:
                _, status, usage = os.wait4(child.pid, 0)
            except BaseException:
                child.kill()
                raise
            self.seconds = time.perf_counter() - begin
            child.returncode = os.waitstatus_to_exitcode(status)
            self.code = child.returncode
            self.cpu = usage.ru_utime + usage.ru_stime
            output.seek(0)
            self.output = output.read().decode(errors="replace")


class Contender:
    """A scanner."""

    def __init__(self, name, program, start):
        self.name = name
        self.program = program
        self.start = start

    def command(self, path, times):
        """What scans a path some times, in one process that reads files."""
        if self.name == OURS:
            return [self.program, "model", "scan", "--json", "--jobs", "1", *[path] * times]
        script = [sys.executable, "-B", HERE / "peer.py", self.name, self.start, path, times]
        return ["timeout", LIMIT_SECONDS, *script]

    def verdict(self, run):
        """What a run says of the files."""
        if self.name == OURS:
            verdicts = {json.loads(line)["verdict"] for line in run.output.splitlines()}
            return ", ".join(sorted(verdicts))
        if run.code != 0:
            return "late" if run.code == 124 else "failed"
        _, _, count, verdict = run.output.strip().split(" ", 3)
        return verdict if int(count) > 0 else "not scanned"

    def net(self, run, start, times):
        """Seconds and CPU seconds of one scan, without start-up.

        A command's start-up is what it takes on a file of five bytes. A peer measures itself.
        """
        if self.name == OURS:
            seconds, cpu = run.seconds - start.seconds, run.cpu - start.cpu
            return max(seconds / times, RESOLUTION), max(cpu / times, RESOLUTION)
        if run.code != 0:
            return run.seconds, run.cpu
        seconds, cpu = map(float, run.output.split()[:2])
        return max(seconds, RESOLUTION), max(cpu, RESOLUTION)


class Round:
    """The figures of one round, in seconds."""

    def __init__(self, contender, path, times):
        start = Run(contender.command(contender.start, 1))
        run = Run(contender.command(path, times))
        self.start = start.seconds
        self.net, self.cpu = contender.net(run, start, times)

    @property
    def whole(self):
        """A scan with start-up."""
        return self.start + self.net


class Result:
    """The rounds of a contender on a path."""

    def __init__(self, contender, path, rounds):
        self.contender = contender
        self.path = path
        warm_up = Run(contender.command(path, 1))
        self.verdict = contender.verdict(warm_up)
        is_slow = warm_up.seconds > SLOW_SECONDS
        self.left, self.times = (MIN_ROUNDS, 1) if is_slow else (rounds, TIMES)
        self.rounds = []

    def measure(self):
        """Takes a turn, if there is one left."""
        if self.left > 0:
            self.left -= 1
            self.rounds.append(Round(self.contender, self.path, self.times))

    def median(self, figure):
        """The median of a figure over the rounds."""
        return statistics.median(figure(round) for round in self.rounds)

    def over(self, other, figure):
        """How many times as large a figure is as that of another contender, by the rounds."""
        pairs = zip(self.rounds, other.rounds)
        return statistics.median(figure(own) / figure(least) for own, least in pairs)


def net(round):
    """A scan without start-up."""
    return round.net


def whole(round):
    """A scan with start-up."""
    return round.whole


def race(path, contenders, rounds):
    """The results of contenders on a path. They take turns, after a warm-up that does not count."""
    results = [Result(contender, path, rounds) for contender in contenders]
    for _ in range(rounds):
        for result in results:
            result.measure()
    return results


def size_of(path):
    """The bytes of a file, or of all files of a folder."""
    if path.is_dir():
        return sum(file.stat().st_size for file in path.iterdir())
    return path.stat().st_size


def shown(value):
    """A figure with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def section(title, heads, results, figures):
    """A table with a row for each contender. `figures` are the cells behind its verdict."""
    lines = [
        f"### {title[0].upper()}{title[1:]}",
        "",
        f"| | verdict | {' | '.join(heads)} |",
        "|---" * (2 + len(heads)) + "|",
    ]
    for result in results:
        cells = [result.contender.name, result.verdict, *map(shown, figures(result))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def table(title, path, results):
    """The section of a large file."""
    size = size_of(path) / MB

    def figures(result):
        return (
            size / result.median(net),
            size / result.median(whole),
            result.median(net) * 1_000,
            result.median(lambda round: round.start) * 1_000,
            result.median(lambda round: round.cpu) * 1_000,
            result.over(results[0], net),
        )

    heads = ["MB/s", "with start-up, MB/s", "ms", "start-up ms", "CPU ms", "× time"]
    return section(f"{title}, {size:,.1f} MB", heads, results, figures)


def small_table(title, path, results):
    """The section of the small files, whose times include start-up."""
    count = len([*path.iterdir()])

    def figures(result):
        return (
            count / result.median(whole),
            result.median(whole) * 1_000,
            result.median(lambda round: round.start) * 1_000,
            result.over(results[0], whole),
        )

    heads = ["files/s", "ms with start-up", "start-up ms", "× time"]
    size = size_of(path) / MB
    return section(f"{title}: {count:,} files, {size:.2f} MB", heads, results, figures)


def targets(title, results):
    """The rows of the targets on a file."""
    for result in results:
        target = TARGETS.get(result.contender.name)
        if target is not None:
            reached = result.over(results[0], net)
            state = "met" if reached >= target else "**missed**"
            cells = [title, result.contender.name, f"≥ {target}×", f"{shown(reached)}×", state]
            yield f"| {' | '.join(cells)} |"


def machine():
    """The lines about the run."""
    names = [line for line in open("/proc/cpuinfo", encoding="utf-8") if "model name" in line]
    processor = names[0].partition(":")[2].strip() if names else platform.machine()
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=HERE, capture_output=True, text=True, check=False).stdout
    load = " ".join(f"{load:.2f}" for load in os.getloadavg())
    return [
        f"- Machine: {processor}, {os.cpu_count()} cores, Linux {platform.release()}",
        f"- Load average at the end: {load}",
        f"- Date: {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC",
        f"- Commit: {commit.strip()}",
        f"- Python {platform.python_version()}",
    ]


def measure(program, root, rounds):
    """The rows of the targets and the sections of a run."""
    rows, sections = [], []
    for name, title, peers in (*FILES, SMALL):
        print(f"bench-scan: {title}", file=sys.stderr)
        chosen = [Contender(peer, program, root / "start.pkl") for peer in (OURS, *peers)]
        results = race(root / name, chosen, rounds)
        if results[0].verdict != "safe":
            raise SystemExit(f"{name}: tensorgate says {results[0].verdict!r}, not safe")
        if name == SMALL[0]:
            sections.append(small_table(title, root / name, results))
        else:
            sections.append(table(title, root / name, results))
            rows += targets(title, results)
    return rows, sections


def main():
    """Writes the files, measures, and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    root = HERE.parent.parent
    parser.add_argument("--program", type=pathlib.Path, default=root / "target/release/tensorgate")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="small files: shows that it works")
    parser.add_argument("--out", type=pathlib.Path, help="where the tables go [standard output]")
    options = parser.parse_args()
    program = options.program.resolve()
    if not program.is_file():
        raise SystemExit(f"{program} is missing: cargo build --release -p tensorgate -p tensorgate-model")
    with tempfile.TemporaryDirectory(prefix="bench-scan-") as folder:
        folder = pathlib.Path(folder)
        files.write_all(folder, 0.02 if options.quick else 1)
        rows, sections = measure(program, folder, MIN_ROUNDS if options.quick else options.rounds)
    report = "\n".join([
        "# Figures of `model scan`, one run",
        "",
        "Written by `make bench-scan`; README.md in this folder says how to read each figure.",
        "",
        *machine(),
        "",
        "## Targets",
        "",
        "| file | against | target | reached | |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "## Files",
        "",
        *sections,
    ])
    if options.out:
        options.out.write_text(report, encoding="utf-8")
    else:
        print(report)


if __name__ == "__main__":
    main()
