"""The model card: what an exported model is, what was measured of it, and how it is opened."""

import math
from typing import Any

from juliagpt_jax.data.tokenizer import digest
from juliagpt_jax.models.parameters import active, count
from juliagpt_jax.store.run import Run


def text(run: Run, report: dict[str, Any], precision: str) -> str:
    """Return the README.md of an exported folder.

    Args:
        run: the run whose model it is.
        report: what the run reported at its end; {} where it has not ended. Its numbers are told of the weights that it
            was measured on, and of no others.
    """
    model, train, facts = run.config.model, run.config.train, run.meta
    ways = [
        (train.ema, f" with decay {train.ema:g}"),
        (train.ema_half_life, f" with a half-life of {train.ema_half_life:g} epochs"),
        (train.tail, f" over the last {train.tail:g} of the steps"),
    ]
    how = next((words for value, words in ways if value), f" over the ends of {train.cycles.count} cycles")
    used = active(run.params, model)
    through = f" of which a token goes through {used:,}" if used != count(run.params) else ""
    rows = [
        ("parameters", f"{count(run.params):,}{through}, stored as {precision}"),
        (
            "form",
            f"{model.layers} layers, width {model.width}, {model.heads} heads, {model.kv_heads or model.heads} of keys "
            f"and values, hidden width {model.hidden}, context {model.context}",
        ),
        (
            "weights",
            f"after step {run.step} of {train.steps}" + (f", averaged{how}" if run.averaged else ""),
        ),
        ("trained on", f"`{run.config.data.path}`" + (f", SHA-256 {facts['data']}" if facts.get("data") else "")),
        ("tokenizer", f"{run.tokenizer.type}, {run.tokenizer.vocab_size:,} tokens, SHA-256 {digest(run.tokenizer)}"),
        (
            "with",
            f"{train.optimizer}, learning rate {train.lr:g}, {train.batch_size} x {model.context} tokens a step, "
            f"{train.precision}, seed {run.config.seed}",
        ),
    ]
    if facts.get("imported"):
        rows.append(("imported from", f"{facts['imported']}, before step 0"))
    rows.append(("by", f"juliagpt_jax, commit {facts.get('commit', 'unknown')}, on {facts.get('device', 'unknown')}"))
    page = _PAGE.replace("{use}", _ANSWERS if model.kind == "t5" else _WRITES)
    task = "text2text-generation" if model.kind == "t5" else "text-generation"
    return page.format(
        task=task,
        name=run.workdir.resolve().name,
        facts="\n".join(f"| {name} | {value} |" for name, value in rows),
        measured=_measured(run, report),
    )


def _measured(run: Run, report: dict[str, Any]) -> str:
    measured = report.get("averaged") if run.averaged else report
    if measured and report.get("step") == run.step and "exact" in measured:
        return (
            f"On {measured['examples']:,} examples that it was not trained on: {measured['exact']:.1%} of its greedy "
            f"answers are right to the letter; loss {measured['loss']:.4f} nats a token of the right ones."
        )
    if measured and report.get("step") == run.step:
        characters, tokens = measured["characters"], measured.get("scored_tokens", measured["characters"])
        inside = f" in {tokens:,} tokens" if tokens != characters else ""
        lines = [
            f"On {characters:,} characters of validation text{inside}, "
            f"each scored once, context {measured['context']}, stride {measured['stride']}, "
            f"in {run.config.train.precision}:",
            "",
            f"- loss {measured['loss']:.4f} nats a token, perplexity {measured['perplexity']:.4f}",
            f"- {measured['bpc']:.4f} bits per character"
            + (f" (the corpus's own entropy: {report['entropy']:.4f})" if report.get("entropy") else ""),
        ]
        if "bpb" in measured:  # older reports lack them
            word = measured["word_perplexity"]
            of_word = (
                f"; word perplexity {word:,.2f}, each line end counted as a word"
                if word and math.isfinite(word)
                else ""
            )
            lines.append(f"- {measured['bpb']:.4f} bits per byte{of_word}")
        if "protocol" in report:
            lines.append(f"- protocol: {report['protocol']}")
        lines += [f"- {name}: perplexity {part['perplexity']:.4f}" for name, part in measured.get("phases", {}).items()]
        if report.get("truth_share") is not None and not run.averaged:
            lines.append(f"- of {report['claims']} checkable statements it wrote, {report['truth_share']:.1%} are true")
        return "\n".join(lines)
    if not run.averaged and run.meta.get("val_loss") is not None:
        windows = run.config.train.eval_windows
        return f"Loss {run.meta['val_loss']:.4f} nats a token on {windows} windows of the validation text."
    return "Nothing was measured of these weights."


_PAGE = """---
library_name: transformers
pipeline_tag: {task}
---

# {name}

A small language model, trained with juliagpt_jax.

| | |
|---|---|
{facts}

## Measured

{measured}

## Use

```python
{use}
```
"""
_WRITES = """from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained("."), AutoTokenizer.from_pretrained(".")
inputs = tokenizer("the nature of", return_tensors="pt", return_token_type_ids=False)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=100, do_sample=False)[0]))"""
_ANSWERS = """from transformers import AutoTokenizer, T5ForConditionalGeneration

model, tokenizer = T5ForConditionalGeneration.from_pretrained("."), AutoTokenizer.from_pretrained(".")
inputs = tokenizer("PROMPT", return_tensors="pt", return_token_type_ids=False)
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=100, do_sample=False)[0], skip_special_tokens=True))"""
