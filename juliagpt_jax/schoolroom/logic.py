"""The examiner's logic: find the arguments in a text, and decide each from its premises as they are written."""

import itertools
import re
from collections.abc import Iterator

from juliagpt_jax.schoolroom.inflection import singular, third_person

Found = tuple[str, str, bool]  # the kind of an argument, its words, and whether it is right

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
    return " ".join([*adjectives, singular(noun)])


def proposition(clause: str) -> _Proposition | None:
    """Return what a clause says, with its terms in the singular; None where it is of no form that is known."""
    for form, pattern in _CATEGORICAL:
        match = pattern.fullmatch(clause)
        if match:
            return form, _term(match[1]), _term(match[2])
    match = _INDIVIDUAL.fullmatch(clause)
    if match and match[1] not in ("it", "he", "she", "this", "that", "what", "who", "there", "nobody", "one"):
        return "t" if match[2] else "s", match[1], _term(match[3])
    return None


def follows(premises: list[_Proposition], conclusion: _Proposition) -> bool:
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


def _syllogisms(text: str) -> Iterator[Found]:
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
        said = proposition(clause)
        if said is None or len(premises) > 5:
            continue
        denied = "does not follow that" in before
        if not denied and not _CONCLUDES.search(before):
            premises.append(said)
        elif any(f in "AEIO" for f, _, _ in premises):
            yield ("syllogism", segment.strip(), follows(premises, said) != denied)
            premises.append(said)
    for match in re.finditer(r"the contradictory of '([^']*)' is '([^']*)'", text):
        first, second = proposition(match[1]), proposition(match[2])
        if first and second:
            yield ("syllogism", match.group(), (_CONTRADICTORY[first[0]], *first[1:]) == second)


# Arguments from whole sentences: if, either, not.

_Literal = tuple[str, bool]


def _literal(clause: str) -> _Literal:
    match = re.fullmatch(r"(.+?) does not (.+)", clause)
    if match:
        return f"{match[1]} {third_person(match[2])}", False
    match = re.fullmatch(r"(.+?) is not (.+)", clause)
    return (f"{match[1]} is {match[2]}", False) if match else (clause, True)


def _hypotheticals(text: str) -> Iterator[Found]:
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
            yield ("hypothetical", segment.strip(), _entails(rules, facts + extra, wanted) == (not denied))
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


def arguments(text: str) -> Iterator[Found]:
    """Every argument in a text that can be decided."""
    yield from _syllogisms(text)
    yield from _hypotheticals(text)
