"""Look at this machine, and at a workdir, and say what is wrong and what to do.

python -m juliagpt_jax.doctor [--workdir=runs/tiny]
"""

import argparse
import dataclasses
from pathlib import Path

from juliagpt_jax.ground import command
from juliagpt_jax.ground.errors import UserError

# What goes wrong most often, by what a command says, and what helps.
COMMON = [
    (
        "out of memory ...",
        "The activations of a batch did not fit. A larger --config.train.accumulate cuts the batch into more parts and "
        "changes rounding alone; --config.train.remat=true computes them again; then a smaller "
        "--config.train.batch_size.",
    ),
    (
        "... holds a run with another config (train.lr: 0.001 -> 0.5)",
        "A workdir belongs to one run, and the same command goes on with it. Give the old values back, or name another "
        "--workdir. docs/howto/resume.md lists what may change.",
    ),
    (
        "JAX does not start: no device of JAX_PLATFORMS=cuda is there",
        "JAX was installed without support for this GPU, or its driver does not answer. pip install -e '.[cuda12]' (or "
        "cuda13) brings it; JAX_PLATFORMS=cpu runs on the processor.",
    ),
]


def parser() -> command.Parser:
    flags = command.Parser("doctor", "Look at this machine and a workdir; say what is wrong and what to do.")
    flags.add_argument("--workdir", metavar="DIR", help="of a run: who holds it, and which checkpoints are sound")
    flags.add_argument("--json", action="store_true", help="print what was found as one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    if options.workdir and not Path(options.workdir).is_dir():
        raise UserError(f"--workdir={options.workdir} is no folder")

    from juliagpt_jax.store import health

    wrong, findings = [], []
    for finding in health.look(Path(options.workdir) if options.workdir else None):
        findings.append(dataclasses.asdict(finding))
        print(f"{finding.what:<12} {finding.says}", flush=True)
        if finding.advice:
            wrong.append(finding.what)
            print(f"{'':<10}-> {finding.advice}", flush=True)
    print("\nThe three most common faults:")
    for says, helps in COMMON:
        print(f"\n  {says}\n    {helps}")
    if options.json:
        command.print_json({"findings": findings, "wrong": wrong})
    if wrong:
        raise UserError(f"something is to be put right: {', '.join(wrong)}; the lines with -> say how")


if __name__ == "__main__":
    command.run(parser(), main)
