"""Sobol's indices: the golden ones, those known in closed form, and through a surrogate with noise on the runs."""

import numpy as np
import pytest

from juliagpt_jax.study.sobol import GaussianProcess, Knob, design, indices, sample, surrogate_indices

KNOBS = [Knob(f"x{i}", -np.pi, np.pi) for i in (1, 2, 3)]
# S1 and ST of Ishigami's function with a = 7, b = 0.1 (Ishigami & Homma 1990), in closed form.
S1, ST = [0.31390519, 0.44241114, 0.0], [0.55758886, 0.44241114, 0.24368366]


def ishigami(x):
    return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])


def placed(u, knobs=KNOBS):
    return np.array([[knob.value(v) for knob, v in zip(knobs, row, strict=True)] for row in u])


def test_the_golden_design_and_indices(golden):
    z = np.load(golden / "sobol" / "ishigami.npz")
    x = placed(sample(KNOBS, 256, 1, second_order=True))
    np.testing.assert_allclose(x, z["X"], atol=1e-12)
    np.testing.assert_allclose(ishigami(x), z["Y"], atol=1e-10)
    found = indices(KNOBS, z["Y"], second_order=True)
    for name in ("S1", "ST", "S2"):
        np.testing.assert_allclose(found[name], z[name], atol=1e-10)


def test_indices_in_closed_form():
    found = indices(KNOBS, ishigami(placed(sample(KNOBS, 2048, 0))))
    np.testing.assert_allclose(found["S1"], S1, atol=0.03)
    np.testing.assert_allclose(found["ST"], ST, atol=0.03)


def test_a_surrogate_of_few_runs():
    """128 runs in the place of 5 x 2048."""
    u = design(KNOBS, 128, 3)
    table, process = surrogate_indices(KNOBS, u, ishigami(placed(u)), 0, n=512, draws=4)
    np.testing.assert_allclose([row.S1 for row in table], S1, atol=0.1)
    np.testing.assert_allclose([row.ST for row in table], ST, atol=0.1)
    assert process.noise < 0.5


def test_noise_is_told_from_what_knobs_do():
    """y = 3 x1 + noise of 0.5, x2 does nothing, x3 has levels: 1 or 2 times."""
    knobs = [Knob("a"), Knob("b"), Knob("c", levels=(1, 2))]
    u = design(knobs, 64, 1)
    x = placed(u, knobs)
    clean = 3 * x[:, 0] * x[:, 2]
    table, process = surrogate_indices(
        knobs, u, clean + np.random.default_rng(0).normal(0, 0.5, 64), 0, n=128, draws=16
    )
    assert 0.35 < process.noise < 0.65
    # Var of 3 a c: E = 9/4, E[y^2] = 9 (1/3) (5/2); S1(a) = 9 (9/4) / 12 / V, S1(c) = 9 / 4 / 4 / V.
    variance = 9 * 2.5 / 3 - 2.25**2
    wanted = {"a": 9 * 2.25 / 12 / variance, "b": 0, "c": 9 / 16 / variance}
    for row in table:
        assert row.S1 == pytest.approx(wanted[row.key], abs=0.1)
        assert row.S1_low <= row.S1 <= row.S1_high and row.ST_low <= row.ST <= row.ST_high
    assert table[1].ST < 0.08
    assert table[0].ST == pytest.approx(1 - wanted["c"], abs=0.1)


def test_a_draw_passes_through_runs_without_noise():
    x = np.linspace(0, 1, 12)[:, None]
    y = np.sin(6 * x[:, 0])
    process = GaussianProcess(x, y)
    np.testing.assert_allclose(process.draws(x, 0, 0)[0], y, atol=1e-3)
    between = x[:-1] + 0.04
    drawn = process.draws(between, 200, 0)
    np.testing.assert_allclose(drawn.mean(axis=0), np.sin(6 * between[:, 0]), atol=0.02)
    far = process.draws(np.array([[4.0]]), 400, 0)
    assert far.std() > 10 * drawn.std(axis=0).max()


def test_the_gradient_of_the_likelihood():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=(10, 2))
    process = GaussianProcess(x, x.sum(axis=1) + 0.1 * rng.normal(size=10), starts=1)
    log = np.array([-0.5, 0.3, 0.2, -1.0])
    _, slope = process._loss(log)
    for i, step in enumerate(1e-6 * np.eye(4)):
        numeric = (process._loss(log + step)[0] - process._loss(log - step)[0]) / 2e-6
        assert slope[i] == pytest.approx(numeric, rel=1e-5)


def test_values_of_knobs():
    log, levels = Knob("lr", 1e-4, 1e-2, log=True), Knob("batch", levels=(4, 8, 16))
    assert [log.value(u) for u in (0, 0.5, 1)] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert [levels.value(u) for u in (0, 0.3, 0.34, 0.99, 1)] == [4, 4, 8, 16, 16]
    np.testing.assert_allclose(levels.snap(np.array([0, 0.3, 0.34, 1])), [1 / 6, 1 / 6, 0.5, 5 / 6])
    for u in (0.0, 0.2, 0.5, 0.99, 1.0):
        assert levels.value(float(levels.snap(np.array([u]))[0])) == levels.value(u)
