"""What a text costs several models, in windows of one length: what training on something else has cost a model.

python experiments/pipeline/perplexity.py --data=FILE --out=experiments/pipeline/results/perplexity NAME=WORKDIR ...
"""

import argparse
import dataclasses
import json
from pathlib import Path

from juliagpt_jax.ground.files import write_text
from juliagpt_jax.inference.opened import open_model
from juliagpt_jax.inference.scoring import score_text
from juliagpt_jax.store.workdir import find


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data", required=True, type=Path, metavar="FILE")
    flags.add_argument("--out", required=True, type=Path, metavar="DIR")
    flags.add_argument("--context", type=int, default=1_024, metavar="N", help="tokens of a window; each scores half")
    flags.add_argument("workdirs", nargs="+", metavar="NAME=WORKDIR")
    asked, rows = flags.parse_args(), []
    for name, _, workdir in (each.partition("=") for each in asked.workdirs):
        opened = open_model(find(Path(workdir)))
        config = dataclasses.replace(opened.model.config, context=asked.context)
        model, tokenizer = opened.model.clone(config=config, parent=None), opened.tokenizer
        ids = tokenizer.encode(asked.data.read_text())
        score = score_text(model, opened.params, ids, tokenizer.lead, batch=4, tokenizer=tokenizer)
        rows.append({"model": name, "text": asked.data.name} | score.to_dict())
        print(
            f"{name}: {score.perplexity:.2f} a token, {score.word_perplexity:.2f} a word, {score.bpb:.4f} bits a byte"
        )
        asked.out.mkdir(parents=True, exist_ok=True)
        write_text(asked.out / "results.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))


if __name__ == "__main__":
    main()
