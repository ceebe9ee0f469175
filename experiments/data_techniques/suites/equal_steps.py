"""Which data techniques make a small model better at equal steps? A baseline against curricula, phase weights, DoReMi,
parts of the corpus by its own fields, n-gram penalties, and a stack.

Command:   python -m juliagpt_jax.ablate --suite=experiments/data_techniques/suites/equal_steps.py \
               --out=experiments/data_techniques/results/equal_steps
           data/classics is what prepare writes of the classics
Hardware:  two cores of an Intel Xeon with AVX-512, 40 s a cell on a quiet core, DoReMi three times that
Scale:     micro: 500 steps, 512,000 characters, a fortieth of an epoch. base: the whole recipe, on a GPU.
           Nothing here was tuned: the weights of the penalties, the pacing and the shares were set beforehand.
"""

from juliagpt_jax.study.suite import Arm, Suite

WEIGHTS = "trivium:0.40, quadrivium:0.35, philosophy:0.25"
STACK = {
    "data.phase_weights": WEIGHTS,
    "data.order": "easy_first",
    "data.curriculum.pacing": "root",
    "data.curriculum.pacing_start": 0.2,
    "data.keep": "top 0.6 of quality",
    "train.ngram.weight": 0.1,
}


def get_suite(scale: str) -> Suite:
    common = {"data.path": "data/classics", "train.sample_every": 0, "train.keep": 1}
    if scale == "micro":
        common |= {
            "train.steps": 500,
            "train.warmup": 50,
            "train.eval_every": 50,
            "train.final_windows": 1_000,
            "mesh.data": 1,
        }
    order = lambda name, **more: Arm({"data.order": name, **{f"data.curriculum.{k}": v for k, v in more.items()}})
    flags = " ".join(f"--config.{key}={value}" for key, value in common.items())
    doremi = f"juliagpt_jax.doremi --config=configs/{scale}.py --workdir={{cell}}/doremi --config.seed={{seed}} {flags}"
    arms = {
        "baseline": Arm(),
        "easy first": order("easy_first", pacing="root", pacing_start=0.2),
        "hard first": order("hard_first", pacing="root", pacing_start=0.2),
        "interleaved": order("interleaved", parts=8),
        "phase weights": Arm({"data.phase_weights": WEIGHTS}),
        "best 60% by quality": Arm({"data.keep": "top 0.6 of quality"}),
        "bigram penalty": Arm({"train.ngram.kind": "bigram", "train.ngram.weight": 0.1}),
        "stack": Arm(STACK),
        "DoReMi": Arm({"data.phase_weights": "{cell}/doremi/weights.json"}, before=(doremi,)),
        "Zipf penalty": Arm({"train.ngram.kind": "zipf", "train.ngram.weight": 0.1}),
        "entropy penalty": Arm({"train.ngram.kind": "entropy", "train.ngram.weight": 0.1}),
    }
    measures = tuple(f"phases.{phase}.perplexity" for phase in ("trivium", "quadrivium", "philosophy"))
    return Suite(f"configs/{scale}.py", arms, (1, 2, 3), "baseline", common, measures)
