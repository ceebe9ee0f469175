"""Run tasks of lm-evaluation-harness on a trained model.

python -m juliagpt_jax.harness --workdir=runs/tiny --tasks=NAME,NAME [--task_folder=DIR] [--limit=N]
"""

import argparse
from pathlib import Path

from juliagpt_jax.ground import command, devices


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
    ode = command.ode_values(options)
    command.check_seed(options.seed)

    from juliagpt_jax.inference.opened import open_model
    from juliagpt_jax.store.workdir import find

    found = find(Path(options.workdir), options.checkpoint, options.averaged, ode)
    devices.prepare(found.config)

    from juliagpt_jax.evaluation import harness

    opened = open_model(found, options.precision)
    adapter = harness.Adapter(opened.model, opened.params, opened.tokenizer, options.unknown, options.seed)
    tasks = [task.strip() for task in options.tasks.split(",") if task.strip()]
    results = harness.run_tasks(adapter, tasks, options.task_folder, options.num_fewshot, options.limit)
    for task, values in results.items():
        print(task)
        for name, value in values.items():
            print(f"  {name:<30} {value:.4f}" if isinstance(value, float) else f"  {name:<30} {value}")
    if options.json:
        command.print_json({"workdir": options.workdir, "step": opened.run.step, "results": results})


if __name__ == "__main__":
    command.run(parser(), main)
