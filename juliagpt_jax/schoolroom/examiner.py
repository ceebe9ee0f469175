"""The examiner: finds the statements in a text that can be checked, and checks them.

It knows nothing of how the schoolroom writes. It reads text with regular expressions, turns number words into
integers, recomputes, and decides arguments from their premises as written, so that each keeps the other honest. From
`lessons` it takes only which words are nouns and verbs. Text that fits no pattern, such as the half-finished
sentences of a young model, simply makes no claim.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from . import lessons


@dataclass(frozen=True)
class Claim:
    """A checkable statement: its kind, the words that make it, and whether it is true."""

    kind: str
    text: str
    true: bool


# Number words.

_SMALL = {w: i for i, w in enumerate(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen".split(), 1)}  # fmt: skip
_TENS = {w: 10 * i for i, w in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
_ORDINAL = {w: i for i, w in enumerate("first second third fourth fifth sixth seventh eighth".split(), 1)}
_UNIT = "|".join(sorted(_SMALL, key=len, reverse=True))
_DIGIT = "one|two|three|four|five|six|seven|eight|nine"
_SUB = rf"(?:(?:{'|'.join(_TENS)})(?:-(?:{_DIGIT}))?|{_UNIT})"
_HUNDRED = rf"(?:{_DIGIT}) hundred(?: and {_SUB})?"
_NUMBER = rf"(?:(?:{_DIGIT}) thousand(?: and {_SUB}| {_HUNDRED})?|{_HUNDRED}|{_SUB})"


def number(words: str) -> int:
    """The integer that the words spell: "two hundred and forty-one" is 241. ValueError if they spell none."""
    if not re.fullmatch(_NUMBER, words):
        raise ValueError(f"not a number: {words!r}")
    total = part = 0
    for word in re.findall(r"[a-z]+", words):
        if word == "hundred":
            part *= 100
        elif word == "thousand":
            total, part = part * 1000, 0
        elif word != "and":
            part += _SMALL.get(word) or _TENS[word]
    return total + part


# Words. The irregular ones are listed here again on purpose: a slip in the lessons should not pass unseen.

_IRREGULAR_PLURAL = {singular: plural for singular, plural in (pair.split(":") for pair in (
    "goose:geese mouse:mice ox:oxen calf:calves wolf:wolves loaf:loaves knife:knives thief:thieves child:children "
    "foot:feet tooth:teeth leaf:leaves life:lives wife:wives half:halves shelf:shelves man:men woman:women "
    "louse:lice penny:pence fisherman:fishermen sheep:sheep fish:fish").split())}  # fmt: skip
_SINGULAR = {v: k for k, v in _IRREGULAR_PLURAL.items()} | {"axes": "axe"}
_IRREGULAR_VERB = {base: (past, past_participle) for base, past, past_participle in (v.split(":") for v in (
    "bite:bit:bitten break:broke:broken bring:brought:brought buy:bought:bought choose:chose:chosen draw:drew:drawn "
    "eat:ate:eaten fall:fell:fallen feed:fed:fed find:found:found forgive:forgave:forgiven hide:hid:hidden "
    "hold:held:held keep:kept:kept kneel:knelt:knelt lead:led:led lend:lent:lent lose:lost:lost make:made:made "
    "meet:met:met rise:rose:risen seek:sought:sought sell:sold:sold shake:shook:shaken sing:sang:sung "
    "sleep:slept:slept speak:spoke:spoken steal:stole:stolen swear:swore:sworn swim:swam:swum take:took:taken "
    "teach:taught:taught think:thought:thought throw:threw:thrown wake:woke:woken wear:wore:worn weep:wept:wept "
    "write:wrote:written go:went:gone see:saw:seen give:gave:given run:ran:run know:knew:known").split())}  # fmt: skip
_NOUNS = set(lessons.LEXICONS["noun"]["sg"]) | set(_IRREGULAR_PLURAL)
_VERBS = set(lessons.LEXICONS["verb"]["sg"]) | set(_IRREGULAR_VERB)
_ADJECTIVES = set(lessons.LEXICONS["adj"]["sg"]) | set(lessons.LEXICONS["look"]["sg"])
_ANIMALS = set(lessons.LEXICONS["animal"]["sg"])
_PERSONS = set(lessons.LEXICONS["person"]["sg"])
_GRADED = set(lessons.LEXICONS["graded"]["sg"])


def _doubles(word: str) -> bool:
    return bool(re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", word))


def _plural(noun: str) -> str:
    if noun in _IRREGULAR_PLURAL:
        return _IRREGULAR_PLURAL[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if re.search("[^aeiou]y$", noun) else noun + "s"


def _singular(word: str) -> str:
    """One form for both numbers of a noun; other words come out changed at worst, but always in the same way."""
    if word in _SINGULAR:
        return _SINGULAR[word]
    for ending, replacement in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(ending):
            return word[: -len(ending)] + replacement
    return word if word.endswith(("ss", "us", "ous")) or not word.endswith("s") else word[:-1]


def _stem(word: str, ending: str) -> str:
    """The word ready to take -ed, -er or -est (the e of which a final e replaces)."""
    if word.endswith("e"):
        return word[:-1] + ending
    if re.search("[^aeiou]y$", word) and len(word) > 3:
        return word[:-1] + "i" + ending
    return word + (word[-1] if _doubles(word) else "") + ending


def _pasts(verb: str) -> tuple[str, str]:
    if verb in _IRREGULAR_VERB:
        return _IRREGULAR_VERB[verb]
    regular = verb[:-1] + "ied" if verb in ("cry", "fry", "try") else _stem(verb, "ed")
    return regular, regular


def _ing(verb: str) -> str:
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if _doubles(verb) else "") + "ing"


def _third_person(phrase: str) -> str:
    verb, _, rest = phrase.partition(" ")
    return {"be": "is", "have": "has"}.get(verb, _plural(verb)) + (" " + rest if rest else "")


_PAST_OF = {_pasts(v)[0]: v for v in sorted(_VERBS)}


# Numbers, figures, strings and stars: one pattern and one question each. # in a pattern stands for a number, which
# the question receives as an integer; @ for a single word. A question may answer None: not decidable.

# fmt: off
_RATIO = {"octave": (2, 1), "fifth": (3, 2), "fourth": (4, 3), "tone": (9, 8), "twelfth": (3, 1),
          "double octave": (4, 1), "major third": (5, 4), "minor third": (6, 5), "major sixth": (5, 3),
          "minor sixth": (8, 5)}
_CORNERS = {"triangle": 3, "quadrilateral": 4, "square": 4, "pentagon": 5, "hexagon": 6, "heptagon": 7, "octagon": 8,
            "nonagon": 9, "decagon": 10, "dodecagon": 12}
_FEET = {"iamb": 3, "trochee": 3, "spondee": 4, "dactyl": 4, "anapaest": 4, "pyrrhic": 2, "tribrach": 3}
_SPHERES = ["moon", "mercury", "venus", "sun", "mars", "jupiter", "saturn"]
_SIGNS = "ram bull twins crab lion virgin balance scorpion archer goat water-bearer fishes".split()
_YEARS = {"mars": 2, "jupiter": 12, "saturn": 30}
_SPANS = {("weeks", "days"): 7, ("days", "hours"): 24, ("years", "months"): 12, ("hours", "minutes"): 60}
_PARTS = {"half": 2, "third": 3, "fourth": 4, "fifth": 5, "tenth": 10}
_SOLIDS = {"cube": (6, 12, 8), "tetrahedron": (4, 6, 4), "octahedron": (8, 12, 6), "dodecahedron": (12, 30, 20),
           "icosahedron": (20, 30, 12), "pyramid on a square": (5, 8, 5), "wedge with three sides": (5, 9, 6)}
# fmt: on
_INTERVAL = "|".join(sorted(_RATIO, key=len, reverse=True))
_SPHERE = "|".join(_SPHERES)
_SIGN = "|".join(_SIGNS)


def _ratio(name: str) -> Fraction:
    return Fraction(*_RATIO[name])


def _known(table: dict[str, int], word: str) -> int | None:
    return table.get(word) or table.get(_singular(word))


def _prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def _divisor_list(n: int, words: str) -> bool:
    *most, pair = words.split(", ")
    wanted = [d for d in range(1, n + 1) if n % d == 0]
    for match in re.finditer(" and ", pair):  # which may also stand inside a number
        listed = [*most, pair[: match.start()], pair[match.end() :]]
        if all(re.fullmatch(_NUMBER, w) for w in listed) and [number(w) for w in listed] == wanted:
            return True
    return False


def _sphere(name: str, ordinal: str) -> bool | None:
    return _SPHERES.index(name) + 1 == _ORDINAL[ordinal] if ordinal in _ORDINAL else None


def _feet_times(word: str, times: int, count: int = 1) -> bool | None:
    one = _known(_FEET, word)
    return None if one is None else times == count * one


def _all_in(words: str, known: set[str]) -> bool:
    return set(words.split(", ")) <= known


def _letters(word: str, count: int) -> bool:
    return len(word) == count


_QUESTIONS: list[tuple[str, str, Callable[..., bool | None]]] = [
    ("sum", r"(?<!times )(?<!the )(?<!between )(?<!of )(?<!than )(?<!by )# and # (?:are|make|is) #",
     lambda a, b, c: a + b == c),
    ("sum", r'"# and #\?" "#', lambda a, b, c: a + b == c),
    ("sum", r"had # [a-z]+ and (?:found|bought) # more [^.;]*; that makes #", lambda a, b, c: a + b == c),
    ("difference", r"take # from #, and # remain", lambda a, b, c: b - a == c),
    ("difference", r"# (?:less|minus) # (?:is|are) #", lambda a, b, c: a - b == c),
    ("difference", r"had # [a-z]+ and gave # to [^.;]*; # (?:remained|were left)", lambda a, b, c: a - b == c),
    ("difference", r"held # sacks; [^.;]* ate #, and # remained", lambda a, b, c: a - b == c),
    ("difference", r"# voted for [^.;]* and # against; the motion was carried by #", lambda a, b, c: a - b == c),
    ("product", r"# times # (?:is|are|make) #", lambda a, b, c: a * b == c),
    ("product", r'"# times #\?" "#', lambda a, b, c: a * b == c),
    ("product", r"# [a-z -]+ at # coins each cost #", lambda a, b, c: a * b == c),
    ("product", r"# [a-z]+ pay # coins each, so the treasury receives #", lambda a, b, c: a * b == c),
    ("product", r"# ranks of # men are #", lambda a, b, c: a * b == c),
    ("product", r"# [a-z]+ with # strings each have # strings", lambda a, b, c: a * b == c),
    ("product", r"# beats in a bar and # bars in a song are #", lambda a, b, c: a * b == c),
    ("square", r"the square of # is #", lambda a, b: a * a == b),
    ("square", r"the square of # is [^.;]*? and that of # is #", lambda _, a, b: a * a == b),
    ("cube", r"the cube of # is #", lambda a, b: a**3 == b),
    ("division", r"# divided by # is #(?!, and [a-z-]+ (?:is|are) left)", lambda a, b, c: a == b * c),
    ("division", r"# divided by # is #, and # (?:is|are) left over", lambda a, b, c, d: a == b * c + d and d < b),
    ("division", r"shared # [a-z]+ among # [a-z -]+, and each received #", lambda a, b, c: a == b * c),
    ("division", r"the half of # is #", lambda a, b: a == 2 * b),
    ("division", rf"an? ({'|'.join(_PARTS)}) of # is #", lambda p, a, b: a == _PARTS[p] * b),
    ("division", r"has # planks, and each year # are changed; in # years", lambda n, k, y: n == k * y),
    ("double", r"the double of # is #", lambda a, b: 2 * a == b),
    ("proportion", r"as # is to #, so is # to #", lambda a, b, c, d: a * d == b * c),
    ("parity", r"(?<!times )(?<!and )# is (even|odd)", lambda a, word: (a % 2 == 0) == (word == "even")),
    ("parity", r", and # is (even|odd)", lambda a, word: (a % 2 == 0) == (word == "even")),
    ("prime", r"# is (not )?prime", lambda a, negated: _prime(a) == (not negated)),
    ("divisor", r"# is not prime, for # divides it", lambda a, d: 1 < d < a and a % d == 0),
    ("divisor", rf"the divisors of # are ({_NUMBER}(?:, {_NUMBER})* and {_NUMBER})(?![a-z-])", _divisor_list),
    ("order", r"# is greater than #", lambda a, b: a > b),
    ("order", r"# is less than #", lambda a, b: a < b),
    ("triangular", r"# rows hold # pebbles", lambda n, k: k == n * (n + 1) // 2),
    ("triangular", r"let # lines cross, [^.;:]*: they meet at # points", lambda n, k: k == n * (n - 1) // 2),
    ("gnomon", r"the first # odd numbers make #", lambda n, k: k == n * n),
    ("mean", r"the mean between # and # is #", lambda a, b, m: a + b == 2 * m),
    ("angle", r"two angles of a triangle are of # and # degrees; the third is of #", lambda a, b, c: a + b + c == 180),
    ("angle", r"on one straight line; if one is of # degrees, the other is of #", lambda a, b: a + b == 180),
    ("angle", r"the equal angles of an isosceles triangle are of # degrees each; the third is of #",
     lambda a, b: 2 * a + b == 180),
    ("angle", r"the angles of an? @ are together # degrees",
     lambda p, n: n == 180 * (_CORNERS[p] - 2) if p in _CORNERS else None),
    ("angle", r"the angles of an? @ are together equal to # right angles",
     lambda p, n: n == 2 * (_CORNERS[p] - 2) if p in _CORNERS else None),
    ("diagonal", r"a figure of # sides # diagonals", lambda n, d: d == n * (n - 3) // 2),
    ("triangle", r"sides about the right angle are # and #, the hypotenuse is #",
     lambda a, b, c: a * a + b * b == c * c),
    ("area", r"# paces long and # paces wide; its area is #", lambda a, b, c: a * b == c),
    ("area", r"a base of # feet with a height of # feet has an area of #", lambda a, b, c: a * b == 2 * c),
    ("boundary", r"# paces long and # paces wide has a boundary of #", lambda a, b, c: 2 * (a + b) == c),
    ("radius", r"a circle # feet across has a radius of #", lambda d, r: d == 2 * r),
    ("shadow", r"a staff of # feet throws a shadow of # feet; the tower throws # feet, so the tower is of # feet",
     lambda a, b, c, d: a * c == b * d),
    ("solid", rf"an? ({'|'.join(_SOLIDS)}) has # faces, # edges and # corners", lambda s, *n: _SOLIDS[s] == n),
    ("interval", rf"the ({_INTERVAL}) is as # to #", lambda i, a, b: Fraction(a, b) == _ratio(i)),
    ("interval", rf"a string of # fingers and a string of # fingers sound an? ({_INTERVAL})",
     lambda a, b, i: Fraction(a, b) in (_ratio(i), 1 / _ratio(i))),
    ("interval", rf"two hammers weigh # pounds and # pounds; [^.;]*; [^.;]* heard the ({_INTERVAL})",
     lambda a, b, i: Fraction(a, b) in (_ratio(i), 1 / _ratio(i))),
    ("interval", rf"an? ({_INTERVAL}) and an? ({_INTERVAL}) make an? ({_INTERVAL})",
     lambda i, j, k: _ratio(i) * _ratio(j) == _ratio(k)),
    ("interval", rf"the ({_INTERVAL}) is as # to # and the ({_INTERVAL}) is as # to #; joined, they are as # to #",
     lambda i, a, b, j, c, d, e, f: Fraction(a * c, b * d) == Fraction(e, f)),
    ("metre", r"an? @ is [a-z ]+ and has # times", _feet_times),
    ("metre", r"# @ have # times", lambda n, f, t: _feet_times(f, t, n)),
    ("heavens", r"in # hours the heavens turn through # degrees", lambda h, d: d == 15 * h),
    ("heavens", r"gone # degrees has been # hours on its way", lambda d, h: d == 15 * h),
    ("period", r"@ goes round in (?:about )?# years", lambda p, y: _YEARS[p] == y if p in _YEARS else None),
    ("period", r"goes round in (?:about )?# years, so in # years it makes # circles", lambda p, y, k: y == p * k),
    ("period", r'how long is the year of @\?" "# of ours', lambda p, y: _YEARS[p] == y if p in _YEARS else None),
    ("day", r"if the day has # hours, the night has #", lambda d, n: d + n == 24),
    ("zodiac", rf"after the ({_SIGN}) comes the ({_SIGN})", lambda s, t: (_SIGNS.index(s) + 1) % 12 == _SIGNS.index(t)),
    ("zodiac", rf"at # degrees of the ({_SIGN}); it has gone # degrees", lambda d, s, n: n == 30 * _SIGNS.index(s) + d),
    ("sphere", rf"({_SPHERE}) is (?:the|in the) ([a-z]+)(?: sphere| and |[,;.:])", _sphere),
    ("sphere", rf"of (?:the )?({_SPHERE}) and (?:the )?({_SPHERE}), (?:the )?({_SPHERE}) has the higher sphere",
     lambda p, q, r: r == max(p, q, key=_SPHERES.index)),
    ("time", r"# @ are # @(?![a-z ]* arc)", lambda n, u, k, v: k == n * _SPANS[u, v] if (u, v) in _SPANS else None),
    ("time", r"# degrees are # minutes of arc", lambda a, b: b == 60 * a),
    ("time", r"# months of thirty days are # days", lambda a, b: b == 30 * a),
    ("plural", r"the plural of @ is @", lambda x, y: _plural(x) == y if x in _NOUNS else None),
    ("plural", r'what is the plural of @\?"[^"]*"@', lambda x, y: _plural(x) == y if x in _NOUNS else None),
    ("tense", r"the past of @ is @", lambda v, w: _pasts(v)[0] == w if v in _VERBS else None),
    ("tense", r'the past of @\?" "@', lambda v, w: _pasts(v)[0] == w if v in _VERBS else None),
    ("participle", r"from @ comes @", lambda v, w: _ing(v) == w if v in _VERBS and w.endswith("ing") else None),
    ("comparison", r"the comparative of @ is @",
     lambda a, b: b in (_stem(a, "er"), a + "er") if a in _GRADED else None),
    ("comparison", r"the comparative of @ is [a-z]+ and the superlative is @",
     lambda a, b: b in (_stem(a, "est"), a + "est") if a in _GRADED else None),
    ("letters", r"the word @ has # letters", _letters),
    ("letters", r"the word @ begins with ([a-z]) and ends with ([a-z])", lambda w, a, b: w[0] == a and w[-1] == b),
    ("part of speech", r"'@' is an adjective", lambda w: w in _ADJECTIVES if w in _NOUNS | _ADJECTIVES else None),
    ("part of speech", r"'@' is a noun",
     lambda w: w in _NOUNS if w in _NOUNS | _ADJECTIVES or w in _PAST_OF else None),
    ("part of speech", r"'@' is a verb",
     lambda w: w in _PAST_OF if w in _PAST_OF or w in _NOUNS | _ADJECTIVES else None),
    ("part of speech", r"nouns: ([a-z, -]+); verbs: ([a-z, -]+); adjectives: ([a-z, -]+)\.",
     lambda n, v, a: _all_in(n, _NOUNS) and _all_in(v, _VERBS) and _all_in(a, _ADJECTIVES)),
    ("genus", r"the @, the @ and the @ are animals; the @ and the @ are persons; the @ is neither",
     lambda a, b, c, x, y, t: {a, b, c} <= _ANIMALS and {x, y} <= _PERSONS and t not in _ANIMALS | _PERSONS),
    ("subject", r"'the (?:@ )?@ @ the (?:@ )?@', the @ is the subject and the @ is the object",
     lambda _, x, v, __, y, s, o: (x, y) == (s, o) if v in _PAST_OF else None),
    ("subject", r'"the @ @ the @ [a-z ]+\. who @\?" "the @',
     lambda x, v, y, w, s: (x, v) == (s, w) if v in _PAST_OF else None),
    ("passive", r"'the ((?:@ )?@) @ the @( [a-z ]+)?' becomes 'the @ was @( [a-z ]+)? by the ([a-z ]+)'",
     lambda x, _, __, v, y, h, z, w, g, s: (
         (x, y, h) == (s, z, g) and _pasts(_PAST_OF[v])[1] == w if v in _PAST_OF else None)),
]  # fmt: skip


def _compile(pattern: str) -> re.Pattern[str]:
    """# becomes a group whose name marks it as a number, @ a word."""
    count = itertools.count()
    pattern = re.sub("#", lambda _: rf"(?P<n{next(count)}>(?<![a-z-]){_NUMBER}(?![a-z-]))", pattern)
    return re.compile(pattern.replace("@", r"((?<![a-z-])[a-z]+(?:-[a-z]+)*(?![a-z-]))"))


