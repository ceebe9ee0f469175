"""Find the training passages that lower the validation loss, and those that raise it.

python -m juliagpt_jax.influence --workdir=runs/tiny --method=ekfac --out=runs/tiny/influence [--queries=256] [--json]

Writes report.md (the most and least influential passages, with their text) and scores.npz, which data.scores takes:
training can keep the top of a corpus by influence. experiments/influence says which method is worth its time.
"""

import argparse
import time
from pathlib import Path

from juliagpt_jax.ground import command, devices, files
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.words import near

METHODS = ("tracin", "cosine", "trak", "ekfac")  # of evaluation/influence.py, which brings JAX


def parser() -> command.Parser:
    flags = command.Parser("influence", "Find the training passages that lower the validation loss most, and least.")
    flags.add_argument("--workdir", required=True, metavar="DIR")
    flags.add_argument("--out", required=True, metavar="DIR", help="folder for report.md and scores.npz")
    flags.add_argument("--method", default="ekfac", metavar="NAME", help="tracin, cosine, trak or ekfac")
    flags.add_argument("--checkpoints", default="newest", help="newest, all (train.keep says how many), or 400,800")
    flags.add_argument(
        "--queries", type=int, default=256, metavar="N", help="validation passages asked about, evenly spread; 0: all"
    )
    flags.add_argument(
        "--where",
        default="",
        metavar="WORDS",
        help="only validation passages that meet a filter: 'phase in philosophy'",
    )
    flags.add_argument("--features", type=int, default=2048, metavar="K", help="length of TRAK's random projections")
    flags.add_argument(
        "--damping", type=float, default=0.1, help="added to eigenvalues by trak and ekfac, in units of their mean"
    )
    flags.add_argument(
        "--fit_windows", type=int, default=1024, metavar="N", help="training windows on which ekfac measures curvature"
    )
    flags.add_argument("--top", type=int, default=50, metavar="N", help="passages in each list of the report")
    flags.add_argument("--seed", type=int, default=0, help="of projections and sampled labels")
    flags.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    return flags


def main(options: argparse.Namespace) -> None:
    if options.method not in METHODS:
        raise UserError(f"--method: no method is called {options.method!r}{near(options.method, METHODS)}")
    begun = time.perf_counter()
    for name, low in [("queries", 0), ("features", 1), ("damping", 0), ("fit_windows", 1), ("top", 1), ("seed", 0)]:
        if not low <= getattr(options, name) < 2**31:
            raise UserError(f"--{name}={getattr(options, name)} must be at least {low}")
    from juliagpt_jax.data import corpus as corpora
    from juliagpt_jax.store.manifest import steps
    from juliagpt_jax.store.workdir import find, open_run

    workdir, out = Path(options.workdir), Path(options.out)
    every = [str(step) for step in steps(workdir / "checkpoints")] or ["newest"]
    wanted = every if options.checkpoints == "all" else options.checkpoints.split(",")
    found = [find(workdir, checkpoint) for checkpoint in wanted]
    settings = found[-1].config
    found[-1].refuse_packed()
    corpora.check(settings.data)
    files.make_folder(out)
    devices.prepare(settings)

    import numpy as np

    from juliagpt_jax.data import selection
    from juliagpt_jax.data.metadata import Words
    from juliagpt_jax.evaluation import chunk_scores, influence
    from juliagpt_jax.ground.files import write_text
    from juliagpt_jax.training.schedules import learning_rate

    runs = [open_run(each) for each in found]
    if any(run.model != runs[-1].model for run in runs):
        raise UserError("--checkpoints: the run turned ternary between these (train.ternary_from): take later ones")
    run, rate = runs[-1], learning_rate(settings)
    corpus, lead = run.corpus(), run.tokenizer.lead
    train = chunk_scores.passages(corpus.train, corpus.train_chunks.lengths)
    val = chunk_scores.passages(corpus.val, corpus.val_chunks.lengths)
    text = lambda chunks: [chunk_scores.text_of(chunks, i, run.tokenizer) for i in range(len(chunks.starts))]
    among = selection.matching(corpus.val_chunks, options.where)
    if not len(among):
        raise UserError(f"--where: no validation passage is left of {len(val.starts):,} by {options.where!r}")
    count = min(options.queries or len(among), len(among))
    query = val.take(among[np.unique(np.linspace(0, len(among) - 1, count).astype(int))])
    question = influence.Question(
        model=run.model.clone(precision="f32", remat=False, parent=None),
        context=settings.model.context,
        lead=lead,
        train=train,
        query=query,
        groups=influence.groups_of(["all"] * len(query.starts), query.lengths)[1],
        features=options.features,
        damping=options.damping,
        fit_windows=options.fit_windows,
        seed=options.seed,
    )
    checkpoints = [influence.Checkpoint(r.params, float(np.asarray(rate(r.step - 1)))) for r in runs]
    scores = influence.METHODS[options.method](question, checkpoints)[:, 0]

    chunk_scores.write(out / "scores.npz", {options.method: scores.astype(np.float32)}, corpus.fingerprint)
    seconds = time.perf_counter() - begun
    facts = [
        ("model", f"{workdir}, step {', '.join(str(r.step) for r in runs)}"),
        ("score", f"{options.method}; above 0: training on the passage lowers the loss of the passages asked about"),
        (
            "asked about",
            f"{len(query.starts):,} of {len(among):,} validation passages of {settings.data.path}"
            + (f" ({options.where})" if options.where else ""),
        ),
        ("training passages", f"{len(train.starts):,}, of which {np.mean(scores > 0):.1%} score above 0"),
        ("settings", f"features {options.features}, damping {options.damping:g}, seed {options.seed}"),
    ]
    fields = corpus.train_chunks.columns
    words = [c for name in ("author", "title", "art") if isinstance(c := fields.get(name), Words)][:2]
    authors = [", ".join(c.names[c.codes[i]] for c in words) for i in range(len(scores))] if words else None
    title = f"What training passages do for the validation loss of {workdir.name}"
    page = influence.report(title, facts, scores, text(train), text(query), authors, options.top)
    write_text(out / "report.md", page)
    print(f"{out}: report.md, scores.npz: {options.method} of {len(scores):,} passages; {seconds:.0f} s")
    if options.json:
        values = {"workdir": options.workdir, "method": options.method, "steps": [r.step for r in runs]}
        order = np.argsort(-scores, kind="stable")
        command.print_json(
            values
            | {
                "out": str(out),
                "chunks": len(scores),
                "queries": len(query.starts),
                "most": order[: options.top].tolist(),
                "least": order[::-1][: options.top].tolist(),
                "scores": chunk_scores.quantiles(scores),
                "fingerprint": corpus.fingerprint,
                "seconds": seconds,
                "peak_memory_bytes": devices.peak_memory_bytes(),
            }
        )


if __name__ == "__main__":
    command.run(parser(), main)
