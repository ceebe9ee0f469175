"""Which data techniques make a small model better at equal steps? A baseline against curricula, phase weights, DoReMi,
parts of the corpus by its own fields, n-gram penalties, and a stack.

Command:   python experiments/data_techniques/thin.py data/classics data
           python -m juliagpt_jax.ablate --suite=experiments/data_techniques/suite.py --out=experiments/data_techniques
Scale:     micro; "tune" is what chose the weights of the penalties, on other seeds and another validation text
"""

from juliagpt_jax.study.suite import Arm, Suite

RUN = 1000 * 8 * 128 / 20_561_773  # epochs in a run: a twentieth
STACK = {
    "data.phase_weights": "trivium:0.40, quadrivium:0.35, philosophy:0.25",
    "data.order": "easy_first",
    "data.pacing": "root",
    "data.pacing_start": 0.2,
    "data.keep": "middle 0.6 of difficulty",
    "train.ngram": "bigram",
    "train.ngram_weight": 0.1,
}


def get_suite(scale: str) -> Suite:
    common = {
        "data.path": "data/classics_study",
        "mesh.data": 1,
        "train.sample_every": 0,
        "train.keep": 1,
    }
    if scale == "tune":
        arms = {
            f"{name} {weight}": Arm({"train.ngram": name, "train.ngram_weight": weight})
            for name, weights in [("zipf", (0.1, 1.0)), ("bigram", (0.1, 0.3)), ("entropy", (0.1, 0.5))]
            for weight in weights
        }
        common |= {"data.path": "data/classics_tune"}
        return Suite("configs/micro.py", arms, (101,), "zipf 0.1", common)
    order = lambda name, **more: Arm({"data.order": name, **{f"data.{k}": v for k, v in more.items()}})
    keep = lambda text: Arm({"data.keep": text})
    arms = {
        "baseline": Arm(),
        "easy first": order("easy_first"),
        "easy first, root pacing": order("easy_first", pacing="root", pacing_start=0.2),
        "easy first for 30%, then random": order("easy_first", order_epochs=0.3 * RUN),
        "hard first": order("hard_first"),
        "interleaved": order("interleaved", order_parts=8),
        "phase weights": Arm({"data.phase_weights": STACK["data.phase_weights"]}),
        "DoReMi": Arm(
            {"data.phase_weights": "{cell}/doremi/weights.json"},
            before=(
                f"juliagpt_jax.doremi --config=configs/{scale}.py --workdir={{cell}}/doremi --config.seed={{seed}} "
                + " ".join(f"--config.{key}={value}" for key, value in common.items()),
            ),
        ),
        "random 60%": keep("random 0.6"),
        "best 60% by quality": keep("top 0.6 of quality"),
        "middle 60% by difficulty": keep("middle 0.6 of difficulty"),
        "Zipf penalty": Arm({"train.ngram": "zipf", "train.ngram_weight": 0.1}),
        "bigram penalty": Arm({"train.ngram": "bigram", "train.ngram_weight": 0.1}),
        "entropy penalty": Arm({"train.ngram": "entropy", "train.ngram_weight": 0.1}),
        "stack": Arm(STACK),
    }
    measures = tuple(f"phases.{phase}.perplexity" for phase in ("trivium", "quadrivium", "philosophy"))
    return Suite(f"configs/{scale}.py", arms, (1, 2, 3), "baseline", common, measures)
