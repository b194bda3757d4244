"""A decoupled model, which answers one message several times. The answers through the gate equal
the direct ones, stay within the policy's bounds, and are cancelled in Triton when the caller
leaves.
"""

import queue

import numpy as np
from clients import status
from processes import wait
from tritonclient.utils import InferenceServerException


def inputs(module, values, wait_ms=0):
    """Inputs of the model `repeat`."""
    named = []
    for name, array in (("values", np.array(values, np.int32)), ("wait_ms", np.array([wait_ms], np.int32))):
        tensor = module.InferInput(name, list(array.shape), "INT32")
        tensor.set_data_from_numpy(array)
        named.append(tensor)
    return named


class Stream:
    """A stream of one side's client."""

    def __init__(self, side):
        self.client, self.module = side.client("grpc")
        self.came = queue.Queue()
        self.client.start_stream(lambda result, error: self.came.put((result, error)), headers=dict(side.headers))

    def ask(self, values, wait_ms=0, model="repeat", **more):
        """Sends one message."""
        self.client.async_stream_infer(model, inputs(self.module, values, wait_ms), **more)

    def next(self):
        """The next answer: id, value, whether it is the last; or the text of an error."""
        result, error = self.came.get(timeout=30)
        if error is not None:
            return f"{status(error)}: {error.message()}"
        answer = result.get_response()
        value = result.as_numpy("value")
        last = answer.parameters["triton_final_response"].bool_param
        return answer.id, None if value is None else value.tolist(), last

    def end(self, cancel=False):
        """Waits for answers in progress, unless it is cancelled."""
        self.client.stop_stream(cancel_requests=cancel)


def several_answers(table, folder, direct, gate):
    """All checks of several answers."""
    table.head("one message, several answers")

    def told(side, asked, count):
        stream = Stream(side)
        try:
            for values, more in asked:
                stream.ask(values, **more)
            return [stream.next() for _ in range(count)]
        finally:
            stream.end()

    ends = {"enable_empty_final_response": True}
    for title, asked, count in (
        ("three answers", [([1, 2, 3], {"request_id": "a"})], 3),
        ("three answers and their end", [([1, 2, 3], {"request_id": "a", **ends})], 4),
        ("nothing but the end", [([], {"request_id": "a", **ends})], 1),
        ("two messages, one after the other", [([1, 2], {"request_id": "a", **ends}), ([3], {"request_id": "b", **ends})], 5),
        ("as many as there may be", [(range(20), {"request_id": "a", **ends})], 21),
    ):
        one, other = told(direct, asked, count), told(gate, asked, count)
        table.row(title, f"{len(one)} answers", f"{len(other)} answers", one == other, f"{one} / {other}")

    def short(title, asked, count, good, says):
        came = told(gate, asked, count)
        right = [answer[1] for answer in came[:good]] == [[value] for value in list(asked[0][0])[:good]]
        text = came[good]
        right = right and isinstance(text, str) and says in text and "secret" not in text
        table.row(title, "-", text, right, came)

    for title, asked, count, good, says in (
        ("an answer more than there may be", [(range(21), {})], 21, 20, "max_answers"),
        ("an answer outside of the contract", [([1, 100, 2], {})], 2, 1, "usable"),
        ("the model fails in the middle", [([1, 2, -1], {})], 3, 2, "usable"),
    ):
        short(title, asked, count, good, says)

    cancelled = folder / "cancelled"
    cancelled.unlink(missing_ok=True)
    stream = Stream(gate)
    stream.ask(range(20), wait_ms=300)
    first = stream.next()
    stream.end(cancel=True)
    wait("Triton's model is notified of the cancellation", cancelled.exists)
    came = int(cancelled.read_text())
    table.row("a caller that goes away after one of twenty answers", "-", f"the model left off after {came}", first[1] == [0] and came < 10, first)

    try:
        gate.grpc.infer("repeat", inputs(gate.client("grpc")[1], [1]), headers=dict(gate.headers))
        said = "served"
    except InferenceServerException as error:
        said = status(error)
    table.row("asked outside of a stream", "-", said, said == "PERMISSION_DENIED")
    # The last one: the model keeps waiting for a while.
    short("an answer that takes too long", [([1], {"wait_ms": 10_000})], 1, 0, "time")
