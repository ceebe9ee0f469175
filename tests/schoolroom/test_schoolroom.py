"""The schoolroom writes what it says it writes, knows its probability, and tells the truth."""

import itertools
import math
import random
import re
import zlib
from collections import Counter

import pytest

from juliagpt_jax.schoolroom import grammar, inflection, lessons, logic, variables
from juliagpt_jax.schoolroom import passages as sr


@pytest.fixture(scope="module")
def many() -> list[sr.Passage]:
    return sr.passages(20_000, seed=11)


@pytest.fixture(scope="module")
def examined(many: list[sr.Passage]) -> list[tuple[sr.Passage, list[sr.Claim]]]:
    return [(p, sr.examine(p.text)) for p in many[:6000]]


# What is written.


def test_alphabet() -> None:
    assert sorted("abcdefghijklmnopqrstuvwxyz .,;:?!'\"-()\n") == list(sr.ALPHABET)


def test_length_and_characters(many: list[sr.Passage]) -> None:
    allowed = set(sr.ALPHABET) - {"\n"}
    for p in many:
        assert 40 <= len(p.text) <= 256, p
        assert set(p.text) <= allowed, p
        assert p.text == p.text.strip(), p
        assert "  " not in p.text, p


@pytest.mark.parametrize("form", sr.form_names())
def test_lengths_hold_by_construction(form: str) -> None:
    low, high = sr.length_bounds(form)
    assert 40 <= low <= high <= 256


def test_length_bounds_contain_what_is_written(many: list[sr.Passage]) -> None:
    bounds = {form: sr.length_bounds(form) for form in sr.form_names()}
    for p in many:
        low, high = bounds[p.form]
        assert low <= len(p.text) <= high, p
    with pytest.raises(KeyError):
        sr.length_bounds("no such form")


def test_every_form_occurs_and_none_prevails(many: list[sr.Passage]) -> None:
    count = Counter(p.form for p in many)
    assert set(count) == set(sr.form_names())
    assert len(sr.form_names()) == len(set(sr.form_names())) >= 60
    assert max(count.values()) / len(many) < 0.035


def test_attributes(many: list[sr.Passage]) -> None:
    phases = {art: a.phase for art, a in lessons.ARTS.items()}
    assert math.isclose(sum(a.share for a in lessons.ARTS.values()), 1)
    for p in many:
        assert p.phase == phases[p.art]
        assert 0 <= p.difficulty <= 1 and 0 <= p.quality <= 1
        assert p.author.islower()
    for values in ([p.quality for p in many], [p.difficulty for p in many]):
        low, high = sorted(values)[1000], sorted(values)[-1000]
        assert high - low > 0.2


def test_repetitions_are_rare(many: list[sr.Passage]) -> None:
    assert len({p.text for p in many}) / len(many) > 0.99


def test_articles_and_agreement(many: list[sr.Passage]) -> None:
    for p in many:
        text = p.text.replace("say an before the sound of a vowel and a before the rest", "")
        if p.form != "first_last":  # "begins with a and"
            assert not re.search(r"\ba (?:[aeio]|u(?!s[eu]|ni))\w", text), p
        assert not re.search(r"\ban (?!hour|honest|heir)[^aeiou' ]", text), p
        assert not re.search(r"\b(a|an|the) (a|an|the) ", text), p
        assert not re.search(r"(?<!-)\bone [a-z]+s are\b|\bmany [a-z]+ (?:is|was)\b", text), p
        assert not re.search(r"[,;:.?!] ?[,;:]| [,;:.?!]", text), p
        assert text.count('"') % 2 == 0, p
        assert text[-1] in ".?!\"')", p


def test_deterministic() -> None:
    assert sr.passages(300, seed=5) == sr.passages(300, seed=5)
    assert sr.passages(100, seed=5) == sr.passages(300, seed=5)[:100]
    assert sr.passages(20, seed=5) != sr.passages(20, seed=6)
    assert sr.corpus(3, 50_000) == sr.corpus(3, 50_000)


