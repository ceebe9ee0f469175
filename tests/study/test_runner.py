"""The runner: only what is missing, failures kept apart, kills survived. Cells are stand-ins for training but one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from juliagpt_jax import ablate
from juliagpt_jax.ground.errors import CommandError, StorageError, UserError
from juliagpt_jax.study import pace, runner, suite

ROOT = Path(__file__).parents[2]
# Stands in for the interpreter: writes what main leaves behind, fails or waits where the arm says so.
STAND_IN = """#!{python}
import json, os, pathlib, sys, time
arguments = dict(a.removeprefix("--").split("=", 1) for a in sys.argv if a.startswith("--"))
log = pathlib.Path({log!r})
cores = log.with_name("cores")
cores.write_text(str(len(os.sched_getaffinity(0))))
with open(log, "a") as file:
    file.write(" ".join(sys.argv[3:]) + "\\n")
if "workdir" not in arguments:
    read = pathlib.Path(arguments["from"]) if "from" in arguments else None
    sys.exit(0 if "fine" in sys.argv and (read is None or (read / "DONE").exists()) else 9)
rate = float(arguments.get("config.train.lr", 0))
for seed in arguments.get("seeds", arguments.get("config.seed")).split(","):
    run = pathlib.Path(arguments["workdir"].replace("{{seed}}", seed))
    run.mkdir(parents=True)
    if rate == 0.5:
        print("training", "main: it broke", sep="\\n")
        sys.exit(3)
    if rate == 0.25:
        time.sleep(60)
    loss = 2.0 + rate + int(seed) / 100
    report = dict(loss=loss, bpc=loss, perplexity=loss, params=3, flops=1.0, tokens=8, characters=9, context=4)
    report["stride"] = 2
    report["averaged"] = dict(loss=loss - 1, bpc=loss - 1, perplexity=loss - 1)
    (run / "report.json").write_text(json.dumps(report | {{"workdir": str(run), "passages": ["x"]}}))
    (run / "run.json").write_text(json.dumps(dict(versions={{}}, commit="c", device="d", machine="m")))
    step_s = [9.0, 1.0 + rate, 1.0 + rate]
    rows = [dict(step=1, loss=3.0, tokens_per_s=5.0, step_s=s) for s in step_s]
    rows.append(dict(step=1, val_loss=loss, averaged_val_loss=loss - 1))
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\\n" for r in rows))
    (run / "DONE").touch()
"""
SUITE = """
from juliagpt_jax.study.suite import Arm, Suite
def get_suite(scale):
    return Suite(config="{root}/configs/micro.py", common={{"train.steps": 200, "train.warmup": 1}}, seeds={seeds},
                 baseline="baseline", arms={{"baseline": Arm(), {arms}}}, {more})
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """study(arms, *flags) runs ablate over stand-in cells; .started() lists the commands that ran."""
    log, python = tmp_path / "log", tmp_path / "python"
    python.write_text(STAND_IN.format(python=sys.executable, log=str(log)))
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))

    def run(arms: str, *flags: str, seeds: str = "(1, 2)", more: str = "") -> list[dict]:
        log.unlink(missing_ok=True)
        file = tmp_path / "suite.py"
        file.write_text(SUITE.format(root=ROOT, arms=arms, seeds=seeds, more=more))
        ablate.main(ablate.parser().parse([f"--suite={file}", f"--out={tmp_path / 'out'}", *flags]))
        return runner.read(tmp_path / "out" / "results.jsonl")

    run.started = lambda: log.read_text().splitlines() if log.exists() else []
    run.cores = lambda: int((tmp_path / "cores").read_text())
    run.out = tmp_path / "out"
    return run


