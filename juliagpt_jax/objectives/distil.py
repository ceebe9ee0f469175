"""Distillation: a student learns the next tokens and what a teacher predicts in their place (Hinton et al. 2015, arXiv
1503.02531).

The teacher is a finished run, or several, whose probabilities are averaged. So this is self-distillation, where the
teacher has the student's own form (Furlanello et al. 2018, arXiv 1805.04770), a chain of it from run to run, and the
way from an ensemble to one model.

`on_policy` lets the student write, and compares both on what it wrote (Agarwal et al. 2023, arXiv 2306.13649): it
learns where its own mistakes lead, and not where only the examples would.
"""

import functools
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from juliagpt_jax.data.batch import Batch
from juliagpt_jax.ground import config, files
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.inference.opened import Opened, open_model
from juliagpt_jax.inference.scoring import token_losses
from juliagpt_jax.models import mixers
from juliagpt_jax.models.interface import Model
from juliagpt_jax.objectives import experts
from juliagpt_jax.objectives.next_token import NextToken
from juliagpt_jax.objectives.objective import Apply, Chosen, Memo, Terms
from juliagpt_jax.objectives.written import Group, Write
from juliagpt_jax.store.manifest import MANIFEST
from juliagpt_jax.store.workdir import Found, find


def divergence(logits: jax.Array, teachers: list[jax.Array], temperature: float) -> jax.Array:
    """Return temperature^2 KL(mean of the teachers || student) at each position (B, T), both from logits (B, T, V) over
    the temperature: by its square the gradient is about as large at any (section 2 of the paper)."""
    log = lambda logits: jax.nn.log_softmax(logits / temperature)
    wanted = functools.reduce(jnp.logaddexp, map(log, teachers)) - jnp.log(float(len(teachers)))
    wanted = jax.lax.stop_gradient(wanted)
    return temperature**2 * jnp.sum(jnp.exp(wanted) * (wanted - log(logits)), axis=-1)


def reverse_divergence(logits: jax.Array, teachers: list[jax.Array], temperature: float) -> jax.Array:
    """Return temperature^2 KL(student || mean of the teachers) at each position (B, T); see `divergence`. The student
    avoids what the teacher would not say (Gu et al. 2023, arXiv 2306.08543, section 2.1)."""
    log = lambda logits: jax.nn.log_softmax(logits / temperature)
    wanted = functools.reduce(jnp.logaddexp, map(log, teachers)) - jnp.log(float(len(teachers)))
    own = log(logits)
    return temperature**2 * jnp.sum(jnp.exp(own) * (own - jax.lax.stop_gradient(wanted)), axis=-1)


class Distil(NextToken):
    """(1 - alpha) times the loss of next tokens, and alpha times the divergence from the teachers; `loss` and `distil`
    in the metrics are these two before they are weighed. The teachers see no dropout and do not change."""

    sampled: Any = None  # targets drawn from the student alone are not what this loss is of

    def __init__(self, config: config.Config, model: Model, chosen: Chosen | None = None):
        super().__init__(config, model, chosen)
        tokenizer = None if chosen is None else chosen.tokenizer
        names = [name.strip() for name in config.train.distil.teacher.split(",")]
        self.teachers = [_open_teacher(name, config, model, tokenizer) for name in names]
        self.models = [teacher.model for teacher in self.teachers]
        if config.data.examples.pack:
            for name, teacher in zip(names, self.models, strict=True):
                mixers.check_packed(teacher.config, f"config.train.distil.teacher={name}")
            self.models = [teacher.clone(packed=True, parent=None) for teacher in self.models]  # pyright: ignore

    def frozen(self) -> Any:
        return tuple(teacher.params for teacher in self.teachers)

    def facts(self) -> dict[str, Any]:
        return {"teachers": [_hash(teacher) for teacher in self.teachers]}

    def loss(self, apply: Apply, trained: Any, frozen: Any, memo: Memo, batch: Batch, key: jax.Array) -> Terms:
        own = self.config.train.distil
        logits, _, aux = apply(trained, *batch.given, key=key)
        loss = jnp.sum(batch.weighed(token_losses(logits, batch.targets)))
        apart = jnp.where(batch.scored, divergence(logits, self._taught(frozen, batch), own.temperature), 0.0)
        apart = jnp.sum(batch.weighed(apart))
        total = (1 - own.alpha) * loss + own.alpha * apart
        for penalty in self.penalties:
            total += penalty(logits, aux, batch)
        return Terms(total, {"loss": loss, "distil": apart} | experts.told(self.config.model, aux, batch))

    def _taught(self, frozen: Any, batch: Batch) -> list[jax.Array]:
        """Return the logits of the teachers."""
        both = zip(self.models, frozen, strict=True)
        return [model.apply({"params": params}, *batch.given)[0] for model, params in both]


