"""The report of a run that has ended: its final weights scored on the validation text, and what they write."""

import math
from typing import Any

from juliagpt_jax.data import selection, tokenizer
from juliagpt_jax.evaluation import protocol, reading, report, routing, yardsticks
from juliagpt_jax.ground import devices
from juliagpt_jax.inference import scoring
from juliagpt_jax.models import parameters
from juliagpt_jax.store import packed
from juliagpt_jax.training import metrics
from juliagpt_jax.training.events import Events
from juliagpt_jax.training.state import TrainState


def make(state: TrainState, events: Events, chosen: selection.Selection) -> dict[str, Any]:
    """Score the validation text and generate from the final weights, both to the extent that suits the run; see
    `evaluation/report.py`.

    Args:
        events: of the run, which know its config, its corpus and how its model is evaluated.
        chosen: what of the corpus it was trained on.
    """
    config, corpus = events.config, events.corpus
    train, step = config.train, int(state.step)
    extent = report.extent(config, len(corpus.val))
    parts = selection.parts(corpus.val_chunks, config.data.weights_by)
    measure = lambda params: scoring.score_text(
        events.fixed(params, step),
        params,
        corpus.val,
        events.lead,
        batch=events.eval_batch,
        place=events.place,
        parts=parts,
        windows=extent.windows,
        tokenizer=corpus.tokenizer,
    )
    events.say(f"reporting: scoring {extent.windows:,} windows of validation text")
    params = events.whole(state.params)
    score = measure(params)
    values: dict[str, Any] = {"workdir": str(events.workdir), "step": train.steps} | score.to_dict()
    values["protocol"] = protocol.line(score, corpus.val, corpus.tokenizer, f"validation part of {config.data.path}")
    if state.averaged != ():
        values["averaged"] = measure(events.whole(state.averaged)).to_dict()
    generator = events.generator(state)
    events.say(f"reporting: writing {extent.written:,} {corpus.unit}s")
    texts, chars_per_s = report.write(generator, corpus.tokenizer, config.seed, extent.written)
    values |= routing.measure(events.fixed(params, step), params, corpus.val, events.lead)
    tokens = train.steps * train.batch_size * config.model.context
    events.say("reporting: judging what was written; counting what follows what in the text")
    counted = yardsticks.of(corpus)
    course = _course(events, len(chosen.tokens), int(state.skipped))
    newest = events.workdir / "checkpoints" / str(train.steps)
    return (
        values
        | report.judge(texts, config.data.path == "schoolroom")
        | {
            "unit": corpus.unit,
            "text_characters": corpus.counts[1].characters,
            "written": sum(map(len, texts)),
            "entropy": corpus.entropy,
            "tokenizer_sha256": tokenizer.digest(corpus.tokenizer),
            "counted": counted,
            "words": reading.read(values["bpc"], corpus.entropy, counted, corpus.unit, course, config),
            "passages": report.passages(texts),
            "params": parameters.count(params),
            "trained_params": parameters.count(state.params),
            "active_params": parameters.active(params, config.model),
            "tokens": tokens,
            "flops": events.token_flops * tokens,
            "checkpoint_bytes": sum(f.stat().st_size for f in newest.rglob("*") if f.is_file()),
            "model_bytes": packed.size(generator.model, params),
            "peak_memory_bytes": devices.peak_memory_bytes(),
            "chars_per_s": chars_per_s,
            "skipped_steps": int(state.skipped),
            "compilations": {"train": 1, "eval": scoring.compilations()} | generator.compilations,
            "notes": [*corpus.notes, *chosen.notes],
            "training_characters": round(len(chosen.tokens) * corpus.characters_per_token[0]),
        }
    )


def _course(events: Events, text: int, skipped: int) -> reading.Course:
    """Read the course of training from metrics.jsonl."""
    train, rows = events.config.train, metrics.read(events.workdir / "metrics.jsonl", checked=False)
    of_train, of_val = (math.log(2) * density for density in events.corpus.characters_per_token)
    curve = lambda key, bits: [
        (row["step"], math.nan if row[key] is None else row[key] / bits) for row in rows if key in row
    ]
    read = train.steps * train.batch_size * events.config.model.context
    return reading.Course(train.steps, read, text, skipped, curve("loss", of_train), curve("val_loss", of_val))
