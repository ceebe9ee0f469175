"""Time a training step of an arm on this machine, to turn a budget in seconds into steps.

Measured once, by training the arm itself for STEPS steps in the share of the cores that a cell has, and kept in a file:
a suite that goes on, or is asked again elsewhere, has the same steps.
"""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.knobs.names import modern_names
from juliagpt_jax.ground.sealed import Changed, fault, read_json, write_json
from juliagpt_jax.study.runner import last_words, pinned
from juliagpt_jax.study.suite import same_config
from juliagpt_jax.training import metrics

STEPS = 60
# Nothing but steps, whose cost no schedule of rates changes; each line of metrics is the mean time of five.
PLAIN = {"steps": STEPS, "log_every": 5, "sample_every": 0, "eval_every": STEPS, "checkpoint_every": STEPS}
PLAIN |= {"final_windows": 1, "report_share": 0.01, "schedule": "constant", "warmup": 0, "warmup_tokens": 0}


class Pace:
    """Seconds a step, by arm.

    Args:
        path: the file that keeps them.
        jobs, launcher: as the cells will have them.

    Raises:
        StorageError: the file is damaged.
    """

    def __init__(self, path: Path, jobs: int, launcher: Sequence[str], say: Callable[[str], None] = print):
        self.path, self.jobs, self.launcher, self.say = path, jobs, list(launcher), say
        self.known: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                values = read_json(path)
                self.known = values.get("arms", values)  # version 0.1 had nothing around the arms, and no hash
                if any(type(e["config"]) is not dict or e["step_s"] <= 0 for e in self.known.values()):
                    raise ValueError("no pace of an arm")
            except (Changed, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                why = fault(error)
                raise StorageError(f"{path}: damaged ({why}); remove it, and every arm is measured again") from error

    def __call__(
        self,
        arm: str,
        file: str,
        overrides: Sequence[str],
        values: Mapping[str, Any],
        defaults: Mapping[str, Any],
    ) -> float:
        """Seconds of a step of an arm.

        Args:
            file, overrides: its config, for `main`.
            values, defaults: all knobs by dotted name: as they are with the overrides, and in the file alone.

        Raises:
            UserError: it does not train.
        """
        mine = {key: value for key, value in values.items() if key not in ("seed", "train.steps")}
        entry = self.known.get(arm)
        if entry is None or not same_config(mine, modern_names(entry["config"]), defaults):
            entry = {"step_s": self._measure(arm, file, overrides), "config": mine}
            self.known[arm] = entry
            write_json(self.path, {"arms": self.known})
        return entry["step_s"]

    def _measure(self, arm: str, file: str, overrides: Sequence[str]) -> float:
        with tempfile.TemporaryDirectory() as folder:
            work, log = Path(folder) / "run", Path(folder) / "log.txt"
            flags = [f"--config.{override}" for override in overrides]
            flags += [f"--config.train.{key}={value}" for key, value in PLAIN.items()]
            call = [*self.launcher, sys.executable, "-m", "juliagpt_jax.main", f"--config={file}", f"--workdir={work}"]
            with open(log, "w", encoding="utf-8") as out, pinned(0, self.jobs, bool(self.launcher)):
                code = subprocess.run([*call, *flags], stdout=out, stderr=out, stdin=subprocess.DEVNULL).returncode
            if code:
                raise UserError(f"it does not train: {last_words(log, code)}")
            times = [row["step_s"] for row in metrics.read(work / "metrics.jsonl") if row.get("step_s")]
        seconds = statistics.fmean(times[1:])  # not all steps of an arm need cost the same; the first ones warm up
        self.say(f"{arm}: {seconds * 1e3:,.1f} ms a step")
        return seconds
