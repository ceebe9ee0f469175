"""What the paper takes from the results: a macro for each number, the tables, and the figures.

To add a result, add its file to sources.py, its lines here, and a paragraph to paper.tex.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import figures
from measures import Results, Statistic, suite_table
from sources import (
    ADJOINT,
    BEND,
    BEST,
    CLASSICS,
    COMPARED,
    CORESET,
    COST,
    DATA,
    HEADS,
    INFLUENCE,
    MIB,
    MIDDLE,
    MONARCH,
    NARROW,
    ODE,
    ODE4,
    OPTIMIZERS,
    OVERLAP,
    RANDOM,
    ROOT,
    SEARCH,
    SECOND,
    SHAKESPEARE,
    SMALL,
    SPEED,
    STACK,
    SWEEP,
    SWITCHES,
    TOLERANCES,
    TOP,
    TUNING,
    WIDE,
    bracket,
    commits,
    cost,
    half_widths,
    lds,
    lds_gap,
    parameters,
    parts_of_60,
    ratio,
    shares,
    sobol,
    tuned,
)

NUMBERS: dict[str, Statistic] = {
    # data and methods
    "SchoolEntropy": MONARCH.value({}, "entropy", ".3f"),
    "SchoolTraining": MONARCH.value({}, "training_characters", ",d"),
    "ClassicsTraining": DATA.value("baseline", "training_characters", ",d"),
    "ClassicsWorks": lambda _: str(len(json.loads((ROOT / "juliagpt_jax/data/classics.json").read_text("utf-8")))),
    "MicroLayers": MONARCH.value("baseline", "config.model.layers"),
    "MicroWidth": MONARCH.value("baseline", "config.model.width"),
    "MicroHeads": MONARCH.value("baseline", "config.model.heads"),
    "MicroContext": MONARCH.value("baseline", "config.model.context"),
    "MicroBatch": MONARCH.value("baseline", "config.train.batch_size"),
    "MicroRate": MONARCH.value("baseline", "config.train.lr"),
    "JaxVersion": MONARCH.value({}, "versions.jax"),
    "Machine": MONARCH.value({}, "machine"),
    "SmallestParams": lambda results: f"{min(parameters(results)):,}",
    "LargestParams": lambda results: f"{max(parameters(results)):,}",
    "RowsInAll": lambda results: str(len(commits(results))),
    "RowsUnclean": lambda results: str(sum(not re.fullmatch("[0-9a-f]{40}", commit) for commit in commits(results))),
    "IntervalLeast": lambda results: f"{min(half_widths(results)):.3f}",
    "IntervalMost": lambda results: f"{max(half_widths(results)):.3f}",
    # data techniques
    "DataSteps": DATA.value({}, "config.train.steps"),
    "DataTokens": DATA.value({}, "tokens", ",d"),
    "DataSeeds": DATA.distinct({}, "seed"),
    "DataComparisons": DATA.comparisons(),
    "DataWeights": DATA.value("phase weights", "config.data.phase_weights"),
    "DataLeastP": DATA.least_p(),
    "DataBigramGap": DATA.gap("bigram penalty"),
    "DataStackGap": DATA.gap("stack"),
    "DataEasyGap": DATA.gap("easy first"),
    "DataEasyMiddle": lambda results: f"{-DATA.difference(results, 'easy first', key='curve.250').mean:.3f}",
    "DataDoremiGap": DATA.gap("DoReMi"),
    "DataDoremiShare": lambda results: "{:.2f} to {:.2f}".format(
        *(f(shares(results, "DoReMi", "trivium")) for f in (min, max))
    ),
    "DataTriviumShare": lambda results: (
        f"{DATA.pick(results, {})[0]['phases']['trivium']['characters'] / DATA.pick(results, {})[0]['characters']:.0%}"
    ),
    "DataBaseTrivium": DATA.mean("baseline", "phases.trivium.perplexity", ".2f"),
    "DataBaseQuadrivium": DATA.mean("baseline", "phases.quadrivium.perplexity", ".2f"),
    "DataDoremiTrivium": DATA.mean("DoReMi", "phases.trivium.perplexity", ".2f"),
    "DataDoremiQuadrivium": DATA.mean("DoReMi", "phases.quadrivium.perplexity", ".2f"),
    "DataShare": lambda r: f"{DATA.pick(r, {})[0]['tokens'] / DATA.pick(r, {})[0]['training_characters']:.1%}",
    # coresets
    "CoresetLines": CORESET.value("full", "chunks"),
    "CoresetSteps": lambda results: str(CORESET.pick(results, "full")[0]["curve"][-1][0]),
    "CoresetEpochs": CORESET.mean("full", "epochs", ".1f"),
    "CoresetCellsAbove": lambda results: str(sum(gap > 0 for gap in parts_of_60(results))),
    "CoresetCells": lambda results: str(len(parts_of_60(results))),
    "CoresetRandomGap": CORESET.gap(RANDOM),
    "CoresetThirtyGap": CORESET.gap("random 30%"),
    "CoresetThirtyP": CORESET.p("random 30%"),
    "CoresetMiddleGap": CORESET.gap(MIDDLE),
    "CoresetMiddleRandom": CORESET.gap(MIDDLE, RANDOM),
    "CoresetTopRandom": CORESET.gap(TOP, RANDOM),
    # influence
    "InfluenceChunks": INFLUENCE.value({"what": "setting"}, "train_chunks", ",d"),
    "InfluenceQueries": INFLUENCE.value({"what": "setting"}, "queries"),
    "InfluenceParts": INFLUENCE.value({"what": "setting"}, "parts"),
    "InfluenceSeeds": INFLUENCE.value({"what": "setting"}, "seeds"),
    "InfluenceEkfac": lambda results: bracket(lds(results, "ekfac"), "lds", ".2f"),
    "InfluenceNgrams": lambda results: bracket(lds(results, OVERLAP), "lds", ".2f"),
    "InfluenceEkfacTracin": lambda results: bracket(lds_gap(results, "ekfac", "tracin"), "difference"),
    "InfluenceEkfacTrak": lambda results: bracket(lds_gap(results, "ekfac", "trak"), "difference"),
    "InfluenceNgramsEkfac": lambda results: bracket(lds_gap(results, OVERLAP, "ekfac"), "difference"),
    "InfluenceBoth": lambda results: bracket(lds_gap(results, f"ekfac + {OVERLAP}", OVERLAP), "difference"),
    "InfluenceAgreement": INFLUENCE.value({"what": "agreement of two seeds on the same part"}, "correlation", ".2f"),
    "InfluenceCeiling": INFLUENCE.value({"what": "agreement of two seeds on the same part"}, "ceiling", ".2f"),
    # Monarch
    "MonarchSteps": MONARCH.value({}, "config.train.steps", ",d"),
    "MonarchTokens": MONARCH.value({}, "tokens", ",d"),
    "MonarchSeeds": MONARCH.distinct({}, "seed"),
    "MonarchCharacters": MONARCH.value({}, "characters", ",d"),
    "MonarchStride": MONARCH.value({}, "stride"),
    "MonarchBaseParams": MONARCH.value("baseline", "params", ",d"),
    "MonarchBasePerplexity": MONARCH.mean("baseline", "perplexity", ".2f"),
    "MonarchMixerPerplexity": MONARCH.mean("mixer: monarch", "perplexity", ".2f"),
    "MonarchHeadsPerplexity": MONARCH.mean(HEADS, "perplexity", ".2f"),
    "MonarchSmallLess": MONARCH.less(SMALL, "baseline", "params"),
    "MonarchSmallPerplexityLess": MONARCH.less(SMALL, "baseline", "perplexity", ".1f"),
    "MonarchSmallGap": MONARCH.gap(SMALL),
    "MonarchSmallAgainstNarrow": MONARCH.gap(SMALL, NARROW),
    "SearchBasePerplexity": SEARCH.value("baseline", "perplexity", ".2f"),
    "SearchMonarchPerplexity": SEARCH.value("mixer: monarch", "perplexity", ".2f"),
    "SearchShortPerplexity": SEARCH.value("monarch, filter of one token", "perplexity", ".2f"),
    "SearchTwoBlocksPerplexity": SEARCH.value("monarch, channel of 2 blocks", "perplexity", ".3f"),
    "SearchTwoBlocksParams": SEARCH.value("monarch, channel of 2 blocks", "params", ",d"),
    "SearchNarrowPerplexity": SEARCH.value("monarch, ffn_mult 2", "perplexity", ".3f"),
    "SearchNarrowParams": SEARCH.value("monarch, ffn_mult 2", "params", ",d"),
    "SearchAttentionBlocks": SEARCH.value("attention, channel of 2 blocks", "perplexity", ".3f"),
    "SearchAttentionNarrow": SEARCH.value("attention, ffn_mult 2", "perplexity", ".3f"),
    # neural ODE
    "OdeSteps": ODE.value({}, "config.train.steps"),
    "OdeTokens": ODE.value({}, "tokens", ",d"),
    "OdeSeeds": ODE.distinct({}, "seed"),
    "OdeWideGap": ODE.gap(WIDE),
    "OdeWideP": ODE.p(WIDE),
    "OdeWideFlops": ODE.times(WIDE, "2 blocks", "flops"),
    "OdeAgainstFour": ODE.gap(ODE4, "4 blocks"),
    "OdeFourParams": ODE.times("4 blocks", ODE4, "params"),
    "OdeRepeatedGap": ODE.gap("4 x the same block"),
    "OdeTimeGap": ODE.gap(ODE4, "4 x the same block"),
    "OdeGeneratedParams": ODE.value("ode, 4 steps, generated weights", "params", ",d"),
    "OdeGeneratedAgainst": ODE.gap("ode, 4 steps, generated weights", ODE4),
    "BendRandomGap": BEND.gap("2 to 8 steps"),
    "BendEnergyGap": BEND.gap("4 steps, energy 0.01"),
    "BendEnergyP": BEND.p("4 steps, energy 0.01"),
    "SweepCharacters": SWEEP.value({}, "characters", ",d"),
    "TolCoarse": TOLERANCES.value({"rtol": 0.1}, "loss", ".2f"),
    "TolCoarseRtol": TOLERANCES.value({"rtol": 0.1}, "rtol"),
    "TolFine": TOLERANCES.value({"rtol": 0.0001}, "loss", ".2f"),
    "TolFineRtol": TOLERANCES.value({"rtol": 0.0001}, "rtol"),
    "TolTrained": SWEEP.value({"model": "2 to 8 steps, energy 0.01", "steps": 4}, "loss", ".2f"),
    "AdjointMany": ADJOINT.most({}, "evaluations", "d"),
    "AdjointFew": ADJOINT.least({}, "evaluations", "d"),
    "AdjointSix": ADJOINT.value({"adjoint": "recursive", "evaluations": 6}, "evaluations"),
    "AdjointTime": ADJOINT.value({"adjoint": "recursive", "evaluations": 6}, "step_ratio", ".2f"),
    "AdjointErrorFew": ADJOINT.value({"adjoint": "backsolve", "evaluations": 4}, "gradient_error", ".0%"),
    "AdjointErrorMany": ADJOINT.value({"adjoint": "backsolve", "evaluations": 64}, "gradient_error", ".0%"),
    **{
        f"Adjoint{kind.title()}": ADJOINT.value(
            {"adjoint": kind, "evaluations": 64}, "temporary_bytes", ",.0f", scale=MIB
        )
        for kind in ("stack", "direct", "recursive", "backsolve")
    },
    # optimizers
    "TuneSeed": TUNING.distinct({}, "seed"),
    "TuneCells": TUNING.count({}),
    "TuneAdamOne": lambda results: f"{tuned(results, False):.3f}",
    "TuneAdamTwo": lambda results: f"{tuned(results, True):.3f}",
    "OptimizerSteps": OPTIMIZERS.value({}, "config.train.steps"),
    "OptimizerSeeds": OPTIMIZERS.distinct({}, "seed"),
    "OptimizerOneGap": OPTIMIZERS.gap("adamw, one rate"),
    "OptimizerMostP": lambda results: f"{max(OPTIMIZERS.line(results, k).corrected for k in SECOND):.2g}",
    "KfacLess": OPTIMIZERS.steps_less("kfac"),
    "SoapLess": OPTIMIZERS.steps_less("soap"),
    "MuonLess": OPTIMIZERS.steps_less("muon"),
    "KfacLessOne": OPTIMIZERS.steps_less("kfac", "adamw, one rate"),
    "MuonTime": OPTIMIZERS.times("muon", "adamw", "step_s", ".2f"),
    "SoapTime": OPTIMIZERS.times("soap", "adamw", "step_s", ".2f"),
    "KfacTime": OPTIMIZERS.times("kfac", "adamw", "step_s", ".2f"),
    "SwitchComparisons": SWITCHES.comparisons(),
    "SwitchSteps": SWITCHES.value({}, "config.train.steps", ",d"),
    "SwitchSeeds": SWITCHES.distinct({}, "seed"),
    "SwitchNormGap": SWITCHES.gap("qk_norm"),
    "SwitchNormP": SWITCHES.p("qk_norm"),
    "SwitchZeroGap": SWITCHES.gap("zero_init"),
    "SwitchReluGap": SWITCHES.gap("relu2"),
    "StackSeeds": STACK.distinct({}, "seed"),
    "StackGap": STACK.gap(BEST),
    "StackP": STACK.p(BEST),
    "StackLess": STACK.steps_less(BEST),
    "StackSoapGap": STACK.gap(BEST, "soap"),
    # real text
    "ShakespeareCharacters": SHAKESPEARE.value({}, "characters", ",d"),
    "ShakespeareTokens": SHAKESPEARE.value({}, "tokens", ",d"),
    "ShakespeareParams": SHAKESPEARE.value({}, "params", ",d"),
    "ShakespeareLoss": SHAKESPEARE.spread({}, "loss"),
    "ShakespeareRuns": SHAKESPEARE.count({}),
    "ClassicsParams": CLASSICS.value({}, "params", ",d"),
    "ClassicsBpc": CLASSICS.value({}, "bpc", ".3f"),
    "ClassicsTokens": CLASSICS.value({}, "tokens", ",d"),
    # analysis
    "CostContext": COST.value({"mixer": "attention", "context": 4096}, "context", ",d"),
    "CostMonarch": cost("monarch", "train_s_per_token"),
    "CostHeads": cost("monarch_heads", "train_s_per_token"),
    "CostMonarchDecode": cost("monarch", "decode_s_per_token"),
    "CostHeadsDecode": cost("monarch_heads", "decode_s_per_token"),
    "CostDftLeast": COST.least({"mixer": "monarch"}, "dft_over_fft", ".1f"),
    "CostDftMost": COST.most({"mixer": "monarch"}, "dft_over_fft", ".1f"),
    "SobolRuns": lambda results: str(sobol(results)[1]),
    "SobolTokens": lambda results: f"{sobol(results)[2]:,}",
    "SobolExplained": lambda results: f"{sobol(results)[3]:.0%}",
}


def influence_table(results: Results) -> list[list[str]]:
    """Methods by their score."""
    names = {"ekfac": "EK-FAC", "trak": "TRAK", "tracin": "TracIn", "cosine": "TracIn, cosine"}
    named = lambda method: re.sub(r"^\w+", lambda word: names.get(word[0], word[0]), method)
    rows = sorted(INFLUENCE.pick(results, {"what": "lds"}), key=lambda row: -row["lds"])
    body = [[named(r["method"]), bracket(r, "lds"), f"{r['mean_loss']:+.2f}"] for r in rows]
    return [["scores", "LDS [95%]", "of the mean loss"], *body]


def sobol_table(results: Results) -> list[list[str]]:
    """Indices of each knob."""
    rows = [["knob", "range", "S1", "ST"]]
    for knob, index in sobol(results)[0]:
        span = ", ".join(map(str, knob.levels)) or f"{knob.low:g} to {knob.high:g}" + (" (log)" if knob.log else "")
        shown = lambda name, i=index: "{:.2f} [{:.2f}, {:.2f}]".format(
            *(getattr(i, name + end) + 0.0 for end in ("", "_low", "_high"))
        )
        rows.append([knob.key, span, shown("S1").replace("-0.00", "0.00"), shown("ST")])
    return rows


def speed_table(results: Results) -> list[list[str]]:
    """Ours beside the peer's."""
    rows = [["", "ours", "peer", "ratio", "rounds"]]
    for row in SPEED.pick(results, {}):
        what, size = row["name"].split("_")[:2]
        peer = row["name"].split("_vs_")[1]
        peers = {"torch_eager_llama": "PyTorch", "llamacpp_f32": "llama.cpp, float32"}
        label = f"{'training' if what == 'train' else 'generation'}, {size}, beside {peers.get(peer, peer)}"
        pair = row["pair"]
        span = "{median:.2f} [{min:.2f}, {max:.2f}]".format(**pair["ratio_a_over_b"])
        rows.append([label, f"{pair['a']['median']:,.0f}", f"{pair['b']['median']:,.0f}", span, str(pair["rounds"])])
    return rows


TABLES: dict[str, Callable[[Results], list[list[str]]]] = {
    "data": suite_table(DATA, "", "perplexity", "difference [95%]", "p", "trivium", "quadrivium", "philosophy"),
    "coreset": suite_table(CORESET, "", "seeds", "epochs", "loss", "difference [95%]", "p"),
    "influence": influence_table,
    "monarch": suite_table(MONARCH, "", "parameters", "perplexity", "difference [95%]", "p", "steps"),
    "ode": suite_table(ODE, "", "parameters", "FLOPs", "bits per character", "difference [95%]", "p"),
    "optimizers": suite_table(OPTIMIZERS, "", "loss", "difference [95%]", "p", "steps", "seconds"),
    "stack": suite_table(STACK, "", "loss", "difference [95%]", "p", "steps", "seconds"),
    "sobol": sobol_table,
    "speed": speed_table,
}

FIGURES: dict[str, Callable[[Results], Any]] = {
    "differences": lambda results: figures.differences(results, COMPARED),
    "solves": lambda results: figures.solves(results, SWEEP),
    "context": lambda results: figures.context(
        results, COST, ratio, {"monarch": "monarch", "monarch_heads": "monarch heads"}
    ),
}
