"""Files and features that the host fetches, if the policy grants it (`fetch:`, `lookups:`).

A handler has no network and never waits. When a file or a feature is not available yet, the
host ends the call, fetches it, and runs the call again from its beginning in a fresh instance.
A handler cannot observe that, but its fuel and time limits cover all runs together. Request all
files in one call, as early as possible and before expensive work.

`tensorgate handler build` adds these interfaces to a component if its handler.yaml has `fetch:`
or `lookups:`. A host loads such a component only if its policy has the section too. In a unit
test there is no host: `testing.set_file` and `testing.set_feature` set the answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Optional, Sequence, Union

try:
    import tensorgate_abi as _abi  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    _abi = None

Why = Literal["refused", "unavailable", "timeout", "too-large", "wrong-type", "not-found"]
"""Why a request for a file or feature failed.

- refused: the policy does not allow it, or the address that it resolves to.
- unavailable: the server could not be reached, or could not prove its identity.
- timeout: it took too long.
- too-large: it is larger than the policy allows.
- wrong-type: the policy does not list its type.
- not-found: the server does not have it, or denies access to it.
"""


class Missing(Exception):
    """A file or feature is not available, and `why`. The handler must handle it: an uncaught one
    is a fault.
    """

    why: Why

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True)
class File:
    """A fetched file: its media type, which the policy lists, and its bytes, at most the policy's
    `max_bytes`. They have not been validated.
    """

    content_type: str
    data: bytes


_files: dict[str, File] = {}
_features: dict[tuple[str, str, str], float] = {}


def fetch(urls: Sequence[str]) -> list[Union[File, Missing]]:
    """Fetches `https` URLs: for each a `File`, or a `Missing` with the reason.

    More files than the policy's `max_requests`, over the whole call, end it as a fault.
    """
    urls = _texts("URLs", urls)
    if _abi is None:
        return [_files.get(url, Missing("not-found")) for url in urls]
    _require(_abi.has_fetch, "fetch")
    brought = _abi.fetch_get(urls)
    return [Missing(each) if isinstance(each, str) else File(each.content_type, each.data) for each in brought]


def lookup(name: str, features: Sequence[str], keys: Sequence[str]) -> dict[str, list[Optional[float]]]:
    """Looks up features for keys in a lookup of the policy: by feature, the values in the order of
    the keys, None where the service has no value.

    Raises Missing if the lookup failed. An unknown lookup, or more lookups than its
    `max_requests`, end the call as a fault.
    """
    features, keys = _texts("features", features), _texts("keys", keys)
    if _abi is None:
        return {feature: [_features.get((name, feature, key)) for key in keys] for feature in features}
    _require(_abi.has_lookups, "lookups")
    columns = _abi.lookup_get(name, features, keys)
    if isinstance(columns, str):
        raise Missing(columns)  # type: ignore[arg-type]
    return columns


def _texts(what: str, given: Sequence[str]) -> list[str]:
    if isinstance(given, str):
        raise TypeError(f"{what} are a list, not one text")
    return list(given)


def _require(is_there: bool, field: str) -> None:
    """Raises RuntimeError in a component that was built without the interface."""
    if not is_there:
        raise RuntimeError(f"this component was built without a `{field}:` in its handler.yaml")
