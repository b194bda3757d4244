"""The table that is printed: one line a call, and how many lines were wrong."""


class Table:
    """Prints as it goes."""

    def __init__(self):
        self.rows = self.wrong = 0

    def head(self, title):
        """A part of the table."""
        print(f"\n{title}\n{'call':<58} {'directly':<34} {'through the gate':<52}", flush=True)

    def row(self, call, direct, gate, right, why=""):
        """One call: what each of the two answered, and whether that is as it must be."""
        self.rows += 1
        self.wrong += not right
        verdict = "ok" if right else f"WRONG {why}"
        print(f"{call:<58.58} {told(direct):<34.34} {told(gate):<52.52} {verdict}", flush=True)


def told(answer):
    """An answer in one short line."""
    return " ".join(str(answer).split())
