"""The report of a prepared corpus: a page of numbers and two plots. It says of everything that went why, and shows some
of it."""

from pathlib import Path
from typing import Any

import numpy as np

from juliagpt_jax.books import pipeline
from juliagpt_jax.books.ledger import SHOWN

WORTH_SAYING = 0.03  # share of a work's text whose loss is said on the terminal, not only in the report
_NO_LOSS = ("blank", "header and footer")  # white space between blocks; a publisher's, beyond doubt


def write(folder: Path, manifest: dict[str, Any], corpus: pipeline.Corpus) -> None:
    """Write report.md and plots/."""
    (folder / "report.md").write_text(describe(manifest, corpus), encoding="utf-8")
    _plot_fates(folder / "plots" / "works.png", manifest)
    _plot_scores(folder / "plots" / "scores.png", corpus)


def describe(manifest: dict[str, Any], corpus: pipeline.Corpus) -> str:
    """Return the page, in Markdown."""
    works = manifest["works"]
    chunks, made = manifest["chunks"], sum(manifest["chunks"].values())
    characters = sum(w["characters"] for w in works)
    lines = [
        "# What this corpus is made of",
        "",
        f"{len(works)} works, {characters:,} characters of raw text: {chunks['train']:,} passages for training "
        f"({manifest['characters']['train']:,} characters), {chunks['val']:,} for validation "
        f"({manifest['characters']['val']:,}).",
        "",
        *[f"- {note}" for note in manifest["notes"]],
        *([""] if manifest["notes"] else []),
        "## Characters: from the files to clean text",
        "",
        "| what | characters | share |",
        "| --- | ---: | ---: |",
        f"| in the files | {characters:,} | 100% |",
    ]
    kinds = sorted({kind for w in works for kind in w["apparatus"]})
    totals = {kind: sum(w["apparatus"].get(kind, 0) for w in works) for kind in kinds}
    for kind, count in sorted(totals.items(), key=lambda item: -item[1]):
        lines.append(f"| dropped: {kind} | {count:,} | {count / max(characters, 1):.2%} |")
    kept = sum(w["kept"] for w in works)
    lines += [f"| the author's text | {kept:,} | {kept / max(characters, 1):.2%} |", ""]
    seen = max(sum(w["cleaner"]["seen"] for w in works), 1)
    lost, added = (sum(w["cleaner"][k] for w in works) for k in ("lost", "added"))
    lines += [
        f"Of the author's text, without white space, the cleaner took away {lost:,} characters ({lost / seen:.2%}: "
        f"references, markup, figures, foreign signs) and put in {added:,} ({added / seen:.2%}: numbers as words, "
        f"signs written out). {sum(w['replaced'] for w in works):,} bytes were no text and were replaced; "
        f"{sum(w['short'] for w in works):,} characters were left over as too short for a passage.",
        "",
        *_rules(manifest, corpus),
        "## Passages: what became of each",
        "",
        "| fate | passages | share |",
        "| --- | ---: | ---: |",
        f"| cut from the text | {made:,} | 100% |",
        *[
            f"| {name} | {chunks[fate]:,} | {chunks[fate] / max(made, 1):.2%} |"
            for fate, name in pipeline.FATES.items()
        ],
        "",
        f"Before the last step {manifest['leaked']['found']:,} validation passages had half of their eight-word "
        f"sequences in the training text; after it {manifest['leaked']['left']:,}.",
        "",
        *_lost_chunks(corpus),
        "![passages by work](plots/works.png)",
        "",
        "## By phase and art",
        "",
        "| phase | art | works | training passages | characters | share |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    groups: dict[tuple[str, str], list[pipeline.Book]] = {}
    for book in corpus.books:
        groups.setdefault((book.work.phase, book.work.art), []).append(book)
    size = max(manifest["characters"]["train"], 1)
    for (phase, art), books in sorted(groups.items()):
        train = [len(b.chunks[i]) + 1 for b in books for i in b.indices("train")]
        lines.append(
            f"| {phase or '-'} | {art or '-'} | {len(books)} | {len(train):,} | {sum(train):,} "
            f"| {sum(train) / size:.1%} |"
        )
    lines += [
        "",
        "## Scores of the passages",
        "",
        "| score | 5% | 25% | median | 75% | 95% |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, values in _scores(corpus).items():
        quantiles = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
        lines.append(f"| {name} | " + " | ".join(f"{q:.3g}" for q in quantiles) + " |")
    lines += [
        "",
        "![scores](plots/scores.png)",
        "",
        "## By work",
        "",
        "Share of the file that is not the author's text; of this, what the cleaner took away and put in; passages.",
        "",
        "| work | characters | apparatus | lost | added | made | poor | exact | near | guard | leak | train | val |",
        "| --- | " + "---: | " * 12,
    ]
    for w in works:
        base = max(w["cleaner"]["seen"], 1)
        shares = [1 - w["kept"] / max(w["characters"], 1), w["cleaner"]["lost"] / base, w["cleaner"]["added"] / base]
        fates = [w["chunks"][fate] for fate in ("poor", "exact", "near", "guard", "leak", "train", "val")]
        cells = [
            w["id"],
            f"{w['characters']:,}",
            *(f"{s:.2%}" for s in shares),
            *(f"{n:,}" for n in [sum(fates), *fates]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def losses(work: dict[str, Any]) -> dict[str, float]:
    """Return the share of a work's text, without its publisher's header, that each rule took, where it is worth saying.
    The filter of quality is one of the rules."""
    size = max(1, work["characters"] - sum(work["apparatus"].get(rule, 0) for rule in _NO_LOSS))
    taken = {rule: n / size for rule, n in work["apparatus"].items() if rule not in _NO_LOSS}
    taken |= {rule: n / size for rule, n in work["cleaner"]["left out"].items()}
    taken["quality"] = work["chunks"]["poor"] / max(1, sum(work["chunks"].values()))
    most = sorted(taken.items(), key=lambda item: (-item[1], item[0]))
    return {rule: share for rule, share in most if share > 0.005} if sum(taken.values()) > WORTH_SAYING else {}


def told(manifest: dict[str, Any], out: Path, seconds: float) -> list[str]:
    """Return what `prepare` says when it is done."""
    works, chunks, sizes = manifest["works"], manifest["chunks"], manifest["characters"]
    read = (
        f"{len(works)} works, {sum(w['characters'] for w in works):,} characters, read and prepared in {seconds:.1f} s"
    )
    return [
        read,
        *(f"note: {note}" for note in [*manifest["notes"], *warnings(manifest)]),
        *(f"{chunks[fate]:>9,} passages: {name}" for fate, name in pipeline.FATES.items()),
        f"{out}: train.txt ({sizes['train']:,} characters), val.txt ({sizes['val']:,}), manifest.json, report.md",
    ]


def warnings(manifest: dict[str, Any], shown: int = 5) -> list[str]:
    """Return lines for the terminal: the works that lost more than a few per cent, and to which rules; and the rules
    that would have taken too much and took nothing."""
    found = {w["id"]: lost for w in manifest["works"] if (lost := losses(w))}
    most = sorted(found, key=lambda name: (-sum(found[name].values()), name))
    lines = []
    for name in most[:shown]:
        rules = ", ".join(f"{rule} {share:.0%}" for rule, share in list(found[name].items())[:4])
        lines.append(f"left out of {name}: {sum(found[name].values()):.0%} of its text ({rules})")
    if len(most) > shown:
        lines.append(f"left out of {len(most) - shown} more works: more than {WORTH_SAYING:.0%} of their text")
    spared = [(w["id"], rule, n) for w in manifest["works"] for rule, n in w["spared"].items()]
    for name, rule, n in spared[:shown]:
        lines.append(f"kept in {name}: {n:,} characters that look like {rule}; that much cannot be")
    if len(spared) > shown:
        lines.append(f"kept in other works: {len(spared) - shown} times more than a rule may take")
    return [*lines, "report.md shows what went, by rule"] if lines else []


def _rules(manifest: dict[str, Any], corpus: pipeline.Corpus) -> list[str]:
    """Return the section that shows what each rule took."""
    lines = ["## What went, by rule", ""]
    ledgers = [(book.work.id, ledger) for book in corpus.books for ledger in (book.ledger, book.cleaned)]
    totals: dict[str, int] = {}
    for _, ledger in ledgers:
        for rule, n in ledger.counts.items():
            totals[rule] = totals.get(rule, 0) + n
    for rule, total in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
        if rule == "blank" or not total:
            continue
        samples = [(name, sample) for name, ledger in ledgers for sample in ledger.samples(rule)]
        step = max(1, len(samples) // SHOWN)
        lines += [f"{rule}, {total:,} characters:", ""]
        lines += [f"- {name}: {_code(sample)}" for name, sample in samples[::step][:SHOWN]]
        lines.append("")
    for work in manifest["works"]:
        for rule, share in losses(work).items():
            lines.append(f"- of {work['id']} {share:.1%} went by the rule: {rule}")
        for rule, n in work["spared"].items():
            lines.append(f"- in {work['id']} {n:,} characters look like {rule} and stayed: that much cannot be")
    return [*lines, ""]


def _lost_chunks(corpus: pipeline.Corpus) -> list[str]:
    """Return some of the chunks that ended in neither set, by fate."""
    lines = []
    for fate, name in pipeline.FATES.items():
        places = [(book, i) for book in corpus.books for i in book.indices(fate)]
        if fate in ("train", "val", "guard") or not places:
            continue
        step = max(1, len(places) // SHOWN)
        lines += [f"{name}:", ""]
        lines += [f"- {book.work.id}: {_code(book.chunks[i][:100])}" for book, i in places[::step][:SHOWN]]
        lines.append("")
    return lines


def _code(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    return f"`` {text} ``"


def _scores(corpus: pipeline.Corpus) -> dict[str, np.ndarray]:
    """Return the scores of all chunks that are in one of the sets."""
    places = [(k, i) for k, book in enumerate(corpus.books) for i in book.indices("train", "val")]
    pick = lambda name: np.asarray([getattr(corpus.books[k].scores[i], name) for k, i in places])
    values = {name: pick(name) for name in ("quality", "compression", "mtld", "flesch")}
    values["difficulty"] = np.asarray([corpus.difficulty[k][i] for k, i in places])
    values["characters"] = np.asarray([len(corpus.books[k].chunks[i]) for k, i in places])
    return values


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure  # without pyplot, whose figures outlive their use

    return Figure(figsize=(width, height), dpi=80, layout="constrained")


def _plot_fates(path: Path, manifest: dict[str, Any]) -> None:
    """Draw a bar for each work: its chunks by fate."""
    works = manifest["works"][::-1]
    figure = _figure(9, 1.5 + 0.17 * len(works))
    axes = figure.add_subplot()
    left = np.zeros(len(works))
    colours = ["#4477aa", "#ee7733", "#bbbbbb", "#aa3377", "#ee99aa", "#ddcc77", "#000000"]
    for (fate, name), colour in zip(pipeline.FATES.items(), colours, strict=True):
        counts = np.asarray([w["chunks"][fate] for w in works], float)
        axes.barh(range(len(works)), counts, left=left, label=name, color=colour)
        left += counts
    axes.set_yticks(range(len(works)), [w["id"][:40] for w in works], fontsize=7)
    axes.set_ylim(-0.6, len(works) - 0.4)
    axes.set_xlabel("passages")
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(path, metadata={"Software": None})


def _plot_scores(path: Path, corpus: pipeline.Corpus) -> None:
    """Draw a histogram of each score, by phase."""
    values = _scores(corpus)
    phases = np.asarray([book.work.phase for book in corpus.books for _ in book.indices("train", "val")])
    figure = _figure(10, 5.5)
    for place, (name, numbers) in enumerate(values.items(), 1):
        axes = figure.add_subplot(2, 3, place)
        low, high = np.quantile(numbers, [0.001, 0.999])
        for phase in sorted(set(phases)):
            axes.hist(
                np.clip(numbers[phases == phase], low, high),
                bins=40,
                range=(low, max(high, low + 1e-9)),
                histtype="step",
                density=True,
                label=phase or "all",
            )
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        axes.set_yticks([])
    figure.axes[0].legend(fontsize=7)
    figure.savefig(path, metadata={"Software": None})
