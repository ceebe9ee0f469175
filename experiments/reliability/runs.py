"""Tiny runs of every kind, the processes that train them, and what a finished one must equal to the bit.

A new kind of run is one line of KINDS.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
# Whatever a report says of clocks, memory, folders and what this process compiled, which no two runs share.
OWN = {"workdir", "wall_s", "compile_s", "chars_per_s", "peak_memory_bytes", "step_memory_bytes", "compiler_flops"}
OWN |= {"compilations", "checkpoint_bytes", "sha256", "data_wait_share"}
TINY = [
    *["model.width=16", "model.layers=1", "model.heads=1", "model.context=16", "mesh.data=1"],
    *["train.batch_size=4", "train.steps=40", "train.warmup=5", "train.checkpoint_every=10", "train.log_every=1"],
    *["train.eval_every=10", "train.eval_windows=4", "train.sample_every=20", "train.sample_tokens=20"],
    "train.report_share=0",
]
PUZZLES = [
    *["data.puzzle.side=4", "data.puzzle.train=40", "data.puzzle.test=12", "data.puzzle.least=5"],
    *["model.width=16", "model.layers=1", "model.heads=1", "model.context=16", "model.recursive.multiple=8"],
    *["train.recursive.steps=3", "train.recursive.explore=0.5", "train.steps=24", "train.batch_size=8"],
    *["train.warmup=2", "train.checkpoint_every=6", "train.eval_every=12", "train.sample_every=12"],
    *["train.log_every=1", "mesh.data=1"],
]
SHARE = "--val_share=0.1"
WORDS = "the nature of truth is a line and number that goes on in time with all of us".split()


def _flags(config: str, workdir: str, overrides: list[str]) -> list[str]:
    return [f"--config={ROOT / 'configs' / config}.py", f"--workdir={workdir}", *(f"--config.{o}" for o in overrides)]


# Commands that make what runs read, once.
SHARDS = (("shard", "--source={text}", "--tokenizer={folder}/tokenizer.json", "--out={folder}/shards", SHARE),)
FROZEN = (
    ("shard", "--source={text}", "--tokenizer={folder}/tokenizer.json", "--out={folder}/frozen", SHARE),
    ("snapshot", "--freeze={folder}/frozen", "--licence=MIT"),
)
MIXED = (
    ("shard", "--source={text}", "--tokenizer={folder}/tokenizer.json", "--out={folder}/one", SHARE),
    ("shard", "--source={folder}/other.txt", "--tokenizer={folder}/tokenizer.json", "--out={folder}/two", SHARE),
)
BASE = (("main", *_flags("tiny", "{folder}/base", [*TINY, "data.path={text}", "model.context=64"])),)
PAIRS = ["model.context=64", "data.task=jsonl", "data.path={folder}/pairs.jsonl", "train.init={folder}/base"]
ADAPTERS = ["data.path={folder}/other.txt", "train.init={folder}/base", "adapter.rank=2", "adapter.dropout=0.1"]
MIXTURE = """[sources]
one = "one"
two = "two"

[[stages]]
steps = 25
lr = 1e-3
weights = {one = 70, two = 30}

[[stages]]
steps = 15
lr = 1e-3
min_lr = 1e-4
weights = {one = 20, two = 80}
"""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of run: its config file, what it overrides, the seeds that train together, if several do, and commands
    that make what it reads. {text} is a text, {folder} the folder that it is in, with what `write_text` writes beside
    it; {snapshot} the snapshot that the commands froze."""

    config: str
    overrides: list[str]
    seeds: tuple[int, ...] = ()
    before: tuple[tuple[str, ...], ...] = ()

    def make(self, text: Path, cache: Path) -> None:
        """Run the commands that make what the runs read."""
        for module, *flags in self.before:
            process = start(module, [flag.format(text=text, folder=text.parent) for flag in flags], cache)
            _, err = process.communicate()
            assert process.returncode == 0, err

    def flags(self, folder: Path, text: Path) -> list[str]:
        """The arguments of `main` for a run that leaves its workdirs in `folder`."""
        frozen = text.parent / "frozen" / "manifest.jsonl"
        snapshot = _hash(frozen.read_bytes()) if frozen.exists() else ""
        settings = [o.format(text=text, folder=text.parent, snapshot=snapshot) for o in self.overrides]
        seeds = [f"--seeds={','.join(map(str, self.seeds))}"] if self.seeds else []
        return [*_flags(self.config, str(folder / ("{seed}" if self.seeds else "run")), settings), *seeds]

    def workdirs(self, folder: Path) -> list[Path]:
        return [folder / str(seed) for seed in self.seeds] or [folder / "run"]


def texts(*overrides: str, seeds: tuple[int, ...] = (), before: tuple[tuple[str, ...], ...] = ()) -> Kind:
    return Kind("tiny", [*TINY, "data.path={text}", *overrides], seeds, before)


