"""Measure the way from rows of text to training steps: throughput a core, its slope over sizes, memory, waiting.

python experiments/scale/measure.py --text=FILE --sizes=0.05,0.1,0.2 --workers=2 --folder=scale --out=FILE.jsonl
python experiments/scale/measure.py --text=FILE --tokens=4 --folder=scale --out=FILE.jsonl

With --sizes a source of each size is made of the sentences of a text, in documents of forty; a tenth are exact copies
and a twentieth near ones. It goes through the command `scale` (clean, exact copies, MinHash, token files), through
`shard` alone, and into a run of a small model that reads its token files from the disk at every step. Of each are taken
the wall time, the processor time of all its processes, which others on the machine change less, and the most memory
that they held together.

With --tokens the text's token files are written again and again, each from another place on, until they take so many
gigabytes; small models train on them: what share of their time goes into batches, and does memory grow?

The same command goes on where it was stopped: parts that ended are not measured again, `scale` does what it had left,
its times added up over its starts, and every other part begins anew. A row that is written takes its folder away.
"""

import argparse
import contextlib
import gzip
import hashlib
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data import shard_writer, shards
from juliagpt_jax.data.counts import TextCounts
from juliagpt_jax.ground.files import new_folder, write_json

FILES = 16
STEPS = ("clean", "find", "sign", "buckets", "cluster", "keep", "index")
MODELS = ("micro", "tiny")
TRAIN = (
    "import sys; from juliagpt_jax.training import loop; loop.DEVICE_TOKENS = 0; import runpy; "
    "sys.argv[0] = 'main'; runpy.run_module('juliagpt_jax.main', run_name='__main__')"
)


def make(text: str, size: int, out: Path) -> None:
    """Write a source of about `size` bytes of text, and its bytes beside it."""
    sentences = [s.strip() for s in re.split(r"(?<=[.!?])\s+", text) if 20 < len(s) < 300]
    rng, written, made = random.Random(size), 0, []
    folder = out.with_suffix(".part")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = [gzip.open(folder / f"{i:03d}.jsonl.gz", "wt", compresslevel=1) for i in range(FILES)]
    while written < size:
        draw = rng.random()
        if made and draw < 0.1:
            document = made[rng.randrange(len(made))]
        elif made and draw < 0.15:
            document = made[rng.randrange(len(made))] + " " + rng.choice(sentences)[:30]
        else:
            document = " ".join(rng.choices(sentences, k=40))
            made = [*made[-99:], document]
        files[rng.randrange(FILES)].write(json.dumps({"text": document}) + "\n")
        written += len(document.encode())
    for file in files:
        file.close()
    write_json(out.with_suffix(".json"), {"bytes": written})
    folder.rename(out)


