"""Config files with arguments and derived values, and the depth dial, which has both."""

import math

import jax
import pytest

from juliagpt_jax.ground import config, config_file
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.models.build import build_model
from juliagpt_jax.training import run
from juliagpt_jax.training.state import initial_state

DIAL = str(config.Path(__file__).parents[1] / "configs" / "dial.py")


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 6, 7, 12, 26])
def test_the_published_rules(depth):
    """Written out for the dense decoder: 16 D^2 a layer and a head of 64 characters."""
    c = config_file.load(f"{DIAL}:depth={depth}")
    m, t = c.model, c.train
    width = 64 * depth
    assert (m.layers, m.width, t.optimizer, t.schedule) == (depth, width, "muon", "trapezoid")
    assert width % m.heads == 0 and (width // m.heads) % 2 == 0
    if depth % 2 == 0:
        assert m.heads == depth // 2, "128 channels a head"
    else:
        assert 64 <= width / m.heads <= 192
    size = lambda d: d * 16 * (64 * d) ** 2 + 64 * 64 * d
    tokens, share = 10.5 * size(depth), size(depth) / size(12)
    batch = t.batch_size * m.context
    assert batch == 2 ** round(math.log2(2**19 * share**0.383))
    assert abs(t.steps * batch - tokens) <= batch / 2
    root = math.sqrt(batch / 2**19)
    assert t.lr == pytest.approx(0.02 * root) and t.min_lr == pytest.approx(0.05 * t.lr)
    assert t.adam_lr == pytest.approx(0.008 * root * math.sqrt(768 / width))
    assert t.weight_decay == pytest.approx(0.28 * root / share)
    assert t.warmup == min(40, t.steps // 10)


def test_it_counts_what_there_is():
    c = config_file.load(f"{DIAL}:depth=4")
    params = jax.eval_shape(lambda: initial_state(c, build_model(c, 64)).params)
    text = run.plan(c, params, 1e6, 100)
    assert f"{4 * 16 * 256**2 + 64 * 256:,} in matrices and the head" in text
    tokens = c.train.steps * c.train.batch_size * c.model.context
    for part in (f"{tokens:,}, 10.5 for each", f"{c.train.lr:.3g} (muon)", f"{c.train.adam_lr:.3g} (adamw)"):
        assert part in text
    assert f"{tokens * 1e6:.3g} by formula" in text and "33 steps of warm-up" in text
    assert "as many as the tolerance takes" in run.plan(c, params, math.nan, 100)


def test_what_is_given_stays_and_the_rest_follows():
    free = config_file.load(f"{DIAL}:depth=6")
    assert config_file.load(DIAL) == free, "6 is what the file says"
    steps = config_file.load(f"{DIAL}:depth=6", ["train.steps=100"])
    assert steps.train.steps == 100 and steps.train.warmup == 10
    assert (steps.train.lr, steps.train.batch_size) == (free.train.lr, free.train.batch_size)
    batch = config_file.load(f"{DIAL}:depth=6", ["train.batch_size=64"])
    assert batch.train.steps == 16 * free.train.steps + round(batch.train.steps % 16)
    assert batch.train.lr == pytest.approx(free.train.lr / 4)
    wide = config_file.load(f"{DIAL}:depth=6", ["model.width=512", "train.lr=0.01"])
    assert wide.model.heads == 4 and wide.train.lr == 0.01 and wide.train.min_lr == pytest.approx(5e-4)
    assert wide.train.steps * wide.train.batch_size * 256 > 1.7 * 148_000_000
    other = config_file.load(f"{DIAL}:depth=6", ["train.optimizer=adamw", "train.lr=1e-3"])
    assert other.train.adam_lr == 0


@pytest.mark.parametrize(
    "path, overrides, says",
    [
        (f"{DIAL}:depth=x", [], "depth: needs a whole number, not 'x'"),
        (f"{DIAL}:depth=2.5", [], "depth: needs a whole number, not '2.5'"),
        (f"{DIAL}:depth", [], "depth: needs a whole number, not ''"),
        (f"{DIAL}:deth=6", [], "no argument is called 'deth'; did you mean depth?"),
        (f"{DIAL}:6", [], "no argument is called '6'; there are: depth"),
        (f"{DIAL}:depth=0", [], "depth must be in 1 .. 100, not 0"),
        (f"{DIAL}:depth=9999999999", [], "depth must be in 1 .. 100"),
        (DIAL.replace("dial", "tiny") + ":depth=6", [], "no argument is called 'depth': this file takes none"),
        (DIAL.replace("dial", "dail") + ":depth=6", [], "dail.py does not exist; did you mean dial.py"),
        (f"{DIAL}:depth=6", ["train.optimizer=soap"], "rates for muon; for soap give --config.train.lr"),
        (f"{DIAL}:depth=6", ["model.width=0"], "config.model.width: must be at least 2, not 0"),
        (f"{DIAL}:depth=6", ["model.context=0"], "config.model.context: must be at least 2, not 0"),
        (f"{DIAL}:depth=6", ["train.batch_size=0"], "config.train.batch_size: must be at least 1, not 0"),
        (f"{DIAL}:depth=6", ["train.step=7"], "train.step: no such key; did you mean steps"),
    ],
    ids=lambda value: value.rpartition("/")[2] if isinstance(value, str) else "",
)
def test_fault_17_wrong_arguments(path, overrides, says):
    with pytest.raises(UserError) as error:
        config_file.load(path, overrides)
    assert says in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_argument_is_one_line(run_command, says):
    done = run_command("main", f"--config={DIAL}:depth=x")
    done.err = done.stderr
    assert done.returncode == 2
    says(done, "depth: needs a whole number")


def test_the_folder_of_a_run():
    assert config_file.run_name("configs/tiny.py") == "tiny"
    assert config_file.run_name("configs/dial.py:depth=6") == "dial-depth=6"


def test_derive_comes_after_the_overrides(tmp_path):
    file = tmp_path / "c.py"
    file.write_text(
        f"import runpy\ndef get_config(factor: float = 2.0):\n    c = runpy.run_path({DIAL!r})['base_config']()\n"
        "    c.train.lr = factor\n    return c\n"
        "def derive(c, given):\n    assert given == {'train.steps', 'seed'}, given\n"
        "    c.train.warmup = c.train.steps // 2\n"
    )
    got = config_file.load(f"{file}:factor=3.5", ["train.steps=90", "seed=1"])
    assert (got.train.lr, got.train.warmup) == (3.5, 45)
    with pytest.raises(UserError, match="AssertionError"):
        config_file.load(str(file))
