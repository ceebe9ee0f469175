"""Train models for tasks and prompt others, three seeds each, and put their results into one table.

    python experiments/tasks/run.py --data=DIR --out=experiments/tasks/results/run \
        [--arms=addition,sst2] [--seeds=11,22,33]

Each arm and seed is a run of `main` under --runs and one or more of `evaluate --task`, whose lines go to
OUT/results.jsonl. What stands there is not done again, and a run that was stopped goes on, so the same command may be
given until all is done. At the end the table is written: means over seeds, and the range.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Arm(NamedTuple):
    """A model and what is asked of it.

    Attributes:
        config: of `main`; "" for a model that is only prompted, in the workdir of --prompted.
        changes: overrides of it; DATA is the folder of data sets, PROMPTED the workdir of an imported model.
        asked: flags of `evaluate`, a set for each line of results.
        text: a name of TEXTS: the arm begins with the model that has read it, once for all seeds.
    """

    config: str
    changes: tuple[str, ...]
    asked: tuple[tuple[str, ...], ...]
    text: str = ""


# The model of configs/mawps.py.
DELTA = ("model.mixer=gated_deltanet gated_deltanet gated_deltanet attention", "model.heads=4")
DELTA += ("model.ffn_mult=4.0", "model.scan_layers=false", "model.head_gate=false", "model.x0_skip=false")
DELTA += ("model.value_embedding=none",)
# What is read before a task, as overrides of configs/tinystories.py; a run under --runs is made of each. RUNS is that
# folder: stories' own tokens part the words of MAWPS, "number0" into four, so those of the arm `mawps` read them too.
TEXTS = {
    "tinystories": ("data.path=TEXT/tinystories",),
    "tinystories_delta": ("data.path=TEXT/tinystories", *DELTA),
    "tinystories_tokens": ("data.path=TEXT/tinystories", "data.tokenizer=RUNS/mawps-11/tokenizer.json", *DELTA),
    "wikitext2": ("data.path=TEXT/wikitext2", "data.tokenizer=TEXT/wikitext2_4k/tokenizer.json"),
}
# The model of configs/tinystories.py, which is not that of the tasks' own configs.
READER = ("model.layers=4", "model.heads=2", f"model.ffn_mult={8 / 3}", "model.qk_norm=true", "model.head_gate=true")
READER += ("model.x0_skip=true", "model.value_embedding=x0")

ADDITION = ("addition", "addition_reversed", "addition_scratchpad")
SST2 = "--task=sst2", "--task_data=DATA/sst2", "--split=dev"
MAWPS = "--task_data=DATA/mawps", "--split=test", "--averaged"
# MAWPS behind a text: rates and steps were chosen on seed 9 and the dev part, with attention.
AFTER = ("data.path=DATA/mawps", "train.steps=400", "train.lr=0.01", "train.adam_lr=0.003", "train.eval_every=50")
# SmolLM2 as it came, which learns by two thin matrices beside each Linear.
LORA = ("train.init=PROMPTED", "adapter.rank=8", "adapter.alpha=16", "data.examples.pack=true")
LORA += ("data.examples.too_long=cut", "train.lr=5e-4", "train.weight_decay=0")
SCRATCH = (*SST2, "--averaged"), (*SST2[:2], "--split=test", "--averaged")
ARMS = {
    task: Arm("configs/addition.py", (f"data.task={task}",), ((f"--task={task}", "--split=test"),)) for task in ADDITION
}
# How many sums each way of writing them takes to be learned.
ARMS |= {
    f"{task}_{sums}": ARMS[task]._replace(
        changes=(*ARMS[task].changes, f"data.examples.most={sums}", "train.sample_every=0")
    )
    for task in ADDITION[:2]
    for sums in (2_700, 2_900, 3_200, 4_000)
}
ARMS |= {
    "sst2": Arm("configs/sst2.py", ("data.path=DATA/sst2",), SCRATCH),
    "mawps": Arm("configs/mawps.py", ("data.path=DATA/mawps",), (("--task=mawps", *MAWPS),)),
    "mawps_attention": Arm(
        "configs/mawps.py",
        ("data.path=DATA/mawps", "model.mixer=attention", "model.word_dropout=0", "train.steps=1_200"),
        (("--task=mawps", *MAWPS),),
    ),
    "mawps_blind": Arm(
        "configs/mawps.py", ("data.path=DATA/mawps", "data.task=mawps_blind"), (("--task=mawps_blind", *MAWPS),)
    ),
    # What helped on MAWPS, taken over.
    "sst2_delta": Arm(
        "configs/sst2.py",
        ("data.path=DATA/sst2", "model.mixer=gated_deltanet attention", "model.word_dropout=0.15"),
        SCRATCH,
    ),
    "mawps_words": Arm(
        "configs/mawps.py",
        (*AFTER, "model.mixer=attention", *READER),
        (("--task=mawps", *MAWPS),),
        "tinystories",
    ),
    "mawps_delta_words": Arm("configs/mawps.py", AFTER, (("--task=mawps", *MAWPS),), "tinystories_delta"),
    "sst2_words": Arm("configs/sst2.py", ("data.path=DATA/sst2", *READER), SCRATCH, "wikitext2"),
    "svamp": Arm(  # of 1,200 steps the loss on dev is least after 800
        "configs/mawps.py",
        ("data.path=DATA/svamp", "data.task=svamp", "train.steps=800"),
        (("--task=svamp", "--task_data=DATA/svamp", "--split=test", "--averaged"),),
    ),
    "sst2_lora": Arm(  # an epoch; 1.8% of the weights are trained
        "PROMPTED/config.json",
        (
            *(*LORA, "data.path=DATA/sst2", "data.task=sst2", "data.examples.written=0", "model.context=128"),
            *("train.steps=400", "train.batch_size=4", "train.warmup=30"),
        ),
        (SST2, (*SST2[:2], "--split=test")),
    ),
    "dialogsum_lora": Arm(  # about 850 of the 12,460 talks, each seen once
        "PROMPTED/config.json",
        (
            *(*LORA, "data.path=DATA/dialogsum", "data.task=dialogsum", "data.examples.written=8"),
            *("model.context=448", "train.steps=240", "train.batch_size=2", "train.accumulate=1", "train.min_lr=0"),
            *("train.warmup=20", "train.sample_every=0", "train.eval_every=120", "train.eval_windows=16"),
            *("train.final_windows=16", "train.checkpoint_every=60"),
        ),
        (("--task=dialogsum", "--task_data=DATA/dialogsum", "--split=test", "--limit=100"),),
    ),
    "prompted": Arm(  # as text but where it says --chat; the first 100 questions where an answer is written
        "",
        (),
        (
            SST2,
            *(
                (f"--task={task}", f"--task_data=DATA/{task}", "--split=test", f"--shots={shots}", "--limit=100", *chat)
                for task, shots, chat in (
                    ("dialogsum", 0, ()),
                    ("dialogsum", 2, ()),
                    ("dialogsum", 0, ("--chat",)),
                    ("gsm8k", 2, ()),
                )
            ),
            (*SST2, "--shots=4"),
            (*SST2, "--chat"),
            ("--task=svamp_text", "--task_data=DATA/svamp", "--split=test", "--shots=2", "--limit=100"),
        ),
    ),
}
# Twice the rate, the best of three on a sixth of the training part (seed 7), and of two from scratch.
for arm, name, change in (
    ("sst2", "sst2_2e3", "train.lr=2e-3"),
    ("sst2_words", "sst2_words_2e3", "train.lr=2e-3"),
    ("svamp", "svamp_1200", "train.steps=1_200"),
):
    ARMS[name] = ARMS[arm]._replace(changes=(*ARMS[arm].changes, change))
ARMS["mawps_delta_tokens"] = ARMS["mawps_delta_words"]._replace(text="tinystories_tokens")


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data", type=Path, required=True, help="the folder with sst2, mawps, ...")
    flags.add_argument("--out", type=Path, required=True)
    flags.add_argument("--runs", type=Path, default=Path("runs/tasks"))
    flags.add_argument("--texts", type=Path, default=Path("data"), help="the folder with tinystories and wikitext2")
    flags.add_argument("--prompted", type=Path, default=Path("runs/smollm2"), help="workdir of an imported model")
    flags.add_argument("--arms", default=",".join(ARMS))
    flags.add_argument("--seeds", default="11,22,33")
    options = flags.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.jsonl"
    for name in options.arms.split(","):
        for seed in map(int, options.seeds.split(",")):
            one(name, ARMS[name], seed, options, results)
    (options.out / "table.md").write_text(table(read(results)))


def one(name: str, arm: Arm, seed: int, options: argparse.Namespace, results: Path) -> None:
    """Train and ask what is not among the results yet."""
    places = {"DATA": options.data, "PROMPTED": options.prompted, "TEXT": options.texts, "RUNS": options.runs}

    def fill(flag: str) -> str:
        for name, place in places.items():
            flag = flag.replace(name, str(place))
        return flag

    def train(config: str, workdir: Path, changes: tuple[str, ...]) -> None:
        overrides = (f"--config.{fill(change)}" for change in changes)
        call("main", f"--config={fill(config)}", f"--workdir={workdir}", *overrides, shown=True)

    workdir = options.runs / f"{name}-{seed}" if arm.config else options.prompted
    done = {(row["arm"], row["seed"], tuple(row["asked"])) for row in read(results)}
    missing = [asked for asked in arm.asked if (name, seed, asked) not in done]
    if not missing:
        return
    begins: tuple[str, ...] = ()
    if arm.text:
        read_before = options.runs / f"words-{arm.text}"
        train("configs/tinystories.py", read_before, TEXTS[arm.text])
        begins = (f"train.init={read_before}",)
    if arm.config:
        train(arm.config, workdir, (*arm.changes, *begins, f"seed={seed}"))
    for asked in missing:
        said = call("evaluate", f"--workdir={workdir}", f"--seed={seed}", *map(fill, asked), "--json")
        row = {"arm": name, "seed": seed, "asked": asked} | json.loads(said.splitlines()[-1])
        with open(results, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def call(command: str, *words: str, shown: bool = False) -> str:
    """Run a command of the package and return what it printed, unless that is to be shown."""
    line = [sys.executable, "-m", f"juliagpt_jax.{command}", *words]
    print(" ".join(line[1:]), flush=True)
    return subprocess.run(line, check=True, stdout=None if shown else subprocess.PIPE, text=True).stdout or ""


def read(results: Path) -> list[dict]:
    return [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []


def table(rows: list[dict]) -> str:
    """Return a line for each arm and way of asking: the first metric of each seed, its mean and the others' means."""
    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        groups.setdefault((row["arm"], *row["asked"]), []).append(row)
    lines = ["| arm | asked | questions | metric | mean | seeds |", "|---|---|---|---|---|---|"]
    for (arm, *asked), own in groups.items():
        shown = " ".join(flag for flag in asked if not flag.startswith("--task_data"))
        for metric in own[0]["values"]:
            values = [row["values"][metric][0] for row in own]
            each = ", ".join(f"{value:.4f}" for value in values)
            lines.append(f"| {arm} | {shown} | {own[0]['questions']:,} | {metric} | {np.mean(values):.4f} | {each} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