@functools.cache
def _compiled() -> list[tuple[str, re.Pattern[str], Callable[..., bool | None]]]:
    """Compiled when first needed: it takes longer than importing the rest."""
    return [(kind, _compile(pattern), question) for kind, pattern, question in _QUESTIONS]


def _statements(text: str) -> Iterator[Claim]:
    for kind, pattern, question in _compiled():
        numbers = set(pattern.groupindex.values())
        for match in pattern.finditer(text):
            groups = [number(g) if i in numbers else g for i, g in enumerate(match.groups(), 1)]
            verdict = question(*groups)
            if verdict is not None:
                yield Claim(kind, match.group(), bool(verdict))


# Arguments from terms. A proposition is (form, subject, predicate): A all, E none, I some, O some not; s and t say
# that a named individual is, or is not, something.

_Proposition = tuple[str, str, str]
_CONCLUDES = re.compile(r"\b(?:therefore|so|hence|thus|consequently|it follows that)\b")
_TERM = r"(?:an? )?((?:[a-z-]+ )?[a-z-]+)"
_CATEGORICAL: list[tuple[str, re.Pattern[str]]] = [
    ("A", re.compile(rf"(?:all|every) {_TERM} (?:are|is) {_TERM}")),
    ("E", re.compile(rf"no {_TERM} (?:are|is) {_TERM}")),
    ("O", re.compile(rf"some {_TERM} (?:are|is) not {_TERM}")),
    ("I", re.compile(rf"some {_TERM} (?:are|is) {_TERM}")),
]
_INDIVIDUAL = re.compile(rf"([a-z]+) is (not )?{_TERM}")
_CONTRADICTORY = {"A": "O", "O": "A", "E": "I", "I": "E", "s": "t", "t": "s"}


