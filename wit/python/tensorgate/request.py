"""The request that a call belongs to, and bytes between the handlers of a request.

In a unit test there is no host: `testing.set_context` and `testing.set_carry` set the answers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional, Union

try:
    import tensorgate_abi as _abi  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    _abi = None

MAX_CARRY_BYTES = 65_536
"""The most bytes that can be carried."""


@dataclass(frozen=True)
class Input:
    """The input of a request, as its first handler gets it: dimensions by tensor, or the media type
    of a body that is not parsed, and the size of that body or of all tensors in bytes.
    """

    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    media_type: Optional[str] = None
    media_bytes: int = 0


@dataclass(frozen=True)
class Request:
    """A request. `operation` is "infer", or "stream" for a message of a stream. `time` is in
    milliseconds since 1970. `parameters` has those that the policy lists for this handler.
    """

    request_id: str = ""
    client: str = ""
    model: str = ""
    version: str = ""
    operation: str = "infer"
    time: int = 0
    parameters: dict[str, Union[bool, int, float, str]] = field(default_factory=dict)
    input: Input = field(default_factory=Input)


_set = Request()
_carried = b""


def context() -> Request:
    """The request that the call belongs to. A replay of the call gets the same values."""
    return _set if _abi is None else _request(_abi.context_get())


class carry:
    """Bytes from the preprocess handlers of a request to its postprocess handlers. No other request
    sees them.
    """

    @staticmethod
    def set(data: bytes) -> None:
        """Replaces the bytes. Raises ValueError if there are more than 65536."""
        if len(data) > MAX_CARRY_BYTES:
            raise ValueError(f"carry.set takes at most {MAX_CARRY_BYTES} bytes, not {len(data)}")
        if _abi is None:
            global _carried
            _carried = bytes(data)
        else:
            _abi.carry_set(bytes(data))

    @staticmethod
    def get() -> bytes:
        """The bytes that an earlier handler of the same request has set last. Empty without any."""
        return _carried if _abi is None else _abi.carry_get()


def _request(given: Any) -> Request:
    return Request(
        given.request_id,
        given.client,
        given.model,
        given.version,
        given.operation,
        given.time,
        {name: parameter.value for name, parameter in given.parameters},
        Input(
            {each.name: tuple(each.shape) for each in given.input.tensors},
            given.input.media_type,
            given.input.media_bytes,
        ),
    )
