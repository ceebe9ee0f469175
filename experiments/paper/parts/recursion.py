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


def solved(results: Results, arm: str) -> dict[int, float]:
    """Return the share of puzzles that an arm solves, in percent, by seed."""
    return {row["seed"]: 100 * row["solved"] for row in SUDOKU.pick(results, arm)}


def share(arm: str, step: int = 0, file: File = SUDOKU) -> Statistic:
    """Say what an arm solves, the mean over its seeds, at the steps of training or at one of 1 .. 32."""
    key = f"solved_by_step.{step}" if step else "solved"
    return lambda results: f"{100 * statistics.fmean(file.values(results, arm, key)):.1f}%"


def gap(results: Results, arm: str, of: str) -> Difference:
    """Return what `of` solves more than an arm, in points, paired by seed."""
    return paired(solved(results, arm), solved(results, of))


def arms(file: File) -> Table:
    """Say of each arm its seeds, its parameters, and what it solves."""

    def table(results: Results) -> list[list[str]]:
        lines = [["", "seeds", "parameters", "solved", "by step 1", "by step 8"]]
        for arm in dict.fromkeys(row["arm"] for row in file.pick(results, {})):
            said = [
                file.count(arm),
                file.value(arm, "parameters", ",d"),
                *(share(arm, step, file) for step in (0, 1, 8)),
            ]
            lines.append([arm, *(statistic(results) for statistic in said)])
        return lines

    return table


def kinds(results: Results) -> list[list[str]]:
    """Say of each kind of puzzle what is solved by the first step, by the last, and by a vote over forms."""
    lines = [["", "first step", "last step", "voted", "parameters", "in embeddings"]]
    for row in PUZZLES.pick(results, {}):
        for key, said in (("with", ""), ("without", ", embeddings left out"), ("hard", ", sets published as hard")):
            if key in row and (key != "without" or row["id_parameters"] > row["parameters"] / 100):
                shares = [f"{100 * row[key][kind]:.1f}%" if kind in row[key] else "" for kind in KINDS]
                lines.append([row["study"] + said, *shares, f"{row['parameters']:,}", f"{row['id_parameters']:,}"])
    return lines


PENDING = {
    "Sudoku": Pending(
        (SUDOKU.name,),
        {
            "SudokuSolved": share("recursive"),
            "SudokuParams": SUDOKU.value("recursive", "parameters", ",d"),
            "SudokuSeeds": SUDOKU.distinct("recursive", "seed"),
            "SudokuStack": lambda results: interval(gap(results, "stack", "recursive"), ".1f"),
            "SudokuStackParams": SUDOKU.value("stack", "parameters", ",d"),
            "SudokuStackSolved": share("stack"),
            "SudokuStackAgain": share("stack", 8),
            "SudokuFirst": share("recursive", 1),
            "SudokuDrawn": share("recursive" + DRAWN),
            "SudokuDrawnOnce": share("once" + DRAWN),
            "SudokuDrawnFour": share("stack of 4" + DRAWN),
            "SudokuDrawnStep": share("one step" + DRAWN, 1),
            "SudokuDrawnStepEight": share("one step" + DRAWN, 8),
        },
        {"sudoku": arms(SUDOKU)},
        {
            "RecursionAhead": (
                "the recursive model is ahead of the stack that is as deep, and as drawn of what is drawn as it is",
                lambda results: all(
                    gap(results, arm + begun, "recursive" + begun).low > 0
                    for arm, begun in (("stack", ""), ("once", DRAWN), ("stack of 4", DRAWN))
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
