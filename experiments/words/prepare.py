"""A tenth of a text's documents to choose recipes on, and the next fiftieth to measure them on: both of training text.

python -m juliagpt_jax.prepare --source=wikitext2 --out=data/wikitext2
python experiments/words/prepare.py --source=data/wikitext2 --out=data/words/tenth
"""

import argparse
import json
from pathlib import Path

from juliagpt_jax.ground.files import new_folder

ROWS = "{}_enriched.jsonl"  # as prepare writes it: a document a row, under "text"


def cut(documents: list[dict], share: float, held_out: float) -> tuple[list[dict], list[dict]]:
    """Return the first `share` of the documents, and those that follow, `held_out` of all; at least one of each."""
    first = max(1, round(share * len(documents)))
    return documents[:first], documents[first : first + max(1, round(held_out * len(documents)))]


def main() -> None:
    flags = argparse.ArgumentParser(description="Cut a training and a held-out part from a prepared training text.")
    flags.add_argument("--source", type=Path, required=True, metavar="DIR", help="what prepare wrote")
    flags.add_argument("--out", type=Path, required=True, metavar="DIR", help="it must not exist yet")
    flags.add_argument("--share", type=float, default=0.1, metavar="N")
    flags.add_argument("--held_out", type=float, default=0.02, metavar="N")
    options = flags.parse_args()
    path = options.source / ROWS.format("train")
    if not path.is_file():
        raise SystemExit(f"prepare: {path} does not exist: --source is a folder that prepare wrote")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with new_folder(options.out, "--out") as folder:
        for name, part in zip(("train", "val"), cut(rows, options.share, options.held_out), strict=True):
            text = "".join(json.dumps({"text": row["text"]}) + "\n" for row in part)
            (folder / ROWS.format(name)).write_text(text, encoding="utf-8")
            print(f"{name}: {len(part):,} documents, {sum(len(row['text']) for row in part):,} characters")


if __name__ == "__main__":
    main()
