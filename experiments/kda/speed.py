"""Growth of the delta rule's time and memory with the context, beside attention's: one layer, forward and backward,
and decoding.

python experiments/kda/speed.py \
    --out=experiments/kda/results/speed [--contexts=128,512,2048] [--width=128] [--head_width=64] [--threads=1]
"""

import json

from juliagpt_jax.study import growth

WORDS = ("attention", "kda", "gated_deltanet")


def main() -> None:
    options = growth.flags(__doc__, "128,256,512,1024,2048,4096,8192,16384", 128).parse_args()
    rows = []
    for context in growth.begin(options):
        more, _ = growth.measure(WORDS, context, options)
        for row in more:
            print(json.dumps(row), flush=True)
        rows += more
        growth.write(rows, options, "speed")  # what is there, should the longest context not fit into memory


if __name__ == "__main__":
    main()
