"""Make the small sets on which two cores train SmolLM2: instructions, preferences, word problems for a verifier.

    python experiments/pipeline/slices.py --data=DIR --out=data/slices

DIR has the public sets as they are published: svamp/, gsm8k/, sst2/ (docs/howto/tasks.md says from where), preferences/
(hh_helpful_base_test.jsonl.gz and hh_harmless_base_test.jsonl.gz, the test parts of
huggingface.co/datasets/Anthropic/hh-rlhf, MIT) and wikitext-2-raw/. No question of a test part gets into any of them.
"""

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from juliagpt_jax.data.tasks import build as tasks
from juliagpt_jax.ground.files import write_text

# How many examples of a task the instructions have, and how many characters one may have with its answer.
INSTRUCTIONS = {"svamp_text": (1_100, 400), "gsm8k": (250, 700), "sst2": (250, 400), "sums": (100, 400)}
MADE_UP = ("sums",)
PAIRS, LONGEST_TEXT = 300, 320  # preferences of each of two kinds, and characters of a text
JUDGED = 250  # word problems of which a verifier sees answers
DEV = 5  # one in so many, beside those to train on


def spread(rows: Sequence, count: int) -> list:
    """Return so many of the rows, evenly spread."""
    return [rows[i * len(rows) // count] for i in range(min(count, len(rows)))]


def instructions(data: Path, side: str) -> Iterator[dict]:
    """Yield conversations of one question of a task and its answer."""
    for word, (count, longest) in INSTRUCTIONS.items():
        every = tasks.read(word, side, None if word in MADE_UP else str(data / word.removesuffix("_text")))
        short = [own for own in every if len(own.prompt + own.answer) <= longest]
        for own in spread(short, count if side == "train" else count // 12):
            said = ("user", own.prompt.strip()), ("assistant", own.answer.strip())
            yield {"messages": [{"role": role, "content": text} for role, text in said]}


def preferences(data: Path, side: str) -> Iterator[dict]:
    """Yield conversations with two answers."""
    for kind in ("helpful", "harmless"):
        lines = gzip.decompress((data / f"preferences/hh_{kind}_base_test.jsonl.gz").read_bytes()).decode().splitlines()
        rows = [json.loads(line) for number, line in enumerate(lines) if (number % DEV == 0) == (side == "dev")]
        short = [row for row in rows if max(len(row["chosen"]), len(row["rejected"])) <= LONGEST_TEXT]
        yield from spread(short, PAIRS if side == "train" else PAIRS // 3)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data", required=True, type=Path, metavar="DIR")
    flags.add_argument("--out", required=True, type=Path, metavar="DIR")
    asked = flags.parse_args()
    for name, make in (("instructions", instructions), ("hh", preferences)):
        (asked.out / name).mkdir(parents=True, exist_ok=True)
        for side in ("train", "dev"):
            rows = list(make(asked.data, side))
            write_text(asked.out / name / f"{side}.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))
            print(f"{name}, {side}: {len(rows):,}", file=sys.stderr)
    (asked.out / "svamp").mkdir(exist_ok=True)
    head, *lines = (asked.data / "svamp/mawps-asdiv-a_svamp_train.csv").read_text().splitlines(keepends=True)
    write_text(asked.out / "svamp/mawps-asdiv-a_svamp_train.csv", "".join([head, *spread(lines, JUDGED)]))
    write_text(asked.out / "wikitext2_slice.txt", (asked.data / "wikitext-2-raw/wiki.test.raw").read_text()[:32_000])


if __name__ == "__main__":
    main()
