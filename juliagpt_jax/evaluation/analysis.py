"""Look into a trained model beyond one number: on what it loses, how far back it looks, what it copies.

`analyse` measures one run; `page` and `draw` show one or several.
"""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.data import selection
from juliagpt_jax.data.batch import IGNORED
from juliagpt_jax.data.corpus import Corpus
from juliagpt_jax.data.metadata import Chunks, Words
from juliagpt_jax.evaluation import attention, report, samples
from juliagpt_jax.inference import scoring
from juliagpt_jax.inference.generate import Generator
from juliagpt_jax.models.interface import Model
from juliagpt_jax.models.parameters import count

MOST_WORDS = 60  # a field of words with more (titles) is no table
MAP_TOKENS = 48  # of an attention map: what a reader can still make out


@dataclasses.dataclass(frozen=True)
class Effort:
    """The amount of each measurement.

    Attributes:
        windows: validation windows scored, evenly spread; 0: the whole text.
        targets: tokens whose loss is measured with every amount of context.
        attention_windows: windows that the heads look at.
        prompts, seeds, new_tokens: of the samples.
    """

    windows: int = 0
    targets: int = 1024
    attention_windows: int = 64
    prompts: tuple[str, ...] = samples.PROMPTS
    seeds: int = 4
    new_tokens: int = 200


def analyse(model: Model, params: Any, corpus: Corpus, schoolroom: bool, effort: Effort) -> dict[str, Any]:
    """Plain values: `parts`, `places`, `contexts`, `attention`, `samples`, `picked`, `copied`, and the loss of the
    validation text."""
    lead = corpus.tokenizer.lead
    masks = by_field(corpus.val_chunks) | by_position(corpus.val_chunks.lengths)
    flat = {f"{field}\n{name}": mask for field, part in masks.items() for name, mask in part.items()}
    score = scoring.score_text(
        model, params, corpus.val, lead, parts=flat, windows=effort.windows, tokenizer=corpus.tokenizer
    ).to_dict()
    parts: dict[str, dict[str, Any]] = {field: {} for field in masks}
    for key, values in score.pop("phases", {}).items():
        field, name = key.split("\n")
        parts[field][name] = values
    contexts = by_context(model, params, corpus.val, effort.targets)
    heads = of_heads(model, params, corpus.val, lead, effort.attention_windows)

    generator = Generator(model, params)
    rows = samples.write(generator, corpus.tokenizer, effort.prompts, effort.seeds, effort.new_tokens)
    training, val = corpus.tokenizer.decode(corpus.train), corpus.tokenizer.decode(corpus.val)
    length = round(float(np.mean([len(row["text"]) for row in rows])))
    copied = samples.copied(rows, samples.held_out(val, len(rows), length), training)
    return {
        **score,
        "params": count(params),
        "parts": parts,
        "contexts": contexts,
        "attention": heads,
        "samples": rows,
        "picked": [[row["prompt"], row["seed"]] for row in samples.pick(rows, schoolroom)],
        "copied": copied,
    }


def by_field(chunks: Chunks) -> dict[str, dict[str, np.ndarray]]:
    """{"phase": {"trivium": which tokens of the text, ...}, "author": ...} for the fields of words of the passages."""
    fields = [name for name, column in chunks.columns.items() if isinstance(column, Words)]
    masks = {name: selection.parts(chunks, name) for name in fields}
    return {name: found for name, found in masks.items() if 1 < len(found) <= MOST_WORDS}