def test_text_is_that_of_this_version() -> None:
    """Raise VERSION, then change this, when the text is meant to change."""
    text = "\n".join(p.text for p in sr.passages(2000, seed=0))
    assert (sr.VERSION, zlib.crc32(text.encode())) == (1, 2765546953)


def test_split() -> None:
    train, validation = sr.corpus(seed=1, characters=1_000_000)
    assert not {p.text for p in train} & {p.text for p in validation}
    assert 0.04 < len(validation) / (len(train) + len(validation)) < 0.06
    assert all(zlib.crc32(p.text.encode()) % 20 == 0 for p in validation)
    total = sum(len(p.text) + 1 for p in train + validation)
    assert 1_000_000 <= total < 1_000_000 + 257


# What it is worth, in nats.


def test_log_prob_is_at_least_that_of_the_derivation() -> None:
    equal = 0
    for passage, log_p in sr.sample(1000, seed=21):
        found = sr.log_prob(passage.text)
        assert found >= log_p - 1e-9, passage
        equal += found < log_p + 1e-9
    assert equal > 950


def _toy(rules: dict[str, str], *forms: tuple[str, str]) -> tuple[grammar.Grammar, list[grammar.Production]]:
    compiled = grammar.Grammar(rules)
    return compiled, [grammar.Production(compiled, draws, text) for draws, text in forms]


def _enumerate(production: grammar.Production) -> dict[str, float]:
    """Every text of a small production with its probability, by running it on every sequence of choices."""
    total: dict[str, float] = {}
    stack: list[list[float]] = [[]]
    while stack:
        script = stack.pop()
        choices = iter(script)
        pen, out = variables.Pen(lambda choices=choices: next(choices)), []
        try:
            production.emit(pen, out)
        except StopIteration:
            stack.extend([*script, (i + 0.5) / 12] for i in range(12))  # every choice below divides twelve
            continue
        assert next(choices, None) is None
        probability = 12.0 ** -len(script)
        total["".join(out)] = total.get("".join(out), 0.0) + probability
    return total


TOYS = [
    ("a:2..4 b:2..4!a", "{a} and {b} are {=a+b}", {}),
    ("a:2..4 b:1..a-1", "{=a+b} less {b} is {a}[.|!|?]", {}),
    ("a:2..4 k:2..4", "as two is to {=2*k}, so is {=a} to {=a*k}", {}),
    ("a:2..5 k:2..7", "{=a*k} planks", {}),
    ("a:2..13/2", "[twelve|2*{a}] are {=spell(a)}", {}),
    ("", "<x> [and <x>|2*or <y>]", {"x": "one\n2*two\ntwo two", "y": "two\n<x>"}),
    ("b:1..2", "<x> {b}[| <x>]", {"x": "and\na:1..3 :: 2*{a}"}),
    ("n:1..4", "<x><x><x> {n}", {"x": "a\naa\naaa"}),
    ("p:outer q:outer!p", "{p} {q.years}[| {q}]", {}),
]


@pytest.mark.parametrize("draws, text, rules", TOYS)
def test_small_grammars_by_enumeration(draws: str, text: str, rules: dict[str, str]) -> None:
    _, (production,) = _toy(rules, (draws, text))
    truth = _enumerate(production)
    assert math.isclose(sum(truth.values()), 1)
    for written, p in truth.items():
        assert math.isclose(production.ends(written, 0, {})[len(written)], p), written
    for written in truth:
        for other in (written + "x", written[:-1], "x" + written):
            if other not in truth:
                assert len(other) not in production.ends(other, 0, {}), other


@pytest.mark.parametrize(
    "draws, text, possible, impossible",
    [
        ("a:2..4 b:2..4!a", "{a} and {b}", "two and three", ["two and two", "two and five", "one and two"]),
        ("p:outer q:outer!p", "{p} {q.years}", "mars twelve", ["mars two"]),
        ("a:2..9 b:1..a-1", "{b} of {a}", "three of four", ["four of four", "five of four"]),
        ("a:2..8/2", "{a} or {=a}", "six or six", ["six or four", "three or three"]),
        ("a:2..9 k:2..3", "{a} to {=k*a}", "four to twelve", ["four to thirteen", "four to sixteen"]),
    ],
)
def test_what_the_draws_forbid(draws: str, text: str, possible: str, impossible: list[str]) -> None:
    _, (production,) = _toy({}, (draws, text))
    assert len(possible) in production.ends(possible, 0, {})
    for other in impossible:
        assert len(other) not in production.ends(other, 0, {}), other


