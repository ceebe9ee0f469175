"""Run tasks of lm-evaluation-harness on a trained model.

python -m juliagpt_jax.harness --workdir=runs/tiny --tasks=NAME,NAME [--task_folder=DIR] [--limit=N]
"""

import argparse
from pathlib import Path

from juliagpt_jax.ground import command, config, devices
from juliagpt_jax.ground.errors import UserError


def parser() -> command.Parser:
    flags = command.Parser("harness", "Tasks of lm-evaluation-harness on a trained model.")
    flags.add_run_flags()
    flags.add_argument("--tasks", required=True, metavar="NAME,...", help="names that the harness knows")
    flags.add_argument("--task_folder", metavar="DIR", help="a folder with the .yaml files of more tasks")
    flags.add_argument("--num_fewshot", type=int, metavar="N", help="examples before a question; default: the task's")
    flags.add_argument("--limit", type=int, metavar="N", help="questions of each task; default: all")
    flags.add_argument("--unknown", choices=["error", "skip"], default="error", help="characters the tokenizer lacks")
    flags.add_precision_flag()
    flags.add_ode_flags()
    flags.add_argument("--seed", type=int, default=0, help="of tasks that sample")
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    command.Parser.check_ode_flags(options)
    settings = config.read(Path(options.workdir) / "config.json")
    if not 0 <= options.seed < 2**32:
        raise UserError("--seed must be in [0, 2^32)")
    devices.prepare(settings.mesh)

    from juliagpt_jax.evaluation import harness
    from juliagpt_jax.inference import schedule
    from juliagpt_jax.models import precision
    from juliagpt_jax.store.workdir import open_run

    run = open_run(Path(options.workdir), options.checkpoint, options.averaged)
    model, _ = schedule.choose(run, Path(options.workdir), options)
    model, params = precision.prepare(model, run.params, options.precision or model.precision)
    adapter = harness.Adapter(model, params, run.tokenizer, options.unknown, options.seed)
    tasks = [task.strip() for task in options.tasks.split(",") if task.strip()]
    results = harness.run_tasks(adapter, tasks, options.task_folder, options.num_fewshot, options.limit)
    for task, values in results.items():
        print(task)
        for name, value in values.items():
            print(f"  {name:<30} {value:.4f}" if isinstance(value, float) else f"  {name:<30} {value}")
    if options.json:
        command.print_json({"workdir": options.workdir, "step": run.step, "results": results})


if __name__ == "__main__":
    command.run(parser(), main)
