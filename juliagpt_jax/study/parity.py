"""The baseline here and in PyTorch (`torch_gpt.py`): the same numbers, the same quality, and the speed of both.

Three measurements. `same`: the same weights and batches go through both; logits, loss, gradients and a few steps of
AdamW are compared tensor by tensor, with PyTorch in float64 beside them, which says what float32 rounding is.
`trained`: whole runs on the same batches, over seeds. `speed`: train steps in turn.
"""

import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from juliagpt_jax.data import sampler, selection
from juliagpt_jax.data.batch import IGNORED, Batch
from juliagpt_jax.data.corpus import Corpus
from juliagpt_jax.ground import config, devices
from juliagpt_jax.ground.errors import StorageError, UserError
from juliagpt_jax.ground.knobs.names import first_names
from juliagpt_jax.ground.sealed import read_rows, write_rows
from juliagpt_jax.inference import scoring
from juliagpt_jax.models.build import build_model
from juliagpt_jax.models.parameters import paths
from juliagpt_jax.training import step
from juliagpt_jax.training.mesh import batch_sharding, make_mesh, shardings
from juliagpt_jax.training.state import Frozen, TrainState, initial_state

STEPS = 10  # of AdamW in `same`
EVAL_BATCH = 32
# Largest differences, as shares of the norm of what is compared; for the steps, of the way that a tensor has gone: a
# few steps of warm-up move a norm's scale by 1e-3, and float32 beside 1 has steps of 1e-7.
TOLERANCES = {"logits": 1e-5, "loss": 1e-6, "gradient": 1e-5, f"{STEPS} steps": 5e-4}
ARMS = {  # of `trained`: which side trains, from whose initial weights
    "jax": "JAX",
    "torch": "PyTorch, initial weights of its own",
    "torch given": "PyTorch, JAX's initial weights",
}


def check(settings: config.Config) -> None:
    """Raises UserError when a config is not the baseline's, which alone is written in PyTorch."""
    model, train = settings.model, settings.train
    plain = {"mixer": "attention", "channel": "swiglu", "depth": "stack", "linear": "dense", "norm": "rms"}
    plain |= {"positions": "rotary", "bias": False, "qk_norm": False, "zero_init": False, "x0_skip": False}
    plain |= {"init": "normal", "unet": False, "value_embedding": "none", "head_gate": False, "qkv_bias": False}
    plain |= {"softcap": 0.0, "dropout": 0.0, "word_dropout": 0.0, "mask": "causal", "sink": "none"}
    wanted = {f"model.{key}": (getattr(model, key), value) for key, value in plain.items()}
    plain = {"optimizer": "adamw", "precision": "f32", "weight_decay_schedule": "learning_rate", "cautious": False}
    plain |= {"ema": 0.0, "ema_half_life": 0.0, "tail": 0.0, "decay_tau": 0.0}
    wanted |= {f"train.{key}": (getattr(train, key), value) for key, value in plain.items()}
    wanted["train.ngram.weight"] = (train.ngram.weight, 0.0)
    if train.schedule == "cycles":
        raise UserError(
            "--config.train.schedule=cycles: not written in PyTorch; cosine, linear, trapezoid, constant are"
        )
    for key, (value, only) in wanted.items():
        if value != only:
            raise UserError(f"--config.{key}={value}: what is written in PyTorch is the baseline, which has {only}")


def import_torch() -> Any:
    """`torch_gpt`, which imports PyTorch.

    Raises:
        UserError: it is missing, or would compute on another kind of device than JAX.
    """
    try:
        from juliagpt_jax.study import torch_gpt
    except ImportError as error:
        raise UserError(f"PyTorch is missing ({error}): pip install 'juliagpt-jax[torch]'") from error
    if jax.default_backend() != "cpu":
        raise UserError(
            f"JAX computes on a {jax.default_backend()}, and PyTorch here on the processor: "
            "JAX_PLATFORMS=cpu compares them there"
        )
    torch_gpt.torch.set_num_threads(devices.cores())
    return torch_gpt


