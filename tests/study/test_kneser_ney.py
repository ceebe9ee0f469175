"""Modified Kneser-Ney beside a recursion over dictionaries, and as a distribution."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from juliagpt_jax.study import kneser_ney


def written_out(train: list[int], vocab: int, longest: int):
    """Chen and Goodman's equations with dictionaries: the probability of a token behind a context."""
    counts = {n: Counter(tuple(train[i : i + n]) for i in range(len(train) - n + 1)) for n in range(1, longest + 1)}
    for n in range(1, longest):
        before = defaultdict(set)
        for gram in {tuple(train[i : i + n + 1]) for i in range(len(train) - n)}:
            before[gram[1:]].add(gram[0])
        counts[n] = Counter({gram: len(before[gram]) for gram in counts[n]})
    taken = {}
    for n, own in counts.items():
        ones, twos, threes, fours = (sum(c == k for c in own.values()) for k in (1, 2, 3, 4))
        taken[n] = (0.0, 0.5, 1.0, 1.5)
        if ones and twos and threes:
            y = ones / (ones + 2 * twos)
            found = (1 - 2 * y * twos / ones, 2 - 3 * y * threes / twos, 3 - 4 * y * fours / threes)
            if all(0 <= value <= k for k, value in enumerate(found, 1)):
                taken[n] = (0.0, *found)

    def share(context: tuple[int, ...], token: int) -> float:
        shorter = share(context[1:], token) if context else 1 / vocab
        own, discounts = counts[len(context) + 1], taken[len(context) + 1]
        after = {gram: c for gram, c in own.items() if gram[:-1] == context}
        total = sum(after.values())
        if not total:
            return shorter
        count = own[*context, token]
        left = sum(discounts[min(c, 3)] for c in after.values())
        return (count - discounts[min(count, 3)] + left * shorter) / total

    return share, taken


@pytest.mark.parametrize("vocab, length, longest", [(3, 9, 2), (4, 60, 3), (6, 300, 4), (30, 400, 3)])
def test_equals_the_recursion(vocab, length, longest):
    rng = np.random.default_rng(vocab)
    skewed = rng.geometric(0.3, length) % (vocab - 1)  # one token the training text lacks
    share, discounts = written_out(skewed.tolist(), vocab, longest)
    model = kneser_ney.count(skewed, vocab, longest)
    for n, order in enumerate(model.orders, 1):
        np.testing.assert_allclose(order.discounts, discounts[n])
    text = rng.integers(0, vocab, 40)
    wanted = [share(tuple(text[max(0, i - longest + 1) : i].tolist()), int(text[i])) for i in range(len(text))]
    np.testing.assert_allclose(model.probabilities(text), wanted, rtol=1e-12)


def test_both_kinds_of_discounts_are_met():
    """In the texts above the estimate and the fallback both occur, else that test would say less than it seems to."""
    kinds = set()
    for vocab, length, longest in [(3, 9, 2), (4, 60, 3), (6, 300, 4), (30, 400, 3)]:
        text = np.random.default_rng(vocab).geometric(0.3, length) % (vocab - 1)
        for order in kneser_ney.count(text, vocab, longest).orders:
            kinds.add(tuple(order.discounts[1:]) == kneser_ney.FALLBACK)
    assert kinds == {True, False}


@pytest.mark.parametrize("context", [[], [0], [0, 1, 2], [4, 4, 4], [0, 4, 0], [3, 2, 1, 0]])
def test_sums_to_one_after_seen_and_unseen_contexts(context):
    text = np.random.default_rng(0).integers(0, 4, 200)  # no token 4
    model = kneser_ney.count(text, 5, 3)
    shares = [model.probabilities(np.array([*context, token]))[-1] for token in range(5)]
    assert sum(shares) == pytest.approx(1, abs=1e-12) and min(shares) > 0


def test_the_last_tokens_of_the_training_text_are_followed_by_nothing():
    """A context that is seen, and never with anything behind it, leaves all to the shorter ones."""
    model = kneser_ney.count(np.array([0, 1, 0, 1, 0, 2]), 3, 2)
    one = kneser_ney.count(np.array([0, 1, 0, 1, 0, 2]), 3, 2).orders[0]
    assert model.orders[1].totals[2] == 0 and len(one.keys) == 3
    shares = [model.probabilities(np.array([2, token]))[-1] for token in range(3)]
    assert sum(shares) == pytest.approx(1) and shares == [
        pytest.approx(model.probabilities(np.array([token]))[0]) for token in range(3)
    ]


def test_longer_n_grams_predict_a_text_that_has_them_better():
    train = [0, 1]
    rng = np.random.default_rng(0)
    for _ in range(4000):
        train.append((train[-1] + train[-2] + int(rng.random() < 0.02)) % 5)
    text = np.array(train)
    nats = [-np.log(kneser_ney.count(text[:3000], 5, n).probabilities(text[3000:])).mean() for n in (1, 2, 3)]
    assert nats[0] == pytest.approx(np.log(5), rel=0.02) and nats[2] < 0.2 < nats[1]


def test_ids_and_orders_beyond_64_bits():
    """Ten tokens of a vocabulary of 50,000 in a row: their codes would need 156 bits."""
    text = np.random.default_rng(0).integers(0, 50_000, 500)
    model = kneser_ney.count(text, 50_000, 10)
    assert np.isfinite(np.log(model.probabilities(text))).all()
    assert model.probabilities(text)[20:].min() > 0.1 > model.probabilities(text[::-1]).max()


@pytest.mark.parametrize("order", [0, 4])
def test_impossible_orders_are_refused(order):
    with pytest.raises(ValueError, match="order"):
        kneser_ney.count(np.array([0, 1, 0]), 2, order)
