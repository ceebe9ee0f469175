"""A small network that is applied again and again, on puzzles."""

import statistics

from measures import File, Pending, Results, Statistic

from juliagpt_jax.study.statistics import paired

SUDOKU = File("recursion/results/sudoku6/rows.jsonl")
ONCE, STACK = "once", "stack of 4"  # the plain stack that learned: deeper ones did not


def solved(results: Results, arm: str) -> dict[int, float]:
    """The share of puzzles that an arm solves, in percent, by seed."""
    return {row["seed"]: 100 * row["solved"] for row in SUDOKU.pick(results, arm)}


def share(arm: str) -> Statistic:
    """Its mean over the seeds."""
    return lambda results: f"{statistics.fmean(solved(results, arm).values()):.1f}%"


def ahead(arm: str) -> Statistic:
    """What the recursive arm solves more than another, in points, paired by seed."""

    def statistic(results: Results) -> str:
        gap = paired(solved(results, arm), solved(results, "recursive"))
        return f"{gap.mean:+.1f}" + (f" [{gap.low:+.1f}, {gap.high:+.1f}]" if gap.n > 2 else "")

    return statistic


def arms(results: Results) -> list[list[str]]:
    """Each arm: its seeds, its parameters, and what it solves."""
    names = dict.fromkeys(row["arm"] for row in SUDOKU.pick(results, {}))
    rows = {name: SUDOKU.pick(results, name) for name in names}
    return [
        ["", "seeds", "parameters", "solved"],
        *([name, str(len(own)), f"{own[0]['parameters']:,}", share(name)(results)] for name, own in rows.items()),
    ]


PENDING = {
    "Sudoku": Pending(
        (SUDOKU.name,),
        {
            "SudokuSolved": share("recursive"),
            "SudokuParams": SUDOKU.value("recursive", "parameters", ",d"),
            "SudokuSeeds": SUDOKU.distinct("recursive", "seed"),
            "SudokuOnce": ahead(ONCE),
            "SudokuStack": ahead(STACK),
        },
        {"sudoku": arms},
    )
}
