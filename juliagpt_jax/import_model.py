"""Bring a model in: a folder of transformers, a GGUF file of llama.cpp, or a file of `export --format=safetensors`.

python -m juliagpt_jax.import_model --source=exports/tiny --workdir=runs/again --config=configs/tiny.py
python -m juliagpt_jax.main --config=runs/again/config.json --workdir=runs/again        (trains on)

A model trained with model.linear=subln may go on as a ternary one: --config.model.linear=ternary.
"""

import argparse
from pathlib import Path

from juliagpt_jax.ground import command, config, config_file, devices
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.model import OF_TRAINING


def parser() -> command.Parser:
    flags = command.Parser(
        "import_model",
        "Make a workdir of a model from outside, for generate, evaluate, export and main. "
        "How it would train on: --config.GROUP.NAME=VALUE",
    )
    flags.add_argument(
        "--source",
        required=True,
        metavar="PATH",
        help="a folder with config.json, a .safetensors or .gguf file, or a wheel",
    )
    flags.add_argument("--workdir", required=True, metavar="DIR", help="it must not exist yet")
    flags.add_argument(
        "--config", required=True, metavar="FILE", help="all knobs but the model's, which the source has"
    )
    flags.add_argument("--context", type=int, default=0, metavar="N", help="see fewer tokens than the source's model")
    flags.add_argument(
        "--sha256", metavar="HEX", help="refuse the source where this is not the SHA-256 of its .safetensors file"
    )
    return flags


def main(options: argparse.Namespace) -> None:
    source, workdir = Path(options.source), Path(options.workdir)
    for override in options.overrides:
        if override.startswith("model.") and override.partition("=")[0] not in (*OF_TRAINING, "model.linear"):
            raise UserError(f"--config.{override}: the model is the source's")
    asked = [override.partition("=")[2] for override in options.overrides if override.startswith("model.linear=")]
    settings = config_file.load(options.config, options.overrides)
    config.refuse_puzzles(settings)
    values = config.to_dict(settings)
    if not source.exists():
        raise UserError(f"--source={source} does not exist")

    from juliagpt_jax.store import export  # no device is touched before everything is read and checked

    given = export.read(source)
    weights = [own for name, own in given.hashes.items() if name.endswith(".safetensors")] or [*given.hashes.values()]
    if options.sha256 and options.sha256.lower() not in weights:
        raise UserError(f"--sha256={options.sha256}: the hash of {source} is {', '.join(weights)}")
    values["model"] |= given.fields | {key.removeprefix("model."): config.flatten(values)[key] for key in OF_TRAINING}
    if asked:
        linear = given.fields["linear"]
        if not {linear, asked[-1]} <= {"subln", "ternary"}:
            raise UserError(
                f"--config.model.linear={asked[-1]}: the model is the source's, with model.linear={linear}; "
                "only subln and ternary, which have the same parameters, may take each other's place"
            )
        values["model"]["linear"] = asked[-1]
    values["data"]["tokenizer"] = str(workdir / "tokenizer.json")
    try:
        settings = config.build(values)
        if options.context:
            settings, given = export.with_context(settings, given, options.context)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    devices.prepare(settings)

    from juliagpt_jax.training import run, start

    run.check(settings)
    start.begin(workdir, settings, given.params, given.tokenizer, given.meta, str(source), given.hashes)
    model, count = settings.model, sum(array.size for array in given.params.values())
    print(
        f"{workdir}: {count:,} parameters from {source}: {model.layers} x {model.width}, context {model.context}, "
        f"{given.tokenizer.vocab_size} tokens\n"
        f"train on: python -m juliagpt_jax.main --config={workdir / 'config.json'} --workdir={workdir}"
    )


if __name__ == "__main__":
    command.run(parser(), main, overrides=True)