def test_frequencies_agree_with_log_prob() -> None:
    """Over the likeliest passages, and over those of one small form, where there is more to count."""
    n = 60_000
    count = Counter(p.text for p in sr.passages(n, seed=31))
    likely = sorted((t for t, c in count.items() if c > 1), key=sr.log_prob, reverse=True)[:30]
    # To pick what was seen favours what was seen too often, so a second sample is the judge.
    again = Counter(p.text for p in sr.passages(n, seed=32))
    means = {t: n * math.exp(sr.log_prob(t)) for t in likely}
    assert abs(sum(again[t] for t in likely) - sum(means.values())) < 4 * math.sqrt(sum(means.values()))
    for text, mean in means.items():
        assert again[text] < mean + 4 * math.sqrt(mean) + 4, text

    _, (production,) = _toy(lessons.RULES, ("i:interval k:2..5", "[so|2*thus] {i.a} is {=i.hi*k} to {=i.lo*k}[|, sir]"))
    rng = random.Random(33)
    written: Counter[str] = Counter()
    for _ in range(20_000):
        pen, out = variables.Pen(rng.random), []
        production.emit(pen, out)
        written["".join(out)] += 1
    total = 0.0
    for text, seen in written.items():
        p = production.ends(text, 0, {})[len(text)]
        total += p
        assert abs(seen - 20_000 * p) < 4 * math.sqrt(20_000 * p * (1 - p)), text
    assert math.isclose(total, 1)  # 144 texts, each seen


def test_altered_text_is_impossible() -> None:
    rng = random.Random(4)
    for p in sr.passages(200, seed=41):
        i = rng.randrange(len(p.text))
        assert sr.log_prob(p.text[:i] + "#" + p.text[i + 1 :]) == -math.inf
        assert sr.log_prob(p.text + " ") == -math.inf
        assert sr.log_prob(p.text[:-1]) == -math.inf
        assert sr.log_prob(p.text + "\n") == -math.inf
    assert sr.log_prob("") == -math.inf


def test_false_sums_are_impossible() -> None:
    for p in sr.passages(3000, seed=42):
        match = re.search(r"[a-z-]+ times [a-z-]+ (?:are|make) ([a-z-]+)", p.text)
        if match and p.form == "product":
            for wrong in ("three", "ninety-nine", "fifty-one"):
                if wrong != match[1]:
                    assert sr.log_prob(p.text[: match.start(1)] + wrong + p.text[match.end(1) :]) == -math.inf


def test_entropy() -> None:
    some = sr.passages(500, seed=51)
    bits = sr.entropy_bits_per_character(some)
    assert bits == sr.entropy_bits_per_character([p.text for p in some])
    expected = -sum(sr.log_prob(p.text) for p in some) / math.log(2) / sum(len(p.text) + 1 for p in some)
    assert math.isclose(bits, expected)
    assert 0.35 < bits < 1.3
    assert sr.entropy_bits_per_character(["not in the grammar"]) == math.inf
    with pytest.raises(ValueError):
        sr.entropy_bits_per_character([])


def test_numbers_are_spelled_and_read_alike() -> None:
    spelled = [lessons.spell(n) for n in range(1, lessons.LARGEST + 1)]
    assert len(set(spelled)) == lessons.LARGEST
    assert [inflection.number(w) for w in spelled] == list(range(1, lessons.LARGEST + 1))
    for wrong in ("", "twenty-ten", "one hundred and", "eleventy", "hundred"):
        with pytest.raises(ValueError):
            inflection.number(wrong)


# What is true.


