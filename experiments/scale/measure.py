"""Measure the way from rows of text to training steps: throughput a core, its slope over sizes, memory, waiting.

python experiments/scale/measure.py --text=FILE --sizes=0.05,0.1,0.2 --workers=2 --folder=scale --out=FILE.jsonl

A source of a size is made of the sentences of a text, in documents of twelve; a tenth of them are exact copies and a
twentieth near ones. It goes through the command `scale` (clean, exact copies, MinHash, token files), through `shard`
alone, and into a run of a small model that reads its token files from the disk at every step. Of each are taken the
wall time, the processor time of all its processes, which others on the machine change less, and the most memory that
they held together.
"""

import argparse
import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILES = 16
STEPS = ("clean", "find", "sign", "buckets", "cluster", "keep", "index")
TRAIN = (
    "import sys; from juliagpt_jax.training import loop; loop.DEVICE_TOKENS = 0; import runpy; "
    "sys.argv[0] = 'main'; runpy.run_module('juliagpt_jax.main', run_name='__main__')"
)


def make(text: str, size: int, folder: Path) -> int:
    """Write a source of about `size` bytes of text; return the bytes."""
    sentences = [s.strip() for s in re.split(r"(?<=[.!?])\s+", text) if 20 < len(s) < 300]
    rng, written, made = random.Random(size), 0, []
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
    return written


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


def run(*command: str) -> tuple[float, float, int, str]:
    """Run a command; return wall and processor seconds, the most memory, and what it said."""
    begun, most, used = time.perf_counter(), 0, {}
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen([sys.executable, *command], stdout=out, stderr=subprocess.STDOUT)
        while process.poll() is None:
            held, seen = looked_at(process.pid)
            most, used = max(most, held), used | seen
            time.sleep(0.1)
        seconds = time.perf_counter() - begun
        out.seek(0)
        said = out.read()
    if process.returncode:
        sys.exit(f"{' '.join(command)}\n{said[-2000:]}")
    return seconds, sum(used.values()), most, said


def measure(size: float, options: argparse.Namespace, text: str) -> dict:
    folder = options.folder / f"{size:g}"
    written = make(text, int(size * 1e9), folder / "source")
    row = {"gigabytes": written / 1e9, "workers": options.workers, "cpus": os.cpu_count()}
    tokenizer = folder / "tokenizer"
    head = folder / "head.txt"
    head.write_text(text[:2_000_000])
    run("-m", "juliagpt_jax.tokenize", f"--source={head}", "--vocab=4096", f"--out={tokenizer}")
    given = f"--tokenizer={tokenizer / 'tokenizer.json'}"
    source, out = f"--source={folder / 'source'}", folder / "out"
    seconds, cpu, most, said = run(
        "-m", "juliagpt_jax.scale", source, f"--out={out}", f"--workers={options.workers}", f"--tasks={FILES}", given,
        "--json",
    )  # fmt: skip
    row |= {
        "scale_s": seconds,
        "scale_cpu_s": cpu,
        "scale_bytes": most,
        "documents": json.loads(said.splitlines()[-1])["documents"],
    }
    ends = [(out / "logs" / step / "stats.json").stat().st_mtime for step in STEPS]
    begins = [(out / "scale.json").stat().st_mtime, *ends[:-1]]
    row |= {f"{step}_s": end - begin for step, begin, end in zip(STEPS, begins, ends, strict=True)}
    row["scale_mb_cpu_s"] = written / 1e6 / cpu
    seconds, cpu, most, _ = run("-m", "juliagpt_jax.shard", source, given, f"--out={folder / 'shards'}")
    row |= {"shard_s": seconds, "shard_cpu_s": cpu, "shard_bytes": most, "shard_mb_cpu_s": written / 1e6 / cpu}
    shards = sum(file.stat().st_size for file in (out / "shards").glob("train_*.bin"))
    _, _, most, _ = run(
        "-c", TRAIN, "--config=configs/micro.py", f"--workdir={folder / 'run'}", f"--config.data.path={out / 'shards'}",
        f"--config.train.steps={options.steps}", "--config.train.eval_every=100000", "--config.train.report_share=0.01",
        "--config.train.checkpoint_every=100000", "--config.train.warmup=10", "--config.train.sample_every=0",
    )  # fmt: skip
    report = json.loads((folder / "run" / "report.json").read_text())
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    times = sorted(r["step_s"] for r in rows if "step_s" in r)
    row |= {"token_bytes": shards, "train_bytes": most, "data_wait_share": report["data_wait_share"]}
    return row | {"step_s": times[len(times) // 2]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--sizes", default="0.05,0.1,0.2", help="gigabytes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--folder", type=Path, required=True, help="a new one; it is left as it is")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    text = options.text.read_text(encoding="utf-8")
    for size in map(float, options.sizes.split(",")):
        row = measure(size, options, text)
        print(json.dumps(row), flush=True)
        with open(options.out, "a") as file:
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
