"""The printed table: one line per call, and the number of wrong lines."""


class Table:
    """Prints each row at once."""

    def __init__(self):
        self.rows = self.wrong = 0

    def head(self, title):
        """The heading of a part of the table."""
        print(f"\n{title}\n{'call':<58} {'directly':<34} {'through the gate':<52}", flush=True)

    def row(self, call, direct, gate, right, why=""):
        """One call: the two answers, and whether they are as expected."""
        self.rows += 1
        self.wrong += not right
        verdict = "ok" if right else f"WRONG {why}"
        print(f"{call:<58.58} {told(direct):<34.34} {told(gate):<52.52} {verdict}", flush=True)


def told(answer):
    """An answer in one short line."""
    return " ".join(str(answer).split())
