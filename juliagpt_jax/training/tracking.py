"""Weights & Biases: a second view of metrics.jsonl, on a server, or under `workdir/wandb` with WANDB_MODE=offline."""

import importlib.util
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from juliagpt_jax.ground import config
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.files import write_text


def check(settings: config.Config) -> None:
    """Raise a UserError where `train.wandb` asks for a library that is not installed."""
    if settings.train.wandb and importlib.util.find_spec("wandb") is None:
        asked = f"config.train.wandb={settings.train.wandb}"
        raise UserError(f"{asked}: the library wandb is missing: pip install 'juliagpt-jax[wandb]'")


class Tracker:
    """One run of a W&B project, the same one when the workdir's run goes on. Whatever fails there is said once on
    stderr, and the training goes on without it: metrics.jsonl has all numbers."""

    def __init__(self, workdir: Path, settings: config.Config):
        self._run: Any = None
        self._run = self._tried(lambda: self._begin(workdir, settings))

    @staticmethod
    def _begin(workdir: Path, settings: config.Config) -> Any:
        import wandb  # only where it is used  # pyright: ignore[reportMissingImports]

        path = workdir / "wandb.id"
        if not path.exists():
            write_text(path, secrets.token_hex(8) + "\n")
        return wandb.init(
            project=settings.train.wandb,
            id=path.read_text(encoding="utf-8").strip(),
            resume="allow",
            reinit="create_new",  # several runs in one process keep apart
            name=workdir.resolve().name,
            dir=str(workdir),
            config=config.to_dict(settings),
        )

    def write(self, step: int, values: dict[str, float]) -> None:
        if self._run is not None:
            self._tried(lambda: self._run.log(values, step=step))

    def close(self) -> None:
        if self._run is not None:
            self._tried(lambda: self._run.finish())
            self._run = None

    def _tried(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Exception as error:  # of a library, a network and a server that are no part of the training
            self._run = None
            print(f"warning: no more Weights & Biases: {type(error).__name__}: {error}"[:300], file=sys.stderr)
            return None
