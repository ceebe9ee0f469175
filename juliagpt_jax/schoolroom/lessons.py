"""The schoolroom's words, and the notation in which its lessons are written.

The lessons proper stand in `lessons_trivium`, `lessons_quadrivium` and `lessons_philosophy`, as text. A block that
begins with `%name` is a rule: each line is one alternative. A block that begins with

    @name | author | steps | merit | weight | draws

is a form; the lines of its body are joined by spaces (by nothing before a bracket that opens with a stop). steps (0
to 4) counts the steps of reasoning it asks for and merit (0 to 1) says how much it proves, teaches or amuses; weight
is relative to the other forms of its art.

    x:animal y:animal!x     draws: a word from a lexicon; another one, different from x
    a:2..30 b:1..a-1 c:2..40/2   draws: integers from a range whose ends may depend on earlier draws, with a step
    {x} {x.pl} {a}          a drawn word in its first form, or in a named one; a drawn number, spelled
    {=a+b}                  whatever follows from the draws: an integer (spelled) or a string
    <animal.a> <scene>      an anonymous uniform choice from a lexicon (in a named form), or a rule
    [so|3*hence|]           alternatives in place, equally likely but for a factor such as 3*; the last is empty
    x:animal :: {x} ...     a line of a rule may begin with draws of its own

A variable that is drawn but never written by itself (as a in {=5*a}) is summed over when a text is read back; that
is exact, but slow for large ranges. Variables of one lexicon should be distinct wherever a repetition would be odd.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from juliagpt_jax.schoolroom import lessons_philosophy, lessons_quadrivium, lessons_trivium

LARGEST = 9999
"""The largest number that can be spelled."""

_UNITS = (
    "nothing one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
).split()
_TENS = "- ten twenty thirty forty fifty sixty seventy eighty ninety".split()
_ORDINALS = (
    "- first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth "
    "fifteenth sixteenth seventeenth eighteenth nineteenth twentieth"
).split()


def spell(n: int) -> str:
    """0 <= n <= 9999 in words: "two hundred and forty-one"."""
    if n < 20:
        return _UNITS[n]
    if n < 100:
        return _TENS[n // 10] + ("-" + _UNITS[n % 10] if n % 10 else "")
    if n < 1000:
        return _UNITS[n // 100] + " hundred" + (" and " + spell(n % 100) if n % 100 else "")
    rest = n % 1000
    joint = " and " if rest < 100 else " "
    return _UNITS[n // 1000] + " thousand" + (joint + spell(rest) if rest else "")


def article(word: str) -> str:
    """The word with its indefinite article."""
    by_sound = word.startswith(("hour", "honest", "heir")) or word[0] in "aeiou"
    return ("an " if by_sound and not word.startswith(("uni", "use", "one", "eu")) else "a ") + word


def plural(noun: str) -> str:
    if re.search(r"(s|x|z|ch|sh)$", noun):
        return noun + "es"
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + "s"


DOUBLED = {w: w + w[-1] for w in "drop fret hum nod sob swim".split()}
"""Verbs that double their last letter before -ed and -ing."""


def third_person(verb: str) -> str:
    return plural(verb)


def past(verb: str) -> str:
    verb = DOUBLED.get(verb, verb)
    if verb.endswith("e"):
        return verb + "d"
    return verb[:-1] + "ied" if re.search(r"[^aeiou]y$", verb) else verb + "ed"


def participle(verb: str) -> str:
    verb = DOUBLED.get(verb, verb)
    if re.search(r"[^eoy]e$", verb):
        return verb[:-1] + "ing"
    return verb + "ing"


def listing(items: list[Any]) -> str:
    """one, two and three (integers are spelled)"""
    words = [spell(i) if isinstance(i, int) else i for i in items]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def ordinal(n: int) -> str:
    return _ORDINALS[n]


def divisor_remark(n: int) -> str:
    """Say that n is prime, or by what it can be divided."""
    d = next(d for d in range(2, n + 1) if n % d == 0)
    return f"{spell(n)} is prime" if d == n else f"{spell(n)} is not prime, for {spell(d)} divides it"


HELPERS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (spell, article, plural, listing, divisors, ordinal, divisor_remark)
}
"""What an expression in a lesson may call, besides the built-in functions."""


# Words. A noun may be followed by its irregular plural, a verb by its past tense and past participle.

PERSONS = """actor archer baker barber bard beggar brewer clerk cobbler cook cousin critic cynic dancer diver
doctor envoy exile farmer fool general geometer groom guard guest heir herald hunter judge juggler
lawyer mason miller nurse orator painter pilot piper pirate poet porter potter priest pupil rower
sailor scholar scribe sculptor senator shepherd singer smith soldier sophist spy stoic stranger
surgeon tailor tanner teacher thief:thieves trader tutor tyrant vintner weaver"""

ANIMALS = """ant ape ass bat bear bee bull calf:calves camel cat cock cow crab crow dog dove duck eagle eel flea
fly fox frog goat goose:geese hare hawk hen heron horse lamb lark lion mole moth mouse:mice mule
otter owl ox:oxen pig rat raven slug snail snake stag stork swan toad tortoise wasp whale
wolf:wolves worm wren"""

THINGS = """anchor apple axe barrel basket bell belt boat book bow bowl box brick broom bucket cabbage cake
candle cart chair coin comb crown cup dish door drum egg fan fig flag flute hammer harp hat helmet
horn jar key kite knife:knives ladder lamp leek letter loaf:loaves map mask melon mirror nail needle
net oar olive onion pear pin pipe pot purse ring robe rope sack sail saw scroll shield shoe spade
spoon stone stool sword table tent torch trumpet urn vase wheel"""

CHARACTER = """aged angry bald blind bold brave busy calm clever clumsy cruel cunning curious deaf dull eager fair
famous fat fierce foolish frail gentle glad gloomy grave greedy grim happy hasty honest humble
hungry idle jolly kind lame lazy lean lonely loud loyal lucky mad merry mild modest mute noble noisy
odd old pale patient pious plain plump polite poor proud prudent quiet rich rude sad sane shy silent
sleepy slow sly sober solemn sour stern stout strict strong stubborn tall tame tender thin thrifty
timid tired ugly vain weak weary wicked wild wise witty worthy young zealous"""

LOOKS = """ancient bent big black blue blunt bright broken brown cheap clean costly cracked crooked damp dark
dirty dry dusty empty fine flat foreign gilded golden green grey heavy hollow huge iron large leaky
little long lost narrow neat new odd old painted plain polished purple red round rusty sacred shabby
sharp shiny short silver small smooth soft spare spotted square stolen strange striped thick thin
tiny torn ugly useless warm wet white wide wooden worn yellow"""

CITIES = """argos athens babylon capua carthage chios corinth cos crete croton cumae cyrene delos delphi elea
elis ephesus ithaca lesbos memphis miletus naxos ostia paros petra pisa pylos rhodes rome samos
sardis sidon smyrna sparta susa syracuse thebes troy tyre"""

MEN = """aeson ajax ammon aulus bion cato cimon cleon crito damon demas dion draco drusus felix gaius glaucon
gorgo hector hermon hylas iason ion linus lucius lysis magus marcus menon milo mopsus myron nestor
nicias numa orion otho paris paulus phaedo philo publius quintus remus rufus sextus silas simon
solon talos theron timon titus turnus tydeus varro zeno zethus"""

WOMEN = """agatha alcis anna aspasia aura bessa callis chloe circe clio cora daphne delia diana dido dione
diotima doris echo electra erato europa eva flavia flora gaia hebe helena hero io ione irene iris
isis julia lais leda lesbia leto livia lydia maia medea melissa myrto nerissa niobe norma olympia
paula phoebe phyllis portia rhea rhoda selene silvia thalia theano thetis tullia vesta xenia zoe"""

# Verbs whose object is a person or an animal, those whose object is a thing, and those that need none.
TO_SOMEONE = """accuse admire amuse annoy avoid bite:bit:bitten blame bless bribe chase comfort cure deceive defend
envy fear feed:fed:fed flatter follow forgive:forgave:forgiven greet hate help honour kiss like love
mock obey pity praise push rescue scold seek:sought:sought serve surprise teach:taught:taught tease
thank trust visit wake:woke:woken warn watch"""

TO_SOMETHING = """break:broke:broken burn bury buy:bought:bought carry choose:chose:chosen clean copy count
draw:drew:drawn drop eat:ate:eaten find:found:found guard hide:hid:hidden kick lend:lent:lent lift
lose:lost:lost measure mend need paint polish sell:sold:sold shake:shook:shaken spoil
steal:stole:stolen study take:took:taken throw:threw:thrown touch want wash wear:wore:worn weigh"""

ALONE = """argue bathe blush boast cough cry dance dine doze dream fall:fell:fallen fast fret frown groan
grumble hum kneel:knelt:knelt laugh limp listen mutter nod pause pray reason rejoice rest
rise:rose:risen shiver shout sigh sing:sang:sung sleep:slept:slept smile sneeze snore sob
speak:spoke:spoken stumble sulk swear:swore:sworn swim:swam:swum think:thought:thought tremble wait
walk weep:wept:wept whisper whistle work yawn"""

MANNER = """again|all day|alone|aloud|as usual|at dawn|at dusk|at ease|at length|at night|at noon|at once|badly
boldly|bravely|by chance|by day|by night|calmly|daily|dimly|early|fondly|for hours|for nothing
for once|freely|gladly|gravely|half asleep|in haste|in march|in may|in prose|in secret|in spring
in tears|in turn|in vain|in verse|indoors|justly|last|late|loudly|neatly|now and then|often
on purpose|once more|on foot|sadly|slowly|sternly|too late|too often|twice|uphill|well|wisely
with care|with zeal"""

PLACES = """altar arch barn bath beach bridge cave cliff court ditch ferry fire ford forge fort garden gate
grove harbour hedge hill house inn island kitchen lake mill mine pond port river road school ship
shore shrine spring stable stage tavern temple tomb tower wall well wood yard"""

VIRTUES = """candour charity courage courtesy diligence fairness friendship gentleness gratitude honesty justice
kindness mercy moderation modesty patience piety prudence temperance thrift wisdom"""

VICES = """ambition anger avarice boasting conceit cowardice cruelty envy flattery folly gluttony gossip greed
haste hatred idleness luxury malice pride rashness revenge slander vanity"""

FORTUNES = """age beauty bread chance custom death debt exile fame fear fortune freedom grief health hope hunger
labour laughter law leisure love luck marriage memory money music noise office pain peace pleasure
poetry poverty power rumour silence sleep time travel war wealth wine work youth"""

# The adjectives that are compared by -er and -est.
GRADED = """bold brave bright calm clever cruel dull early fair fine gentle grave great greedy happy hasty heavy
hungry idle kind lazy lonely loud lucky mild noble noisy old plain poor proud rich rude sad:sadder
shy:shyer sleepy slow stern strong tall tender thin:thinner timid ugly weak wise witty young"""


def _nouns(text: str) -> dict[str, tuple[str, ...]]:
    pairs = [w.split(":") if ":" in w else (w, plural(w)) for w in text.split()]
    singular = tuple(p[0] for p in pairs)
    return {"sg": singular, "pl": tuple(p[1] for p in pairs), "a": tuple(map(article, singular))}


def _adjectives(text: str) -> dict[str, tuple[str, ...]]:
    words = tuple(text.split())
    return {"sg": words, "a": tuple(map(article, words))}


def _graded(text: str) -> dict[str, tuple[str, ...]]:
    rows = []
    for word in text.split():
        base, _, irregular = word.partition(":")
        stem = base[:-1] if base.endswith("e") else base[:-1] + "i" if re.search(r"[^aeiou]y$", base) else base
        rows.append((base, irregular or stem + "er", irregular[:-1] + "st" if irregular else stem + "est"))
    return dict(zip(("sg", "er", "est"), zip(*rows, strict=True), strict=True))


def _verbs(text: str) -> dict[str, tuple[str, ...]]:
    rows = []
    for word in text.split():
        base, *parts = word.split(":")
        ed, en = parts or (past(base), past(base))
        rows.append((base, third_person(base), ed, en, participle(base)))
    return dict(zip(("sg", "s", "ed", "en", "ing"), zip(*rows, strict=True), strict=True))


def _phrases(text: str) -> dict[str, tuple[str, ...]]:
    return {"sg": tuple(p for p in re.split(r"[|\n]", text) if p)}


def _table(text: str) -> dict[str, tuple[Any, ...]]:
    """The first line names the columns; fields are separated by /, and fields of digits are integers."""
    head, *rows = [[f.strip() for f in line.split("/")] for line in text.strip().split("\n")]
    columns = zip(*[[int(f) if f.isdigit() else f for f in row] for row in rows], strict=True)
    return dict(zip(head, map(tuple, columns), strict=True))


def _people() -> dict[str, tuple[str, ...]]:
    men, women = tuple(MEN.split()), tuple(WOMEN.split())
    both: dict[str, tuple[str, ...]] = {"sg": men + women}
    for form, (he, she) in {"he": ("he", "she"), "him": ("him", "her"), "his": ("his", "her")}.items():
        both[form] = (he,) * len(men) + (she,) * len(women)
    return both


LEXICONS: dict[str, dict[str, tuple[Any, ...]]] = {
    "person": _nouns(PERSONS),
    "animal": _nouns(ANIMALS),
    "kind": _nouns(PERSONS + " " + ANIMALS),
    "thing": _nouns(THINGS),
    "noun": _nouns(PERSONS + " " + ANIMALS + " " + THINGS),
    "adj": _adjectives(CHARACTER),
    "look": _adjectives(LOOKS),
    "graded": _graded(GRADED),
    "city": {"sg": tuple(CITIES.split())},
    "name": _people(),
    "man": {"sg": tuple(MEN.split())},
    "woman": {"sg": tuple(WOMEN.split())},
    "vt": _verbs(TO_SOMEONE),
    "vth": _verbs(TO_SOMETHING),
    "vi": _verbs(ALONE),
    "verb": _verbs(" ".join(dict.fromkeys(f"{TO_SOMEONE} {TO_SOMETHING} {ALONE}".split()))),
    "how": _phrases(MANNER),
    "place": _nouns(PLACES),
    "virtue": {"sg": tuple(VIRTUES.split())},
    "vice": {"sg": tuple(VICES.split())},
    "fortune": {"sg": tuple(FORTUNES.split())},
    "quality": {"sg": tuple(f"{VIRTUES} {VICES} {FORTUNES}".split())},
}
for _source in (lessons_trivium, lessons_quadrivium, lessons_philosophy):
    LEXICONS.update({name: _table(text) for name, text in _source.TABLES.items()})


# Sentences that any lesson may borrow.

SHARED = """
%who
9*<name>
3*<adj> <name>
2*<name> of <city>
2*<name> the <person>
4*the <adj> <person>
4*<adj.a> <person>
the <person> of <city>
<adj.a> <animal>
the <adj> <animal>
my <adj> <person>

