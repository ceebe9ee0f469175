"""Take a trained model out: to transformers, to llama.cpp, as one plain file of weights, or packed into few bits.

python -m juliagpt_jax.export --workdir=runs/tiny --format=hf --out=exports/tiny
python -m juliagpt_jax.export --workdir=runs/ternary --format=ternary --packing=base3 --out=small.safetensors
python -m juliagpt_jax.generate --workdir=small.safetensors --prompt="the nature of"
"""

import argparse
from pathlib import Path

from juliagpt_jax.ground import command, devices
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.sealed import Changed, read_json

PACKED = ("ternary", "int8")


def parser() -> command.Parser:
    flags = command.Parser("export", "Write a trained model in a format that other programs read.")
    flags.add_run_flags(adapter=True)
    flags.add_argument(
        "--format",
        required=True,
        choices=["hf", "gguf", "safetensors", "peft", *PACKED],
        help="hf: a folder for transformers; gguf: a file for llama.cpp; safetensors: a file, also for import_model; "
        "ternary (trained with model.linear=ternary) and int8 (any model): a small file that --workdir takes; "
        "peft: the adapters alone; all others have them folded in",
    )
    flags.add_argument("--out", required=True, metavar="PATH", help="the folder or file; it must not exist yet")
    flags.add_argument("--precision", choices=["f32", "f16", "bf16"], help="of the stored matrices; default: f32")
    flags.add_argument("--packing", choices=["2bit", "base3"], help="of ternary: 2 (default) or 1.6 bits a weight")
    flags.add_argument("--embedding", choices=["f16", "int8", "f32"], help="of ternary and int8; default: f16")
    return flags


def main(options: argparse.Namespace) -> None:
    workdir, out = Path(options.workdir), Path(options.out)
    packed = options.format in PACKED
    for flag, given, taken in [
        ("precision", options.precision, not packed),
        ("packing", options.packing, options.format == "ternary"),
        ("embedding", options.embedding, packed),
    ]:
        if given and not taken:
            raise UserError(f"--{flag}={given}: not of --format={options.format}")
    if options.format == "peft" and options.adapter:
        raise UserError("--adapter: --format=peft writes the adapters that --workdir has trained")

    from juliagpt_jax.store.workdir import find, load_adapters, open_run

    found = find(workdir, options.checkpoint, options.averaged, kind="decoder t5", adapter=options.adapter)
    report = _report(workdir)
    if options.format == "peft" and not found.config.adapter.rank:
        raise UserError(f"--format=peft: {workdir} has no adapters (config.adapter.rank=0)")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"--out={out} is there already; remove it, or choose another name")
    devices.prepare(found.config)

    from juliagpt_jax.store import adapters
    from juliagpt_jax.store.export import export, pack

    how = [] if packed else [options.precision or "f32"]
    if options.format == "peft":
        params, meta, _ = load_adapters(found)
        adapters.write(out, params, meta, found.config, *how)
        step = meta["step"]
    else:
        run = open_run(found)
        step = run.step
        if packed:
            how = [options.packing or "2bit"] if options.format == "ternary" else []
            how.append(options.embedding or "f16")
            pack(run, options.format, out, how[0], how[-1])
        else:
            export(run, options.format, out, how[0], {} if options.adapter else report)
    size = sum(file.stat().st_size for file in ([out] if out.is_file() else out.rglob("*")) if file.is_file())
    print(f"{out}: step {step} of {workdir}, {', '.join([options.format, *how])}, {size:,} bytes")


def _report(workdir: Path) -> dict:
    """Read the report that the run wrote at its end; {} before that."""
    try:
        return read_json(workdir / "report.json")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError, Changed) as error:
        raise UserError(
            f"{workdir / 'report.json'}: damaged ({error}); remove it, and the model card goes without"
        ) from error


if __name__ == "__main__":
    command.run(parser(), main)
