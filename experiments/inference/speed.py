"""Generation at the shapes that the peers are measured at, ours and a peer's command in turn.

python experiments/inference/speed.py --out=experiments/inference/results/speed/NAME [--sizes=tiny,base]
    [--batches=1,32] [--precisions=f32] [--rounds=3]
    [--peer="COMMAND --size={size} --batch={batch} --threads={threads} --type=f32"]

tiny is 3 x 192 with 3 heads, context 128, hidden 512; base 6 x 384 with 6 heads, context 256, hidden 1,024; vocabulary
65. Each measurement is a process of its own that fills the context behind one character. A peer prints a JSON line with
tokens_per_s. Writes PREFIX.jsonl, a row for each size, batch and precision with every round's numbers, and PREFIX.md.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHAPES = {"tiny": ["--hidden=512"], "base": ["--hidden=1024", "--heads=6"]}


def once(command: list[str]) -> dict:
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--out", required=True, type=Path, metavar="PREFIX")
    flags.add_argument("--sizes", default="tiny,base", metavar="NAME,NAME")
    flags.add_argument("--batches", default="1,32", metavar="B,B")
    flags.add_argument("--precisions", default="f32", metavar="WORD,WORD")
    flags.add_argument("--rounds", type=int, default=3, metavar="N")
    flags.add_argument("--threads", type=int, default=1, metavar="N")
    flags.add_argument("--peer", default="", metavar="COMMAND", help="{size}, {batch}, {threads} are filled in")
    options = flags.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for size in options.sizes.split(","):
        for batch in options.batches.split(","):
            for word in options.precisions.split(","):
                ours = [sys.executable, "-m", "juliagpt_jax.benchmark", f"--config=configs/{size}.py", *SHAPES[size]]
                ours += ["--what=generate", f"--batch={batch}", f"--precision={word}", f"--threads={options.threads}"]
                peer = shlex.split(options.peer.format(size=size, batch=batch, threads=options.threads))
                pairs = [(once([*ours, "--json"]), once(peer) if peer else {}) for _ in range(options.rounds)]
                row = {"size": size, "batch": int(batch), "precision": word, "threads": options.threads}
                row["ours"] = [mine["tokens_per_s"] for mine, _ in pairs]
                row["peer"] = [other["tokens_per_s"] for _, other in pairs if other]
                row["ratios"] = [mine["tokens_per_s"] / other["tokens_per_s"] for mine, other in pairs if other]
                keys = ("seconds_500", "first_token_s", "compile_s", "share_of_limit", "weight_bytes")
                row |= {key: statistics.median(mine[key] for mine, _ in pairs) for key in keys}
                row |= {"device": pairs[0][0]["device"], "jax": pairs[0][0]["jax"], "peer_command": options.peer}
                rows.append(row)
                print(json.dumps(row), flush=True)
                options.out.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["| size | batch | precision | ours, characters/s | peer | ratio (range) | of limit |", "|" + "---|" * 7]
    for row in rows:
        spread = f"{statistics.median(row['ratios']):.2f} ({min(row['ratios']):.2f}-{max(row['ratios']):.2f})"
        lines.append(
            f"| {row['size']} | {row['batch']} | {row['precision']} | {statistics.median(row['ours']):,.0f} | "
            + (f"{statistics.median(row['peer']):,.0f} | {spread} | " if row["peer"] else "| | ")
            + f"{row['share_of_limit']:.0%} |"
        )
    options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
