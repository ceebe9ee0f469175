"""Growth of the delta rule's time and memory with the context, beside attention's: one layer, forward and backward,
and decoding; or a whole model's training step and decoding.

python experiments/kda/speed.py \
    --out=experiments/kda/results/speed [--contexts=128,512,2048] [--width=128] [--head_width=64] [--threads=1]

python experiments/kda/speed.py --config=configs/kda_100m.py \
    --out=experiments/kda/results/model [--contexts=1024,4096,16384] [--tokens=16384] [--rounds=5] [--seconds=90]

A context that is in the results of a layer already is not measured again. Of a config the model itself is measured
and the same with attention and rotary positions in every layer. Nothing is begun after `--seconds`; where memory or
time does not suffice, the rows say so.
"""

import argparse
import functools
import json
import math
import statistics
import time
from typing import Any

from juliagpt_jax.study import growth

WORDS = ("attention", "kda", "gated_deltanet")
ARMS = {"attention": ["model.mixer=attention", "model.positions=rotary"], "as configured": []}
VOCAB = 16_384
ROWS, TOKENS = 8, 64  # texts that are written side by side, and the tokens of each in a timing


def model(path: str, arm: str, context: int, what: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return a row: the seconds of one training step, or of a written token, and the memory of its program."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from juliagpt_jax.data.batch import Batch
    from juliagpt_jax.ground import config_file
    from juliagpt_jax.models.build import build_model
    from juliagpt_jax.models.parameters import count
    from juliagpt_jax.training import step
    from juliagpt_jax.training.mesh import make_mesh
    from juliagpt_jax.training.state import Frozen, initial_state

    rows = max(1, options.tokens // context)
    shape = [f"model.context={context}", f"train.batch_size={rows}", "train.accumulate=1", "mesh.data=1"]
    chosen = config_file.load(path, [*shape, *ARMS[arm]])
    built, begun = build_model(chosen, VOCAB), time.perf_counter()
    state = jax.jit(lambda: initial_state(chosen, built))()
    parameters = count(state.params)
    if what == "train":
        text = np.random.default_rng(0).integers(VOCAB, size=(rows, context + 1), dtype=np.int32)
        batch = Batch(text[:, :-1], text[:, 1:])
        program = step.make_train_step(chosen, built, make_mesh(chosen)).lower(state, batch, Frozen()).compile()
        turn, tokens = lambda state: program(state, batch, Frozen()), rows * context
    else:
        rows, tokens, params = ROWS, TOKENS, state.params

        @functools.partial(jax.jit, donate_argnums=1)
        def write(params, cache):
            def one(carry, at):
                cache, token = carry
                logits, cache, _ = built.apply({"params": params}, token, jnp.full((ROWS, 1), at), cache)
                return (cache, jnp.argmax(logits, axis=-1).astype(jnp.int32)), ()

            return jax.lax.scan(one, (cache, jnp.zeros((ROWS, 1), jnp.int32)), jnp.arange(context - TOKENS, context))[0]

        state = built.init_cache(ROWS, context)
        program = write.lower(params, state).compile()
        turn = lambda state: program(params, state)
    compiled, memory = time.perf_counter() - begun, program.memory_analysis()
    seconds = []
    for _ in range(options.rounds + 1):  # the first one warms up
        begun = time.perf_counter()
        state, out = turn(state)
        jax.block_until_ready(out)
        seconds.append(time.perf_counter() - begun)
    took = statistics.median(seconds[1:])
    return {
        "what": what,
        "arm": arm,
        "context": context,
        "rows": rows,
        "parameters": parameters,
        "compile_s": compiled,
        "seconds": took if what == "train" else took / tokens,
        "tokens_per_s": tokens / took if what == "train" else rows * tokens / took,
        "temporary_MiB": memory.temp_size_in_bytes / 2**20 if memory else math.nan,
        "arguments_MiB": memory.argument_size_in_bytes / 2**20 if memory else math.nan,
        "device": jax.devices()[0].device_kind,
    }


def models(options: argparse.Namespace, contexts: list[int]) -> None:
    """Measure every arm at every context, and write the rows after each."""
    import jax

    rows, begun = [], time.monotonic()
    for context in contexts:
        for what in ("train", "decode"):
            for arm in ARMS:
                row: dict[str, Any] = {"what": what, "arm": arm, "context": context}
                if options.seconds and time.monotonic() - begun > options.seconds:
                    row["not_measured"] = f"not begun within {options.seconds:g} s"
                else:
                    try:
                        row = model(options.config, arm, context, what, options)
                    except (jax.errors.JaxRuntimeError, ValueError) as error:
                        row["not_measured"] = str(error).splitlines()[0][:200]
                rows.append(row)
                print(json.dumps(row), flush=True)
                text = "".join(json.dumps(row) + "\n" for row in rows)
                (options.out / "model.jsonl").write_text(text, encoding="utf-8")
                (options.out / "model.md").write_text(table(rows), encoding="utf-8")


def table(rows: list[dict[str, Any]]) -> str:
    """Return what was measured of models, as Markdown."""
    lines = ["| | context | texts | model | tokens/s | ms | temporary memory, MiB | compiled in, s |", "|---" * 8 + "|"]
    for row in rows:
        cells = [row["what"], str(row["context"]), str(row.get("rows", "")), row["arm"]]
        if "not_measured" in row:
            cells += [row["not_measured"], "", "", ""]
        else:
            cells += [f"{row['tokens_per_s']:,.0f}", f"{1000 * row['seconds']:.2f}"]
            cells += [f"{row['temporary_MiB']:,.0f}", f"{row['compile_s']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    measured = [row for row in rows if "device" in row]
    if measured:
        sizes = ", ".join(f"{arm} {p:,}" for arm, p in {row["arm"]: row["parameters"] for row in measured}.items())
        device = measured[0]["device"]
        lines += ["", f"Parameters: {sizes}. ms: of a training step, or of a token of all texts. {device}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    flags = growth.flags(__doc__, "", 128)
    flags.add_argument("--config", default="", help="measure this whole model instead of one layer")
    flags.add_argument("--seconds", type=float, default=0, help="of a model: begin nothing after these; 0: measure all")
    options = flags.parse_args()
    options.contexts = options.contexts or (
        "1024,4096,16384" if options.config else "128,256,512,1024,2048,4096,8192,16384"
    )
    if options.config:
        models(options, growth.begin(options))
    else:
        growth.go_on(WORDS, options)


if __name__ == "__main__":
    main()
