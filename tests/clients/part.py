"""One client's part of the table, in a process of its own: packages of clients bring messages of the same names and do not go together.
`part.py MODULE PLACES COUNTS`: where everything is comes as JSON, how many rows there were goes as JSON."""

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
