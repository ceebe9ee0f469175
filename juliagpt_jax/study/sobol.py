"""Sobol's indices of a result over a box of knobs: which knobs of a recipe matter.

S1 of a knob is the share of the result's variance that goes when the knob alone is known, ST the share that stays while
all others are known: a knob with a small ST may have any value, and ST well above S1 says that its best value depends
on the others (Saltelli et al. 2010, Comp. Phys. Comm. 181, 259). Sampling and estimation are SALib's. Where a result
costs a training run, a Gaussian process stands in for it: it is fitted to some dozens of runs, tells their noise from
what the knobs do, and its draws give the indices with an interval (Le Gratiet et al. 2014, arXiv 1307.2223).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import linalg, optimize, stats
from scipy.spatial import distance

from juliagpt_jax.ground.errors import UserError


@dataclasses.dataclass(frozen=True)
class Knob:
    """A key of the config and its values: from low to high, evenly or evenly in the logarithm; or `levels`, one by
    one."""

    key: str
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    levels: tuple[Any, ...] = ()

    def snap(self, u: np.ndarray) -> np.ndarray:
        """Places in [0, 1] as the knob can be set: the middle of a level's stretch, where there are levels."""
        n = len(self.levels)
        return (np.minimum(np.floor(u * n), n - 1) + 0.5) / n if n else u

    def value(self, u: float) -> Any:
        """The value at a point in [0, 1]."""
        if self.levels:
            return self.levels[min(int(u * len(self.levels)), len(self.levels) - 1)]
        if self.log:
            return float(self.low * (self.high / self.low) ** u)
        return float(self.low + u * (self.high - self.low))


def _salib(knobs: Sequence[Knob]) -> tuple[Any, Any, dict[str, Any]]:
    """SALib's sampler and analyser, and its description of the unit box."""
    try:
        from SALib.analyze import sobol as analyser
        from SALib.sample import sobol as sampler
    except ImportError as error:
        raise UserError("Sobol indices need SALib: pip install 'juliagpt-jax[study]'") from error
    problem = {"num_vars": len(knobs), "names": [k.key for k in knobs], "bounds": [[0.0, 1.0]] * len(knobs)}
    return sampler, analyser, problem


def sample(knobs: Sequence[Knob], n: int, seed: int, second_order: bool = False) -> np.ndarray:
    """Saltelli's design in the unit box: n (d + 2) rows, n (2 d + 2) for the second order; n is a power of 2."""
    sampler, _, problem = _salib(knobs)
    return sampler.sample(problem, n, calc_second_order=second_order, seed=seed)


def indices(knobs: Sequence[Knob], y: np.ndarray, second_order: bool = False) -> dict[str, np.ndarray]:
    """{"S1", "ST": (d,), and "S2": (d, d)} from the results of the rows of `sample`."""
    _, analyser, problem = _salib(knobs)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = analyser.analyze(problem, np.asarray(y, float), calc_second_order=second_order, num_resamples=2, seed=0)
    return {name: np.asarray(found[name]) for name in ("S1", "ST", *(["S2"] if second_order else []))}


def design(knobs: Sequence[Knob], n: int, seed: int) -> np.ndarray:
    """n points (n, d) for training runs, spread evenly over the unit box and snapped to levels."""
    u = stats.qmc.Sobol(len(knobs), rng=seed).random(n)
    return np.stack([knob.snap(column) for knob, column in zip(knobs, u.T, strict=True)], axis=1)