def looked_at(root: int) -> tuple[int, dict[tuple[int, str], float]]:
    """Return the bytes that a process and those below it hold, their own ones, without pages of mapped files; and the
    processor seconds of each."""
    parents, held, used = {}, {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                status = Path(f"/proc/{entry}/status").read_text()
            except OSError:
                continue
            parents[int(entry)] = int(stat[1])
            found = re.search(r"RssAnon:\s+(\d+)", status)
            held[int(entry)] = int(found[1]) * 1024 if found else 0
            used[int(entry)] = (stat[19], (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK"))
    total, below, seconds = 0, {root}, {}
    while below:
        total += sum(held.get(pid, 0) for pid in below)
        seconds |= {(pid, used[pid][0]): used[pid][1] for pid in below if pid in used}
        below = {pid for pid, parent in parents.items() if parent in below}
    return total, seconds


def run(note: Path, made: Path, *command: str, goes_on: bool = False, log: Path | None = None) -> dict[str, Any]:
    """Run a command, unless it has ended before; return its wall and processor seconds, the most bytes it held, how
    often it was started, and the last line it printed.

    Args:
        note: the file in which that is kept.
        made: the folder it writes, which a start anew takes away.
        goes_on: it does what it had left, and its times are added up.
        log: a file with a line for each ten steps; `held` is the bytes held behind each line but the last.
    """
    before = json.loads(note.read_text()) if note.exists() else {"s": 0.0, "cpu_s": 0.0, "bytes": 0, "starts": 0}
    if before.get("said") is not None:
        return before
    if not goes_on:
        shutil.rmtree(made, ignore_errors=True)
        before |= {"s": 0.0, "cpu_s": 0.0, "bytes": 0}
    begun, noted, used, held = time.perf_counter(), 0.0, {}, {}
    most = before["bytes"]
    total = lambda: {
        "s": before["s"] + time.perf_counter() - begun,
        "cpu_s": before["cpu_s"] + sum(used.values()),
        "bytes": most,
        "starts": before["starts"] + 1,
    }
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            while process.poll() is None:
                now, seen = looked_at(process.pid)
                most, used = max(most, now), used | seen
                if log and log.exists():
                    held.setdefault(log.read_bytes().count(b"\n"), []).append(now)
                if time.perf_counter() > noted + 5:
                    write_json(note, total())
                    noted = time.perf_counter()
                time.sleep(0.1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # its workers, too
            process.wait()
        row = total()
        out.seek(0)
        said = out.read()
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{said[-2000:]}")
    row |= {"said": said.splitlines()[-1], "held": [statistics.median(held[line]) for line in sorted(held)][1:-1]}
    write_json(note, row)
    return row


def tokenizer(text: str, folder: Path) -> str:
    """Learn 4,096 tokens from the head of a text, unless they are there; return the flag that names them."""
    head, out = folder / "head.txt", folder / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    head.write_text(text[:2_000_000])
    run(
        folder / "tokenize.json", out, "-m", "juliagpt_jax.tokenize", f"--source={head}", "--vocab=4096", f"--out={out}"
    )
    return f"--tokenizer={out / 'tokenizer.json'}"


def trained(config: str, data: Path, folder: Path, steps: int) -> dict[str, Any]:
    """Train a model on token files from the disk; return the share of its steps' time that went into batches, the
    median seconds of a step, the most bytes, and those held at its lines of metrics."""
    workdir = folder / config
    row = run(
        folder / f"{config}.json", workdir,
        "-c", TRAIN, f"--config=configs/{config}.py", f"--workdir={workdir}", f"--config.data.path={data}",
        f"--config.train.steps={steps}", "--config.train.eval_every=100000", "--config.train.report_share=0.01",
        "--config.train.checkpoint_every=100000", "--config.train.warmup=10", "--config.train.sample_every=0",
        log=workdir / "metrics.jsonl",
    )  # fmt: skip
    report = json.loads((workdir / "report.json").read_text())
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    times = [r["step_s"] for r in rows if "step_s" in r]
    return {
        "data_wait_share": report["data_wait_share"],
        "step_s": statistics.median(times),
        "train_bytes": row["bytes"],
        "held": row["held"],
    }


def measure(size: float, options: argparse.Namespace, text: str) -> dict[str, Any]:
    """Take a source of `size` gigabytes all the way."""
    folder = options.folder / f"{size:g}"
    given = tokenizer(text, folder)
    source, out = folder / "source", folder / "out"
    if not source.exists():
        make(text, int(size * 1e9), source)
    written = json.loads(source.with_suffix(".json").read_text())["bytes"]
    row = {"gigabytes": written / 1e9, "workers": options.workers, "cpus": os.cpu_count()}
    scaled = run(
        folder / "scale.json", out, "-m", "juliagpt_jax.scale", f"--source={source}", f"--out={out}",
        f"--workers={options.workers}", f"--tasks={FILES}", given, "--json", goes_on=True,
    )  # fmt: skip
    row |= {f"scale_{key}": scaled[key] for key in ("s", "cpu_s", "bytes", "starts")}
    row["documents"] = json.loads(scaled["said"])["documents"]
    ends = [(out / "logs" / step / "stats.json").stat().st_mtime for step in STEPS]
    begins = [(out / "scale.json").stat().st_mtime, *ends[:-1]]
    row |= {f"{step}_s": end - begin for step, begin, end in zip(STEPS, begins, ends, strict=True)}
    row["scale_mb_cpu_s"] = written / 1e6 / scaled["cpu_s"]
    made = folder / "shards"
    cut = run(folder / "shard.json", made, "-m", "juliagpt_jax.shard", f"--source={source}", given, f"--out={made}")
    row |= {f"shard_{key}": cut[key] for key in ("s", "cpu_s", "bytes")} | {
        "shard_mb_cpu_s": written / 1e6 / cut["cpu_s"],
        "token_bytes": sum(file.stat().st_size for file in (out / "shards").glob("train_*.bin")),
    }
    row |= trained("micro", out / "shards", folder, options.steps)
    row.pop("held")
    return row


def tiled(few: Path, out: Path, size: int) -> None:
    """Write `size` bytes of token files: the training ids of the shards in `few` over and over, each file from another
    place on."""
    index = shards.open_index(few)
    ids = np.asarray(shards.Tokens([(index, index.sides["train"])]))
    known, made = index.total("train"), []
    with new_folder(out, "--folder") as folder:
        for part in index.sides["val"]:
            for file in few.glob(f"{part.name}.*"):
                shutil.copy(file, folder)
        left = size // index.dtype.itemsize
        while left:
            tokens, name = min(left, shard_writer.SHARD_TOKENS), f"train_{len(made):05d}"
            content = np.resize(np.roll(ids, -len(made) * 1_000_003), tokens).tobytes()
            (folder / f"{name}.bin").write_bytes(content)
            blocks = range(0, len(content), shards.BLOCK)
            arrays = {
                "ends": np.array([tokens], np.uint64),
                "checks": np.array([shards.check(content[at : at + shards.BLOCK]) for at in blocks], np.uint64),
            }
            for kind, array in arrays.items():
                np.save(folder / f"{name}.{kind}.npy", array)
            hashes = {kind: hashlib.sha256(array.tobytes()).hexdigest() for kind, array in arrays.items()}
            counts = TextCounts(*(count * tokens // len(ids) for count in known))
            made.append(shards.Shard(name, tokens, 1, counts, hashlib.sha256(content).hexdigest(), **hashes))
            left -= tokens
        sides = {"train": made, "val": list(index.sides["val"])}
        shard_writer.write_index(folder, index.tokenizer(), index.documents, sides, index.leaked, index.source)


def waiting(gigabytes: float, options: argparse.Namespace, text: str) -> list[dict[str, Any]]:
    """Train small models on token files of so many gigabytes."""
    folder = options.folder / f"tokens_{gigabytes:g}"
    given = tokenizer(text, folder)
    few, data, rows = folder / "few", folder / "data", []
    run(folder / "few.json", few, "-m", "juliagpt_jax.shard", f"--source={options.text}", given, f"--out={few}")
    if not data.exists():
        tiled(few, data, int(gigabytes * 1e9))
    for model in MODELS:
        found = trained(model, data, folder, options.steps)
        held = found.pop("held")
        quarter = len(held) // 4
        row = {"token_gigabytes": gigabytes, "model": model, "steps": options.steps, "cpus": os.cpu_count()} | found
        rows.append(
            row
            | {
                "load": os.getloadavg()[0],
                "held_second_quarter": statistics.median(held[quarter : 2 * quarter]),
                "held_last_quarter": statistics.median(held[-quarter:]),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--sizes", default="", help="gigabytes of text, one after the other")
    parser.add_argument("--tokens", type=float, default=0.0, help="gigabytes of token files to train on")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--folder", type=Path, required=True, help="for what is made; a new one, or one to go on in")
    parser.add_argument("--out", type=Path, required=True, help="rows are added to it; sizes it has are left out")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    text = options.text.read_text(encoding="utf-8")
    known = list(map(json.loads, options.out.read_text().splitlines())) if options.out.exists() else []

    def add(rows: list[dict[str, Any]], folder: Path) -> None:
        for row in rows:
            print(json.dumps(row), flush=True)
            with open(options.out, "a") as file:
                file.write(json.dumps(row) + "\n")
        shutil.rmtree(folder)

    for size in map(float, filter(None, options.sizes.split(","))):
        if not any(abs(row.get("gigabytes", 0) / size - 1) < 0.01 for row in known):
            add([measure(size, options, text)], options.folder / f"{size:g}")
    if options.tokens and not any(row.get("token_gigabytes") == options.tokens for row in known):
        add(waiting(options.tokens, options, text), options.folder / f"tokens_{options.tokens:g}")


if __name__ == "__main__":
    main()