class OnPolicy(Distil):
    """The divergence from the teacher at each token that the student wrote, by tokens. The examples give the questions;
    no gradient flows through what was drawn. `loss` in the metrics is that, `surprise` the mean of -log p of a token
    that was written, and `train.distil.alpha` plays no part."""

    writes: ClassVar[bool] = True

    def __init__(self, config: config.Config, model: Model, chosen: Chosen | None = None):
        self.group = Group(config, chosen)
        self.length = self.group.length
        super().__init__(config, model, chosen)
        for teacher in self.teachers:
            if teacher.run.config.model.context < self.length:
                raise UserError(
                    f"config.train.distil.teacher: it reads {teacher.run.config.model.context} tokens at most, and a "
                    f"question with its answer has {self.length}"
                )

    def written(self, write: Write, drawn: np.ndarray) -> Batch:
        return self.group.write(write, drawn)[0]

    def loss(self, apply: Apply, trained: Any, frozen: Any, memo: Memo, batch: Batch, key: jax.Array) -> Terms:
        logits, _, aux = apply(trained, *batch.given, key=key)
        theirs, temperature = self._taught(frozen, batch), self.config.train.distil.temperature
        apart = jnp.where(batch.scored, reverse_divergence(logits, theirs, temperature), 0.0)
        total = loss = jnp.sum(batch.weighed(apart))
        for penalty in self.penalties:
            total += penalty(logits, aux, batch)
        surprise = jnp.sum(batch.weighed(token_losses(logits, batch.targets)))
        return Terms(total, {"loss": loss, "surprise": surprise} | experts.told(self.config.model, aux, batch))


def _open_teacher(name: str, settings: config.Config, model: Model, tokenizer: Any) -> Opened:
    """Open a teacher; its tokenizer is looked at before its weights are.

    Raises:
        UserError: it is none, has not ended, or speaks of other tokens or of shorter texts than the student.
        StorageError: it has no sound checkpoint.
    """
    key = f"config.train.distil.teacher={name}"
    if name in ("none", ""):
        raise UserError(f"{key}: distil learns from a run's predictions; give its workdir, or several with commas")
    found = find(Path(name), averaged=settings.train.distil.averaged)
    _check_tokenizer(key, found.tokenizer, model, tokenizer, name)
    if not _ended(found):
        raise UserError(f"{key}: this run has not ended, so that its weights will be others; let it end first")
    if found.config.model.context < settings.model.context:
        raise UserError(
            f"{key}: it reads {found.config.model.context} tokens at most, and the student "
            f"model.context={settings.model.context}"
        )
    opened = open_model(found)
    _check_tokenizer(key, opened.tokenizer, model, tokenizer, name)  # of a packed file it is known only now
    return opened


def _check_tokenizer(key: str, theirs: Any, model: Model, ours: Any, name: str) -> None:
    if theirs is None:
        return
    same = theirs.vocab_size == model.vocab if ours is None else theirs.to_dict() == ours.to_dict()
    if not same:
        raise UserError(
            f"{key}: its tokenizer, of {theirs.vocab_size:,} tokens, is not the student's, of {model.vocab:,}: the "
            f"probability of a token of one says nothing of those of the other. --config.data.tokenizer={name}"
            "/tokenizer.json gives the student the same"
        )


def _ended(found: Found) -> bool:
    """A run that is done, one model in a file, or weights from outside that were not trained here."""
    return not found.folders or (found.workdir / "DONE").exists() or found.folders[0].name == "0"


def _hash(teacher: Opened) -> str:
    folder = teacher.run.folder
    return files.sha256(folder if folder.is_file() else folder / MANIFEST)