def test_an_arm_may_be_compared_by_the_average_of_its_weights(study):
    """Its row has the average's numbers in the usual places and the raw ones apart; measured otherwise it is another
    row."""
    arm = '"mean": Arm({"train.tail": 0.5}, averaged=%s)'
    rows = study(arm % True, seeds="(1,)")
    raw = rows[0]["loss"]
    assert [(r["arm"], r["loss"], r["curve"]) for r in rows] == [
        ("baseline", raw, [[1, raw]]),
        ("mean", raw - 1, [[1, raw - 1]]),
    ]
    assert rows[1]["raw"]["loss"] == rows[0]["loss"] and "raw" not in rows[0]
    study(arm % True, seeds="(1,)")
    assert study.started() == []
    rows = study(arm % False, seeds="(1,)")
    assert len(study.started()) == 1 and rows[1]["loss"] == rows[0]["loss"] and "raw" not in rows[1]
    with pytest.raises(UserError, match="arm 'mean': it is compared by averaged weights, and its config averages none"):
        study('"mean": Arm(averaged=True)')


def test_every_cell_once_and_then_nothing_is_missing(study, capsys):
    rows = study('"higher": Arm({"train.lr": 0.125})', "--jobs=2")
    assert [(r["arm"], r["seed"]) for r in rows] == [("baseline", 1), ("higher", 1), ("baseline", 2), ("higher", 2)]
    assert all(r["status"] == "done" and r["curve"] == [[1, r["loss"]]] and r["tokens_per_s"] == 5.0 for r in rows)
    assert "passages" not in rows[0] and str(study.out) not in (study.out / "results.jsonl").read_text()
    for name in ("table.md", "table.csv", "table.tex", "curves.png", "differences.png"):
        assert (study.out / name).stat().st_size > 50
    assert not list(study.out.rglob("report.json")), "the workdirs of finished cells are gone"
    capsys.readouterr()
    assert study('"higher": Arm({"train.lr": 0.125})') == rows and not study.started()
    assert "4 cells, 0 to run" in capsys.readouterr().out


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_jobs_share_the_cores(study):
    mine = len(os.sched_getaffinity(0))
    study("", "--jobs=1")
    assert study.cores() == mine
    study('"a": Arm({"train.lr": 0.125})', "--jobs=2")
    assert study.cores() == mine // 2 and len(os.sched_getaffinity(0)) == mine


def test_seeds_that_train_together_are_one_command(study):
    """Those of an arm that differ in nothing else; a failed one leaves the others."""
    arms = '"a": Arm({"train.lr": 0.5}), "b": Arm({"data.path": "{cell}/text"})'
    with pytest.raises(CommandError, match="2 of 6 cells failed"):
        study(arms, "--together")
    begun = [line.count("--seeds=1,2") for line in study.started()]
    assert sorted(begun) == [0, 0, 1, 1], "arm b has a text for each seed"
    rows = {(row["arm"], row["seed"]): row for row in runner.read(study.out / "results.jsonl")}
    assert all(rows["a", seed]["status"] == "FAILED" for seed in (1, 2))
    alone = study(arms.replace("0.5", "0.1"))
    assert [row["loss"] for row in alone if row["arm"] == "baseline"] == [rows["baseline", s]["loss"] for s in (1, 2)]


def test_a_changed_arm_and_a_new_seed_are_all_that_runs_again(study):
    first = study('"higher": Arm({"train.lr": 0.125})', seeds="(1,)")
    rows = study('"higher": Arm({"train.lr": 0.0625})', seeds="(1, 3)")
    assert len(study.started()) == 3 and rows[0] == first[0] and rows[1]["loss"] == pytest.approx(2.0725)
    study("")
    assert len(runner.read(study.out / "results.jsonl")) == 2


