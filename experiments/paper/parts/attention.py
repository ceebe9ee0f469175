"""Attention and what is beside it: sinks, windows, chosen keys, recall, experts; what of it is measured so far."""

import statistics

from measures import File, Holds, Pending, Results, Rows, Statistic

HEADS = File("sinks/results/run/heads.jsonl")
STREAMS = File("sinks/results/run/rows.jsonl")
SPARSE = File("sparse/results/speed/speed.jsonl")
RECALL = File("kda/results/recall/results.jsonl")
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


def answered(results: Results, arm: str, key: str) -> float:
    """The share of pairs that an arm recalls at the rate that is best on the set that chooses it, over its seeds."""
    rows = RECALL.pick(results, {"task": "recall", "arm": arm})
    mean = lambda rate, name: statistics.fmean(row[name] for row in rows if row["rate"] == rate)
    return mean(max({row["rate"] for row in rows}, key=lambda rate: mean(rate, "selection")), key)


def recalled(arm: str, key: str = "test") -> Statistic:
    """The same, as a text."""
    return lambda results: f"{answered(results, arm, key):.1%}"


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
    "RecallAttention": recalled("attention"),
    "RecallAttentionTwice": recalled("attention", "test_twice"),
    "RecallWindow": recalled("window"),
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
        "attention recalls nearly all pairs and a window does not",
        lambda results: answered(results, "attention", "test") > 0.99 > 0.9 > answered(results, "window", "test"),
    ),
}
