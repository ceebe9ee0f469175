"""The report of a run that has ended: its final weights scored on the validation text, and what they write."""

from typing import Any

from juliagpt_jax.data import selection
from juliagpt_jax.evaluation import report
from juliagpt_jax.ground import devices
from juliagpt_jax.inference import scoring
from juliagpt_jax.models import parameters
from juliagpt_jax.store import packed
from juliagpt_jax.training.events import Events
from juliagpt_jax.training.state import TrainState


def make(state: TrainState, events: Events, chosen: selection.Selection) -> dict[str, Any]:
    """Score the validation text, or `train.final_windows` of it, and generate from the final weights; see
    `evaluation/report.py`.

    Args:
        events: of the run, which know its config, its corpus and how its model is evaluated.
        chosen: what of the corpus it was trained on.
    """
    config, corpus = events.config, events.corpus
    train, step = config.train, int(state.step)
    parts = selection.parts(corpus.val_chunks, config.data.weights_by)
    measure = lambda params: scoring.score_text(
        events.fixed(params, step),
        params,
        corpus.val,
        events.lead,
        batch=events.eval_batch,
        place=events.place,
        parts=parts,
        windows=train.final_windows,
        characters_per_token=corpus.characters_per_token[1],
    ).to_dict()
    values: dict[str, Any] = {"workdir": str(events.workdir), "step": train.steps} | measure(state.params)
    if state.averaged != ():
        values["averaged"] = measure(state.averaged)
    generator = events.generator(state)
    texts, chars_per_s = report.write(generator, corpus.tokenizer, config.seed)
    tokens = train.steps * train.batch_size * config.model.context
    newest = events.workdir / "checkpoints" / str(train.steps)
    return (
        values
        | report.judge(texts, config.data.path == "schoolroom")
        | {
            "entropy": corpus.entropy,
            "passages": report.passages(texts),
            "params": parameters.count(state.params),
            "tokens": tokens,
            "flops": events.token_flops * tokens,
            "checkpoint_bytes": sum(f.stat().st_size for f in newest.rglob("*") if f.is_file()),
            "model_bytes": packed.size(generator.model, state.params),
            "peak_memory_bytes": devices.peak_memory_bytes(),
            "chars_per_s": chars_per_s,
            "skipped_steps": int(state.skipped),
            "compilations": {"train": 1, "eval": scoring.compilations()} | generator.compilations,
            "notes": [*corpus.notes, *chosen.notes],
            "training_characters": round(len(chosen.tokens) * corpus.characters_per_token[0]),
        }
    )