def test_a_newer_knob_runs_nothing_again_until_it_acts(study):
    """Results made before a knob existed serve as long as it stands at its default, and not when it does not."""
    higher, softcap = '"higher": Arm({"train.lr": 0.125})', '"higher": Arm({"train.lr": 0.125, "model.softcap": 4.0})'
    rows = study(higher, seeds="(1,)")
    assert all(row["config"].pop("model.softcap") == 0 for row in rows)
    older = "".join(json.dumps(row) + "\n" for row in rows)
    for arms, count in [(higher, 0), (softcap, 1)]:
        (study.out / "results.jsonl").write_text(older)
        study(arms, seeds="(1,)")
        assert len(study.started()) == count
    for key, value in [("train.steps", 201), ("model.gone", 1)]:  # another value, and a knob that is no more
        rows[1]["config"][key] = value
        (study.out / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        study(higher, seeds="(1,)")
        assert len(study.started()) == 1
        del rows[1]["config"][key]
        rows[1]["config"].setdefault("train.steps", 200)


def test_cells_report_in_full_unless_their_suite_says_otherwise(tmp_path):
    arms = '"part": Arm({"train.report_share": 0.5})'
    (tmp_path / "suite.py").write_text(SUITE.format(root=ROOT, seeds="(1,)", arms=arms, more=""))
    made = suite.cells(suite.load(str(tmp_path / "suite.py"), "micro"), tmp_path / "cells")
    assert {cell.arm: cell.config["train.report_share"] for cell in made} == {"baseline": 0.0, "part": 0.5}


def test_a_cell_that_fails_leaves_the_others_and_is_tried_again(study, capsys):
    arms = '"bad": Arm({"train.lr": 0.5}), "worse": Arm({"train.lr": 0.125}, before=("x --from={run[bad]} fine",))'
    with pytest.raises(CommandError, match="4 of 6 cells failed"):
        study(arms)
    rows = {(r["arm"], r["seed"]): r for r in runner.read(study.out / "results.jsonl")}
    assert rows["bad", 1]["error"] == "exit 3: main: it broke" and rows["baseline", 2]["status"] == "done"
    assert rows["worse", 1]["error"] == "needs bad, which failed"
    assert "0 + 2 FAILED" in (study.out / "table.md").read_text()
    with pytest.raises(CommandError, match="4 of 6 cells failed"):
        study(arms)
    assert len(study.started()) == 2, "only what failed by itself is started again"


def test_commands_before_a_cell_and_the_workdir_of_another_arm(study):
    after = '"after": Arm({"train.lr": 0.125}, before=("score --from={run[baseline]} --seed={seed} fine",))'
    study(after, "--jobs=2", seeds="(7,)")
    assert [line.split()[0] for line in study.started()] == [
        "--config=" + str(ROOT / "configs/micro.py"),
        "--from=" + str(study.out / "cells/baseline/7/run"),
        "--config=" + str(ROOT / "configs/micro.py"),
    ]
    assert "--seed=7" in study.started()[1]
    # another arm that reads the baseline later: its workdir is gone, so the baseline runs once more
    study(after + ', "late": Arm({"train.lr": 0.0625}, before=("x --from={run[baseline]} fine",))', seeds="(7,)")
    assert len(study.started()) == 3
    with pytest.raises(CommandError, match="1 of 2 cells failed"):
        study('"after": Arm({"train.lr": 0.125}, before=("score --flag",))', seeds="(7,)")


def test_what_a_failed_cell_left_is_not_taken_for_another_arms(study):
    with pytest.raises(CommandError):
        study('"a": Arm({"train.lr": 0.5})', seeds="(1,)")
    assert (study.out / "cells/a/1/run").is_dir()
    assert [r["status"] for r in study('"a": Arm({"train.lr": 0.125})', seeds="(1,)")] == ["done", "done"]


def test_where_the_cells_work_does_not_decide_what_is_missing(study):
    arms = '"a": Arm({"train.lr": 0.125}, before=("score --out={cell}/x fine",))'
    study(arms, f"--cells={study.out.parent / 'here'}")
    study(arms, f"--cells={study.out.parent / 'there'}")
    assert not study.started()


def test_a_dry_run_starts_nothing(study, capsys):
    study("", "--dry_run")
    assert not study.started() and "baseline, seed 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arms, says",
    [
        ('"a": Arm({"train.lrr": 1})', "arm 'a': --config.train.lrr: no such key; did you mean lr"),
        ('"a": Arm({"train.lr": -1.0})', "arm 'a': config.train.lr: must be above 0"),
        ('"a": Arm({"data.path": "{folder}"})', r"arm 'a': placeholders are \{cell\}"),
        ('"a": Arm({"data.path": "{run[none]}"})', r"arm 'a': placeholders"),
        ('"a": Arm(before=("x {run[b]}",)), "b": Arm(before=("x {run[a]}",))', "need each other in a circle: a, b"),
        ('"a": 1 / 0', "ZeroDivisionError"),
    ],
)
def test_a_suite_that_cannot_run_is_refused_before_anything_runs(study, arms, says):
    with pytest.raises(UserError, match=says):
        study(arms)
    assert not study.started()


