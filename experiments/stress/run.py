"""How much of other people's text does `prepare` keep, and how much junk does it leave?

Command:   python experiments/stress/run.py --out=experiments/stress/results/run [--code=CHECKOUT] [--name=COLUMN]
Hardware:  any; two minutes on one core
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import marked
import plain

# All filters off: what is left is the text that the pipeline took for the author's.
FLAGS = "--min_quality=0 --similarity=1 --leak_limit=1 --guard=0 --jobs=1".split()


def files():
    """Yield (name, suffix, bytes, what must be kept, what must not)."""
    for name in plain.TEXTS:
        yield name, ".txt", *plain.make(name)
    for name in marked.PAGES:
        yield name, ".html", *marked.make(name)
    for name in marked.BOOKS:
        yield name, ".epub", *marked.make(name)


def words(text):
    """Return the words of a text as a bag; numbers and their names do not count."""
    text = re.sub(r"<[^>]*>", " ", text).lower()
    return Counter(w for w in re.findall(r"[a-z]+", text) if len(w) > 2)


def measure(code, folder):
    """Return {name: (share of characters kept, share of junk left, exit code)} of the checkout `code`."""
    result = {}
    for name, suffix, content, kept, dropped in files():
        source, out = folder / f"{name}{suffix}", folder / f"{name}.made"
        source.write_bytes(content)
        command = [sys.executable, "-m", "juliagpt_jax.prepare", f"--source={source}", f"--out={out}", *FLAGS]
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=code, capture_output=True, text=True, env=environment)
        made = "".join((out / f"{side}.txt").read_text() for side in ("train", "val")) if done.returncode == 0 else ""
        truth, found = words(kept), words(made)
        junk = Counter({w: n for w, n in words(dropped).items() if w not in truth})
        size = lambda bag: sum(len(w) * n for w, n in bag.items())
        left = size(found & junk) / size(junk) if junk else 0.0
        result[name] = (round(size(truth & found) / size(truth), 4), round(left, 4), done.returncode)
        print(f"{name:20} kept {result[name][0]:7.1%}  junk left {left:7.1%}  exit {done.returncode}", flush=True)
    return result


def table(results):
    """Return the Markdown table of all columns."""
    names = list(results)
    lines = [
        f"| text | {' | '.join(f'{n}: kept | {n}: junk left' for n in names)} |",
        f"| --- |{' ---: | ---: |' * len(names)}",
    ]
    texts = list(results[names[0]])
    for text in texts:
        cells = [f"{value:.1%}" for n in names for value in results[n][text][:2]]
        lines.append(f"| {text} | {' | '.join(cells)} |")
    means = [f"**{sum(results[n][t][k] for t in texts) / len(texts):.1%}**" for n in names for k in (0, 1)]
    return "\n".join([*lines, f"| mean | {' | '.join(means)} |"]) + "\n"


def main():
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--out", required=True, type=Path)
    flags.add_argument(
        "--code", type=Path, default=Path(__file__).parents[2], help="checkout whose pipeline is measured"
    )
    flags.add_argument("--name", default="after", help="its column in the table")
    options = flags.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file = options.out / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        results[options.name] = measure(options.code, Path(folder))
    file.write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "table.md").write_text(table(results))


if __name__ == "__main__":
    main()
