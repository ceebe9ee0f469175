"""Growth of the time and memory of sparse attention with the context, beside attention to everything: one layer,
forward and backward, and decoding. A context that is in the results already is not measured again.

python experiments/sparse/speed.py \
    --out=experiments/sparse/results/speed [--contexts=1024,4096] [--knobs="model.window=64"] [--threads=1]
"""

from juliagpt_jax.study import growth

WORDS = ("attention", "attention window", "blocksparse", "topk")
MOST = {"topk": 4096}  # all scores, several times over: longer contexts do not fit beside the others


def main() -> None:
    growth.go_on(WORDS, growth.flags(__doc__, "1024,2048,4096,8192,16384", 64).parse_args(), MOST)


if __name__ == "__main__":
    main()
