"""A llama.cpp server on loopback, by `xllamacpp`, for `npm run bench:teacher`: the OpenAI protocol for one GGUF file.

`llama_server.py MODEL NAME PORT SLOTS CONTEXT THREADS`: serves MODEL under NAME, with SLOTS requests at once of CONTEXT
tokens each, until its standard input ends, as that of a bench that is killed does.
"""

from __future__ import annotations

import os
import sys

from xllamacpp import CommonParams, Server


def main() -> None:
    """Serve until the parent ends."""
    model, name, port, slots, context, threads = sys.argv[1:]
    params = CommonParams()
    params.model.path = model
    params.model_alias = {name}
    params.hostnames = ["127.0.0.1"]
    params.port = int(port)
    params.n_parallel = int(slots)
    params.n_ctx = int(slots) * int(context)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    params.endpoint_metrics = True
    params.ui = False
    # A warm-up takes minutes on busy cores, and saves nothing.
    params.warmup = False
    server = Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    # Ending the server waits for requests in flight, and nothing waits for their replies.
    os._exit(0)


if __name__ == "__main__":
    main()
