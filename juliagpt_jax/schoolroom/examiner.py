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

from juliagpt_jax.schoolroom.inflection import (
    ADJECTIVES,
    ANIMALS,
    GRADED,
    NOUNS,
    NUMBER,
    ORDINAL,
    PAST_OF,
    PERSONS,
    VERBS,
    ing,
    number,
    pasts,
    plural,
    singular,
    stem,
)
from juliagpt_jax.schoolroom.logic import arguments


@dataclass(frozen=True)
class Claim:
    """A checkable statement: its kind, the words that make it, and whether it is true."""

    kind: str
    text: str
    true: bool


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
    return table.get(word) or table.get(singular(word))


def _prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))


def _divisor_list(n: int, words: str) -> bool:
    *most, pair = words.split(", ")
    wanted = [d for d in range(1, n + 1) if n % d == 0]
    for match in re.finditer(" and ", pair):  # which may also stand inside a number
        listed = [*most, pair[: match.start()], pair[match.end() :]]
        if all(re.fullmatch(NUMBER, w) for w in listed) and [number(w) for w in listed] == wanted:
            return True
    return False


def _sphere(name: str, ordinal: str) -> bool | None:
    return _SPHERES.index(name) + 1 == ORDINAL[ordinal] if ordinal in ORDINAL else None


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
    ("divisor", rf"the divisors of # are ({NUMBER}(?:, {NUMBER})* and {NUMBER})(?![a-z-])", _divisor_list),
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
    ("plural", r"the plural of @ is @", lambda x, y: plural(x) == y if x in NOUNS else None),
    ("plural", r'what is the plural of @\?"[^"]*"@', lambda x, y: plural(x) == y if x in NOUNS else None),
    ("tense", r"the past of @ is @", lambda v, w: pasts(v)[0] == w if v in VERBS else None),
    ("tense", r'the past of @\?" "@', lambda v, w: pasts(v)[0] == w if v in VERBS else None),
    ("participle", r"from @ comes @", lambda v, w: ing(v) == w if v in VERBS and w.endswith("ing") else None),
    ("comparison", r"the comparative of @ is @",
     lambda a, b: b in (stem(a, "er"), a + "er") if a in GRADED else None),
    ("comparison", r"the comparative of @ is [a-z]+ and the superlative is @",
     lambda a, b: b in (stem(a, "est"), a + "est") if a in GRADED else None),
    ("letters", r"the word @ has # letters", _letters),
    ("letters", r"the word @ begins with ([a-z]) and ends with ([a-z])", lambda w, a, b: w[0] == a and w[-1] == b),
    ("part of speech", r"'@' is an adjective", lambda w: w in ADJECTIVES if w in NOUNS | ADJECTIVES else None),
    ("part of speech", r"'@' is a noun",
     lambda w: w in NOUNS if w in NOUNS | ADJECTIVES or w in PAST_OF else None),
    ("part of speech", r"'@' is a verb",
     lambda w: w in PAST_OF if w in PAST_OF or w in NOUNS | ADJECTIVES else None),
    ("part of speech", r"nouns: ([a-z, -]+); verbs: ([a-z, -]+); adjectives: ([a-z, -]+)\.",
     lambda n, v, a: _all_in(n, NOUNS) and _all_in(v, VERBS) and _all_in(a, ADJECTIVES)),
    ("genus", r"the @, the @ and the @ are animals; the @ and the @ are persons; the @ is neither",
     lambda a, b, c, x, y, t: {a, b, c} <= ANIMALS and {x, y} <= PERSONS and t not in ANIMALS | PERSONS),
    ("subject", r"'the (?:@ )?@ @ the (?:@ )?@', the @ is the subject and the @ is the object",
     lambda _, x, v, __, y, s, o: (x, y) == (s, o) if v in PAST_OF else None),
    ("subject", r'"the @ @ the @ [a-z ]+\. who @\?" "the @',
     lambda x, v, y, w, s: (x, v) == (s, w) if v in PAST_OF else None),
    ("passive", r"'the ((?:@ )?@) @ the @( [a-z ]+)?' becomes 'the @ was @( [a-z ]+)? by the ([a-z ]+)'",
     lambda x, _, __, v, y, h, z, w, g, s: (
         (x, y, h) == (s, z, g) and pasts(PAST_OF[v])[1] == w if v in PAST_OF else None)),
]  # fmt: skip


def _compile(pattern: str) -> re.Pattern[str]:
    """# becomes a group whose name marks it as a number, @ a word."""
    count = itertools.count()
    pattern = re.sub("#", lambda _: rf"(?P<n{next(count)}>(?<![a-z-]){NUMBER}(?![a-z-]))", pattern)
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


def examine(text: str) -> list[Claim]:
    """Every checkable statement in the text, whoever wrote it, with the examiner's verdict.

    Checked are sums and their kin, proportions, parity, primes and divisors; angles, areas, right triangles, solids;
    musical ratios and metres; hours, degrees, signs and spheres; plurals, tenses, comparisons and passives; and
    arguments, which are true when the conclusion follows from the premises as written (whatever these are worth).
    A statement that is in no known pattern, or about unknown words, makes no claim. Never raises.
    """
    return [*_statements(text), *(Claim(*found) for found in arguments(text))]