KINDS = {
    "transformer": texts(),
    "monarch": texts("model.mixer=monarch_heads", "model.channel=monarch"),
    "kda": texts("model.mixer=kda", "model.positions=none"),
    "ode": texts("model.depth=ode", "model.ode.steps=2"),
    "f16": texts("train.precision=f16"),
    "accumulation": texts("train.accumulate=2", "model.dropout=0.1"),
    "curriculum": texts("data.path=schoolroom", "data.order=easy_first"),
    "experts": texts("model.channel=moe", "model.moe.experts=4"),
    "averages, SOAP": texts("train.optimizer=soap", "train.ema=0.9"),
    "K-FAC": texts("train.optimizer=kfac"),
    "seeds together": texts(seeds=(3, 4)),
    "two devices": texts("mesh.data=2"),
    "cut over two devices": texts("mesh.fsdp=2"),
    "shards": texts("data.path={folder}/shards", before=SHARDS),
    "answers to a task": texts("data.task=addition", "model.context=64"),
    "recursive": Kind("trm_sudoku6", PUZZLES),
    "adapters": texts(*ADAPTERS, before=BASE),
    "adapters beside q4_1": texts(*ADAPTERS, "adapter.base=q4_1", before=BASE),
    "preferences": texts(
        *PAIRS, "train.objective=dpo", "train.preference.reference={folder}/base", "train.lr=3e-3", before=BASE
    ),
    "distillation on answers of its own": texts(
        *PAIRS, "train.objective=on_policy", "train.distil.teacher={folder}/base", "train.written.group=2", before=BASE
    ),
    "mixture in stages": texts(
        "data.path={folder}/mixture.toml", "train.schedule=stages", "data.weights_by=source", before=MIXED
    ),
    "snapshot": texts("data.path={folder}/frozen", "data.snapshot={snapshot}", before=FROZEN),
    "recursive depth": texts("model.depth=recursive", "model.recursive.inner=2", "model.recursive.outer=2"),
    "T5": Kind("t5_tiny", [*TINY, "model.context=64", "data.task=jsonl", "data.path={folder}/pairs.jsonl"]),
}


def write_text(path: Path) -> Path:
    """Write 300 lines of the words of one sentence, as a run's text; and beside it what else runs read: another such
    text, a tokenizer, preferences, and a mixture of shards of both texts, for those who make them."""
    from juliagpt_jax.data import tokenizer

    path.parent.mkdir(parents=True, exist_ok=True)
    for seed, file in enumerate((path, path.with_name("other.txt"))):
        rng = random.Random(seed)
        file.write_text("\n".join(" ".join(rng.choices(WORDS, k=9)) + "." for _ in range(300)) + "\n")
    tokenizer.save(tokenizer.CharTokenizer.train(path.read_text()), path.with_name("tokenizer.json"))
    rng = random.Random(2)
    sentences = [(" ".join(rng.choices(WORDS, k=3)), *rng.sample(WORDS, 2)) for _ in range(200)]
    rows = [{"prompt": f"{asked} ", "chosen": f"{one}.", "rejected": f"{two}."} for asked, one, two in sentences]
    path.with_name("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path.with_name("mixture.toml").write_text(MIXTURE)
    return path


def start(
    module: str, flags: list[str], cache: Path, out: Any = subprocess.PIPE, err: Any = subprocess.PIPE
) -> subprocess.Popen:
    """Start a command of the package as a user does; compiled programs are kept in `cache`. A pipe that nobody reads
    stops who writes to it once it is full: what runs for long writes to files."""
    return subprocess.Popen(
        [sys.executable, "-m", f"juliagpt_jax.{module}", *flags],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        text=True,
        env=os.environ | {"JULIAGPT_CACHE": str(cache), "PYTHONPATH": str(ROOT)},
    )


def contents(workdir: Path) -> dict[str, str]:
    """Return a hash of each part of a finished run that another one of its config must share: every array of the newest
    checkpoint, the rows of metrics, the samples, the report.

    Raises:
        CommandError: the checkpoint is damaged.
    """
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    from juliagpt_jax.models.parameters import paths
    from juliagpt_jax.store import manifest
    from juliagpt_jax.training import metrics

    newest = workdir / "checkpoints" / str(manifest.steps(workdir / "checkpoints")[-1])
    manifest.verify(newest)
    found: dict[str, str] = {"best": os.readlink(workdir / "checkpoints" / "best"), "step": newest.name}
    for item in sorted(p for p in newest.iterdir() if p.is_dir()):
        with contextlib.closing(ocp.Checkpointer(ocp.PyTreeCheckpointHandler())) as reader:
            known = reader.metadata(item.absolute()).item_metadata.tree
            plain = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), known)
            tree = reader.restore(item.absolute(), args=ocp.args.PyTreeRestore(restore_args=plain))
        for path, leaf in paths(tree).items():
            array = np.asarray(leaf)
            found[f"{item.name}/{path}"] = _hash(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    rows = metrics.read(workdir / "metrics.jsonl")
    kept = [{k: v for k, v in row.items() if k not in metrics.TIMING} for row in rows]
    found["metrics"] = _hash(json.dumps(kept).encode())
    for path in sorted(workdir.glob("samples/*")):
        found[f"samples/{path.name}"] = _hash(path.read_bytes())
    report = json.loads((workdir / "report.json").read_text())
    found |= {f"report/{k}": json.dumps(v) for k, v in report.items() if k not in OWN}
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def hardware() -> str:
    """Return the processor and how many cores of it this process may use."""
    from juliagpt_jax.ground import devices
    from juliagpt_jax.store import machine

    return f"{machine.processor()}, {devices.cores()} cores"


class Results:
    """A JSON file of results that a script can be stopped at and go on from: `rows`, each known by its `name`.

    Args:
        path: of the file; made if missing.
        command: that makes it anew.
    """

    def __init__(self, path: Path, command: str):
        self.path, self._command = path, command
        self.rows: dict[str, dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else {}

    def add(self, name: str, **values: Any) -> None:
        self.rows[name] = values
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = {"command": self._command, "hardware": hardware(), "rows": self.rows}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(whole, indent=1) + "\n")
        os.replace(new, self.path)


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
