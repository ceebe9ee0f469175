"""Rows that stand beside a model's own score: counted n-grams, their mixture with the model, and what adapts.

Each has its own flag of `evaluate`, and the protocol of the model's row. Imports nothing heavy before it is asked for
rows, so that --help answers at once.
"""

import argparse
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from juliagpt_jax.ground.command import Parser
from juliagpt_jax.ground.errors import NumericalError, UserError

if TYPE_CHECKING:
    import numpy as np

    from juliagpt_jax.data.corpus import Corpus
    from juliagpt_jax.inference.opened import Opened
    from juliagpt_jax.inference.scoring import Score
    from juliagpt_jax.models.interface import Model

# Learning rates of dynamic evaluation by rule, for windows of some hundred tokens and attention, tried on WikiText-2.
# Krause et al. have 0.002 for LSTMs and windows of five tokens, with which a small transformer's losses blow up.
RATES = {"rms": 1e-4, "sgd": 0.03}
ROUNDS = 200  # of expectation and maximisation; the mixture's share is found to a thousandth long before


def add_flags(flags: Parser) -> None:
    """Add the flags that ask for rows; `check` holds their values to their ranges."""
    flags.add_argument("--baseline", choices=["kneser_ney"], help="a row of n-grams of the training text")
    flags.add_argument("--order", type=int, default=5, metavar="N", help="tokens of the baseline's longest n-grams")
    mix = (
        "share of the model in a mixture with the baseline; default, where --data is no validation text: fitted on that"
    )
    flags.add_argument("--mix", type=float, metavar="SHARE", help=mix)
    flags.add_argument("--cache", type=int, default=0, metavar="N", help="a row with a cache of the last N tokens")
    flags.add_argument("--cache_theta", type=float, default=0.66, metavar="T", help="how picky the cache is; 0: not")
    flags.add_argument("--cache_share", type=float, default=0.13, metavar="SHARE", help="of the cache in its mixture")
    flags.add_argument("--dynamic", choices=[*RATES], help="a row of weights that learn from the text they read")
    rates = ", ".join(f"{rate:g} of {rule}" for rule, rate in RATES.items())
    flags.add_argument("--dynamic_rate", type=float, metavar="R", help=f"their learning rate; default: {rates}")
    flags.add_argument("--dynamic_decay", type=float, default=0.02, metavar="D", help="their pull to the trained ones")


def check(options: argparse.Namespace) -> None:
    """Raise a UserError where a flag is out of its range, or needs another."""
    ranges = [
        ("order", 1, 20),
        ("mix", 0, 1),
        ("cache", 0, math.inf),
        ("cache_theta", 0, math.inf),
        ("cache_share", 0, 1),
        ("dynamic_rate", 0, math.inf),
        ("dynamic_decay", 0, 1),
    ]
    for name, least, most in ranges:
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            raise UserError(f"--{name}={value:g} is outside {least} .. {most:g}")
    if options.mix is not None and not options.baseline:
        raise UserError("--mix says how much of a mixture with the baseline is the model's: give --baseline=kneser_ney")


def wants_corpus(options: argparse.Namespace) -> bool:
    """Return true where a row needs the training text."""
    return bool(options.baseline) or options.dynamic == "rms"


def rows(
    options: argparse.Namespace,
    opened: "Opened",
    model: "Model",
    corpus: "Corpus | None",
    tokens: "np.ndarray",
    losses: "np.ndarray",
    summed: "Callable[[np.ndarray], Score]",
) -> list[dict[str, Any]]:
    """Return the rows that are asked for, as plain values: those of a score, "name", "adapts" and "seconds".

    Args:
        corpus: of the run; it may be None unless `wants_corpus`.
        losses: (len(tokens),) of the model, in nats.
        summed: makes a score of such losses.

    Raises:
        UserError: the model has no gradients, or no one head.
        NumericalError: a row's loss is not finite.
    """
    import numpy as np

    from juliagpt_jax.evaluation import adapting
    from juliagpt_jax.inference import scoring
    from juliagpt_jax.study import kneser_ney

    lead, context = opened.tokenizer.lead, model.config.context
    stride = options.stride or context // 2
    made = []

    def add(name: str, adapts: bool, measure: Callable[[], np.ndarray]) -> np.ndarray:
        begun = time.perf_counter()
        found = measure()
        if not np.isfinite(found).all():
            raise NumericalError(f"{name}: the loss is not finite; a lower rate or share helps")
        values = summed(found).to_dict()
        made.append(values | {"name": name, "adapts": adapts, "seconds": time.perf_counter() - begun})
        return found

    if options.baseline and corpus is not None:
        counted = kneser_ney.count(corpus.train, opened.tokenizer.vocab_size, options.order)
        bits = lambda text: -np.log(counted.probabilities(text))
        floor = add(f"modified Kneser-Ney, {options.order} tokens", False, lambda: bits(tokens))
        share, how = options.mix, "as given"
        if share is None and options.data:
            own, places = scoring.in_order(model, opened.params, corpus.val, lead, stride)
            share, how = fitted(own, bits(corpus.val)[places]), "fitted on the run's validation text"
        if share is not None:
            name = f"{share:.3f} of the model, {1 - share:.3f} of Kneser-Ney ({how})"
            add(name, False, lambda: mixed(losses, floor, share))
    if options.cache:
        cache = adapting.Cache(options.cache, options.cache_theta, options.cache_share)
        name = f"neural cache of {cache.size:,} tokens, theta {cache.theta:g}, share {cache.share:g}"
        add(name, True, lambda: adapting.cached(model, opened.params, tokens, lead, stride, cache))
    if options.dynamic:
        opened.run.refuse_packed()
        rate = RATES[options.dynamic] if options.dynamic_rate is None else options.dynamic_rate
        how = adapting.Dynamic(options.dynamic, rate, options.dynamic_decay)
        training = corpus.train if corpus is not None else None
        name = f"dynamic evaluation, {how.rule}, rate {how.rate:g}, decay {how.decay:g}"
        add(name, True, lambda: adapting.dynamic(model, opened.run.params, tokens, lead, stride, how, training))
    return made


def mixed(model: "np.ndarray", other: "np.ndarray", share: float) -> "np.ndarray":
    """Return the losses of a mixture of probabilities, `share` of the model's, from both losses in nats."""
    import numpy as np

    with np.errstate(divide="ignore"):
        return -np.logaddexp(np.log(share) - model, np.log1p(-share) - other)


def fitted(model: "np.ndarray", other: "np.ndarray") -> float:
    """Return the share of the model in the mixture that suits a text best, by expectation and maximisation."""
    import numpy as np

    share = 0.5
    for _ in range(ROUNDS):
        share = float(np.mean(np.exp(np.log(share) - model + mixed(model, other, share))))
        if not 0 < share < 1:
            break
    return min(max(share, 0.0), 1.0)