def test_every_word_form_agrees_with_the_examiner() -> None:
    """Lessons and examiner inflect by rules and lists of their own."""
    for noun, plural in zip(*[lessons.LEXICONS["noun"][f] for f in ("sg", "pl")], strict=True):
        assert inflection.plural(noun) == plural
        assert inflection.singular(plural) == inflection.singular(noun) == noun
    for verb, past, participle, ing, s in zip(
        *[lessons.LEXICONS["verb"][f] for f in ("sg", "ed", "en", "ing", "s")], strict=True
    ):
        assert (*inflection.pasts(verb), inflection.ing(verb)) == (past, participle, ing)
        assert inflection.third_person(verb) == s
    for base, more, most in zip(*[lessons.LEXICONS["graded"][f] for f in ("sg", "er", "est")], strict=True):
        assert more in (inflection.stem(base, "er"), base + "er")
        assert most in (inflection.stem(base, "est"), base + "est")


def test_the_schoolroom_tells_the_truth(examined: list[tuple[sr.Passage, list[sr.Claim]]]) -> None:
    for p, claims in examined:
        for claim in claims:
            assert claim.true, (p, claim)
            assert claim.text in p.text


def test_a_good_share_can_be_checked(examined: list[tuple[sr.Passage, list[sr.Claim]]]) -> None:
    assert sum(bool(claims) for _, claims in examined) / len(examined) > 0.25
    assert len({c.kind for _, claims in examined for c in claims}) > 30


NUMERIC = set(
    "sum difference product square division proportion angle area period heavens triangular time metre triangle shadow "
    "mean cube interval day letters".split()
)


def test_a_wrong_number_is_found(examined: list[tuple[sr.Passage, list[sr.Claim]]]) -> None:
    """The last number of a claim is what it comes to; one more is one too many."""
    seen: Counter[str] = Counter()
    for p, claims in examined:
        for claim in claims:
            if claim.kind not in NUMERIC or seen[claim.kind] >= 12:
                continue
            numbers = list(re.finditer(rf"(?<![a-z-]){inflection.NUMBER}(?![a-z-])", claim.text))
            if not numbers:  # "a fifth and a fourth make an octave"
                continue
            number = numbers[-1]
            wrong = lessons.spell(inflection.number(number.group()) + 1)
            altered = claim.text[: number.start()] + wrong + claim.text[number.end() :]
            verdicts = sr.examine(p.text.replace(claim.text, altered))
            assert any(not c.true for c in verdicts), (claim, altered)
            seen[claim.kind] += 1
    assert set(seen) == NUMERIC


LOGIC_FORMS = {"barbara", "celarent", "ferio", "camestres", "baroco", "bocardo", "sorites", "fallacy_middle"}


def test_a_swapped_term_is_found(examined: list[tuple[sr.Passage, list[sr.Claim]]]) -> None:
    seen = 0
    for p, claims in examined:
        if p.form not in LOGIC_FORMS:
            continue
        conclusion = next(c for c in claims if c.kind == "syllogism").text
        match = re.search(r"(?:all|no|some) (.+) are (?:not )?([a-z]+)", conclusion)
        assert match
        if p.form == "fallacy_middle":  # which says truly that it does not follow
            altered = conclusion.replace("does not follow", "follows")
            altered = altered.replace("but it follows", "it follows")
        else:
            altered = conclusion[: match.start(2)] + "unicorns" + conclusion[match.end(2) :]
        assert not all(c.true for c in sr.examine(p.text.replace(conclusion, altered))), (p, altered)
        seen += 1
    assert seen > 50


def test_a_broken_hypothetical_is_found(examined: list[tuple[sr.Passage, list[sr.Claim]]]) -> None:
    seen = 0
    for p, claims in examined:
        for claim in claims:
            if claim.kind == "hypothetical" and "does not follow" not in claim.text:
                clause, comma, rest = claim.text.partition(",")
                denied = " does not " in clause or " is not " in clause
                altered = re.sub("(does|is) not", r"\1 once", clause) if denied else clause + " twice"
                altered += comma + rest
                assert not all(c.true for c in sr.examine(p.text.replace(claim.text, altered))), (p, altered)
                seen += 1
    assert seen > 50


