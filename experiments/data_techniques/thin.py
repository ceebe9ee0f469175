"""Thin the validation text of the prepared classics, so that scoring costs less than training; leave training as it is.

Command:   python experiments/data_techniques/thin.py data/classics data
Result:    data/classics_study and data/classics_tune: every tenth stretch of ten validation chunks, other ones in each
"""

import os
import sys
from pathlib import Path


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    for name, which in [("classics_study", 0), ("classics_tune", 5)]:
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("train.txt", "train_enriched.jsonl"):
            (folder / file).unlink(missing_ok=True)
            os.symlink((source / file).resolve(), folder / file)
        for file in ("val.txt", "val_enriched.jsonl"):
            lines = (source / file).read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for number, line in enumerate(lines) if number // 10 % 10 == which]
            (folder / file).write_text("".join(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