%whom
7*<name>
2*<adj> <name>
<name> of <city>
2*the <adj> <person>
2*<adj.a> <person>
<adj.a> <animal>
the <adj> <animal>
the <animal> of <name>

%someone
3*<name>
<adj> <name>
<name> of <city>
<name> the <person>
the <adj> <person>
<adj.a> <person>

%did
2*<vi.ed> <how>
2*<vi.ed> <where>
3*<vt.ed> <whom>
<vt.ed> the <person> <how>
3*<vth.ed> <look.a> <thing>
<vth.ed> the <thing> <where>
<vth.ed> the <thing> of <name>

%do
2*<vi> <how>
2*<vi> <where>
3*<vt> <whom>
<vt> the <person> <how>
3*<vth> <look.a> <thing>
<vth> the <thing> <where>

%does
2*<vi.s> <how>
2*<vi.s> <where>
3*<vt.s> <whom>
<vt.s> the <person> <how>
3*<vth.s> <look.a> <thing>
<vth.s> the <thing> <where>

%doing
2*<vi.ing> <how>
2*<vi.ing> <where>
3*<vt.ing> <whom>
3*<vth.ing> <look.a> <thing>

%scene
<who> <did>

%sir
master
teacher
2*<name>
my friend
my <adj> friend
o <adj> <person>
my <adj> pupil

