"""`double` as a BentoML service."""

import asyncio

import bentoml
import numpy as np
from double import document, wait_s


@bentoml.service(traffic={"timeout": 30}, workers=1)
class Double:
    """One worker."""

    @bentoml.api(route="/double-bento")
    async def double(self, x: list[list[float]]) -> dict:
        """Answers one request."""
        values = np.array(x, np.float32)
        await asyncio.sleep(wait_s(values))
        return document(values)
