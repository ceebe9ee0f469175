"""A small network that is applied again and again, on puzzles and on text; each once it is measured."""

import statistics

from measures import File, Pending, Results, Statistic, Suite, Table, interval, suite_table

from juliagpt_jax.study.statistics import paired

SUDOKU = File("recursion/results/sudoku6/rows.jsonl")
SWITCHES = File("recursion/results/switches/rows.jsonl")
PUZZLES = File("recursion/results/puzzles/rows.jsonl")
LANGUAGE = Suite("recursion/results/language/results.jsonl", "2 blocks")
DEEP = "stack from zero"  # as deep as the recursion; the others of that depth do not start to learn
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


def ahead(arm: str) -> Statistic:
    """What the recursive arm solves more than another, in points, paired by seed."""
    both = lambda results: (solved(results, SUDOKU, arm), solved(results, SUDOKU, "recursive"))
    return lambda results: interval(paired(*both(results)), ".1f")


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
            "SudokuSeeds": SUDOKU.distinct("recursive", "seed"),
            "SudokuOnce": ahead("once"),
            "SudokuStack": ahead("stack of 4"),
            "SudokuDeep": ahead(DEEP),
            "SudokuDeepParams": SUDOKU.value(DEEP, "parameters", ",d"),
            "SudokuDeepSolved": share(DEEP),
            "SudokuFirst": share("recursive", 1),
            "SudokuOneStep": share("one step", 1),
            "SudokuOneStepEight": share("one step", 8),
        },
        {"sudoku": arms(SUDOKU)},
        {
            "RecursionAhead": (
                "the recursive model is ahead of the same network used once and of both stacks that learn",
                lambda results: all(
                    paired(solved(results, SUDOKU, arm), solved(results, SUDOKU, "recursive")).low > 0
                    for arm in ("once", "stack of 4", DEEP)
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
