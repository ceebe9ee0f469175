"""Distillation: does a model of 1M parameters learn more with a teacher of 5M than from the text alone?

python -m juliagpt_jax.ablate --suite=experiments/pipeline/suites/distil.py --out=experiments/pipeline/results/distil

The teacher is trained once, with a seed of its own and three times the student's steps, before the first arm that needs
it: its own loss is in runs/distil_teacher/report.json. All read the same text, both students as much of it.
"""

from juliagpt_jax.study.suite import Arm, Suite

STEPS, TEACHER = 1_000, "runs/distil_teacher"  # of the student; where the teacher lies
STUDENT = {"model.width": 144, "model.layers": 4, "model.heads": 3, "train.steps": STEPS}
BIG = {"model.width": 288, "model.layers": 4, "model.heads": 6, "train.steps": 3 * STEPS, "train.lr": 1e-3, "seed": 7}


def get_suite(scale: str) -> Suite:
    flags = " ".join(f"--config.{knob}={value}" for knob, value in BIG.items())
    teach = f"juliagpt_jax.main --config=configs/micro.py --workdir={TEACHER} {flags} --config.train.sample_every=0"
    distil = {"train.objective": "distil", "train.distil.teacher": TEACHER}
    return Suite(
        config="configs/micro.py",
        arms={
            "from the text": Arm(),
            "with a teacher": Arm(distil, before=(teach,)),
        },
        seeds=(11, 12, 13),
        baseline="from the text",
        common=STUDENT,
    )
