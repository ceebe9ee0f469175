"""Every mixer, channel and switch beside the baseline at equal FLOPs, once measured."""

from measures import Pending, Suite, suite_table

SCHOOLROOM = Suite("ablation/results/schoolroom/results.jsonl", "baseline")
WORDS = Suite("ablation/results/words/results.jsonl", "baseline")


def pending(suite: Suite, name: str) -> Pending:
    """Return what the paper says of the ablation on one text: a table."""
    heads = ("", "seeds", "parameters", "steps done", "loss", "difference [95%]", "p")
    return Pending(
        (suite.name,),
        {f"{name}Arms": suite.comparisons(), f"{name}Steps": suite.mean("baseline", "config.train.steps", ",.0f")},
        {f"ablation_{name.removeprefix('Ablation').lower()}": suite_table(suite, *heads)},
    )


PENDING = {name: pending(suite, name) for name, suite in (("AblationSchool", SCHOOLROOM), ("AblationWords", WORDS))}
