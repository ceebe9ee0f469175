"""Time and memory of the ways to compute experts: one layer, forward, and forward and backward.

python experiments/experts/speed.py --out=experiments/experts/results/speed \
    [--width=192] [--experts=8] [--top=2] [--tokens=1,64,1024,4096] [--precision=f32]

`one` is a SwiGLU that multiplies as many parameters with a token as a token goes through here; `all` computes every
expert for every token; `sorted` is what the package does with more than a few tokens; `ragged` is
`jax.lax.ragged_dot`, which the package leaves aside. All give the same numbers, but for `one`. One after the other in
every round, so that a noisy machine meets all alike; read the ratios.
"""

import argparse
import functools
import json
import math
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import config_file
from juliagpt_jax.study import growth


def main() -> None:
    import jax

    options = flags().parse_args()
    rows = []
    for tokens in map(int, options.tokens.split(",")):
        made = programs(options, tokens)
        times = growth.clock(
            {(name, what): run for name, parts in made.items() for what, run in parts["run"].items()}, options.rounds
        )
        for name, parts in made.items():
            row = {"form": name, "device": jax.devices()[0].device_kind, **vars(options), "tokens": tokens}
            row |= {what: times[name, what] for what in parts["run"]} | {"memory_bytes": parts["memory_bytes"]}
            row["to_one"] = {what: times[name, what] / times["one", what] for what in parts["run"]}
            row.pop("out")
            rows.append(row)
            print(json.dumps(row), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / f"speed-{jax.default_backend()}.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.out / f"speed-{jax.default_backend()}.md").write_text(table(rows))


def table(rows: list[dict[str, Any]]) -> str:
    """Return a line for each form and number of tokens: milliseconds, over one channel's in brackets, and memory."""
    lines = ["| tokens | form | forward, ms | forward and backward, ms | temporary memory, MB |", "|---" * 5 + "|"]
    for row in rows:
        cells = [f"{1e3 * row[what]:.2f} ({row['to_one'][what]:.2f})" for what in ("forward_s", "train_s")]
        lines.append(f"| {row['tokens']:,} | {row['form']} | {' | '.join(cells)} | {row['memory_bytes'] / 1e6:.1f} |")
    return "\n".join(lines) + "\n"


def flags() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", required=True, type=Path)
    made.add_argument("--width", type=int, default=192)
    made.add_argument("--ffn_mult", type=float, default=2.0, help="hidden width of an expert, in widths")
    made.add_argument("--experts", type=int, default=8)
    made.add_argument("--top", type=int, default=2)
    made.add_argument("--tokens", default="1,64,1024,4096")
    made.add_argument("--precision", default="f32", choices=["f32", "bf16"])
    made.add_argument("--rounds", type=int, default=9)
    return made


def programs(options: argparse.Namespace, tokens: int) -> dict[str, Any]:
    """Return for each form what is timed of it, compiled, as functions without arguments, and its memory."""
    import jax
    import jax.numpy as jnp

    from juliagpt_jax.models import moe
    from juliagpt_jax.models.channels import SwiGLU
    from juliagpt_jax.models.decoder import DTYPES
    from juliagpt_jax.models.layers import Linear

    E, D = options.experts, options.width
    knobs = config_file.load("configs/micro.py", [f"model.width={D}", f"model.ffn_mult={options.ffn_mult}"]).model
    wide = config_file.load(
        "configs/micro.py", [f"model.width={D}", f"model.ffn_mult={options.ffn_mult * options.top}"]
    )
    keys = jax.random.split(jax.random.key(0), 4)
    x = jax.random.normal(keys[0], (tokens, D), DTYPES[options.precision])
    chosen, weights = moe.route(jax.random.normal(keys[1], (tokens, E)), options.top, "chosen")
    real = jnp.ones((1, 1), bool)
    expert, one = SwiGLU(knobs, 1.0, Linear), SwiGLU(wide.model, 1.0, Linear)
    params = jax.vmap(lambda key: expert.init(key, x[None, :1], real)["params"])(jax.random.split(keys[2], E))
    run = lambda params, x: expert.apply({"params": params}, x[None], real)[0][0]

    def ragged(params: Any, x: jax.Array) -> jax.Array:
        flat = chosen.reshape(-1)
        order, sizes = jnp.argsort(flat), jnp.bincount(flat, length=E).astype(jnp.int32)
        product = lambda x, name: jax.lax.ragged_dot(x, params[name]["kernel"].astype(x.dtype), sizes)
        rows = x[order // options.top]
        rows = product(jax.nn.silu(product(rows, "gate")) * product(rows, "up"), "down")
        found = rows[jnp.argsort(order)].reshape(tokens, options.top, D)
        return jnp.einsum("np,npd->nd", weights, found.astype(weights.dtype)).astype(x.dtype)

    single = one.init(keys[3], x[None, :1], real)["params"]
    forms = {
        "one": (lambda params, x: one.apply({"params": params}, x[None], real)[0][0], single),
        "all": (lambda params, x: moe.through_all(run, params, x, chosen, weights), params),
        "sorted": (lambda params, x: moe.through_chosen(run, params, x, moe.sort(chosen, E), weights), params),
        "ragged": (ragged, params),
    }
    made = {}
    for name, (form, own) in forms.items():
        loss = lambda params, x, form=form: jnp.sum(jnp.sin(form(params, x).astype(jnp.float32)))
        forward = jax.jit(form).lower(own, x).compile()
        train = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(own, x).compile()
        memory = train.memory_analysis()
        timed = lambda program, own=own: functools.partial(_wait, program, own, x)
        made[name] = {
            "run": {"forward_s": timed(forward), "train_s": timed(train)},
            "memory_bytes": memory.temp_size_in_bytes if memory else math.nan,
        }
    return made


def _wait(program: Any, *given: Any) -> None:
    import jax

    jax.block_until_ready(program(*given))


if __name__ == "__main__":
    main()