def _term(words: str) -> str:
    *adjectives, noun = words.split()
    return " ".join([*adjectives, _singular(noun)])


def _proposition(clause: str) -> _Proposition | None:
    for form, pattern in _CATEGORICAL:
        match = pattern.fullmatch(clause)
        if match:
            return form, _term(match[1]), _term(match[2])
    match = _INDIVIDUAL.fullmatch(clause)
    if match and match[1] not in ("it", "he", "she", "this", "that", "what", "who", "there", "nobody", "one"):
        return "t" if match[2] else "s", match[1], _term(match[3])
    return None


def _follows(premises: list[_Proposition], conclusion: _Proposition) -> bool:
    """True where no state of affairs makes the premises true and the conclusion false.

    Each combination of terms is a region that may be inhabited or not. Universal propositions forbid regions, and
    each particular or singular one needs some region that is still allowed, so those can be tried one by one. All is
    read without existential import. An honest poet counts as a poet.
    """
    form, subject, predicate = conclusion
    given = [*premises, (_CONTRADICTORY[form], subject, predicate)]
    terms = sorted({t for f, s, p in given for t in ((p,) if f in "st" else (s, p))})
    given += [("A", t, u) for t in terms for u in terms if t.endswith(" " + u)]
    index = {t: i for i, t in enumerate(terms)}

    def inside(region: int, term: str) -> bool:
        return bool(region >> index[term] & 1)

    allowed = [
        r
        for r in range(2 ** len(terms))
        if not any(inside(r, s) and inside(r, p) == (f == "E") for f, s, p in given if f in "AE")
    ]
    needs = [[(s, True), (p, f == "I")] for f, s, p in given if f in "IO"]
    for name in {s for f, s, _ in given if f in "st"}:
        needs.append([(p, f == "s") for f, s, p in given if f in "st" and s == name])
    return not all(any(all(inside(r, t) == v for t, v in need) for r in allowed) for need in needs)


