"""Attention and what is beside it: sinks, windows, chosen keys, recall, experts; what of it is measured so far."""

import statistics

from measures import File, Holds, Pending, Results, Rows, Statistic

from juliagpt_jax.study import growth
from juliagpt_jax.study.statistics import at_best_rate

HEADS = File("sinks/results/run/heads.jsonl")
STREAMS = File("sinks/results/run/rows.jsonl")
SPARSE = File("sparse/results/speed/speed.jsonl")
RECALL = File("kda/results/recall/results.jsonl")
DELTA = File("kda/results/speed/speed.jsonl")
EXPERTS = "experts/results/speed/speed-cpu.json"
LONG = 8192  # the longest context of the sparse mixers' times


def share(mixer: str, key: str = "train_s_per_token", context: int = LONG) -> Statistic:
    """A cost of a mixer over attention's at the same context."""

    def statistic(results: Results) -> str:
        value = lambda word: SPARSE.values(results, {"mixer": word, "context": context}, key)[0]
        return f"{value(mixer) / value('attention'):.2f}"

    return statistic


def ways(results: Results, way: str) -> Rows:
    """What streams lose to a window that is filled again, beyond the first context."""
    return [row for row in STREAMS.pick(results, {}) if row["way"] == way and row["from"] > 127]


def from_to(way: str, form: str) -> Statistic:
    """From the smallest of these losses to the largest."""

    def statistic(results: Results) -> str:
        gaps = [row["difference"] for row in ways(results, way)]
        return f"{min(gaps):{form}} to {max(gaps):{form}}"

    return statistic


def answered(results: Results, arm: str, key: str, task: str = "recall") -> float:
    """The share of right answers of an arm at the rate that is best on the set that chooses it, over its seeds and both
    lengths."""
    rows = RECALL.pick(results, {"task": task, "arm": arm})
    return statistics.fmean(row[key] for row in at_best_rate(rows, "selection", "selection_twice"))


def right(arm: str, key: str = "test", task: str = "recall") -> Statistic:
    """The same, as a text."""
    return lambda results: f"{answered(results, arm, key, task):.1%}"


def parities(results: Results, arm: str) -> float:
    """The share of right parities at twice the length of the training texts."""
    return answered(results, arm, "test_twice", "parity")


def crossing(key: str) -> Statistic:
    """The context from which on Kimi Delta Attention costs less than attention."""
    return lambda results: growth.crossing(DELTA.pick(results, {}), "kda", key).removeprefix("about ")


NUMBERS: dict[str, Statistic] = {
    "SinkHeads": HEADS.count({}),
    "SinkFirst": lambda results: f"{max(HEADS.values(results, {}, 'first')):.1%}",
    "SinkLearnt": lambda results: f"{max(HEADS.values(results, {}, 'sink')):.0%}",
    "SinkSeeds": HEADS.distinct({}, "seed"),
    "SinkEvicts": from_to("evicts, 0 + 128", "+.4f"),
    "SinkBeyond": from_to("everything", "+.2f"),
    "SparseContext": SPARSE.value({"context": LONG}, "context", ",d"),
    "SparseWindow": share("attention window"),
    "SparseBlocks": share("blocksparse"),
    "SparseShort": lambda results: f"{min(SPARSE.values(results, {}, 'context')):,}",
    "SparseBest": share("topk", context=4096),
    "SparseBestContext": SPARSE.value({"mixer": "topk", "context": 4096}, "context", ",d"),
    "RecallAttention": right("attention"),
    "RecallAttentionTwice": right("attention", "test_twice"),
    "RecallKda": right("kda"),
    "RecallKdaTwice": right("kda", "test_twice"),
    "RecallWindow": right("window"),
    "ParityAttention": right("attention", task="parity"),
    "ParityAttentionTwice": right("attention", "test_twice", "parity"),
    "ParityKdaTwice": right("kda", "test_twice", "parity"),
    "ParityNegativeTwice": right("kda negative", "test_twice", "parity"),
    "DeltaFrom": crossing("train_s_per_token"),
    "DeltaMemoryFrom": crossing("memory_bytes_per_token"),
    "RecallSeeds": RECALL.distinct({}, "seed"),
}

PENDING = {
    "Experts": Pending(
        (EXPERTS,),
        {
            "ExpertsCount": File(EXPERTS).value({}, "experts"),
            "ExpertsTokens": lambda results: f"{max(File(EXPERTS).values(results, {}, 'tokens')):,}",
            "ExpertsForward": lambda results: f"{to_one(results, 'forward_s'):.1f}",
            "ExpertsTrain": lambda results: f"{to_one(results, 'train_s'):.1f}",
        },
    )
}


def to_one(results: Results, what: str) -> float:
    """The time of sorted experts over that of one channel that multiplies as much, at the most tokens."""
    most = max(File(EXPERTS).values(results, {}, "tokens"))
    return File(EXPERTS).values(results, {"form": "sorted", "tokens": most}, f"to_one.{what}")[0]


HOLDS: Holds = {
    "NoSinks": (
        "no head puts a hundredth of its attention on the first token, and evicting it costs no more than 0.005 nats",
        lambda results: (
            max(HEADS.values(results, {}, "first")) < 0.01
            and max(row["difference"] for row in ways(results, "evicts, 0 + 128")) < 0.005
        ),
    ),
    "PositionsFallApart": (
        "positions beyond those of training cost more than half a nat",
        lambda results: min(row["difference"] for row in ways(results, "everything")) > 0.5,
    ),
    "SparseSaves": (
        "the window and the blocks take less time than attention at every context measured, the best keys more",
        lambda results: all(
            (float(share(row["mixer"], context=row["context"])(results)) < 1) == (row["mixer"] != "topk")
            for row in SPARSE.pick(results, {})
            if row["mixer"] != "attention"
        ),
    ),
    "AttentionRecalls": (
        "attention and the delta rule recall nearly all pairs and a window does not",
        lambda results: (
            min(answered(results, arm, "test") for arm in ("attention", "kda"))
            > 0.99
            > 0.9
            > answered(results, "window", "test")
        ),
    ),
    "NegativeCounts": (
        "with negative eigenvalues parity is right beyond the length of training, without them and with attention not",
        lambda results: (
            parities(results, "kda negative") > 0.95 > 0.9 > max(parities(results, arm) for arm in ("attention", "kda"))
        ),
    ),
}