@pytest.mark.parametrize(
    "text, kind, true",
    [
        ("seven and five are twelve.", "sum", True),
        ("we think that seven and five are thirteen, mostly", "sum", False),
        ("one hundred and five and six are one hundred and eleven", "sum", True),
        ("one hundred and five are one hundred and five", "sum", True),
        ("the square of seven is forty-nine", "square", True),
        ("as two is to four, so is three to six", "proportion", True),
        ("as two is to four, so is three to seven", "proportion", False),
        ("nine is prime", "prime", False),
        ("nine is not prime", "prime", True),
        ("eight is odd", "parity", False),
        ("the plural of ox is oxes", "plural", False),
        ("the past of sing is sang", "tense", True),
        ("the past of sing is singed", "tense", False),
        ("a fifth and a fourth make an octave", "interval", True),
        ("a fifth and a fifth make an octave", "interval", False),
        ("all crabs are kings; all kings are mortal; so all crabs are mortal", "syllogism", True),
        ("every unicorn is a beast; no beast is a stone; therefore no unicorn is a stone", "syllogism", True),
        ("all crabs are kings; all kings are mortal; so all mortal are crabs", "syllogism", False),
        ("all a are b; all c are b; so all a are c", "syllogism", False),
        ("all b are c; all b are a; so some a are c", "syllogism", False),  # nothing says that there is a b
        ("no b are c; some a are b; so some a are not c", "syllogism", True),
        ("all blorbs are wugs; gavagai is a blorb; therefore gavagai is a wug", "syllogism", True),
        ("all blorbs are wugs; gavagai is a wug; therefore gavagai is a blorb", "syllogism", False),
        ("all poets are vain; therefore all honest poets are vain", "syllogism", True),
        ("if it rains, it pours; but it rains; therefore it pours", "hypothetical", True),
        ("if it rains, it pours; but it pours; therefore it rains", "hypothetical", False),
        ("if zeno sings, leda weeps; but leda does not weep; so zeno does not sing", "hypothetical", True),
        ("if zeno sings, leda weeps; but zeno does not sing; so leda does not weep", "hypothetical", False),
        ("either zeno is mad or leda weeps; but zeno is not mad; hence leda weeps", "hypothetical", True),
    ],
)
def test_single_statements(text: str, kind: str, true: bool) -> None:
    claims = [c for c in sr.examine(text) if c.kind == kind]
    assert claims and claims[-1].true is true, claims


def test_valid_moods_are_those_of_the_tradition() -> None:
    """All 256 moods in four figures; without existential import exactly fifteen are valid."""
    valid = []
    for forms in itertools.product("AEIO", repeat=3):
        for figure, (major, minor) in enumerate([("mp", "sm"), ("pm", "sm"), ("mp", "ms"), ("pm", "ms")], 1):
            premises = [(forms[0], major[0], major[1]), (forms[1], minor[0], minor[1])]
            if logic.follows(premises, (forms[2], "s", "p")):
                valid.append("".join(forms) + str(figure))
    assert sorted(valid) == sorted("AAA1 EAE1 AII1 EIO1 EAE2 AEE2 EIO2 AOO2 IAI3 AII3 OAO3 EIO3 AEE4 IAI4 EIO4".split())


def test_garbage_makes_no_trouble(many: list[sr.Passage]) -> None:
    rng = random.Random(7)
    letters = sr.ALPHABET
    words = sorted({w for p in many[:500] for w in p.text.split()})
    for i in range(500):
        if i % 2:
            text = "".join(rng.choice(letters) for _ in range(rng.randrange(300)))
        else:
            text = " ".join(rng.choice(words) for _ in range(rng.randrange(60)))
        for claim in sr.examine(text):
            assert claim.text in text
        assert sr.log_prob(text) == -math.inf
    assert sr.examine("") == []
    assert not [c for c in sr.examine("sevn and fivve are twelf; al crabs ar kings; the plurral of x")]