def _syllogisms(text: str) -> Iterator[Claim]:
    premises: list[_Proposition] = []
    for segment in re.split(r"[;:.?!\"()]|,(?= (?:and|but) (?:all|every|no|some)\b)", text):
        before, that, clause = segment.split(",")[0].strip().rpartition("that ")
        before += that
        start = re.search(r"\b(?:all|every|no|some) ", clause)
        if start:
            before, clause = before + clause[: start.start()], clause[start.start() :]
        else:
            connectives = re.match(
                r"(?:(?:and yet|and|but|yet|for|therefore|so|hence|thus|consequently|it follows that) )*", clause
            )
            before, clause = before + clause[: connectives.end()], clause[connectives.end() :]  # pyright: ignore
        proposition = _proposition(clause)
        if proposition is None or len(premises) > 5:
            continue
        denied = "does not follow that" in before
        if not denied and not _CONCLUDES.search(before):
            premises.append(proposition)
        elif any(f in "AEIO" for f, _, _ in premises):
            yield Claim("syllogism", segment.strip(), _follows(premises, proposition) != denied)
            premises.append(proposition)
    for match in re.finditer(r"the contradictory of '([^']*)' is '([^']*)'", text):
        first, second = _proposition(match[1]), _proposition(match[2])
        if first and second:
            yield Claim("syllogism", match.group(), (_CONTRADICTORY[first[0]], *first[1:]) == second)


