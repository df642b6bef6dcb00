"""The peers of the benchmark: the ecosystem's trainers on visual question answering, one question a row.

Each module runs one of them as its users do, on a common input, and writes one JSON file:

    python -m benchmarks.peers.NAME --model DIR --data FILE.jsonl --system TEXT --images-per-step N --steps K --out FILE

NAME is `trainer` (transformers), `trl_sft`, `ms_swift`, `llama_factory`, or `generate` (transformers, evaluation).
Exit status 3: this interpreter lacks the peer. README.md says how to install each, and what its numbers mean.
"""
