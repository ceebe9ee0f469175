"""Run one record from nothing, with three seeds, against the clock; and write the table of all records anew.

python experiments/laptop/run.py --track=TRACK --config=FILE --says=WHAT --out=experiments/laptop/results/run/NAME

Each run is a reader's command, `python -m juliagpt_jax.main`, in a new process and with an empty cache folder: reading
the text, the tokenizer and compilation are in its time. Measure with nothing else running.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

LIMIT = 300.0  # seconds of a whole command, its report among them


class Track(NamedTuple):
    """A text, and the number that counts.

    Attributes:
        flags: that name the text, and make the report score the whole of its validation side.
        unit: of the number; lower is better.
        number: takes it from a report.
    """

    flags: tuple[str, ...]
    unit: str
    number: Callable[[dict[str, Any]], float]


WHOLE = ("train.report_share=0", "train.sample_every=0")
TRACKS = {
    "schoolroom": Track(("data.path=schoolroom", *WHOLE), "bits a character", lambda report: report["bpc"]),
    "shakespeare": Track(
        ("data.path=data/shakespeare.txt", *WHOLE), "nats a character", lambda report: report["bpc"] * math.log(2)
    ),
    "wikitext2": Track(("data.path=data/wikitext2", *WHOLE), "bits a byte", lambda report: report["bpb"]),
}


def once(track: Track, config: str, seed: int, flags: list[str]) -> dict[str, Any]:
    """Train from nothing; return the number, the seconds of the whole command, and what the run says of itself."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "run"
        given = [f"--config.{flag}" for flag in (*track.flags, f"seed={seed}", *flags)]
        command = [sys.executable, "-m", "juliagpt_jax.main", f"--config={config}", f"--workdir={workdir}", *given]
        begun = time.perf_counter()
        subprocess.run(command, check=True, env=os.environ | {"JULIAGPT_CACHE": f"{folder}/cache"}, stdout=sys.stderr)
        seconds = time.perf_counter() - begun
        report, facts = (json.loads((workdir / f"{name}.json").read_text()) for name in ("report", "run"))
    kept = {key: report[key] for key in ("params", "tokens", "flops", "perplexity", "passages")}
    return {"seed": seed, "number": track.number(report), "seconds": seconds, "device": facts["device"], **kept}


def table(results: Path) -> str:
    """Return the records of every track in a folder, oldest first, as Markdown."""
    records = [json.loads(path.read_text()) for path in results.glob("*/record.json")]
    lines = []
    for name, track in TRACKS.items():
        own = sorted((record for record in records if record["track"] == name), key=lambda record: record["date"])
        if not own:
            continue
        lines += [
            f"## {name}, {track.unit}",
            "",
            "| date | record | mean ± sd | change | seconds, slowest | what changed |",
        ]
        lines += ["|---|---|---|---|---|---|"]
        best = None
        for record in own:
            numbers = [run["number"] for run in record["runs"]]
            mean, slowest = statistics.mean(numbers), max(run["seconds"] for run in record["runs"])
            change = "" if best is None else f"{mean - best:+.3f}"
            late = "" if slowest <= LIMIT else " (too slow: no record)"
            spread = f" ± {statistics.stdev(numbers):.3f}" if len(numbers) > 1 else ""
            lines.append(
                f"| {record['date']} | [{record['name']}]({record['name']}/record.json) | {mean:.3f}{spread} | "
                f"{change} | {slowest:.0f}{late} | {record['says']} |"
            )
            best = mean if best is None or (mean < best and slowest <= LIMIT) else best
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    flags = argparse.ArgumentParser(description="Run a record against the clock.")
    flags.add_argument("--track", required=True, choices=TRACKS)
    flags.add_argument("--config", required=True, metavar="FILE")
    flags.add_argument("--says", required=True, metavar="TEXT", help="what changed since the record before")
    flags.add_argument("--out", type=Path, required=True, metavar="DIR")
    flags.add_argument("--seeds", default="1,2,3", metavar="N,N,...")
    flags.add_argument("flags", nargs="*", metavar="KNOB=VALUE", help="beside the config's")
    options = flags.parse_args()
    track = TRACKS[options.track]
    record = {
        "track": options.track,
        "name": options.out.name,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "says": options.says,
        "command": f"--config={options.config} " + " ".join(f"--config.{flag}" for flag in options.flags),
        "runs": [once(track, options.config, int(seed), options.flags) for seed in options.seeds.split(",")],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "record.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    whole = table(options.out.parent)
    (options.out.parent / "table.md").write_text(whole, encoding="utf-8")
    print(whole)


if __name__ == "__main__":
    main()