%where
at the <place>
2*near the <look> <place>
by <look.a> <place>
at sea
in <city>
outside <city>
behind the <place>

%deed
<vi.ed> <how>
<vi.ed> <where>
<vt.ed> the <person>
<vt.ed> <animal.a>
<vth.ed> <look.a> <thing>

%act
<vi> <how>
<vi> <where>
<vt> the <adj> <person>
<vth> the <look> <thing>
<vth> <look.a> <thing>

%scenelet
2*<name> <deed>
3*<name> <vt.ed> <name>
2*<adj> <name> <vt.ed> <adj> <name>
<name> <vi.ed>, <name> <vi.ed>
<name> <vth.ed> <thing.a>
the <adj> <person> <deed>
<adj.a> <person> <deed>
<adj.a> <animal> <vi.ed>
the <person> of <city> <vi.ed>
<name> the <person> <vi.ed>

%aside
 <who> heard it and <vi.ed>.
 <who> doubted it and <vi.ed>.
 tell it to the <adj> <person.pl>.
 meanwhile <scenelet>.
 <name> told it to <adj.a> <animal>.
 <name> was <vi.ing> <where>.
 even <adj.a> <animal> knows it.
 (<scenelet>.)
 <scenelet>.
 at this <scenelet>.
 <name> <vi.ed>; <scenelet>.
 <name> and <name> <vi.ed>.
