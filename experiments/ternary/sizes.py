"""How large are the files? Every variant in every precision, written and looked at.

python experiments/ternary/sizes.py [configs/base.py ...] > experiments/ternary/results/sizes/sizes.md

Random weights of a vocabulary of 100 characters. A model is written as it is (f32, f16), as int8, and, made ternary, in
2 and in 1.6 bits a weight. The megabytes are of 10^6 bytes, the whole file with config and tokenizer.
"""

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import config, config_file, devices

VOCABULARY = "\n" + "".join(map(chr, range(32, 131)))
CONFIGS = ("base", "base_512", "tiny", "micro", "monarch_base", "ode_base")
COLUMNS = (
    *(("f32", "dense", "safetensors", "f32", ""), ("f16", "dense", "safetensors", "f16", "")),
    *(("int8", "dense", "int8", "", "f16"), ("int8, embedding too", "dense", "int8", "", "int8")),
    *(
        ("2 bits", "ternary", "ternary", "2bit", "f16"),
        ("2 bits, embedding int8", "ternary", "ternary", "2bit", "int8"),
    ),
    *(
        ("base 3", "ternary", "ternary", "base3", "f16"),
        ("base 3, embedding int8", "ternary", "ternary", "base3", "int8"),
    ),
)


def run_of(settings: config.Config) -> Any:
    """A run that has not trained."""
    import jax
    import numpy as np

    from juliagpt_jax.data.tokenizer import CharTokenizer
    from juliagpt_jax.models.build import build_model
    from juliagpt_jax.store.workdir import Run
    from juliagpt_jax.training.state import initial_state

    tokenizer = CharTokenizer.train(VOCABULARY)
    model = build_model(settings, tokenizer.vocab_size)
    shapes = jax.eval_shape(lambda: initial_state(settings, model).params)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda s: jax.numpy.asarray(rng.normal(0, 0.05, s.shape), s.dtype), shapes)
    return Run(settings, tokenizer, model, params, 0, {"step": 0}, Path("none"))


def size(run: Any, kind: str, how: str, embedding: str, folder: Path) -> int:
    from juliagpt_jax.store import export

    path = folder / "m"
    if kind == "safetensors":
        export.export(run, kind, path, how, {})
    else:
        export.pack(run, kind, path, how, embedding)
    found = path.stat().st_size
    path.unlink()
    return found


def main(files: list[str]) -> None:
    devices.prepare(config_file.load(files[0]))
    from juliagpt_jax.models.parameters import count

    print("| MB | parameters | " + " | ".join(name for name, *_ in COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            dense = config_file.load(file)
            made = {"dense": run_of(dense)}
            made["ternary"] = run_of(
                dataclasses.replace(dense, model=dataclasses.replace(dense.model, linear="ternary"))
            )
            row = [f"{size(made[of], *how, Path(folder)) / 1e6:.2f}" for _, of, *how in COLUMNS]
            print(f"| {Path(file).stem} | {count(made['dense'].params):,} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or [f"configs/{name}.py" for name in CONFIGS])
