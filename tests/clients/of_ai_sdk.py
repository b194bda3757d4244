"""Vercel's AI SDK, in Node.js: what `ai-sdk/agent.mjs` hears through the gate, and without it."""

import json
import shutil
import subprocess
from pathlib import Path

from common import Part
from seen import DIRECT_KEY

HERE = Path(__file__).resolve().parent
AGENT_S = 60


def agent(places, base, key, model):
    """What the agent hears at an address."""
    # Node.js looks for packages beside the program.
    program = shutil.copy(HERE / "ai-sdk/agent.mjs", places.ai_sdk)
    ran = subprocess.run(["node", program, f"http://{base}/v1", key, model], capture_output=True, text=True, timeout=AGENT_S)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    return json.loads(ran.stdout)


def ask(table, places):
    """Runs the agent twice."""
    table.head("an agent on Vercel's AI SDK")
    if not places.ai_sdk:
        print("skipped: npm is missing")
        return
    part = Part(table, "ai-sdk", 0, lambda error: ("", None, str(error)))
    through = lambda: agent(places, places.plain, places.keys["scorer"], "agent")
    part.same("three turns, whole and in pieces, and a schema", lambda: agent(places, places.llm, DIRECT_KEY, "local/assistant-8b"), through)
    heard = through()
    calls = [len(turn["calls"]) for form in ("whole", "pieces") for turn in heard[form]]
    table.row("ai-sdk: a call in each turn", [1] * 6, calls, calls == [1] * 6)
