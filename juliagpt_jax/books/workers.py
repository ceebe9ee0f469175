"""Run the blocks of `trove.py` with datatrove, over processes of this machine, a Slurm cluster or Ray.

Steps, each a number of tasks that may run at the same time; what a task wrote stays, and a task that is done is not run
again:
    clean      read, clean, leave out, write 1_cleaned; note hashes
    find       documents that are the same word for word
    sign       leave these out, write 2_unlike; MinHash signatures                      (dedup=minhash)
    buckets    documents that share a bucket                                            (datatrove's, as are the next)
    cluster    groups of near copies, of which one stays
    keep       leave copies out; write texts, and what else is asked for
    index      what one task does when all is written
"""

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from juliagpt_jax.books import documents, trove
from juliagpt_jax.ground import sealed
from juliagpt_jax.ground.errors import StorageError, UserError

BUCKETS, HASHES, GRAM = 14, 8, 5  # FineWeb's: a pair at similarity 0.75 is found with 77%, at 0.85 with 99%
EXECUTORS = ("local", "slurm", "ray")
DEDUPS = ("minhash", "exact", "none")
PLAN = "scale.json"


@dataclasses.dataclass(frozen=True)
class Work:
    """Name what is to be done.

    Attributes:
        options, blocked, tokens: as `documents.run` takes them.
        reference, least: a text to score against, "" for none, and the quality below which documents go.
        last, after: blocks behind the last one, and those of a task when all are done.
        more: what else the result depends on.
    """

    source: Path
    out: Path
    tasks: int
    dedup: str
    options: documents.Options
    blocked: frozenset[str]
    tokens: Callable[[str], int]
    reference: str
    least: float
    last: Sequence[Any] = ()
    after: Sequence[Any] = ()
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Machines:
    """Name who does it: processes at a time, and what Slurm is told; Ray is told the memory, too."""

    executor: str
    workers: int
    partition: str
    time: str
    memory: int


class Words:
    """Split a text at blanks, for MinHash: datatrove's own splitter of English needs spaCy."""

    def word_tokenize(self, text: str) -> list[str]:
        """Return the words of a text."""
        return text.split()


def run(work: Work, machines: Machines) -> dict[str, Any] | None:
    """Do the work, or what is left of it; return its report, None where a cluster has only been asked.

    Raises:
        UserError: datatrove is not installed, or the folder holds other work.
        CommandError: as the blocks raise.
    """
    try:
        import datatrove  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("datatrove is needed: pip install -e '.[scale]'") from error
    _settle(work)
    made, last = [], None
    for name, tasks, pipeline in steps(work):
        last = _executor(work.out / "logs" / name, tasks, pipeline, machines, last)
        made.append((name, last))
        if machines.executor != "slurm":
            last.run()
            _whole(name, last, work.out / "logs" / name)
    if machines.executor == "slurm" and last is not None:
        last.run()  # asks for those before it, too
    done = all(executor.is_rank_completed(rank) for _, executor in made for rank in range(executor.world_size))
    return report(work) if done else None


def _whole(name: str, step: Any, logs: Path) -> None:
    """Raise a StorageError where a task of a step has not ended well: Ray's executor notes that, and goes on."""
    failed = [rank for rank in range(step.world_size) if not step.is_rank_completed(rank)]
    if failed:
        why = logs / "logs" / f"task_{failed[0]:05d}.log"
        raise StorageError(
            f"step {name}: {len(failed)} of {step.world_size} tasks did not end well, the first one's log is {why}; "
            "the same command does what is left"
        )


def steps(work: Work) -> list[tuple[str, int, list[Any]]]:
    """Return name, tasks and blocks of each step."""
    at = lambda name: str(work.out / name)
    counts = lambda name: at(f"counts/{name}")
    first = [
        trove.Read(str(work.source)),
        trove.Clean(work.options, work.blocked, work.tokens, counts("cleaned")),
    ]
    if work.reference:
        first.append(trove.Score(work.reference, work.least, counts("scored")))
    made: list[tuple[str, int, list[Any]]] = [
        ("clean", work.tasks, [*first, trove.Write(at("1_cleaned")), trove.Sign(at("hashes"))])
    ]
    ahead: list[Any] = [trove.Again(at("1_cleaned"))]
    if work.dedup != "none":
        made.append(("find", 1, [trove.Find(at("hashes"), at("same"), work.tasks)]))
        ahead.append(trove.Drop(at("same"), counts("exact")))
    if work.dedup == "minhash":
        made += _minhash(work, [*ahead, trove.Write(at("2_unlike"))])
        ahead = [trove.Again(at("2_unlike")), _filter(at("minhash/remove"))]
    ahead += [trove.Count("kept", counts("kept")), trove.Write(at("texts"))]
    made.append(("keep", work.tasks, [*ahead, *work.last]))
    if work.after:
        made.append(("index", 1, [*work.after]))
    return made


