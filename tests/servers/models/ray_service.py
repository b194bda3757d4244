"""`double` as a deployment of Ray Serve, in a cluster of one process group on loopback. Arguments:
its port, the dashboard's port, a folder.
"""

import asyncio
import json
import signal
import sys

import numpy as np
import ray
from double import document, wait_s
from ray import serve
from starlette.responses import Response

MEMORY_BYTES = 80 << 20


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0.1}, max_ongoing_requests=8)
class Double:
    """One replica."""

    async def __call__(self, request):
        """Answers one request."""
        asked = await request.json()
        x = np.array(asked["x"], np.float32)
        await asyncio.sleep(wait_s(x))
        return Response(json.dumps(document(x)), media_type="application/json")


if __name__ == "__main__":
    port, dashboard, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    local = {"dashboard_host": "127.0.0.1", "_node_ip_address": "127.0.0.1"}
    ray.init(num_cpus=2, object_store_memory=MEMORY_BYTES, include_dashboard=True, dashboard_port=dashboard, _temp_dir=folder, **local)
    serve.start(http_options={"host": "127.0.0.1", "port": port, "request_timeout_s": 30})
    serve.run(Double.bind(), route_prefix="/double-ray")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
