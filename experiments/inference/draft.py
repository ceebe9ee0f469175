"""Whether speculative decoding pays: characters a second with a draft and without one, in turn.

python experiments/inference/draft.py --workdir=runs/base --draft=runs/tiny \
    --out=experiments/inference/results/draft/base_tiny
python experiments/inference/draft.py --config=configs/base.py --draft_config=configs/tiny.py --out=...

Each round writes --new characters with the large model alone and then with each number of guesses, so that a machine
that is busy is busy for all. `round_cost` is what a round takes in steps of the large model alone: it pays where a
round brings more tokens than that. With --config the weights are random and the guesses bad; the cost of a round is the
same, so its row says how many of them a trained draft must have right.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from juliagpt_jax.ground import config_file, devices

VOCAB = 65


def models(options: argparse.Namespace):
    """Both models with their parameters, and a prompt of one token."""
    import jax

    from juliagpt_jax.models.build import build_model
    from juliagpt_jax.store.workdir import open_run
    from juliagpt_jax.training.state import initial_state

    if options.workdir:
        runs = open_run(options.workdir), open_run(options.draft)
        if runs[0].tokenizer.to_dict() != runs[1].tokenizer.to_dict():
            raise SystemExit("the two runs have different tokenizers")
        return *((run.model, run.params) for run in runs), runs[0].tokenizer.lead
    both = []
    for file in (options.config, options.draft_config):
        settings = config_file.load(file)
        model = build_model(settings, VOCAB)
        both.append((model, jax.jit(lambda s=settings, m=model: initial_state(s, m).params)()))
    return *both, 1


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--workdir", type=Path)
    flags.add_argument("--draft", type=Path)
    flags.add_argument("--config")
    flags.add_argument("--draft_config")
    flags.add_argument("--out", type=Path, metavar="PREFIX", help="writes PREFIX.jsonl")
    flags.add_argument("--guesses", default="2,4,8", metavar="N,N")
    flags.add_argument("--batch", type=int, default=1, metavar="B")
    flags.add_argument("--new", type=int, default=500, metavar="N")
    flags.add_argument("--temperature", type=float, default=0.8)
    flags.add_argument("--greedy", action="store_true")
    flags.add_argument("--rounds", type=int, default=5, metavar="N")
    flags.add_argument("--threads", type=int, default=0, metavar="N")
    options = flags.parse_args()
    if not (options.workdir and options.draft) and not (options.config and options.draft_config):
        flags.error("--workdir and --draft, or --config and --draft_config")
    devices.limit_threads(options.threads)
    devices.prepare(config_file.load(options.config or "configs/base.py", ["mesh.data=1"]))

    import jax
    import numpy as np

    from juliagpt_jax.inference.generate import Generator
    from juliagpt_jax.inference.sampling import Rule
    from juliagpt_jax.inference.speculative import SpeculativeGenerator

    large, small, lead = models(options)
    rule = Rule(options.temperature, greedy=options.greedy)
    writers = {0: Generator(*large)}
    writers |= {n: SpeculativeGenerator(*large, *small, draft_tokens=n) for n in map(int, options.guesses.split(","))}
    prompts, times = [np.array([lead])] * options.batch, {n: [] for n in writers}
    for turn in range(options.rounds + 1):  # the first compiles
        for n, writer in writers.items():
            begun = time.perf_counter()
            writer.generate(prompts, options.new, rule, turn)
            times[n] += [time.perf_counter() - begun] if turn else []
    rows = []
    for n, writer in writers.items():
        ratios = [plain / own for plain, own in zip(times[0], times[n], strict=True)]
        row = {
            "guesses": n,
            "tokens_per_s": options.batch * options.new / statistics.median(times[n]),
            "speedup": statistics.median(ratios),
            "speedup_range": [min(ratios), max(ratios)],
        }
        if isinstance(writer, SpeculativeGenerator):
            rounds = writer.proposed / n  # of all rows
            written = -(-options.new // writer.block) * writer.block  # blocks are written whole
            tokens = options.batch * written * (options.rounds + 1) / rounds
            row |= {"accepted": writer.accepted / writer.proposed, "tokens_a_round": tokens}
            row |= {"round_cost": tokens / row["speedup"]}
        row |= {"batch": options.batch, "new": options.new, "rule": str(rule), "rounds": options.rounds}
        row |= {"device": jax.devices()[0].device_kind, "threads": options.threads or devices.cores()}
        rows.append(row)
        print(json.dumps(row), flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
