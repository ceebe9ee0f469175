"""Growth of the time and memory of sparse attention with the context, beside attention to everything: one layer,
forward and backward, and decoding. A context that is in the results already is not measured again.

python experiments/sparse/speed.py \
    --out=experiments/sparse/results/speed [--contexts=1024,4096] [--knobs="model.window=64"] [--threads=1]
"""

import json

import jax

from juliagpt_jax.store.machine import processor
from juliagpt_jax.study import growth

WORDS = ("attention", "attention window", "blocksparse", "topk")
MOST = {"topk": 4096}  # all scores, several times over: longer contexts do not fit beside the others


def main() -> None:
    options = growth.flags(__doc__, "1024,2048,4096,8192,16384", 64).parse_args()
    contexts, path = growth.begin(options), options.out / "speed.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    device = jax.devices()[0].device_kind if jax.default_backend() != "cpu" else processor()
    about = {"device": device, "threads": options.threads, "width": options.width, "knobs": options.knobs}
    for context in contexts:
        if any(row["context"] == context for row in rows):
            continue
        more, _ = growth.measure([word for word in WORDS if context <= MOST.get(word, context)], context, options)
        for row in more:
            row |= about
            print(json.dumps(row), flush=True)
        rows += more
        growth.write(rows, options, "speed")  # what is there, should the longest context not fit into memory


if __name__ == "__main__":
    main()