class Pair:
    """One recipe on one text, ready to run on both sides."""

    def __init__(self, settings: config.Config, corpus: Corpus):
        train = settings.train
        micro = devices.micro_batches(train.accumulate, train.batch_size, settings.model.context)
        self.settings = dataclasses.replace(settings, train=dataclasses.replace(train, accumulate=micro))
        self.corpus, self.vocab = corpus, corpus.tokenizer.vocab_size
        self.lead = corpus.tokenizer.lead
        self.model = build_model(self.settings, self.vocab)
        self.mesh = make_mesh(self.settings)
        self.train_step = step.make_train_step(self.settings, self.model, self.mesh)
        sharding = shardings(jax.eval_shape(self._start, jax.random.key(0)), self.mesh)
        self._fresh = jax.jit(self._start, out_shardings=sharding)
        self.torch = import_torch()

    def batches(self, seed: int) -> Iterator[Batch]:
        """The batches of step 0, 1, ... of a run with this seed."""
        data, train, context = self.settings.data, self.settings.train, self.settings.model.context
        chosen = selection.select(self.corpus, data, seed, context)
        plan = selection.plan(chosen, data, context, train.batch_size, train.steps, seed)
        return (sampler.batch(chosen.tokens, plan, n) for n in itertools.count())

    def _start(self, key: jax.Array) -> TrainState:
        params = self.model.init(key, jax.numpy.zeros((1, 2), int))["params"]
        return initial_state(self.settings, self.model, params)

    def jax_state(self, seed: int) -> TrainState:
        """The state before the first step of a run with this seed."""
        return self._fresh(jax.random.key(seed))

    def torch_model(self, seed: int, given: dict[str, np.ndarray] | None = None, double: bool = False) -> Any:
        """The PyTorch model with weights of its own, or with the `given` ones by path."""
        model = self.torch.GPT(self.settings.model, self.vocab, seed)
        if given is not None:
            self.torch.load(model, given)
        return model.double() if double else model

    def torch_batch(self, batch: Batch) -> Any:
        return tuple(self.torch.torch.from_numpy(part.astype(np.int64)) for part in (batch.inputs, batch.targets))

    def torch_params(self, model: Any) -> dict[str, np.ndarray]:
        return {path: tensor.detach().numpy() for path, tensor in self.torch.by_path(model.named_parameters()).items()}


Tensors = dict[str, dict[str, np.ndarray]]  # by what of TOLERANCES, and by name


def same(pair: Pair, seed: int) -> list[dict[str, Any]]:
    """The first STEPS steps of a run with this seed on both sides: what `compare` says of them."""
    batches = list(itertools.islice(pair.batches(seed), STEPS))
    state = pair.jax_state(seed)
    start = {path: np.asarray(leaf) for path, leaf in paths(state.params).items()}
    ours = jax_side(pair, state, batches)
    return compare(ours, *(torch_side(pair, start, batches, double) for double in (False, True)))


def jax_side(pair: Pair, state: TrainState, batches: list) -> Tensors:
    """Logits, loss and gradient on the first batch, and each parameter's way in the steps on all."""

    @jax.jit
    def first(params, inputs, targets):
        def loss(params):
            logits, *_ = pair.model.apply({"params": params}, inputs)
            losses = scoring.token_losses(logits, targets)
            return losses.sum() / (targets != IGNORED).sum(), logits

        (mean, logits), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return logits, mean, gradient

    arrays = lambda tree: {path: np.asarray(leaf).astype(np.float64) for path, leaf in paths(tree).items()}
    start = arrays(state.params)
    logits, loss, gradient = first(state.params, batches[0].inputs, batches[0].targets)
    for batch in batches:
        state, _ = pair.train_step(state, jax.device_put(batch, batch_sharding(pair.mesh)), Frozen())
    found = {"logits": arrays({"logits": logits}), "loss": arrays({"loss": loss}), "gradient": arrays(gradient)}
    return found | {f"{STEPS} steps": {path: end - start[path] for path, end in arrays(state.params).items()}}


