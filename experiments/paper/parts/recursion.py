"""A small network that is applied again and again, on puzzles and on text; each once it is measured."""

import statistics

from measures import File, Pending, Results, Statistic, Suite, Table, interval, suite_table

from juliagpt_jax.study.statistics import Difference, paired

SUDOKU = File("recursion/results/sudoku6/rows.jsonl")
SWITCHES = File("recursion/results/switches/rows.jsonl")
PUZZLES = File("recursion/results/puzzles/rows.jsonl")
LANGUAGE = Suite("recursion/results/language/results.jsonl", "2 blocks")
DRAWN = " as drawn"  # arms whose branches do not begin at zero
KINDS = ("single_pass_first_step", "single_pass", "voted")


def solved(results: Results, file: File, arm: str) -> dict[int, float]:
    """The share of puzzles that an arm solves, in percent, by seed."""
    return {row["seed"]: 100 * row["solved"] for row in file.pick(results, arm)}


def share(arm: str, step: int = 0) -> Statistic:
    """Its mean over the seeds, at the steps of training or at one of 1 .. 32."""

    def statistic(results: Results) -> str:
        rows = SUDOKU.pick(results, arm)
        shares = [row["solved_by_step"][str(step)] if step else row["solved"] for row in rows]
        return f"{100 * statistics.fmean(shares):.1f}%"

    return statistic


def gap(results: Results, arm: str, of: str = "recursive") -> Difference:
    """What one arm solves more than another, in points, paired by seed."""
    return paired(solved(results, SUDOKU, arm), solved(results, SUDOKU, of))


def ahead(arm: str, of: str = "recursive") -> Statistic:
    """The same, as a text."""
    return lambda results: interval(gap(results, arm, of), ".1f")


def arms(file: File) -> Table:
    """Each arm: its seeds, its parameters, and what it solves."""

    def table(results: Results) -> list[list[str]]:
        lines = [["", "seeds", "parameters", "solved", "by step 1", "by step 8"]]
        for name in dict.fromkeys(row["arm"] for row in file.pick(results, {})):
            own = file.pick(results, name)
            by = [statistics.fmean(row["solved_by_step"][step] for row in own) for step in ("1", "8")]
            shares = [statistics.fmean(row["solved"] for row in own), *by]
            said = [f"{100 * each:.1f}%" for each in shares]
            lines.append([name, str(len(own)), f"{own[0]['parameters']:,}", *said])
        return lines

    return table


def kinds(results: Results) -> list[list[str]]:
    """Each kind of puzzle: what is solved by the first step, by the last, and by a vote over forms."""
    lines = [["", "first step", "last step", "voted", "parameters", "in embeddings"]]
    for row in PUZZLES.pick(results, {}):
        for key, said in (("with", ""), ("without", ", embeddings left out"), ("hard", ", sets published as hard")):
            if key in row and (key != "without" or row["id_parameters"] > row["parameters"] / 100):
                shares = [f"{100 * row[key][kind]:.1f}%" for kind in KINDS]
                lines.append([row["study"] + said, *shares, f"{row['parameters']:,}", f"{row['id_parameters']:,}"])
    return lines


PENDING = {
    "Sudoku": Pending(
        (SUDOKU.name,),
        {
            "SudokuSolved": share("recursive"),
            "SudokuParams": SUDOKU.value("recursive", "parameters", ",d"),
            "SudokuSeeds": SUDOKU.distinct("recursive" + DRAWN, "seed"),
            "SudokuStack": ahead("stack", "recursive" + DRAWN),
            "SudokuStackParams": SUDOKU.value("stack", "parameters", ",d"),
            "SudokuStackSolved": share("stack"),
            "SudokuStackAgain": share("stack", 8),
            "SudokuFirst": share("recursive" + DRAWN, 1),
            "SudokuZeroSeeds": SUDOKU.distinct("recursive", "seed"),
            "SudokuDrawn": share("recursive" + DRAWN),
            "SudokuDrawnOnce": share("once" + DRAWN),
            "SudokuDrawnFour": share("stack of 4" + DRAWN),
            "SudokuDrawnStep": share("one step" + DRAWN, 1),
            "SudokuDrawnStepEight": share("one step" + DRAWN, 8),
        },
        {"sudoku": arms(SUDOKU)},
        {
            "RecursionAhead": (
                "the recursive model as drawn is ahead of the stack that is as deep, and of what is drawn as it is",
                lambda results: all(
                    gap(results, arm, "recursive" + DRAWN).low > 0
                    for arm in ("stack", "once" + DRAWN, "stack of 4" + DRAWN)
                ),
            ),
            "StackAsDrawn": (
                "the stack that is as deep learns nothing where its branches are drawn",
                lambda results: all(
                    row["solved"] == 0 for row in SUDOKU.pick(results, {}) if row["arm"].startswith("stack" + DRAWN)
                ),
            ),
        },
    ),
    "Switches": Pending((SWITCHES.name,), {}, {"recursion_switches": arms(SWITCHES)}),
    "Puzzles": Pending((PUZZLES.name,), {}, {"puzzles": kinds}),
    "Recursive": Pending(
        (LANGUAGE.name,),
        {
            "RecursiveGap": LANGUAGE.gap("recursive, n = 2, T = 2"),
            "RecursiveOde": LANGUAGE.gap("ode, midpoint"),
            "RecursiveSix": LANGUAGE.gap("6 blocks"),
            "RecursiveSeeds": LANGUAGE.distinct({}, "seed"),
        },
        {"recursive": suite_table(LANGUAGE, "", "parameters", "steps done", "loss", "difference [95%]", "p")},
    ),
}
