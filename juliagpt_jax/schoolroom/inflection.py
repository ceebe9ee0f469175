"""The examiner's English: numbers in words, and the forms of nouns, verbs and adjectives.

From `lessons` it takes only which words are nouns and verbs; how they change it knows by itself.
"""

import re

from juliagpt_jax.schoolroom import lessons

# Number words.

_SMALL = {w: i for i, w in enumerate(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen".split(), 1)}  # fmt: skip
_TENS = {w: 10 * i for i, w in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)}
ORDINAL = {w: i for i, w in enumerate("first second third fourth fifth sixth seventh eighth".split(), 1)}
_UNIT = "|".join(sorted(_SMALL, key=len, reverse=True))
_DIGIT = "one|two|three|four|five|six|seven|eight|nine"
_SUB = rf"(?:(?:{'|'.join(_TENS)})(?:-(?:{_DIGIT}))?|{_UNIT})"
_HUNDRED = rf"(?:{_DIGIT}) hundred(?: and {_SUB})?"
NUMBER = rf"(?:(?:{_DIGIT}) thousand(?: and {_SUB}| {_HUNDRED})?|{_HUNDRED}|{_SUB})"


def number(words: str) -> int:
    """The integer that the words spell: "two hundred and forty-one" is 241. ValueError if they spell none."""
    if not re.fullmatch(NUMBER, words):
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
NOUNS = set(lessons.LEXICONS["noun"]["sg"]) | set(_IRREGULAR_PLURAL)
VERBS = set(lessons.LEXICONS["verb"]["sg"]) | set(_IRREGULAR_VERB)
ADJECTIVES = set(lessons.LEXICONS["adj"]["sg"]) | set(lessons.LEXICONS["look"]["sg"])
ANIMALS = set(lessons.LEXICONS["animal"]["sg"])
PERSONS = set(lessons.LEXICONS["person"]["sg"])
GRADED = set(lessons.LEXICONS["graded"]["sg"])


def _doubles(word: str) -> bool:
    return bool(re.fullmatch(r"[^aeiou]*[aeiou][^aeiouwxy]", word))


def plural(noun: str) -> str:
    if noun in _IRREGULAR_PLURAL:
        return _IRREGULAR_PLURAL[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    return noun[:-1] + "ies" if re.search("[^aeiou]y$", noun) else noun + "s"


def singular(word: str) -> str:
    """One form for both numbers of a noun; other words come out changed at worst, but always in the same way."""
    if word in _SINGULAR:
        return _SINGULAR[word]
    for ending, replacement in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(ending):
            return word[: -len(ending)] + replacement
    return word if word.endswith(("ss", "us", "ous")) or not word.endswith("s") else word[:-1]


def stem(word: str, ending: str) -> str:
    """The word ready to take -ed, -er or -est (the e of which a final e replaces)."""
    if word.endswith("e"):
        return word[:-1] + ending
    if re.search("[^aeiou]y$", word) and len(word) > 3:
        return word[:-1] + "i" + ending
    return word + (word[-1] if _doubles(word) else "") + ending


def pasts(verb: str) -> tuple[str, str]:
    if verb in _IRREGULAR_VERB:
        return _IRREGULAR_VERB[verb]
    regular = verb[:-1] + "ied" if verb in ("cry", "fry", "try") else stem(verb, "ed")
    return regular, regular


def ing(verb: str) -> str:
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return verb + (verb[-1] if _doubles(verb) else "") + "ing"


def third_person(phrase: str) -> str:
    verb, _, rest = phrase.partition(" ")
    return {"be": "is", "have": "has"}.get(verb, plural(verb)) + (" " + rest if rest else "")


PAST_OF = {pasts(v)[0]: v for v in sorted(VERBS)}
