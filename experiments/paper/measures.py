"""What the paper takes from a file of results: one number, or a whole table.

Most methods of `File` and `Suite` return a statistic: a function from `Results` to a plain text. build.py lists them by
the name of their macro and turns the texts into LaTeX.
"""

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.names import modern_names
from juliagpt_jax.ground.sealed import unseal
from juliagpt_jax.study import runner, tables
from juliagpt_jax.study.statistics import Difference, paired, spread, steps_to
from juliagpt_jax.study.tables import Line

Rows = list[dict[str, Any]]
Where = str | Mapping[str, Any]  # the name of an arm, or what fields of a row must be; {} is every row


class Results:
    """The files of results below a folder, each read once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._read: dict[str, Rows] = {}
        self._compared: dict[str, dict[str, Line]] = {}

    def has(self, name: str) -> bool:
        """True where there is such a file."""
        return (self.folder / name).is_file()

    def rows(self, name: str) -> Rows:
        """The rows of a .jsonl file or of a list in a .json file; what else a .json file holds is one row.

        Raises:
            UserError: there is no such file, or nothing in it.
            StorageError: a line of a suite's results.jsonl is not a row.
        """
        if name not in self._read:
            path = self.folder / name
            if not path.is_file():
                raise UserError(f"{path} does not exist; its experiment has to be run first, or build.py not to use it")
            text = path.read_text(encoding="utf-8")
            lines = [text] if path.suffix == ".json" else text.splitlines()
            try:
                found = [json.loads(line) for line in lines]
                found = found[0] if path.suffix == ".json" and isinstance(found[0], list) else found
                suite = bool(found) and "arm" in found[0] and "status" in found[0]
                self._read[name] = runner.read(path) if suite else [unseal(row, path) for row in found]
            except ValueError as error:
                raise UserError(f"{path}: not a file of results: {error}") from error
            if not self._read[name]:
                raise UserError(f"{path}: no row in it")
        return self._read[name]

    def lines(self, suite: "Suite") -> dict[str, Line]:
        """The comparison of a suite, by arm, in the order of its file."""
        if suite.name not in self._compared:
            arms = list(dict.fromkeys(row["arm"] for row in self.rows(suite.name)))
            if suite.baseline not in arms:
                raise UserError(f"{self.folder / suite.name}: no arm is called {suite.baseline!r}")
            self._compared[suite.name] = {x.arm: x for x in tables.compare(self.rows(suite.name), arms, suite.baseline)}
        return self._compared[suite.name]


Statistic = Callable[[Results], str]
Table = Callable[[Results], list[list[str]]]
Figure = Callable[[Results], Any]
Holds = dict[str, tuple[str, Callable[[Results], bool]]]  # a sentence, and whether the results say it


@dataclasses.dataclass(frozen=True)
class Pending:
    """What the paper says once its results are there. Until then none of it is made, and of the two texts of its macro
    in paper.tex, \\measuredNAME{...}{...}, the second stands, which says that nothing is measured."""

    files: tuple[str, ...]
    numbers: Mapping[str, Statistic]
    tables: Mapping[str, Table] = dataclasses.field(default_factory=dict)
    holds: Holds = dataclasses.field(default_factory=dict)

    def there(self, results: Results) -> bool:
        """True where all its files are."""
        return all(map(results.has, self.files))


def dig(row: Mapping[str, Any], key: str) -> Any:
    """Return row["a"]["b"] for "a.b". A config has its dots in its keys, under the names of today, and a curve is asked
    at a step: "curve.250"."""
    if key.startswith("config."):
        return modern_names(row["config"]).get(key.removeprefix("config."))
    if key.startswith("curve."):
        return dict(map(tuple, row["curve"])).get(int(key.removeprefix("curve.")))
    return tables.dig(row, key)


def interval(gap: Difference, form: str = ".3f") -> str:
    """ "+0.012 [-0.002, +0.027]"; a mean alone where there are not three pairs."""
    signed = lambda value: format(value, "+" + form)
    return signed(gap.mean) + (f" [{signed(gap.low)}, {signed(gap.high)}]" if gap.n > 2 else "")


def bracket(row: Mapping[str, Any], key: str, form: str = "+.3f") -> str:
    """A number of a row with the interval beside it."""
    return f"{row[key]:{form}} [{row['low']:{form}}, {row['high']:{form}}]"


@dataclasses.dataclass(frozen=True)
class File:
    """A .jsonl or .json file of results, named from the folder of the experiments."""

    name: str

    def pick(self, results: Results, where: Where) -> Rows:
        """The rows that `where` names, without runs that failed: at least one."""
        wanted = {"arm": where} if isinstance(where, str) else where
        done = [row for row in results.rows(self.name) if row.get("status", "done") == "done"]
        found = [row for row in done if all(row.get(k) == v for k, v in wanted.items())]
        if not found:
            raise UserError(f"{results.folder / self.name}: no row with {dict(wanted)}")
        return found

    def values(self, results: Results, where: Where, key: str) -> list[Any]:
        """One value of each of these rows."""
        found = [dig(row, key) for row in self.pick(results, where)]
        if any(value is None for value in found):
            raise UserError(f"{results.folder / self.name}: {where!r} has no {key!r}")
        return found

    def value(self, where: Where, key: str, form: str = "", scale: float = 1) -> Statistic:
        """What all these rows have alike: a setting, or the number of a single row."""

        def statistic(results: Results) -> str:
            found = {value for value in self.values(results, where, key)}
            if len(found) > 1:
                raise UserError(f"{results.folder / self.name}: {key!r} of {where!r} is {sorted(found)}, not one value")
            only = found.pop()
            return format(only * scale if scale != 1 else only, form)

        return statistic

    def distinct(self, where: Where, key: str) -> Statistic:
        """All the values of a field: "11, 12, 13"."""
        return lambda results: ", ".join(map(str, sorted(set(self.values(results, where, key)))))

    def count(self, where: Where) -> Statistic:
        """How many rows."""
        return lambda results: f"{len(self.pick(results, where)):,}"

    def mean(self, where: Where, key: str, form: str) -> Statistic:
        """Over the rows."""
        return lambda results: format(statistics.fmean(self.values(results, where, key)), form)

    def spread(self, where: Where, key: str, form: str = ".3f") -> Statistic:
        """Mean and standard deviation over the rows."""
        return lambda results: spread(self.values(results, where, key), form)

    def least(self, where: Where, key: str, form: str) -> Statistic:
        """The smallest of the rows."""
        return lambda results: format(min(self.values(results, where, key)), form)

    def most(self, where: Where, key: str, form: str) -> Statistic:
        """The largest of the rows."""
        return lambda results: format(max(self.values(results, where, key)), form)

    def times(self, where: Where, other: Where, key: str, form: str = ".1f") -> Statistic:
        """Mean over mean of other rows."""
        mean = lambda results, rows: statistics.fmean(self.values(results, rows, key))
        return lambda results: format(mean(results, where) / mean(results, other), form)

    def less(self, where: Where, other: Where, key: str, form: str = ".0f") -> Statistic:
        """By how much the mean is below that of other rows: "49%"."""
        share = self.times(where, other, key, ".12f")
        return lambda results: format(100 * (1 - float(share(results))), form) + "%"

    def more(self, where: Where, other: Where, key: str, form: str = ".1f") -> Statistic:
        """By how much it is above: "2.2%"."""
        share = self.times(where, other, key, ".12f")
        return lambda results: format(100 * (float(share(results)) - 1), form) + "%"


@dataclasses.dataclass(frozen=True)
class Suite(File):
    """The results.jsonl of an ablation. `labels` are the names of its arms in tables and figures, where they differ."""

    baseline: str
    title: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def label(self, arm: str) -> str:
        """The name of an arm in the paper."""
        return self.labels.get(arm, arm)

    def line(self, results: Results, arm: str) -> Line:
        """The comparison of one arm with the baseline."""
        lines = results.lines(self)
        if arm not in lines:
            raise UserError(f"{results.folder / self.name}: no arm is called {arm!r}")
        return lines[arm]

    def difference(self, results: Results, arm: str, against: str = "", key: str = "loss") -> Difference:
        """Paired by seed, to the baseline or another arm, of the loss or another measure."""
        seeds = lambda name: [row["seed"] for row in self.pick(results, name)]
        by_seed = lambda name: dict(zip(seeds(name), self.values(results, name, key), strict=True))
        return paired(by_seed(against or self.baseline), by_seed(arm))

    def gap(self, arm: str, against: str = "", key: str = "loss", form: str = ".3f") -> Statistic:
        """The mean of paired differences and its 95% interval."""
        return lambda results: interval(self.difference(results, arm, against, key), form)

    def gap_mean(self, arm: str, against: str = "", key: str = "loss", form: str = ".3f") -> Statistic:
        """The mean of paired differences, alone."""
        return lambda results: format(self.difference(results, arm, against, key).mean, form)

    def p(self, arm: str) -> Statistic:
        """p of the difference in loss after Holm's correction."""
        return lambda results: f"{self.line(results, arm).corrected:.2g}"

    def least_p(self) -> Statistic:
        """The smallest of them."""
        return lambda results: f"{min(x.corrected for x in self.others(results)):.2g}"

    def comparisons(self) -> Statistic:
        """How many arms beside the baseline."""
        return lambda results: str(len(self.others(results)))

    def steps_to(self, results: Results, arm: str, against: str = "") -> float:
        """Steps to the loss that another arm of the same seed ends with, the median over the seeds; inf if most
        never get there."""
        ends = {row["seed"]: row["curve"][-1][1] for row in self.pick(results, against or self.baseline)}
        return statistics.median(steps_to(r["curve"], ends[r["seed"]]) for r in self.pick(results, arm))

    def steps_less(self, arm: str, against: str = "") -> Statistic:
        """How many of its steps an arm saves on the way there: "37%"."""
        whole = lambda results: self.pick(results, arm)[0]["curve"][-1][0]
        return lambda results: f"{1 - self.steps_to(results, arm, against) / whole(results):.0%}"

    def on_every_seed(self, results: Results, arm: str, against: str, sign: int) -> bool:
        """Whether the difference in loss to another arm has this sign on every seed that both have."""
        other = {row["seed"]: row["loss"] for row in self.pick(results, against)}
        gaps = [r["loss"] - other[r["seed"]] for r in self.pick(results, arm) if r["seed"] in other]
        return bool(gaps) and all(gap * sign > 0 for gap in gaps)

    def others(self, results: Results) -> list[Line]:
        """All arms but the baseline."""
        return [line for line in results.lines(self).values() if line.arm != self.baseline]


