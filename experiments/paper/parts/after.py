"""After pre-training: adapters, tasks, and trainings and search that build on each other; each once it is measured."""

import statistics
from typing import Any

from measures import File, Pending, Results, Statistic, Suite, interval

from juliagpt_jax.study.statistics import paired

ADDITION = File("pipeline/results/addition/rows.json")
CHAINS = File("pipeline/results/chains/rows.json")
TAUGHT = File("pipeline/results/taught/rows.json")
IMPORTED = File("pipeline/results/smollm2/rows.json")
PREFERRED = File("pipeline/results/hh/report.json")
DISTIL = Suite("pipeline/results/distil/results.jsonl", "from the text")
TASKS = File("tasks/results/run/results.jsonl")
MEMORY = File("adapters/results/memory/results.jsonl")
FILLED = "+ calculator"


def stages(results: Results, file: File) -> list[dict[str, Any]]:
    """The lines of a pipeline's table."""
    return file.pick(results, {})[0]["rows"]


def right(results: Results, file: File, stage: str) -> dict[int, float]:
    """The share of right answers of a stage, in percent, by seed."""
    (found,) = [row for row in stages(results, file) if row["stage"] == stage]
    return {int(seed): 100 * share for seed, share in found["right"].items()}


def share(file: File, stage: str) -> Statistic:
    """Its mean over the seeds: "41.3%"."""
    return lambda results: f"{statistics.fmean(right(results, file, stage).values()):.1f}%"


def gain(file: File, stage: str, over: str) -> Statistic:
    """What a stage has more than another, in points, paired by seed."""
    return lambda results: interval(paired(right(results, file, over), right(results, file, stage)), ".1f")


def best(results: Results, file: File = ADDITION) -> str:
    """The stage that is the verifier's choice."""
    return next(row["stage"] for row in stages(results, file) if row["stage"].startswith("+ verifier"))


def vote(results: Results, file: File = ADDITION) -> str:
    """The stage that is the answer most agree on."""
    return next(row["stage"] for row in stages(results, file) if row["stage"].startswith("+ vote"))


def pipeline(results: Results) -> list[list[str]]:
    """Each stage: what is right, and what that is more than the stage that it builds on."""
    lines = [["stage", "right", "gain on", "gain [95%]"]]
    for row in stages(results, ADDITION):
        more = gain(ADDITION, row["stage"], row["before"])(results) if row["before"] else ""
        lines.append([row["stage"], share(ADDITION, row["stage"])(results), row["before"], more])
    last = ADDITION.pick(results, {})[0]["curves"][-1]
    return [*lines, [f"one of {last['answers']:.0f} is right", f"{100 * last['any']:.1f}%", "", ""]]


def asked(results: Results) -> list[list[str]]:
    """Each arm and way to ask: its first metric, the mean over the seeds."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in TASKS.pick(results, {}):
        flags = [flag.removeprefix("--") for flag in row["asked"] if not flag.startswith("--task_data")]
        groups.setdefault((row["arm"], " ".join(flags)), []).append(row)
    lines = [["arm", "asked", "seeds", "metric", "mean"]]
    for (arm, flags), rows in groups.items():
        metric = next(iter(rows[0]["values"]))
        mean = statistics.fmean(row["values"][metric][0] for row in rows)
        lines.append([arm, flags, str(len(rows)), metric, f"{mean:.3f}"])
    return lines


def held(results: Results) -> list[list[str]]:
    """Each way to train: what is trained, and the memory of a step."""
    lines = [["", "trained", "compiler, MB", "resident, MB"]]
    for row in MEMORY.pick(results, {}):
        sizes = [f"{row[key] / 1e6:,.0f}" for key in ("compiler_bytes", "peak_bytes")]
        lines.append([row["arm"], f"{row['trained']:,}", *sizes])
    return lines


PENDING = {
    "Pipeline": Pending(
        (ADDITION.name,),
        {
            "PipelineSft": share(ADDITION, "sft"),
            "PipelineSeeds": lambda results: ", ".join(stages(results, ADDITION)[0]["right"]),
            "PipelineMore": gain(ADDITION, "more", "sft"),
            "PipelineDpo": gain(ADDITION, "dpo", "more"),
            "PipelineVote": lambda results: gain(ADDITION, vote(results), "dpo")(results),
            "PipelineBest": lambda results: gain(ADDITION, best(results), "dpo")(results),
            "PipelineBestVote": lambda results: gain(ADDITION, best(results), vote(results))(results),
            "PipelineRevised": lambda results: gain(ADDITION, "+ revised", best(results))(results),
        },
        {"pipeline": pipeline},
    ),
    "Chains": Pending(
        (CHAINS.name,),
        {
            "ChainsAlone": share(CHAINS, "sft"),
            "ChainsFilled": share(CHAINS, FILLED),
            "ChainsGain": gain(CHAINS, FILLED, "sft"),
            "ChainsSeeds": lambda results: ", ".join(stages(results, CHAINS)[0]["right"]),
        },
    ),
    "Taught": Pending(
        (TAUGHT.name,),
        {
            "TaughtTeacher": share(TAUGHT, "teacher"),
            "TaughtExamples": gain(TAUGHT, "distil", "more"),
            "TaughtOwn": gain(TAUGHT, "on_policy", "more"),
            "TaughtSeeds": lambda results: ", ".join(stages(results, TAUGHT)[0]["right"]),
        },
    ),
    "Imported": Pending(
        (IMPORTED.name,),
        {
            "ImportedSft": share(IMPORTED, "sft"),
            "ImportedFilled": share(IMPORTED, FILLED),
            "ImportedVote": lambda results: share(IMPORTED, vote(results, IMPORTED))(results),
            "ImportedBest": lambda results: share(IMPORTED, best(results, IMPORTED))(results),
        },
    ),
    "Preferred": Pending(
        (PREFERRED.name,),
        {
            "PreferredShare": PREFERRED.value({}, "dpo.rewards/accuracies", ".3f"),
            "PreferredPairs": PREFERRED.value({}, "train_examples"),
        },
    ),
    "Distilled": Pending(
        (DISTIL.name,),
        {
            "DistilledGap": DISTIL.gap("with a teacher"),
            "DistilledTokens": DISTIL.value({}, "tokens", ",d"),
            "DistilledSeeds": DISTIL.distinct({}, "seed"),
        },
    ),
    "Tasks": Pending((TASKS.name,), {"TasksRows": TASKS.count({})}, {"tasks": asked}),
    "Memory": Pending((MEMORY.name,), {"MemoryBatch": MEMORY.value({}, "batch")}, {"memory": held}),
}