class GaussianProcess:
    """Regression with a squared-exponential kernel, a length for each knob, and noise, fitted by marginal likelihood
    (Rasmussen & Williams 2006, chapters 2 and 5).

    Attributes:
        lengths: (d,) in units of the box; a long one means that the knob does little.
        noise: standard deviation of the noise, in units of y.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, seed: int = 0, starts: int = 4):
        self._x, self._mean, self._scale = x, float(np.mean(y)), float(np.std(y)) or 1.0
        self._y = (y - self._mean) / self._scale
        rng, d = np.random.default_rng(seed), x.shape[1]
        best = None
        bounds = [(np.log(0.05), np.log(20.0))] * d + [(np.log(1e-2), np.log(30.0)), (np.log(1e-4), np.log(1.5))]
        for _ in range(
            starts
        ):  # from short lengths and little noise: the likelihood has other peaks where all is noise
            start = np.log([*rng.uniform(0.1, 1.0, d), 1.0, rng.uniform(0.02, 0.3)])
            found = optimize.minimize(self._loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
            best = found if best is None or found.fun < best.fun else best
        assert best is not None
        self._log = best.x
        self.lengths, self.noise = np.exp(best.x[:d]), float(np.exp(best.x[d + 1])) * self._scale

    def _kernel(self, a: np.ndarray, b: np.ndarray, log: np.ndarray) -> np.ndarray:
        lengths, amplitude = np.exp(log[:-2]), np.exp(log[-2])
        squares = distance.cdist(a / lengths, b / lengths, "sqeuclidean")
        return amplitude**2 * np.exp(-0.5 * squares)

    def _loss(self, log: np.ndarray) -> tuple[float, np.ndarray]:
        """Minus the log marginal likelihood, and its gradient by the logarithms."""
        n, noise = len(self._y), np.exp(log[-1])
        k = self._kernel(self._x, self._x, log)
        factor = linalg.cho_factor(k + (noise**2 + 1e-8) * np.eye(n), lower=True)
        inverse = linalg.cho_solve(factor, np.eye(n))
        alpha = inverse @ self._y
        value = 0.5 * self._y @ alpha + np.log(np.diag(factor[0])).sum()
        core = np.outer(alpha, alpha) - inverse
        apart = (self._x[:, None] - self._x[None]) ** 2 / np.exp(2 * log[:-2])
        slopes = [0.5 * np.sum(core * k * apart[:, :, i]) for i in range(self._x.shape[1])]
        slopes += [np.sum(core * k), 0.5 * np.trace(core) * 2 * noise**2]
        return float(value), -np.array(slopes)

    def draws(self, x: np.ndarray, count: int, seed: int) -> np.ndarray:
        """(count, n) functions that the runs allow, at points x, without noise; count 0: their mean, (1, n)."""
        n = len(self._y)
        k = self._kernel(self._x, self._x, self._log) + (np.exp(2 * self._log[-1]) + 1e-8) * np.eye(n)
        factor = linalg.cho_factor(k, lower=True)
        cross = self._kernel(x, self._x, self._log)
        mean = cross @ linalg.cho_solve(factor, self._y)
        if count == 0:
            return self._mean + self._scale * mean[None]
        half = linalg.solve_triangular(factor[0], cross.T, lower=True)
        spread = self._kernel(x, x, self._log) - half.T @ half
        root = np.linalg.cholesky(spread + 1e-6 * np.exp(2 * self._log[-2]) * np.eye(len(x)))
        noise = np.random.default_rng(seed).normal(size=(len(x), count))
        return self._mean + self._scale * (mean[:, None] + root @ noise).T


@dataclasses.dataclass(frozen=True)
class Indices:
    """Mean and 95% interval of a knob's indices over draws of the surrogate."""

    key: str
    S1: float
    S1_low: float
    S1_high: float
    ST: float
    ST_low: float
    ST_high: float


def surrogate_indices(
    knobs: Sequence[Knob], x: np.ndarray, y: np.ndarray, seed: int, n: int = 512, draws: int = 64
) -> tuple[list[Indices], GaussianProcess]:
    """Indices of y (runs,) at points x (runs, d), by a Gaussian process that stands in for the runs.

    The variance that is shared out is that of the surrogate: the noise of a seed is in none of the indices.
    """
    process = GaussianProcess(x, y, seed)
    points = sample(knobs, n, seed)
    points = np.stack([knob.snap(column) for knob, column in zip(knobs, points.T, strict=True)], axis=1)
    unique, back = np.unique(points, axis=0, return_inverse=True)  # levels make many rows one
    found = [indices(knobs, row[back]) for row in process.draws(unique, draws, seed)]
    table = []
    for i, knob in enumerate(knobs):
        numbers: list[float] = []
        for name in ("S1", "ST"):
            values = np.array([one[name][i] for one in found])
            numbers += [float(values.mean()), *map(float, np.percentile(values, [2.5, 97.5]))]
        table.append(Indices(knob.key, *numbers))
    return table, process
