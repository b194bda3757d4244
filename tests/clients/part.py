"""One client's part of the table, in a process of its own, because packages of clients bring
messages of the same names. Usage: `part.py MODULE PLACES COUNTS`. The addresses come as JSON, and
the number of rows is written as JSON.
"""

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

sys.dont_write_bytecode = True
sys.path.append(str(Path(__file__).resolve().parents[1] / "harness"))

from table import Table

if __name__ == "__main__":
    module, places, counts = sys.argv[1:]
    table = Table()
    rest = importlib.import_module(module).ask(table, SimpleNamespace(**json.loads(Path(places).read_text())))
    Path(counts).write_text(json.dumps({"rows": table.rows, "wrong": table.wrong, **(rest or {})}))