# Arguments from whole sentences: if, either, not.

_Literal = tuple[str, bool]


def _literal(clause: str) -> _Literal:
    match = re.fullmatch(r"(.+?) does not (.+)", clause)
    if match:
        return f"{match[1]} {_third_person(match[2])}", False
    match = re.fullmatch(r"(.+?) is not (.+)", clause)
    return (f"{match[1]} is {match[2]}", False) if match else (clause, True)


def _hypotheticals(text: str) -> Iterator[Claim]:
    rules: list[tuple[_Literal, _Literal]] = []  # at least one of the two holds
    facts: list[_Literal] = []
    for segment in re.split(r"[;:.?!\"()]", text):
        clause = re.sub(r"^(?:(?:and yet|and|but|yet|for) )+", "", segment.strip())
        conclusion = re.match(r"(?:therefore|so|hence|thus|consequently|it follows that) ", clause)
        denied = re.match(r"it does not follow that ", clause)
        lead = conclusion or denied
        body = clause[lead.end() :] if lead else clause
        conditional = re.match(r"if ([^,]+), (?:then )?([^,]+)", body)
        either = re.fullmatch(r"either (.+?) or (.+)", body)
        if lead:
            if len(rules) + len(facts) < 2 and not (denied and rules):
                continue
            if conditional:
                extra, wanted = [_literal(conditional[1])], _literal(conditional[2])
            else:
                extra, wanted = [], _literal(body.split(",")[0])
            yield Claim("hypothetical", segment.strip(), _entails(rules, facts + extra, wanted) == (not denied))
        elif conditional:
            atom, value = _literal(conditional[1])
            rules.append(((atom, not value), _literal(conditional[2])))
        elif either:
            rules.append((_literal(either[1]), _literal(either[2])))
        elif _literal(body)[0] in {atom for rule in rules for atom, _ in rule}:
            facts.append(_literal(body))


def _entails(rules: list[tuple[_Literal, _Literal]], facts: list[_Literal], wanted: _Literal) -> bool:
    """By truth table; over more than eight sentences nobody follows, and the answer is no."""
    atoms = sorted({a for rule in rules for a, _ in rule} | {a for a, _ in facts} | {wanted[0]})
    if len(atoms) > 8:
        return False
    for values in itertools.product((False, True), repeat=len(atoms)):
        world = dict(zip(atoms, values, strict=True))
        if not all(world[a] == v for a, v in facts):
            continue
        if all(world[a] == v or world[b] == w for (a, v), (b, w) in rules) and world[wanted[0]] != wanted[1]:
            return False
    return True


def examine(text: str) -> list[Claim]:
    """Every checkable statement in the text, whoever wrote it, with the examiner's verdict.

    Checked are sums and their kin, proportions, parity, primes and divisors; angles, areas, right triangles, solids;
    musical ratios and metres; hours, degrees, signs and spheres; plurals, tenses, comparisons and passives; and
    arguments, which are true when the conclusion follows from the premises as written (whatever these are worth).
    A statement that is in no known pattern, or about unknown words, makes no claim. Never raises.
    """
    return [*_statements(text), *_syllogisms(text), *_hypotheticals(text)]
