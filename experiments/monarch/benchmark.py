"""Growth of the mixers' time and memory with the context: one layer of each, forward and backward, and decoding.

python experiments/monarch/benchmark.py \
    --out=experiments/monarch/results/benchmark [--contexts=128,256,512] [--width=96] [--threads=1]
"""

import json

from juliagpt_jax.study import growth

WORDS = ("attention", "monarch", "monarch_heads")


def convolutions(context: int, width: int, tokens: int) -> dict:
    """The convolution alone, forward and backward: our DFT and the library's."""
    import jax
    import jax.numpy as jnp

    from juliagpt_jax.models.monarch import causal_convolution

    def by_fft(x, taps):
        wave = jnp.fft.rfft(x, 2 * context, axis=1) * jnp.fft.rfft(taps, 2 * context, axis=0)[None]
        return jnp.fft.irfft(wave, 2 * context, axis=1)[:, :context]

    x = jax.random.normal(jax.random.key(0), (max(1, tokens // context), context, width))
    taps = jax.random.normal(jax.random.key(1), (context, width)) * context**-0.5
    made = {}
    for name, function in {"conv_dft": causal_convolution, "conv_fft": by_fft}.items():
        run = jax.jit(jax.grad(lambda x, taps, f=function: jnp.sum(jnp.sin(f(x, taps))), argnums=(0, 1)))
        made[name] = lambda run=run: jax.block_until_ready(run(x, taps))
    return made


def main() -> None:
    options = growth.flags(__doc__, "128,256,512,1024,2048,4096,8192", 96).parse_args()
    rows, ratios = [], []
    for context in growth.begin(options):
        more, took = growth.measure(WORDS, context, options, convolutions(context, options.width, options.tokens))
        ratios.append(took["conv_dft"] / took["conv_fft"])
        more[WORDS.index("monarch")]["dft_over_fft"] = ratios[-1]
        for row in more:
            print(json.dumps(row), flush=True)
        rows += more
    numbers = " | ".join(f"{ratio:.2f}" for ratio in ratios)
    line = f"| the convolution, time with our DFT / with jnp.fft | monarch | {numbers} | |"
    growth.write(rows, options.out, "benchmark", [line])


if __name__ == "__main__":
    main()