def by_position(lengths: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """{"place": {"0": the first token of each line, "1": ..., "2-3": ..., "4-7": ...}}, for texts that have lines."""
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    bins, low = {}, 0
    while low <= position.max(initial=0):
        high = max(1, 2 * low) if low else 1
        bins[str(low) if high == low + 1 else f"{low}-{high - 1}"] = (position >= low) & (position < high)
        low = high
    return {"place": bins} if len(lengths) > 1 else {}


def by_context(model: Model, params: Any, tokens: np.ndarray, targets: int) -> list[dict[str, float]]:
    """The mean loss of the same tokens, spread evenly over a text, when the model sees but the last 1, 2, 4, ... tokens
    before each, up to its context. `more` is what it loses more than with the whole context. `error` and `more_error`
    are standard errors; the second is the smaller one, since a token is hard or easy with any context."""
    context = model.config.context
    ends = np.unique(np.linspace(context, len(tokens) - 1, targets).astype(np.int64))
    found = {}
    for size in [*(2**k for k in range(math.ceil(math.log2(context)))), context]:
        inputs = tokens[ends[:, None] + np.arange(-size, 0)].astype(np.int32)
        wanted = np.full(inputs.shape, IGNORED, np.int32)
        wanted[:, -1] = tokens[ends]
        found[size] = scoring.losses_of(model, params, inputs, wanted, batch=64)[:, -1].astype(np.float64)
    error = lambda values: float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    rows = []
    for size, losses in found.items():
        more = losses - found[context]
        means = {"loss": float(losses.mean()), "error": error(losses), "more": float(more.mean())}
        rows.append({"visible": size, **means, "more_error": error(more), "targets": len(losses)})
    return rows


def of_heads(model: Model, params: Any, tokens: np.ndarray, lead: int, windows: int) -> dict[str, Any]:
    """Measure how far each attention head looks back, beside a head that looks everywhere alike; empty for a model
    without attention, or with layers that are ODEs."""
    layers, context = attention.layers_with_heads(model), model.config.context
    if not layers:
        return {}
    inputs, _ = scoring.spread(tokens, context, windows, lead)
    found = attention.mass(model, params, inputs, batch=max(1, min(16, 2**20 // context**2)))
    return {
        "windows": len(inputs),
        "uniform": attention.describe(attention.uniform(context)),
        "heads": [
            {"layer": layer, "head": head} | attention.describe(own) | {"mass": own.tolist()}
            for layer, heads in zip(layers, found, strict=True)
            for head, own in enumerate(heads)
        ],
    }


def page(runs: dict[str, dict[str, Any]], effort: Effort, files: Sequence[str]) -> str:
    """The Markdown page of one or several runs, by name, with the plots `files`."""
    lines = ["# What the models have learned", ""]
    lines += ["| run | parameters | step | loss (nats) | bits/char | perplexity |", "|---|---|---|---|---|---|"]
    for name, run in runs.items():
        numbers = f"{run['loss']:.4f} | {run['bpc']:.4f} | {run['perplexity']:.4f}"
        lines.append(f"| {name} | {run['params']:,} | {run['step']:,} | {numbers} |")
    lines += ["", "Losses are in nats a token; with the character tokenizer a token is a character.", ""]
    if "losses.png" in files:
        lines += ["![loss by context and by position](losses.png)", ""]
    for name, run in runs.items():
        protocol = f"context {run['context']}, stride {run['stride']}, each scored once"
        lines += [
            f"## {name}",
            "",
            f"Validation text of {run['data']}: {run['characters']:,} characters{_tokens(run)}, {protocol}.",
            "",
        ]
        lines += [*_losses(run), *_contexts(run), *_heads(name, run, files), *_copies(run), *_samples(run, effort)]
    return "\n".join(lines).rstrip() + "\n"


def _tokens(run: dict[str, Any]) -> str:
    """Say how many tokens a text's characters are, where a token is more than one."""
    return "" if run["scored_tokens"] == run["characters"] else f" in {run['scored_tokens']:,} tokens"


def _losses(run: dict[str, Any]) -> list[str]:
    lines = []
    for field, parts in run["parts"].items():
        title = "position in the line, in tokens" if field == "place" else field
        lines += [f"### Loss by {title}", "", f"| {title} | loss | bits/char | perplexity | characters |"]
        lines.append("|---|---|---|---|---|")
        rows = parts.items() if field == "place" else sorted(parts.items(), key=lambda part: part[1]["loss"])
        lines += [
            f"| {name} | {part['loss']:.4f} | {part['bpc']:.4f} | {part['perplexity']:.3f} | {part['characters']:,} |"
            for name, part in rows
        ]
        lines.append("")
    return lines


def _contexts(run: dict[str, Any]) -> list[str]:
    rows = run["contexts"]
    lines = [
        "### Loss by context used",
        "",
        f"The same {rows[0]['targets']:,} tokens of the validation text, predicted from the last few tokens alone.",
        "",
        "| tokens visible | loss ± standard error | more than with all |",
        "|---|---|---|",
    ]
    for row in rows[:-1]:
        more = f"{row['more']:+.4f} ± {row['more_error']:.4f}"
        lines.append(f"| {row['visible']} | {row['loss']:.4f} ± {row['error']:.4f} | {more} |")
    lines.append(f"| {rows[-1]['visible']} | {rows[-1]['loss']:.4f} ± {rows[-1]['error']:.4f} | |")
    return [*lines, ""]


def _heads(name: str, run: dict[str, Any], files: Sequence[str]) -> list[str]:
    found = run["attention"]
    if not found:
        return ["### Attention", "", "No layer of plain attention.", ""]
    sizes = list(found["uniform"]["nearest"])
    lines = [
        "### How far the heads look",
        "",
        f"Attention weights over {found['windows']} validation windows, of the tokens in the second half of each: they "
        "have at least half a context to look back on. Distance 0 is the token itself; a share is that of the nearest "
        "tokens, itself among them. A head that looks everywhere alike stands below.",
        "",
        f"| layer, head | mean distance | median | {' | '.join(f'nearest {n}' for n in sizes)} |",
        "|" + "---|" * (len(sizes) + 3),
    ]
    uniform = {"title": "everywhere alike"} | found["uniform"]
    for row in [*({"title": f"{h['layer']}, {h['head']}"} | h for h in found["heads"]), uniform]:
        shares = " | ".join(f"{share:.0%}" for share in row["nearest"].values())
        lines.append(f"| {row['title']} | {row['mean_distance']:.1f} | {row['median_distance']} | {shares} |")
    for file in (f"distances-{name}.png", f"maps-{name}.png"):
        if file in files:
            lines += ["", f"![{file.split('-')[0]}]({file})"]
    return [*lines, ""]


def _copies(run: dict[str, Any]) -> list[str]:
    heads = ["texts", "longest copy: mean", "median", "max", "share of the text", "nearest passage: mean", "max"]
    heads.append("whole lines in training")
    lines = ["### Copies of the training text", "", f"| | {' | '.join(heads)} |", "|" + "---|" * (len(heads) + 1)]
    for title, key in [("samples", "samples"), ("held-out text", "held_out")]:
        row = run["copied"][key]
        copy, near = row["longest_copy"], row["nearest_similarity"]
        cells = [f"{row['texts']}", f"{copy['mean']:.1f}", f"{copy['median']:.0f}", f"{copy['max']}"]
        cells += [f"{row['share_copied']:.0%}", f"{near['mean']:.2f}", f"{near['max']:.2f}"]
        cells.append(f"{row['whole_lines_in_training']} of {row['whole_lines']}")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return [
        *lines,
        "",
        "A copy is the longest common substring with the training text, in characters. Held-out text is validation "
        "text, in as many and as long pieces. Nearest is the Jaccard index of 6-grams of characters with the most "
        "similar training line; whole lines have at least 40 characters.",
        "",
    ]


def _samples(run: dict[str, Any], effort: Effort) -> list[str]:
    quoted = lambda text: ["", *("    " + line for line in text.split("\n")), ""]
    rows = {(row["prompt"], row["seed"]): row for row in run["samples"]}
    lines = ["### A pick of the samples", "", f"The rule: {samples.PICK_RULE}.", ""]
    for prompt, seed in run["picked"]:
        lines += [f"Seed {seed}:", *quoted(prompt + rows[prompt, seed]["text"])]
    title = f"All samples: {len(effort.prompts)} prompts, seeds 0 to {effort.seeds - 1}, temperature"
    lines += [f"### {title} {report.RULE.temperature:g}", ""]
    for (prompt, seed), row in rows.items():
        copy, near = row["copy"], row["nearest"]
        lines += [f"Prompt {prompt!r}, seed {seed}:", *quoted(prompt + row["text"])]
        lines += [f"Longest copy, {copy['characters']} characters:", *quoted(copy["text"])]
        if near["similarity"]:
            lines += [f"Nearest training line ({near['similarity']:.2f}):", *quoted(near["text"])]
    return lines


def draw(runs: dict[str, dict[str, Any]], maps: dict[str, tuple[list[str], np.ndarray]], folder: Path) -> list[str]:
    """Write losses.png for all runs, and for each run with attention distances-NAME.png and maps-NAME.png.

    Args:
        maps: the tokens of one window, as texts, and the weights (layers, H, T, T) on it.

    Returns:
        The names of the files.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    written = []

    def save(figure: Any, name: str) -> None:
        figure.savefig(folder / name, dpi=110)
        plt.close(figure)
        written.append(name)

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for name, run in runs.items():
        visible, losses, errors = zip(*((r["visible"], r["loss"], r["error"]) for r in run["contexts"]), strict=True)
        axes[0].errorbar(visible, losses, yerr=errors, marker="o", markersize=3, capsize=2, label=name)
        parts = run["parts"].get("place", {})
        axes[1].plot(list(parts), [part["loss"] for part in parts.values()], marker="o", markersize=3, label=name)
    axes[0].set_xscale("log", base=2)
    axes[0].set(xlabel="tokens visible", ylabel="loss (nats), ± standard error")
    axes[1].set(xlabel="position in the line (tokens)", ylabel="loss (nats)")
    axes[1].tick_params(axis="x", labelrotation=45, labelsize=7)
    for part in axes:
        part.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    save(figure, "losses.png")

    for name, run in runs.items():
        if not run["attention"]:
            continue
        figure, one = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
        for row in run["attention"]["heads"]:
            label = f"layer {row['layer']}, head {row['head']}"
            shade = plt.get_cmap("viridis")(row["layer"] / max(1, run["attention"]["heads"][-1]["layer"]))
            one.plot(np.arange(1, len(row["mass"]) + 1), np.cumsum(row["mass"]), color=shade, label=label, linewidth=1)
        alike = attention.uniform(run["context"])
        one.plot(np.arange(1, len(alike) + 1), np.cumsum(alike), "--", color="black", label="everywhere alike")
        one.set_xscale("log", base=2)
        one.set(xlabel="nearest tokens, itself among them", ylabel="share of the attention")
        one.grid(alpha=0.3)
        one.legend(fontsize=6, ncols=2)
        save(figure, f"distances-{name}.png")

        letters, weights = maps[name]
        layers, heads = weights.shape[:2]
        size = (2.6 * heads + 0.5, 2.6 * layers + 0.3)
        figure, grid = plt.subplots(layers, heads, figsize=size, layout="constrained", squeeze=False)
        order = [(row["layer"], row["head"]) for row in run["attention"]["heads"]]
        for (layer, head), part, own in zip(order, grid.flat, weights.reshape(-1, *weights.shape[2:]), strict=True):
            part.imshow(np.sqrt(own), cmap="magma", vmin=0, vmax=1)
            part.set_title(f"layer {layer}, head {head}", fontsize=7)
            part.set_xticks(range(len(letters)), letters, fontsize=3.5)
            part.set_yticks(range(len(letters)), letters, fontsize=3.5)
            part.tick_params(length=0, pad=1)
        figure.supxlabel("looked at (root of the weight: black 0, white 1)", fontsize=7)
        figure.supylabel("who looks", fontsize=7)
        save(figure, f"maps-{name}.png")
    return written


def map_of(model: Model, params: Any, corpus: Corpus) -> tuple[list[str], np.ndarray]:
    """The first MAP_TOKENS tokens of the validation text behind the lead, as texts, and the weights of every head."""
    lead = corpus.tokenizer.lead
    inputs, _ = scoring.strided(corpus.val[:MAP_TOKENS], min(MAP_TOKENS, model.config.context), 1, lead)
    shown = lambda text: text.replace("\n", r"\n").replace(" ", "_").replace("$", r"\$")
    letters = [shown(str(corpus.tokenizer.decode(np.array([token])))) for token in inputs[0]]
    return letters, np.asarray(attention.maps(model, params, inputs[:1]))[:, 0]