def torch_side(pair: Pair, start: dict[str, np.ndarray], batches: list, double: bool) -> Tensors:
    """Compute in PyTorch what `jax_side` does, from these weights, in float64 if `double`."""
    model = pair.torch_model(0, start, double)
    inputs, targets = pair.torch_batch(batches[0])
    wide = lambda tensor: tensor.detach().numpy().astype(np.float64)
    logits = model(inputs)
    loss = pair.torch.mean_loss(logits, targets)
    loss.backward()
    grads = pair.torch.by_path((name, weight.grad) for name, weight in model.named_parameters())
    found = {"logits": {"logits": wide(logits)}, "loss": {"loss": wide(loss)}}
    found["gradient"] = {path: wide(tensor) for path, tensor in grads.items()}
    trainer = pair.torch.Trainer(pair.settings, model)
    for batch in batches:
        trainer.step(*pair.torch_batch(batch))
    ends = pair.torch_params(model).items()
    return found | {f"{STEPS} steps": {path: end.astype(np.float64) - start[path] for path, end in ends}}


def compare(ours: Tensors, theirs: Tensors, exact: Tensors) -> list[dict[str, Any]]:
    """One row a tensor: `difference`, the norm of ours minus theirs over the norm of theirs; `rounding`, the same of
    theirs and the `exact` one; the `largest` difference of two numbers; the `tolerance`, and whether it `agrees`."""
    rows = []
    for what, tolerance in TOLERANCES.items():
        for name, mine in ours[what].items():
            other, true = theirs[what][name], exact[what][name]
            difference = float(np.linalg.norm(mine - other) / np.linalg.norm(other))
            rows.append(
                {
                    "what": what,
                    "tensor": name,
                    "shape": list(mine.shape),
                    "difference": difference,
                    "rounding": float(np.linalg.norm(other - true) / np.linalg.norm(true)),
                    "largest": float(np.abs(mine - other).max()),
                    "tolerance": tolerance,
                    "agrees": difference <= tolerance,
                }
            )
    return rows


def train(pair: Pair, arm: str, seed: int) -> dict[str, Any]:
    """One run of an arm of ARMS: loss, perplexity and bits per character of the validation text, and its time."""
    begun, steps, batches = time.perf_counter(), pair.settings.train.steps, pair.batches(seed)
    state = pair.jax_state(seed)
    if arm == "jax":
        sharding = batch_sharding(pair.mesh)
        for batch in itertools.islice(batches, steps):
            state, _ = pair.train_step(state, jax.device_put(batch, sharding), Frozen())
        jax.block_until_ready(state.params)
        train_s, params = time.perf_counter() - begun, state.params
        loss = jax_loss(pair, params)
    else:
        given = {path: np.asarray(leaf) for path, leaf in paths(state.params).items()} if arm == "torch given" else None
        model = pair.torch_model(seed, given)
        trainer = pair.torch.Trainer(pair.settings, model)
        for batch in itertools.islice(batches, steps):
            trainer.step(*pair.torch_batch(batch))
        train_s = time.perf_counter() - begun
        loss = torch_loss(pair, model)
    bits = loss / math.log(2) / pair.corpus.characters_per_token[1]
    return {"arm": arm, "seed": seed, "loss": loss, "perplexity": math.exp(loss), "bpc": bits, "train_s": train_s}


def jax_loss(pair: Pair, params: Any) -> float:
    """Nats a token of the validation text, of weights in a tree or by path."""
    if not isinstance(params.get("embedding"), jax.Array):
        params = unflatten_dict(params, sep="/")
    return scoring.score_text(pair.model, params, pair.corpus.val, pair.lead, batch=EVAL_BATCH).loss