def _minhash(work: Work, ahead: list[Any]) -> list[tuple[str, int, list[Any]]]:
    from datatrove.pipeline.dedup import (  # pyright: ignore[reportMissingImports]
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupSignature,
    )
    from datatrove.utils.word_tokenizers import WordTokenizer  # pyright: ignore[reportMissingImports]

    WordTokenizer.register(Words)
    config = MinhashConfig(n_grams=GRAM, num_buckets=BUCKETS, hashes_per_bucket=HASHES)
    at = lambda name: str(work.out / "minhash" / name)
    sign = MinhashDedupSignature(at("signatures"), config, language=Words())  # pyright: ignore[reportArgumentType]
    return [
        ("sign", work.tasks, [*ahead, sign]),
        ("buckets", BUCKETS, [MinhashDedupBuckets(at("signatures"), at("buckets"), config=config)]),
        ("cluster", 1, [MinhashDedupCluster(at("buckets"), at("remove"), config=config)]),
    ]


def _filter(folder: str) -> Any:
    from datatrove.pipeline.dedup import MinhashDedupFilter  # pyright: ignore[reportMissingImports]

    return MinhashDedupFilter(folder)


def _executor(logs: Path, tasks: int, pipeline: list[Any], machines: Machines, before: Any) -> Any:
    """Make datatrove's executor of a step."""
    if machines.executor == "local":
        from datatrove.executor import LocalPipelineExecutor  # pyright: ignore[reportMissingImports]

        workers = min(tasks, machines.workers)
        return LocalPipelineExecutor(pipeline, tasks=tasks, workers=workers, logging_dir=str(logs))
    if machines.executor == "ray":
        from datatrove.executor import RayPipelineExecutor  # pyright: ignore[reportMissingImports]

        return RayPipelineExecutor(
            pipeline,
            tasks=tasks,
            workers=machines.workers,
            mem_per_cpu_gb=machines.memory,
            logging_dir=str(logs),
        )
    from datatrove.executor import SlurmPipelineExecutor  # pyright: ignore[reportMissingImports]

    return SlurmPipelineExecutor(
        pipeline,
        tasks=tasks,
        workers=machines.workers,
        time=machines.time,
        partition=machines.partition,
        mem_per_cpu_gb=machines.memory,
        env_command=f'export PATH="{Path(sys.executable).parent}:$PATH"',  # where datatrove's own commands lie
        job_name=f"juliagpt_{logs.name}",
        logging_dir=str(logs),
        depends=before,
        mail_type="NONE",
    )


def _plan(work: Work) -> dict[str, Any]:
    """Return what the result depends on, beside the files' bytes."""
    own = {name: getattr(work, name) for name in ("tasks", "dedup", "reference", "least")}
    return json.loads(json.dumps(own | {"options": dataclasses.asdict(work.options)} | dict(work.more)))


def _settle(work: Work) -> None:
    """Write down what is done in the folder, or refuse another thing than was begun there."""
    files = [[file.name, file.stat().st_size] for file in trove.listed(work.source)]
    plan, path = _plan(work) | {"files": files}, work.out / PLAN
    if path.is_file():
        if sealed.read_json(path) != plan:
            raise UserError(
                f"--out={work.out} holds work on other files, or with other flags (see its {PLAN}); take a new folder"
            )
        return
    if work.out.exists() and any(work.out.iterdir()):
        raise UserError(f"--out={work.out} holds other things; take an empty or a new folder")
    work.out.mkdir(parents=True, exist_ok=True)
    sealed.write_json(path, plan)


def report(work: Work) -> dict[str, Any]:
    """Return the fate of all documents, as the tasks counted them; near copies are what is missing at the end.

    Raises:
        UserError, StorageError: what a task counted is damaged.
    """
    fates: Counter[str] = Counter()
    for file in sorted((work.out / "counts").rglob("*.json")):
        try:
            fates.update(sealed.read_json(file))
        except (OSError, ValueError, TypeError) as error:
            raise trove.damaged(file, error) from error
    near = fates.pop("cleaned", 0) - fates["poor"] - fates["exact"] - fates["kept"]
    return {"documents": dict(sorted(fates.items())) | {"near": near}, "out": str(work.out), "tasks": work.tasks}