def test_a_budget_in_tokens_or_flops_sets_the_steps(tmp_path):
    """Each arm spends the same, to half a step; FLOPs as a run reports them."""
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be that is the question " * 50)
    common = {"data.path": str(text), "model.width": 16, "model.heads": 1, "train.warmup": 1, "data.max_leak": 1.0}
    arms = {"one": suite.Arm(), "deep": suite.Arm({"model.layers": 4}), "long": suite.Arm({"model.context": 64})}
    at = lambda budget: suite.Suite(str(ROOT / "configs/micro.py"), arms, (1,), "one", common, budget=budget)
    steps = lambda budget: [cell.config["train.steps"] for cell in suite.cells(at(budget), tmp_path / "cells")]
    assert steps(("tokens", 100_000)) == [98, 98, 195], "of 8 windows of 128 or 64 tokens"
    layer = 6 * (4 * 16 * 16 + 3 * 16 * 64 + 32) + 3 * 4 * 16 * 128  # Linears, two norms; attention over the context
    head = 6 * (16 * len(set(text.read_text())) + 16)
    flops = [1024 * (layers * layer + head) for layers in (2, 4)]
    assert steps(("flops", 3e9))[:2] == [round(3e9 / n) for n in flops]
    for budget, says in [(("hours", 1.0), "no unit is called 'hours'"), (("tokens", 100.0), "are 0.0977 steps")]:
        with pytest.raises(UserError, match=f"arm 'one': budget: .*{says}"):
            steps(budget)


SECONDS = "budget=('seconds', 12.0)"


def test_a_budget_in_seconds_is_measured_once_for_each_arm(study):
    """Steps of 1 s and 1.2 s (but for the first ones, which warm up) are 12 and 10 in 12 seconds; what was measured is
    kept until the arm is another."""
    steps = lambda rows: [row["config"]["train.steps"] for row in rows]
    measured = lambda: [line for line in study.started() if "train.schedule=constant" in line]
    assert steps(study("'a': Arm({'train.lr': 0.2})", more=SECONDS)) == [12, 10, 12, 10]
    assert len(measured()) == 2 and len(study.started()) == 6
    assert all(f"--config.train.steps={pace.STEPS}" in line for line in measured())
    study("'a': Arm({'train.lr': 0.2})", more=SECONDS)
    assert not study.started(), "what is known is not measured again, and no cell is another"
    assert steps(study("'a': Arm({'train.lr': 0.1})", more=SECONDS)) == [12, 11, 12, 11]
    assert len(measured()) == 1 and len(study.started()) == 3
    with pytest.raises(UserError, match=r"arm 'a': .*does not train: exit 3: main: it broke"):
        study("'a': Arm({'train.lr': 0.5})", more=SECONDS)
    (study.out / "pace.json").write_text('{"a": {"step_s": 1}}')
    with pytest.raises(StorageError, match=r"pace\.json: damaged"):
        study("'a': Arm({'train.lr': 0.2})", more=SECONDS)


