"""Serve one GGUF file over OpenAI's API with llama.cpp; `llm` runs this as a process of its own."""

import argparse
import signal

import xllamacpp

# SmolLM2 was trained on 8,192 tokens; half of it holds four slots at about 0.5 GB.
CONTEXT_TOKENS_PER_SLOT = 4096
# Prompts of earlier requests that are cached for their next turn; llama.cpp's default is 8 GB.
PROMPT_CACHE_MIB = 64
LOG_WARNINGS = 2
# It seldom ends by itself once it rambles; five seconds of it are enough.
MAX_ANSWER_TOKENS = 512


def main() -> None:
    """Load the model and serve it until a signal ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args()

    params = xllamacpp.CommonParams()
    params.model.path = options.weights
    params.model_alias = {options.name}
    params.hostnames = [options.host]
    params.port = options.port
    params.n_parallel = options.slots
    params.n_ctx = options.slots * CONTEXT_TOKENS_PER_SLOT
    params.cpuparams.n_threads = options.threads
    params.cpuparams_batch.n_threads = options.threads
    params.cache_ram_mib = PROMPT_CACHE_MIB
    # What this small model needs to stay on its subject; a request may say otherwise.
    params.sampling.temp = 0.2
    params.sampling.top_p = 0.9
    params.sampling.penalty_repeat = 1.15
    params.n_predict = MAX_ANSWER_TOKENS
    params.ui = False
    # By default any page in a browser on this machine could call it.
    params.cors_origins = f"http://127.0.0.1:{options.port}"
    # A trial run at start only competes with the nodes for the processor.
    params.warmup = False
    params.verbosity = LOG_WARNINGS
    server = xllamacpp.Server(params)
    print(f"serving {options.name} at {server.listening_address}", flush=True)  # noqa: T201
    # The server works in its own threads; SIGTERM's default action ends them all at once.
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
