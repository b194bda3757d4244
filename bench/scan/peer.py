"""Scans a path by the Python API of another scanner.

    python bench/scan/peer.py NAME START PATH TIMES

It scans the file START first, so that everything is imported, and then PATH this many times. It
prints the seconds and the CPU seconds of one scan of PATH, the number of files that it looked at,
and `clean` or what it says instead. Limits are raised so that it reads all of a file.
"""

import logging
import os
import pathlib
import sys
import time


def files(path):
    """The files of a folder, or the file itself."""
    path = pathlib.Path(path)
    return sorted(path.iterdir()) if path.is_dir() else [path]


def picklescan(path):
    """picklescan, as its command calls it."""
    from picklescan import scanner

    scan = scanner.scan_directory_path if os.path.isdir(path) else scanner.scan_file_path
    result = scan(path)
    is_clean = result.issues_count == 0 and not result.scan_err
    return result.scanned_files, "clean" if is_clean else "findings or errors"


def modelscan(path):
    """modelscan, with its default settings."""
    from modelscan.modelscan import ModelScan

    result = ModelScan().scan(path)
    summary = result["summary"]
    is_clean = summary["total_issues"] == 0 and not result["errors"]
    return summary["scanned"]["total_scanned"], "clean" if is_clean else "findings or errors"


def modelaudit_picklescan(path):
    """modelaudit-picklescan, a file after the other. Its reading of Python sources is left out."""
    import modelaudit_picklescan as peer

    options = peer.ScanOptions(max_opcodes=100_000_000, max_known_stream_read_bytes=1 << 40)
    scanner = peer.PickleScanner(options=options)
    reports = [scanner.scan_file(file, enrich_call_graph=False) for file in files(path)]
    verdicts = {f"{report.status.value}, {report.verdict.value}" for report in reports}
    verdicts.discard("complete, clean")
    return len(reports), "; ".join(sorted(verdicts)) or "clean"


PEERS = {
    "picklescan": picklescan,
    "modelscan": modelscan,
    "modelaudit-picklescan": modelaudit_picklescan,
}

def main():
    """Scans and prints."""
    name, start, path, times = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    scan, times = PEERS[name], int(times)
    scan(start)
    begin, begin_cpu = time.perf_counter(), time.process_time()
    for _ in range(times):
        count, verdict = scan(path)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - begin_cpu
    print(f"{seconds / times} {cpu / times} {count} {verdict}")


if __name__ == "__main__":
    main()