2* <name> <vt.ed> <name>.
 <name> <vt.ed> <name>, <name> <vt.ed> <name>.
 <adj> <name> <vi.ed>.
 <name> <vth.ed> the <look> <thing>.

%told
2*said <someone>
said <adj> <name> to <adj> <name>
said <name>, <vi.ing> <where>
says <look.a> <thing> from <city>
wrote <name> to the <person.pl> of <city>
as <someone> says
as we read on <look.a> <thing>
if we may trust the <person.pl> of <city>

%vow
i shall not <act>
2*i shall <act>
let me <act>

%cheer
well said
you reason like <adj.a> <person>
excellent; now <act>
good; you may feed the <animal.pl>
even <adj.a> <animal> would agree
right; but do not <act>
you have earned <look.a> <thing>
now teach it to the <person.pl>
true; but <name> said it first
<person.a> of <city> could not do better

%maxim
<quality> is <adj.a> <person>
<virtue> without <virtue> is <look.a> <thing>
no <person> is too <adj> to <vi>
better <adj.a> <animal> than <adj.a> <person>
<quality> makes <adj.a> <person>, <quality> <adj.a> one
even <adj.a> <person> may <act>
whoever <vi.s> <where> will not <vi> <where>
<look.a> <thing> does not make <adj.a> <person>
praise the <adj>, but <vt> the <adj>
the <adj> <vi> <how>, the <adj> <where>
from <quality> to <quality> is a short road
"""


@dataclass(frozen=True)
class Art:
    """One of the ten arts: its phase and its share of the passages."""

    phase: str
    share: float


ARTS: dict[str, Art] = {
    "grammar": Art("trivium", 0.11),
    "logic": Art("trivium", 0.12),
    "rhetoric": Art("trivium", 0.11),
    "arithmetic": Art("quadrivium", 0.12),
    "geometry": Art("quadrivium", 0.08),
    "music": Art("quadrivium", 0.08),
    "astronomy": Art("quadrivium", 0.09),
    "ethics": Art("philosophy", 0.11),
    "politics": Art("philosophy", 0.09),
    "metaphysics": Art("philosophy", 0.09),
}


@dataclass(frozen=True)
class Form:
    """A passage form as it stands in the lessons."""

    name: str
    author: str
    art: str
    steps: int
    merit: float
    weight: float
    draws: str
    text: str


FORMS: list[Form] = []
RULES: dict[str, str] = {}


def _read(text: str, art: str = "") -> None:
    """Add the blocks of a lesson text to FORMS and RULES."""
    for block in re.split(r"\n(?=[@%])", text.strip("\n")):
        head, _, body = block.strip("\n").partition("\n")
        body = body.strip("\n")
        if head[0] == "%":
            RULES[head[1:]] = body
            continue
        name, author, steps, merit, weight, draws = (f.strip() for f in head[1:].split("|"))
        text = re.sub(r" (?=\[[.,;])", "", body.replace("\n", " "))
        FORMS.append(Form(name, author, art, int(steps), float(merit), float(weight), draws, text))


_read(SHARED)
for _source in (lessons_trivium, lessons_quadrivium, lessons_philosophy):
    for _art, _text in _source.LESSONS.items():
        _read(_text, _art)
