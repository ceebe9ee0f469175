"""Can a trained long filter be decoded as a recurrence? A sum of r exponentials needs r state numbers a channel and no
past inputs; this fits each channel's filter with r of them (ESPRIT: Roy & Kailath 1989) and reports the error.

python experiments/monarch/recurrence.py --workdir=runs/monarch_tiny
"""

import argparse
import json
from pathlib import Path

import numpy as np

ORDERS = (1, 2, 4, 8, 16, 32)


def fit(taps: np.ndarray, order: int) -> np.ndarray:
    """The best sum of `order` exponentials that ESPRIT finds for taps (n,); no pole grows."""
    n = len(taps)
    hankel = taps[np.arange(n // 2 + 1)[:, None] + np.arange(n - n // 2)[None]]
    space = np.linalg.svd(hankel)[0][:, :order]
    poles = np.linalg.eigvals(np.linalg.pinv(space[:-1]) @ space[1:])
    poles = poles / np.maximum(np.abs(poles), 1)
    powers = poles[None, :] ** np.arange(n)[:, None]
    return (powers @ np.linalg.lstsq(powers, taps.astype(complex), rcond=None)[0]).real


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--workdir", required=True, type=Path)
    options = flags.parse_args()

    from juliagpt_jax.models.monarch import LongFilter
    from juliagpt_jax.store.workdir import open_run

    run = open_run(options.workdir)
    rows = {}
    for block, part in sorted(run.params.items()):
        if block.startswith("block_") and "filter" in part["mixer"]:
            model = run.config.model
            taps = np.asarray(LongFilter(model, model.width).apply({"params": part["mixer"]["filter"]}, model.context))
            taps = taps.astype(np.float64).T
            for order in ORDERS:
                errors = [np.linalg.norm(fit(t, order) - t) / np.linalg.norm(t) for t in taps]
                rows[block, order] = np.quantile(errors, [0.5, 0.9])
    blocks = sorted({block for block, _ in rows})
    print(f"| exponentials | {' | '.join(f'{b}, median | 90%' for b in blocks)} |\n|{'---|' * (1 + 2 * len(blocks))}")
    for order in ORDERS:
        print(f"| {order} | " + " | ".join(f"{v:.2g}" for b in blocks for v in rows[b, order]) + " |")
    print(json.dumps({f"{b} {o}": list(map(float, v)) for (b, o), v in rows.items()}))


if __name__ == "__main__":
    main()
