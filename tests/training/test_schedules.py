"""What depends on the step alone, against formulas written out here."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from juliagpt_jax.ground import config, words
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.training import schedules

STEPS, LR, LOW = 100, 0.02, 0.001


@pytest.fixture
def settings(tiny):
    return functools.partial(tiny, f"train.steps={STEPS}", f"train.lr={LR}", f"train.min_lr={LOW}")


def shape(name: str, at: int, warmup: int, decay: int) -> float:
    """The learning rate after the warm-up."""
    done = (at - warmup) / (STEPS - warmup)
    return {
        "cosine": LOW + (LR - LOW) * (1 + math.cos(math.pi * done)) / 2,
        "linear": LR + (LOW - LR) * done,
        "trapezoid": LR + (LOW - LR) * max(0, at - (STEPS - decay)) / decay,
        "constant": LR,
        "cycles": cycle(at),
        "stages": LR + (LOW - LR) * at / STEPS,
    }[name]


def cycle(at: int, peak: float = LR) -> float:
    """Four of five steps end the run."""
    low, done = (LOW, (at - 80) % 5 / 5 if at < STEPS else 1.0) if at >= 80 else (peak, at / 80)
    return low + ((peak if at >= 80 else LR) - low) * (1 + math.cos(math.pi * done)) / 2


@pytest.mark.parametrize("warmup", [0, 1, 10])
@pytest.mark.parametrize("name", schedules.SCHEDULES)
def test_learning_rate(name, warmup, settings):
    """From lr / warmup up to lr, then down so that it would be at min_lr one step after the last."""
    rate = schedules.learning_rate(
        settings(f"train.warmup={warmup}", f"train.schedule={name}", "train.decay_share=0.3")
    )
    values = jax.vmap(rate)(jnp.arange(STEPS + 1))
    for at, value in enumerate(values):
        wanted = LR / warmup + (LR - LR / warmup) * at / warmup if at < warmup else shape(name, at, warmup, 30)
        assert abs(float(value) - wanted) < 1e-8, at
    assert abs(float(values[0]) - LR / max(warmup, 1)) < 1e-8
    assert abs(float(values[STEPS]) - (LR if name == "constant" else LOW)) < 1e-8
    assert max(values) <= LR * (1 + 1e-6)


def test_a_trapezoid_without_decay_is_constant(settings):
    rate = schedules.learning_rate(settings("train.schedule=trapezoid", "train.decay_share=0", "train.warmup=0"))
    np.testing.assert_allclose(jax.vmap(rate)(jnp.arange(STEPS)), LR, rtol=1e-6)


def test_cycles_begin_lower(settings):
    """By half: a cosine comes down to there, from where each cycle falls to min_lr."""
    built = settings("train.schedule=cycles", "train.cycles.peak=0.5", "train.warmup=0")
    values = jax.vmap(schedules.learning_rate(built))(jnp.arange(STEPS + 1))
    np.testing.assert_allclose(values, [cycle(at, LR / 2) for at in range(STEPS + 1)], atol=1e-8)
    assert config.cycle_bounds(built.train) == [80, 85, 90, 95, 100]


def test_the_average_of_cycle_ends(settings):
    """The raw weights up to the end of the first cycle; from there on the mean of the ends so far, between them too."""
    weight = schedules.averaging(settings("train.schedule=cycles", "train.cycles.count=3").train)
    values = np.random.default_rng(0).normal(size=STEPS)
    ends, average = [at - 1 for at in (87, 93, 100)], 0.0
    for at, value in enumerate(values):
        w = float(weight(jnp.int32(at)))
        average = (1 - w) * average + w * value
        past = [end for end in ends if end <= at]
        wanted = values[past].mean() if past else value
        assert abs(average - wanted) < 1e-6, at


def test_epochs_become_steps(settings):
    """After a half-life the average has lost half of what it was; a decay of tau epochs takes 1 / (tau steps) a step
    at the highest rate; nothing else changes, and once more changes nothing."""
    asked = settings("train.decay_tau=2", "train.ema_half_life=0.5", "train.decay_tau_embed=4")
    built = schedules.settled(asked, 40.0)
    assert built.train.ema**20 == pytest.approx(0.5)
    assert built.train.weight_decay * LR == pytest.approx(1 / 80)
    assert schedules.settled(built, 40.0) == built
    changed = config.changes(config.to_dict(asked), config.to_dict(built))
    assert set(changed) == {"train.ema", "train.weight_decay"}
    assert schedules.settled(settings(), 40.0) == settings()
    assert float(schedules.averaging(built.train)(jnp.int32(3))) == pytest.approx(1 - built.train.ema)


def test_warm_up_by_tokens(settings):
    """4 windows of 16 tokens a step; a step that is begun counts."""
    for tokens, steps in [(64, 1), (640, 10), (641, 11)]:
        built = settings(f"train.warmup_tokens={tokens}")
        assert built.warmup_steps == steps
        by_steps = schedules.learning_rate(settings(f"train.warmup={steps}"))
        assert all(schedules.learning_rate(built)(at) == by_steps(at) for at in (0, 5, 50))
    assert settings("train.warmup_tokens=640", "train.batch_size=8").warmup_steps == 5


def test_weight_decay(settings):
    wanted = {
        "learning_rate": lambda at, lr: 0.5 * lr,
        "constant": lambda at, lr: 0.5 * LR,
        "linear": lambda at, lr: 0.5 * lr * (STEPS - at) / STEPS,
        "valley": lambda at, lr: 0.5 * lr * np.interp(at, [0, 12.5, 50, 100], [1, 1, 0.125, 1.5625]),
    }
    assert set(wanted) == set(schedules.WEIGHT_DECAYS)
    for name, formula in wanted.items():
        built = settings(f"train.weight_decay_schedule={name}", "train.weight_decay=0.5", "train.schedule=linear")
        for at in (0, 1, 12, 30, 50, 99):
            lr = schedules.learning_rate(built)(at)
            got = schedules.weight_decay(built.train, jnp.int32(at), lr)
            np.testing.assert_allclose(got, formula(at, float(lr)), rtol=1e-5)


@pytest.mark.parametrize("share, first", [(0.25, 75), (1.0, 0), (0.001, 99)])
def test_tail(share, first, settings):
    """The raw weights until the tail begins, and the plain mean of those since then."""
    weight = schedules.averaging(settings(f"train.tail={share}").train)
    values = np.random.default_rng(0).normal(size=STEPS)
    average = 0.0
    for at, value in enumerate(values):
        w = float(weight(jnp.int32(at)))
        average = (1 - w) * average + w * value
        wanted = value if at <= first else values[first : at + 1].mean()
        assert abs(average - wanted) < 1e-6, at


@pytest.mark.parametrize(
    "overrides, says",
    [
        (["train.schedule=linaer"], "config.train.schedule: no schedule is called 'linaer'; did you mean linear"),
        (
            ["train.weight_decay_schedule=x"],
            "no weight decay schedule is called 'x'; there are",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_word_in_no_table(overrides, says, tiny):
    with pytest.raises(UserError) as error:
        words.check(tiny(*overrides), schedules.WORDS)
    assert says in str(error.value)
    words.check(tiny(), schedules.WORDS)


def test_what_does_not_go_together(tiny):
    for overrides, says in [
        (["train.ema=0.9", "train.tail=0.5"], "config.train.tail: the weights are averaged in one way"),
        (["train.schedule=trapezoid", "train.decay_share=1"], "config.train.decay_share: 1 of 20 steps and a warm-up"),
        (["train.ema=0.9", "train.ema_half_life=1"], "config.train.ema_half_life: the weights are averaged in one way"),
        (
            ["train.decay_tau_embed=1"],
            "config.train.decay_tau_embed: the decay of embedding and head is given in epochs",
        ),
        (["train.schedule=cycles", "train.cycles.share=0.1"], "config.train.cycles: 4 cycles in 0.1 of 20 steps"),
        (["train.schedule=cycles", "train.cycles.share=1"], "after a warm-up of 2, leave a cycle without a step"),
        (
            ["train.schedule=cycles", "train.cycles.peak=0.01"],
            "config.train.cycles.peak: a cycle begins at 6e-06, below train.min_lr=6e-05",
        ),
        (["train.warmup_tokens=1280"], "config.train.warmup_tokens: 1,280 are 20 steps, not below train.steps=20"),
    ]:
        with pytest.raises(UserError) as error:
            tiny(*overrides)
        assert says in str(error.value)
    assert isinstance(tiny("train.decay_share=1"), config.Config), "the cosine does not look at it"
