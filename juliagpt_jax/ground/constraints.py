"""Rules that hold between two knobs."""

from collections.abc import Iterator

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.knobs.whole import Config, decay_steps


def check(config: Config) -> None:
    """Raise a UserError that names the key where two values do not go with each other."""
    for good, key, why in (*_of_the_model(config), *_of_training(config)):
        if not good:
            raise UserError(f"config.{key}: {why}")


def _of_the_model(config: Config) -> Iterator[tuple[bool, str, str]]:
    m = config.model
    kv_heads = m.kv_heads or m.heads
    yield (
        m.width % m.heads == 0,
        "model.heads",
        f"{m.heads} heads do not divide model.width={m.width}",
    )
    yield (
        m.positions != "rotary" or m.width // m.heads % 2 == 0,
        "model.heads",
        f"{m.width}/{m.heads} channels a head is odd; rotary needs pairs",
    )
    yield (
        m.heads % kv_heads == 0,
        "model.kv_heads",
        f"{kv_heads} do not divide model.heads={m.heads}",
    )
    yield (
        1 <= m.ffn_mult * m.width + 0.5 < 2**31,
        "model.ffn_mult",
        f"{m.ffn_mult} x width {m.width} is no hidden width",
    )
    yield (
        m.ode.min_steps <= m.ode.steps,
        "model.ode.min_steps",
        f"{m.ode.min_steps} is above ode.steps={m.ode.steps}",
    )
    yield (
        not (m.ode.min_steps and (m.ode.rtol or m.ode.adjoint in ("backsolve", "reversible"))),
        "model.ode.min_steps",
        "a random number of steps goes with ode.rtol=0 and the recursive or direct adjoint",
    )
    yield (
        not (m.ode.rtol and m.ode.solver == "euler"),
        "model.ode.rtol",
        "euler has no error estimate to hold to a tolerance; midpoint and the other solvers have",
    )
    yield (
        not (m.ode.rtol and m.ode.adjoint == "reversible"),
        "model.ode.rtol",
        "the reversible adjoint needs equal steps (ode.rtol=0)",
    )
    yield (
        m.monarch.filter_fast <= m.monarch.filter_slow,
        "model.monarch.filter_fast",
        f"{m.monarch.filter_fast} is above monarch.filter_slow={m.monarch.filter_slow}",
    )
    yield (
        bool(m.kda.head_width) or m.width % (m.kda.heads or m.heads) == 0,
        "model.kda.heads",
        f"{m.kda.heads} heads do not divide model.width={m.width}; model.kda.head_width says how wide they are",
    )
    yield (
        m.kda.value_heads % (m.kda.heads or m.heads) == 0,
        "model.kda.value_heads",
        f"{m.kda.value_heads} are no multiple of the {m.kda.heads or m.heads} heads of keys",
    )


def _of_training(config: Config) -> Iterator[tuple[bool, str, str]]:
    m, t = config.model, config.train
    yield (
        "none" not in m.mask.split(),
        "model.mask",
        "none shows a token the ones that it is to predict; causal, window and sinks do not",
    )
    yield (
        t.batch_size % (t.accumulate or 1) == 0,
        "train.accumulate",
        f"{t.accumulate} does not divide batch_size={t.batch_size}",
    )
    yield (
        not (t.optimizer == "kfac" and m.ode.adjoint == "backsolve" and m.has_ode),
        "train.optimizer",
        "kfac needs the gradients of an ODE's steps, which ode.adjoint=backsolve does not compute",
    )
    yield (
        t.min_lr <= t.lr,
        "train.min_lr",
        f"{t.min_lr} is above train.lr={t.lr}",
    )
    yield (
        bool(t.warmup_tokens) or t.warmup < t.steps,
        "train.warmup",
        f"{t.warmup} is not below train.steps={t.steps}; so short a run does with {t.steps // 10}",
    )
    yield (
        not t.warmup_tokens or config.warmup_steps < t.steps,
        "train.warmup_tokens",
        f"{t.warmup_tokens:,} are {config.warmup_steps:,} steps, not below train.steps={t.steps}",
    )
    yield (
        t.schedule != "trapezoid" or config.warmup_steps + decay_steps(t) <= t.steps,
        "train.decay_share",
        f"{t.decay_share:g} of {t.steps} steps and a warm-up of {config.warmup_steps} are more than all",
    )
    yield (
        not (t.ema and t.tail),
        "train.tail",
        "the weights are averaged in one way: ema=0 or tail=0",
    )
    yield (
        not (t.ternary_from and m.linear != "ternary"),
        "train.ternary_from",
        f"says when model.linear=ternary begins, and model.linear={m.linear}",
    )
