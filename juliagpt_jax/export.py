"""Take a trained model out: to transformers, to llama.cpp, or as one plain file of weights.

python -m juliagpt_jax.export --workdir=runs/tiny --format=hf --out=exports/tiny
"""

import argparse
import json
from pathlib import Path

from juliagpt_jax import command, config, devices
from juliagpt_jax.errors import UserError


def parser() -> command.Parser:
    flags = command.Parser("export", "Write a trained model in a format that other programs read.")
    flags.add_run_flags()
    flags.add_argument(
        "--format",
        required=True,
        choices=["hf", "gguf", "safetensors"],
        help="hf: a folder for transformers; gguf: a file for llama.cpp; safetensors: a file, also for import_model",
    )
    flags.add_argument("--out", required=True, metavar="PATH", help="the folder or file; it must not exist yet")
    flags.add_argument("--precision", choices=["f32", "f16", "bf16"], default="f32", help="of the stored matrices")
    return flags


def main(options: argparse.Namespace) -> None:
    workdir, out = Path(options.workdir), Path(options.out)
    settings = config.read(workdir / "config.json")
    devices.prepare(settings.mesh)

    from juliagpt_jax.inference.export import export
    from juliagpt_jax.training.workdir import open_run

    run = open_run(workdir, options.checkpoint, options.averaged)
    export(run, options.format, out, options.precision, _report(workdir), options.averaged)
    size = sum(file.stat().st_size for file in ([out] if out.is_file() else out.rglob("*")) if file.is_file())
    print(f"{out}: step {run.step} of {workdir}, {options.format}, {options.precision}, {size:,} bytes")


def _report(workdir: Path) -> dict:
    """What the run reported at its end; {} before that."""
    try:
        return json.loads((workdir / "report.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(
            f"{workdir / 'report.json'}: damaged ({error}); remove it, and the model card goes without"
        ) from error


if __name__ == "__main__":
    command.run(parser(), main)