def test_a_changed_pace_or_row_is_refused(study):
    """One digit: another number of steps, or another loss, would stand in the table."""
    study("'a': Arm({'train.lr': 0.2})", more=SECONDS)
    pace_file, rows = study.out / "pace.json", study.out / "results.jsonl"
    sound = rows.read_text()
    assert sound.count('"loss": ') >= 2
    rows.write_text(sound.replace('"loss": ', '"loss": 1', 1))
    with pytest.raises(StorageError, match=r"results\.jsonl:1: changed since it was written; .*runs again"):
        study("'a': Arm({'train.lr': 0.2})", more=SECONDS)
    rows.write_text(sound)
    whole = pace_file.read_text()
    pace_file.write_text(whole.replace('"step_s": ', '"step_s": 1', 1))
    with pytest.raises(StorageError, match=r"pace\.json: damaged \(changed since it was written\); remove it"):
        study("'a': Arm({'train.lr': 0.2})", more=SECONDS)
    older = json.loads(whole)["arms"]
    pace_file.write_text(json.dumps(older))
    study.started()
    study("'a': Arm({'train.lr': 0.2})", more=SECONDS)
    assert not study.started(), "what version 0.1 measured stays known"


def test_suites_that_are_none(tmp_path):
    (tmp_path / "s.py").write_text("get_suite = lambda scale: scale")
    for path, says in [("none.py", "does not exist"), ("s.py", "gives str, not a Suite")]:
        with pytest.raises(UserError, match=says):
            suite.load(str(tmp_path / path), "micro")
    for change, says in [("baseline='x'", "the baseline is 'x'"), ("seeds=(1, 1)", "seeds must be different")]:
        (tmp_path / "s.py").write_text(
            "from juliagpt_jax.study.suite import Arm, Suite\nimport dataclasses\n"
            "good = Suite(config='c', arms={'b': Arm()}, seeds=(1,), baseline='b')\n"
            f"get_suite = lambda scale: dataclasses.replace(good, {change})"
        )
        with pytest.raises(UserError, match=says):
            suite.load(str(tmp_path / "s.py"), "micro")


def test_a_torn_results_file_is_named(study):
    study.out.mkdir()
    (study.out / "results.jsonl").write_text('{"arm": "baseline", "se')
    with pytest.raises(StorageError, match=r"results.jsonl:1: not a row"):
        study("")


def test_names_that_look_alike_get_folders_of_their_own():
    assert len({suite.slug(name) for name in ("lr 1", "lr-1", "LR 1", "lr_1")}) == 4


@pytest.mark.slow
def test_a_real_suite_stopped_in_the_middle_ends_like_one_that_was_not(tmp_path):
    """SIGTERM while a cell trains, then the same command: the same rows, and the cell resumed instead of beginning
    anew."""
    file = tmp_path / "suite.py"
    small = '"train.steps": 1500, "train.checkpoint_every": 100, "train.eval_every": 750, "model.width": 8,'
    small += (
        '"model.layers": 1, "model.heads": 1, "model.context": 16, "train.sample_every": 0, "train.eval_windows": 8'
    )
    text = SUITE.format(root=ROOT, arms="", seeds="(5,)", more="").replace(
        '"train.steps": 200, "train.warmup": 1', small
    )
    file.write_text(text)
    command = lambda out: [
        *[sys.executable, "-m", "juliagpt_jax.ablate", f"--suite={file}", f"--out={tmp_path / out}", "--keep"],
    ]
    environment = os.environ | {"XLA_FLAGS": "", "JULIAGPT_CACHE": str(tmp_path / "cache")}
    options = {"cwd": ROOT, "env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    whole = subprocess.run(command("whole"), timeout=120, **options)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(command("cut"), **options)
    metrics = tmp_path / "cut/cells/baseline/5/run/metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") > 20):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and "0 of 1 cells done; the same command goes on" in errors
    assert subprocess.run(command("cut"), timeout=120, **options).returncode == 0
    assert "going on after step" in (tmp_path / "cut/cells/baseline/5/log.txt").read_text()
    (one,), (two,) = (runner.read(tmp_path / out / "results.jsonl") for out in ("whole", "cut"))
    clocks = {
        "cell_s",
        "wall_s",
        "compile_s",
        "step_s",
        "tokens_per_s",
        "chars_per_s",
        "peak_memory_bytes",
        "checkpoint_bytes",
    }
    assert {k: v for k, v in one.items() if k not in clocks} == {k: v for k, v in two.items() if k not in clocks}
    assert json.loads((tmp_path / "cut/cells/baseline/5/run/config.json").read_text())["train"]["steps"] == 1500