def torch_loss(pair: Pair, model: Any) -> float:
    """Loss on the validation windows, computed by PyTorch."""
    context = pair.settings.model.context
    inputs, targets = scoring.strided(pair.corpus.val, context, context // 2, pair.lead)
    total = 0.0
    with pair.torch.torch.no_grad():
        for at in range(0, len(inputs), EVAL_BATCH):
            x, y = pair.torch_batch(Batch(inputs[at : at + EVAL_BATCH], targets[at : at + EVAL_BATCH]))
            total += float(pair.torch.mean_loss(model(x), y)) * int((y != IGNORED).sum())
    return total / int((targets != IGNORED).sum())


@dataclasses.dataclass(frozen=True)
class Speed:
    """Tokens per second of each round, on both sides."""

    jax: list[float]
    torch: list[float]

    @property
    def ratios(self) -> list[float]:
        """JAX over PyTorch, round by round."""
        return [a / b for a, b in zip(self.jax, self.torch, strict=True)]


def speed(pair: Pair, rounds: int = 5, seconds: float = 2.0, compiled: bool = False) -> Speed:
    """Train steps in turn, about `seconds` of one side and then of the other, `rounds` times after one to warm up; the
    PyTorch side eager, or `compiled` by torch.compile."""
    batches = list(itertools.islice(pair.batches(0), 8))
    placed = [jax.device_put(batch, batch_sharding(pair.mesh)) for batch in batches]
    tensors = [pair.torch_batch(batch) for batch in batches]
    state = pair.jax_state(0)
    model = pair.torch_model(0)
    trainer = pair.torch.Trainer(pair.settings, pair.torch.torch.compile(model) if compiled else model)

    def ours(count: int) -> None:
        nonlocal state
        for n in range(count):
            state, _ = pair.train_step(state, placed[n % len(placed)], Frozen())
        jax.block_until_ready(state.params)

    def theirs(count: int) -> None:
        for n in range(count):
            trainer.step(*tensors[n % len(tensors)])

    tokens = pair.settings.train.batch_size * pair.settings.model.context
    measured: dict[Callable[[int], None], list[float]] = {ours: [], theirs: []}
    counts = {}
    for side in measured:
        side(2)  # compiles, and fills caches
        counts[side] = max(1, round(seconds / _seconds(side, 2) * 2))
    for _ in range(rounds):
        for side, found in measured.items():
            found.append(tokens * counts[side] / _seconds(side, counts[side]))
    return Speed(measured[ours], measured[theirs])


def _seconds(call: Callable[[int], None], count: int) -> float:
    begun = time.perf_counter()
    call(count)
    return time.perf_counter() - begun


class Results:
    """The rows of finished runs in a file, so that a killed comparison goes on with what is missing.

    A row of another recipe, text or version of a library is not one of this comparison and is dropped.

    Raises:
        StorageError: the file is not one of rows.
    """

    def __init__(self, path: Path, recipe: str):
        self.path, self.recipe = path, recipe
        rows = read_rows(path)
        if not all({"arm", "seed", "recipe"} <= row.keys() for row in rows):
            raise StorageError(f"{path}: not rows of results; remove it, and the runs are done anew")
        self.rows = [row for row in rows if row["recipe"] == recipe]

    def missing(self, seeds: int) -> list[tuple[str, int]]:
        """(arm, seed) of the runs that have no row, seed by seed."""
        there = {(row["arm"], row["seed"]) for row in self.rows}
        return [(arm, seed) for seed in range(1, seeds + 1) for arm in ARMS if (arm, seed) not in there]

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row | {"recipe": self.recipe})
        write_rows(self.path, self.rows)


def recipe(settings: config.Config, corpus: Corpus) -> str:
    """Hash of all that a run's numbers depend on beside arm and seed."""
    train = dataclasses.replace(settings.train, report_share=0.0)  # no report is written here
    kept = first_names(config.flatten(config.to_dict(dataclasses.replace(settings, seed=0, train=train))))
    versions = [importlib.metadata.version(name) for name in ("jax", "jaxlib", "optax", "torch")]
    return hashlib.sha256(json.dumps([kept, corpus.fingerprint, versions], sort_keys=True).encode()).hexdigest()[:16]
