"""Language models on larger tokens and words: few tokens read often, and WikiText-2 beside counted n-grams."""

from measures import File, Holds, Pending, Results, Statistic, Suite, Table, suite_table

from juliagpt_jax.study.statistics import Difference, spread

RECIPES = Suite(
    "words/results/recipes/results.jsonl",
    "adamw",
    labels={
        "adamw": "AdamW",
        "adamw, documents": "AdamW, documents",
        "muon, documents": "Muon, documents",
        **{f"muon, tau {tau}": f"Muon, decay over {tau} epochs" for tau in ("0.2", "0.5", "1", "2")},
    },
)
COUNTED = File("words/results/kneser_ney/wikitext2.jsonl")
WIKITEXT = File("words/results/wikitext2/runs.jsonl")
ADDED = File("words/results/beside/runs.jsonl")
TRAINED = "main --config=configs/wikitext2_muon.py --config.train.precision=bf16 --config.model.dropout=0.2"
FEWER = {"command": TRAINED}  # of the two dropouts
MORE = {"command": TRAINED.replace("0.2", "0.3")}
BOTH = {"command": "evaluate --averaged --ensemble, of the two runs above"}
TEST = {
    "command": "evaluate, of the averaged weights of the first run above, exported in f16 and imported again, on the "
    "test text; two cores"
}
HALF = "muon, tau 0.5"
PUBLISHED = {"AwdLstm": "68.6", "AwdLstmTest": "65.8", "AwdLstmParams": "33M"}  # of Merity et al.
STATED = PUBLISHED | {"LaptopLimit": "300"}
RECORDS = {
    "LaptopSchoolroom": "laptop/results/run/bpe_muon/record.json",
    "LaptopShakespeare": "laptop/results/run/shakespeare_tau/record.json",
    "LaptopWikitext": "laptop/results/run/wikitext2_bpe_muon/record.json",
}


def counted(order: int, side: str, key: str = "word_perplexity", form: str = ".1f") -> Statistic:
    """A number of n-grams over the same tokens as the models'."""
    return COUNTED.value({"tokens": "bpe", "order": order, "side": side}, key, form)


def added(results: Results) -> dict[str, float]:
    """Word perplexities of the small model, of counted five-grams, of both mixed, and of the two rows that adapt."""
    (row,) = ADDED.pick(results, {})
    rows = dict(zip(("Counted", "Mixed", "Cache", "Dynamic"), row["beside"], strict=True))
    return {"Alone": row["word_perplexity"], **{name: each["word_perplexity"] for name, each in rows.items()}}


def record(name: str, path: str) -> Pending:
    """Mean and standard deviation of a record's number, its seeds, and the seconds of its slowest run."""
    runs = lambda results: File(path).pick(results, {})[0]["runs"]
    return Pending(
        (path,),
        {
            name: lambda results: spread([run["number"] for run in runs(results)], ".3f"),
            f"{name}Seeds": lambda results: str(len(runs(results))),
            f"{name}Seconds": lambda results: f"{max(run['seconds'] for run in runs(results)):.0f}",
        },
    )


NUMBERS: dict[str, Statistic] = {
    "WordsTrainingTokens": counted(5, "valid", "training_tokens", ",d"),
    "WordsVocabulary": counted(5, "valid", "vocabulary", ",d"),
    "WordsParams": WIKITEXT.value(FEWER, "params", ",d"),
    "WordsSteps": WIKITEXT.value(FEWER, "step", ",d"),
    "WordsRead": WIKITEXT.value(FEWER, "tokens", ",d"),
    "WordsDevice": WIKITEXT.value(FEWER, "device"),
    "WordsSeconds": WIKITEXT.value(FEWER, "wall_s", ".0f"),
    "WordsSeed": WIKITEXT.value(FEWER, "seed"),
    "WordsDropout": WIKITEXT.value(FEWER, "averaged.word_perplexity", ".1f"),
    "WordsDropoutToken": WIKITEXT.value(FEWER, "averaged.perplexity", ".1f"),
    "WordsDropoutBytes": WIKITEXT.value(FEWER, "averaged.bpb", ".3f"),
    "WordsMoreDropout": WIKITEXT.value(MORE, "averaged.word_perplexity", ".1f"),
    "WordsBoth": WIKITEXT.value(BOTH, "ensemble.probabilities.word_perplexity", ".1f"),
    "WordsTest": WIKITEXT.value(TEST, "word_perplexity", ".1f"),
    "WordsTestBytes": WIKITEXT.value(TEST, "bpb", ".3f"),
    "WordsCounted": counted(5, "valid"),
    "WordsCountedBytes": counted(5, "valid", "bpb", ".3f"),
    "WordsCountedTest": counted(5, "test"),
    "WordsCountedPlain": COUNTED.value({"tokens": "words", "order": 5, "side": "valid"}, "word_perplexity", ".1f"),
    "AddedParams": ADDED.value({}, "params", ",d"),
    **{
        f"Added{name}": lambda results, name=name: f"{added(results)[name]:.1f}"
        for name in ("Alone", "Counted", "Mixed", "Cache", "Dynamic")
    },
    "RecipesSeeds": RECIPES.distinct({}, "seed"),
    "RecipesSteps": RECIPES.value({}, "config.train.steps", ",d"),
    "RecipesParams": RECIPES.value({}, "params", ",d"),
    "RecipesHalf": RECIPES.gap(HALF),
    "RecipesHalfP": RECIPES.p(HALF),
    "RecipesNoDecay": RECIPES.gap("muon, documents"),
    "RecipesOrder": RECIPES.gap("adamw, documents"),
}

TABLES: dict[str, Table] = {"recipes": suite_table(RECIPES, "", "loss", "difference [95%]", "p")}

PENDING = {name: record(name, path) for name, path in RECORDS.items()}


def order(results: Results) -> Difference:
    """What a new order of documents in each epoch changes."""
    return RECIPES.difference(results, "adamw, documents")


def lowest(results: Results) -> str:
    """The recipe with the lowest mean loss."""
    return min(RECIPES.others(results), key=lambda line: line.difference.mean).arm


HOLDS: Holds = {
    "DecayHelps": (
        "decay that averages over half an epoch is the best recipe and ahead of AdamW, after Holm as well",
        lambda results: lowest(results) == HALF and RECIPES.line(results, HALF).corrected < 0.05,
    ),
    "NoDecayHarms": (
        "Muon with a decay of its default is behind AdamW",
        lambda results: RECIPES.difference(results, "muon, documents").low > 0,
    ),
    "OrderNotTold": (
        "a new order of documents in each epoch is not told from none",
        lambda results: (
            RECIPES.difference(results, "adamw, documents").low
            < 0
            < RECIPES.difference(results, "adamw, documents").high
        ),
    ),
    "CacheHelps": (
        "of what stands beside the small model the cache is best, and all but the counts alone are ahead of it",
        lambda results: (
            min(added(results), key=lambda name: added(results)[name]) == "Cache"
            and [name for name, value in added(results).items() if value > added(results)["Alone"]] == ["Counted"]
        ),
    ),
    "BelowLstm": (
        "the model is below the published LSTM on both texts, and both dropouts together below either",
        lambda results: (
            float(WIKITEXT.value(FEWER, "averaged.word_perplexity")(results)) < float(PUBLISHED["AwdLstm"])
            and float(WIKITEXT.value(TEST, "word_perplexity")(results)) < float(PUBLISHED["AwdLstmTest"])
            and float(WIKITEXT.value(BOTH, "ensemble.probabilities.word_perplexity")(results))
            < float(WIKITEXT.value(FEWER, "averaged.word_perplexity")(results))
        ),
    ),
}
