"""llama.cpp's own HTTP server, which speaks OpenAI's API, in this process. Arguments: a model's
file, the model's name, a port.
"""

import signal
import sys

import xllamacpp


def main(path, name, port):
    """Serves until it is stopped."""
    options = xllamacpp.CommonParams()
    options.model.path = path
    options.model_alias = {name}
    options.hostnames, options.port = ["127.0.0.1"], port
    options.n_ctx, options.n_parallel, options.warmup = 16384, 1, False
    options.cpuparams.n_threads = 1
    server = xllamacpp.Server(options)
    print(server.listening_address, flush=True)
    signal.sigwait([signal.SIGTERM, signal.SIGINT])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