Column = Callable[[Suite, Line], str]


def column(key: str, form: str = ".3f") -> Column:
    """Mean and standard deviation of a measure over the seeds."""
    return lambda suite, line: spread([dig(row, key) for row in line.rows], form)


COLUMNS: dict[str, Column] = {  # heads that a table of a suite may have
    "": lambda suite, line: suite.label(line.arm),
    "seeds": lambda suite, line: str(len(line.rows)),
    "parameters": lambda suite, line: f"{line.rows[0]['params']:,}",
    "FLOPs": lambda suite, line: f"{line.rows[0]['flops']:.2e}".replace("e+", "e"),
    "tokens": lambda suite, line: f"{line.rows[0]['tokens']:,}",
    "characters a token": lambda suite, line: (
        f"{line.rows[0]['characters'] / line.rows[0].get('scored_tokens', line.rows[0]['characters']):.2f}"
    ),
    "loss": column("loss"),
    "epochs": lambda suite, line: f"{tables.mean(line.rows, 'epochs'):.1f}",
    "bits per character": column("bpc"),
    "perplexity": column("perplexity"),
    "trivium": column("phases.trivium.perplexity", ".2f"),
    "quadrivium": column("phases.quadrivium.perplexity", ".2f"),
    "philosophy": column("phases.philosophy.perplexity", ".2f"),
    "difference [95%]": lambda suite, line: "" if line.arm == suite.baseline else interval(line.difference),
    "p": lambda suite, line: "" if line.arm == suite.baseline or line.difference.n < 3 else f"{line.corrected:.2g}",
    "steps done": lambda suite, line: f"{statistics.fmean(row['curve'][-1][0] for row in line.rows):,.0f}",
    "steps": lambda suite, line: tables.reached(line.steps),
    "seconds": lambda suite, line: tables.reached(line.seconds),
}


def suite_table(suite: Suite, *heads: str) -> Table:
    """The arms of a suite, with these columns."""

    def table(results: Results) -> list[list[str]]:
        lines = [line for line in results.lines(suite).values() if line.rows]
        return [list(heads), *([COLUMNS[head](suite, line) for head in heads] for line in lines)]

    return table
