"""Lessons of the trivium: grammar, logic and rhetoric, in the notation of `lessons`."""

TABLES: dict[str, str] = {
    "odd_plural": """
sg/pl
goose/geese
mouse/mice
ox/oxen
calf/calves
wolf/wolves
loaf/loaves
knife/knives
thief/thieves
child/children
foot/feet
tooth/teeth
leaf/leaves
life/lives
wife/wives
half/halves
shelf/shelves
man/men
woman/women
louse/lice
penny/pence
""",
    "figure": """
sg/is
metaphor/calls one thing by the name of another
simile/says that one thing is like another
hyperbole/says more than is true
litotes/denies the opposite of what it means
irony/says the contrary of what it means
antithesis/sets contraries side by side
anaphora/begins each clause with the same word
metonymy/puts the cause for the effect
apostrophe/turns to speak to what cannot hear
asyndeton/leaves out the conjunctions
climax/mounts as by the steps of a ladder
chiasmus/crosses its words like a pair of legs
zeugma/makes one verb pull two carts
ellipsis/leaves out what everyone can supply
""",
    "style": """
sg/a/too
brief/a brief style/obscure
plain/a plain style/dry
grand/a grand style/swollen
flowery/a flowery style/sweet
harsh/a harsh style/rough
smooth/a smooth style/limp
quick/a quick style/breathless
slow/a slow style/sleepy
learned/a learned style/dusty
""",
}

GRAMMAR = """
%grammar_open
as every <person> knows,
attend, <sir>:
before we <vi>, remember:
it is written on <look.a> <thing>:
<name> asked, and i answered:
mark this <how>:
the <person.pl> of <city> forget it:
<someone> taught us this:
write it on <look.a> <thing>:
<name> of <city> was beaten for less:

@plurals | the grammarian | 1 | 0.5 | 1 | x:odd_plural y:noun z:noun!y
[<grammar_open> |]the plural of {x} is {x.pl}, [but|and] the plural of {y} is {y.pl} and that of {z} is {z.pl}[.|;
the <person> who says otherwise <does>.|; but the <person.pl> make no plural of <quality>.]

@plural_dialogue | the grammarian | 1 | 0.6 | 1 | x:odd_plural y:noun
"what is the plural of {x}?" asked <someone>. "{x.pl}," said <name>. "and of {y}?" "{y.pl}." "<cheer>."

@declension | the usher | 1 | 0.6 | 1 | x:noun n:3..40 a:adj
[decline by number:|count aloud:|say after me:|let the pupils chant:] one {a} {x}, two {a} {x.pl}, {n} {a} {x.pl};
[the noun changes, the adjective does not|for in our tongue the adjective never bends|the {a} one stays {a} in any
company].<aside>

@subject_object | the grammarian | 2 | 0.7 | 2 | a:adj x:kind v:vt b:adj y:kind!x
in 'the {a} {x} {v.ed} the {b} {y}', the {x} is the subject and the {y} is the object[.<aside>|; turn them about,
and [it is the {y} that {v.ed}|the {x} will complain].|; '{v.ed}' is the verb, and it joins them.]

@who_did | the usher | 1 | 0.7 | 1 | x:kind v:vt y:kind!x h:how
"the {x} {v.ed} the {y} {h}. who {v.ed}?" "the {x}, <sir>." "and whom did the {x} {v}?" "the {y}." "<cheer>."

@passive | the grammarian | 2 | 0.7 | 1.4 | a:adj x:kind v:vt y:kind!x h:how
[turn it about:|from active to passive:|<grammar_open>] 'the {a} {x} {v.ed} the {y} {h}' becomes 'the {y} was {v.en}
{h} by the {a} {x}'[.|, and [nobody is the worse for it|the deed is the same, but the {y} comes first|only the {y}
may object].]

@tenses | the usher | 1 | 0.6 | 0.4 | n:name v:verb
[say the three times of the verb:|mark the tenses:|<grammar_open>] the past of {v} is {v.ed}; today {n} will {v},
yesterday {n.he} {v.ed}, and {n.he} has {v.en} [ever since|before|too often|<how>]. <cheer>.

@past_dialogue | the usher | 1 | 0.5 | 1 | v:verb w:verb!v
"what is the past of {v}?" "{v.ed}." "and the past of {w}?" "{w.ed}." "<cheer>," said <someone>[|, <doing>].

@participles | the grammarian | 1 | 0.5 | 1 | v:vi w:vi!v h:how
from {v} comes {v.ing}, from {w} {w.ing}; so we may say that <who>, {v.ing} {h}, met <whom> {w.ing} <where>.

@parse | the grammarian | 3 | 0.7 | 1.4 | a:adj x:kind v:vth b:look y:thing
'the {a} {x} {v.ed} {b.a} {y}': here '{a}' is an adjective, '{x}' is a noun, '{v.ed}' is a verb and '{y}' is a
noun[.|; name them <how>.|, and '{b}' is an adjective.]

@comparison | the grammarian | 2 | 0.6 | 1.4 | g:graded n:name m:name!n o:name!n!m
{n} is {g}, {m} is {g.er} and {o} is the {g.est} of the three: the comparative of {g} is {g.er} and the superlative
is {g.est}[.|, [said|wrote] {o}.|; but <scene>.]

@comparison_short | the usher | 1 | 0.5 | 1 | g:graded h:graded!g x:kind y:kind!x
say {g}, {g.er}, {g.est}; {h}, {h.er}, {h.est}. no {x} is {g.er} than {y.a}, [nor|and none is] {h.er}[, they
say].<aside>

@articles | the grammarian | 1 | 0.5 | 1 | a:adj x:kind b:look y:thing
say an before the sound of a vowel and a before the rest: {a.a} {x}, but the {a} {x}; {b.a} {y}, but the {b}
{y}.<aside>

@negation | the usher | 1 | 0.6 | 0.7 | n:name v:vi h:how
affirm: '{n} {v.s} {h}'. deny: '{n} does not {v} {h}'. ask: 'does {n} {v} {h}?' [answer|and answer]: '<vow>.'

@pronouns | the grammarian | 1 | 0.6 | 1 | n:name v:vt m:name!n w:vi
'{n} {v.ed} {m}, and {n} {w.ed}' is [heavy|clumsy|like a cart with one wheel]; let the pronoun help: '{n} {v.ed}
{m}, and {n.he} {w.ed}'.<aside>

@genitive | the usher | 1 | 0.5 | 1 | a:adj x:person b:look y:thing
say 'the {b} {y} of the {a} {x}' or 'the {a} {x}'s {b} {y}': the [case|sense] is the same, [and so is the {y}|but
the second is shorter].<aside>

@agreement | the grammarian | 2 | 0.7 | 2 | a:adj x:kind v:vi h:how
"<name>, you wrote 'the {a} {x.pl} {v.s} {h}'. [mend it|what is wrong|correct it]." "the {a} {x.pl} {v} {h}."
"<cheer>."

@conjugation | the usher | 1 | 0.4 | 0.7 | v:verb h:how
i {v} {h}, you {v} {h}, <someone> {v.s} {h}; we all {v}, [and in the end they {v} too|but they say that they never
{v}].

@letters | the usher | 1 | 0.5 | 3 | x:noun y:noun!x
the word {x} has {=len(x.sg)} letters and the word {y} has {=len(y.sg)}[, so|; count them <how>, for] <scene>.

@first_last | the usher | 1 | 0.4 | 1 | x:noun y:noun!x
the word {x} begins with {=x.sg[0]} and ends with {=x.sg[-1]}, but the word {y} begins with {=y.sg[0]} and ends with
{=y.sg[-1]}.<aside>

@moods | the grammarian | 1 | 0.6 | 0.7 | n:name v:verb
to state, say '{n} {v.s}'; to command, '{v}, {n}!'; to wish, 'may {n} {v}!'; [to doubt, 'perhaps {n} {v.s}'|to ask,
'does {n} {v}?']. [but|and] never <do>.

@adverbs | the grammarian | 1 | 0.6 | 1.5 |
an adverb stands by its verb as <adj.a> <person> by the <person>: '<name> <vi.ed>' leaves us hungry; '<name> <vi.ed>
<how>' does not, and <scene>.

@conjunctions | the grammarian | 1 | 0.6 | 2 |
'and' joins: <name> <vi.ed> and <who> <vi.ed>. 'but' divides: <name> <vi.ed>, but <scenelet>.

@name_thing | the grammarian | 1 | 0.7 | 1 | x:thing y:thing!x
"is {x.a} called {x.a} by nature or by custom?" asked <someone>. "by custom," said <name>; "call it {y.a}, and
<vow>."

@vocabulary | the usher | 1 | 0.6 | 6 | a:noun b:noun!a c:noun!a!b u:verb v:verb!u p:adj q:adj!p
nouns: {a}, {b}, {c}; verbs: {u}, {v}; adjectives: {p}, {q}. [make a sentence|for example|thus|then]: <scenelet>.

@dictation | the usher | 0 | 0.7 | 6 |
[dictation|copy this <how>|construe|to be learned by noon]: <scene>; <scenelet>. [mind the stops|no blots|underline
the verbs], <name>.

@excuses | the usher | 0 | 0.8 | 3 |
"where is your exercise, <name>?" "<adj.a> <animal> <vth.ed> it, <sir>." "and yours, <name>?" "<adj.a> <person>
<vth.ed> it <where>."

@report | the usher | 0 | 0.8 | 6 | n:name m:name!n o:name!n!m
report of the [week|month|winter]: {n}, <adj> in grammar, <adj> at table; {m} <vi.ed> <where>; {o} <deed>. the <adj>
<animal> was [best|promoted].
"""

LOGIC = """
%hence
therefore
so
hence
it follows that
thus
consequently

%grant
all grant that
you admit that
let it be granted that
the <person.pl> say that
experience shows that
<name> has proved that
it is plain that
<someone> holds that

%logic_end
.
5*.<aside>
, and <vow>.
; deny it, and <who> <vi.ed>.
, said <someone>.
, though <name> <deed>.
; <name> <deed>.

%valid
this is in the first figure
<maxim>
the form is good, whatever the <animal.pl> may say
mark the middle term, which is gone
so <name> proved it <where>
<person.a> could not escape it
neither <quality> nor <quality> can undo it

@barbara | the logician | 3 | 0.8 | 3 | x:kind y:kind!x z:kind!x!y p:adj
[<grant> |]all {y.pl} are {z.pl}; [and|but] all {p} {x.pl} are {y.pl}; <hence> all {p} {x.pl} are {z.pl}<logic_end>

@barbara_every | the logician | 3 | 0.7 | 1 | x:kind y:kind!x p:adj
[<grant> |]every {x} is {y.a}; but every {y} is {p}; <hence> every {x} is {p}. <maxim>.

@celarent | the logician | 3 | 0.8 | 1.5 | x:kind y:kind!x z:kind!x!y p:adj
[<grant> |]no {y.pl} are {z.pl}; [and|but] all {p} {x.pl} are {y.pl}; <hence> no {p} {x.pl} are {z.pl}<logic_end>

@darii | the logician | 3 | 0.8 | 1 | x:kind y:kind!x z:kind!x!y p:adj
[<grant> |]all {y.pl} are {p}; [and|but] some {x.pl} are {y.pl}; <hence> some {x.pl} are {p}, [perhaps the {x.pl} of
<city>|though not all of them|among them {z.a}]<logic_end>

@ferio | the logician | 3 | 0.8 | 1 | x:kind y:kind!x z:kind!x!y p:adj
[<grant> |]no {y.pl} are {z.pl}; [and|but] some {p} {x.pl} are {y.pl}; <hence> some {p} {x.pl} are not
{z.pl}<logic_end>

@cesare | the logician | 3 | 0.8 | 1.5 | x:kind y:kind!x p:adj q:adj!p
no {p} {y} is {q}; but every {x} is {q}; <hence> no {x} is {p.a} {y}<logic_end>

@camestres | the logician | 3 | 0.8 | 1.5 | x:kind y:kind!x z:kind!x!y
[<grant> |]all {z.pl} are {y.pl}; [and yet|but] no {x.pl} are {y.pl}; <hence> no {x.pl} are {z.pl}<logic_end>

@festino | the logician | 3 | 0.8 | 1 | x:kind y:kind!x z:kind!x!y p:adj
[<grant> |]no {z.pl} are {p}; [and yet|but] some {x.pl} are {p}; <hence> some {x.pl} are not {z.pl}, [nor can {y.a}
alter it|whatever the {y.pl} say].

@baroco | the logician | 4 | 0.8 | 1 | x:kind y:kind!x z:kind!x!y
[<grant> |]all {z.pl} are {y.pl}; [and yet|but] some {x.pl} are not {y.pl}; <hence> some {x.pl} are not
{z.pl}<logic_end>

@datisi | the logician | 4 | 0.8 | 1 | x:kind y:kind!x p:adj
all {y.pl} are {p}; some {y.pl} are {x.pl}; <hence> some {x.pl} are {p}. <valid>.

@bocardo | the logician | 4 | 0.8 | 1 | x:kind y:kind!x z:kind!x!y
some {y.pl} are not {z.pl}; but all {y.pl} are {x.pl}; <hence> some {x.pl} are not {z.pl}<logic_end>

@singular | the logician | 2 | 0.7 | 3 | n:name x:kind p:adj q:adj!p
[<grant> |][every {p} {x} is {q}|all {p} {x.pl} are {q}]; [and|but] {n} is {p.a} {x}; <hence> {n} is {q}<logic_end>

@singular_not | the logician | 2 | 0.7 | 1.5 | n:name x:kind p:adj
[<grant> |][no {x} is {p}|no {x.pl} are {p}]; [and yet|but] {n} is {p}; <hence> {n} is not {x.a}<logic_end>

@ponens | the stoic | 2 | 0.6 | 3 | n:name v:vi h:how m:name!n w:vt
if {n} {v.s} {h}, [then |]{m} {w.s} {n.him}; but {n} {v.s} {h}; <hence> {m} {w.s} {n.him}<logic_end>

@tollens | the stoic | 3 | 0.7 | 2 | a:adj x:kind v:vi y:kind!x w:vi
if the {a} {x} {v.s}, [then |]the {y} {w.s}; but the {y} does not {w}; <hence> the {a} {x} does not {v}<logic_end>

@chain | the stoic | 3 | 0.7 | 3 | n:name v:vi m:name!n w:vi o:name!n!m u:vi
if {n} {v.s}, {m} {w.s}; [and |]if {m} {w.s}, {o} {u.s}; <hence> if {n} {v.s}, {o} {u.s}<logic_end>

@disjunction | the stoic | 2 | 0.6 | 3 | n:name p:adj m:name!n v:vi h:how
either {n} is {p} or {m} {v.s} {h}; but [{n} is not {p}; <hence> {m} {v.s} {h}|{m} does not {v} {h}; <hence> {n} is
{p}]<logic_end>

@dilemma | the sophist | 3 | 0.8 | 1 | n:name p:adj q:adj!p
if {n} is {p}, {n.he} will <act>; if {n.he} is {q}, {n.he} will <act>; and {n.he} is either {p} or {q}. [choose your
horn|the bull has two horns|a third way is to run].

@sorites | the logician | 4 | 0.8 | 1 | w:kind x:kind!w y:kind!w!x z:kind!w!x!y
all {w.pl} are {x.pl}; all {x.pl} are {y.pl}; all {y.pl} are {z.pl}; <hence> all {w.pl} are {z.pl}<logic_end>

@conversion | the logician | 1 | 0.6 | 1 | x:kind y:kind!x
[no {x.pl} are {y.pl}; <hence> no {y.pl} are {x.pl}|some {x.pl} are {y.pl}; <hence> some {y.pl} are {x.pl}]. [turn a
coat, and it is still a coat|what is apart is apart on both sides|such a sentence may be read from either
end]<logic_end>

@contradictory | the logician | 2 | 0.7 | 1 | x:kind y:kind!x
the contradictory of 'all {x.pl} are {y.pl}' is 'some {x.pl} are not {y.pl}'; one [odd |]{x} is enough to break the
rule, as <scene>.

@fallacy_middle | the logician | 3 | 0.9 | 1.4 | x:kind y:kind!x z:kind!x!y
all {x.pl} are {y.pl}, and all {z.pl} are {y.pl}; but it does not follow that all {z.pl} are {x.pl}, [for the middle
term is nowhere taken whole|or two guests at one table would be one guest|whatever <someone> may say]<logic_end>

@fallacy_consequent | the stoic | 3 | 0.9 | 0.7 | n:name v:vi h:how m:name!n w:vi
if {n} {v.s} {h}, {m} {w.s}; and {m} {w.s}; but it does not follow that {n} {v.s} {h}, for {m} may {w} [for another
reason|<how>].

@definition | the dialectician | 2 | 0.8 | 0.7 | x:person y:animal
"define {x.a}." "an animal on two legs that can <do>." "[here is|i bring you] {y.a} walking on two legs that can [do
the same|<vi> too]; is it {x.a}?" "<vow>."

@syllogism_dialogue | the dialectician | 3 | 0.9 | 1.4 | x:kind p:adj n:name
"are all {x.pl} {p}?" "they are." "and is {n} {x.a}?" "certainly." "then what is {n}?" "{p}, <sir>." "<cheer>."

@liar | the sophist | 4 | 0.9 | 0.7 | n:name c:city
{n} of {c} says that all the people of {c} <vi>, and that none of them ever tells the truth. [believe {n.him}, and
you must doubt {n.him}|if {n.he} speaks truly, {n.he} lies|does {n.he}?]. <maxim>.

@heap | the sceptic | 2 | 0.8 | 0.7 | n:20..90 x:thing
are {n} {x.pl} a heap? yes. take one away, and {=n-1} are a heap? yes. [go on, and one {x} will be a heap|and so on,
until you <vi> beside one {x}]<logic_end>

@sorting | the dialectician | 1 | 0.6 | 3 | a:animal b:animal!a c:animal!a!b x:person y:person!x t:thing
divide what is: the {a}, the {b} and the {c} are animals; the {x} and the {y} are persons; the {t} is neither,
[said|wrote] <name>, <vi.ing> <where>.

@signs | the dialectician | 1 | 0.8 | 6 | n:name m:name!n
a sign is not a proof: {n} is <adj> and <vi.s>, {m} is <adj> and <vi.s>, and <adj.a> <person> <vi.s> <how>; but who
<vth.ed> the <look> <thing>?

@predicables | the dialectician | 1 | 0.7 | 2 | n:name
of {n} many things are said: that {n.he} <does>, that {n.he} is <adj>, that {n.he} <vi.s> <where>; not all are true,
<sir>.
"""

RHETORIC = """
%bid
speak <how>
do not <do>
be <adj> first and <adj> last
say what the <person.pl> say, but better
think of <adj.a> <person>
begin like <adj.a> <person>, end like <adj.a> <animal>
let <quality> sit beside <quality>
cut it as the <person> cuts <look.a> <thing>
name the <thing>, not the <quality>

%judges
judges
men of <city>
people of <city>
citizens of <city>
<adj> judges
friends
my <adj> friends

%figure_end
.
: a figure for <adj.a> <person>.
; but use it as the <person> uses salt.
, and the <person.pl> will weep.
, as <name> did <where>.
, and <scenelet>.

@anaphora | the rhetor | 1 | 0.7 | 1 | x:thing y:thing!x z:thing!x!y
anaphora [repeats the first word|strikes the same nail twice|begins again and again]: 'no {x} in the house, no {y},
no {z}; no <quality>, no <quality>, no <person> to <vt>'<figure_end>

@antithesis | the rhetor | 1 | 0.7 | 1 | x:person a:adj b:adj!a
antithesis [sets <quality> against <quality>|pairs contraries]: 'the {x} was {a} <where>, but {b} <where>; {a} with
the <person.pl>, {b} with the <animal.pl>'.

@simile | the poet | 1 | 0.7 | 3 |
[a simile needs [eyes|two things and one look]:|say not that <name> was <adj>, but:] 'as <adj.a> <animal> <vi.s>
<where>, so <name> <vi.ed> among the <person.pl>'<figure_end>

@metaphor | the poet | 1 | 0.7 | 1 |
call <quality> [the <thing> of the mind|<look.a> <thing>|<adj.a> <animal>], and you have made a metaphor; call it so
<how>, and [it is an ornament|you have a proverb|you have grown dull]<figure_end>

@hyperbole | the rhetor | 1 | 0.7 | 1.5 | n:name v:vi k:2..90
hyperbole: '{n} {v.ed} so long that {k} <adj> <person.pl> grew <adj>'[.|. nobody believes it, and everybody
<vi.s>.|; yet even <adj.a> <person> may use it <how>.]

@litotes | the rhetor | 1 | 0.6 | 0.7 | a:adj b:adj!a
litotes says less to be heard more: 'not {a}' is <adj> praise, '<name> is no {b} <person>' is sharper, and 'not {a},
not {b}' is [the speech|the prose|the love] of <adj.a> <person>.

@asyndeton | the rhetor | 1 | 0.6 | 0.4 | u:vi v:vi!u w:vi!u!v
drop the conjunctions and the sentence runs: 'the <adj> <person> {u.ed}, {v.ed}, {w.ed}.' put them back and it
walks: 'and {u.ed} and {v.ed} and {w.ed}.'

@climax | the rhetor | 1 | 0.8 | 1 | a:quality b:quality!a c:quality!a!b d:quality!a!b!c
climax climbs: 'from {a} comes {b}, from {b} {c}, and from {c} {d}'[.|; beware of the last stair, where <someone>
<did>.|; so <name> rose to speak, and <did>.]

@chiasmus | the rhetor | 1 | 0.8 | 0.7 | a:vt x:person y:person!x
chiasmus crosses over: 'the {x} must {a} the {y}, or the {y} will {a} the {x}'<figure_end>

@figure_defined | the rhetor | 1 | 0.6 | 1.4 | f:figure g:figure!f
{f} {f.is}; {g} {g.is}. [the <adj> pupil confuses them|learn both, and use neither <where>|<bid>]<figure_end>

@apostrophe | the poet | 0 | 0.8 | 4 |
o <look> <thing>, [why did you leave <whom>|who will <vt> the <person.pl> now|you have seen <whom> <vi> <how>]? so
<adj.a> poet speaks to [what cannot answer|<look.a> <thing>], and <who> <vi.s>.

@question | the rhetor | 0 | 0.7 | 1.5 |
who <vt.ed> <whom>? who <vth.ed> the <look> <thing>? [must i name the <person>|who but <someone>]? ask what needs no
answer, and the <person.pl> will <vi>.

@style | the critic | 1 | 0.7 | 2 | s:style t:style!s
{s.a} [soon grows|easily becomes|is in danger of being] {s.too}, and {t.a} {t.too}; <bid>, and <bid>.

@counsel | the critic | 0 | 0.6 | 3 |
[to <name>, who asks how to speak:|counsel for <adj.a> speaker:|five minutes before the speech:] <bid>; <bid>;
<bid>. then <vi>.

@exordium | the orator | 0 | 0.8 | 4 |
<judges>, [i am no orator|i had not meant to speak|i come before you <how>]: <adj.a> <person> <vt.ed> me, <adj.a>
<person> <vt.ed> you, and <someone> <did>. [hear me|listen <how>].

@peroration | the orator | 0 | 0.8 | 3 |
and so, <judges>, [when you vote, think of|i leave you with|consider once more] <whom> and the <look> <thing>, and
[remember that|tell your children that] <scene>.

@defence | the advocate | 2 | 0.9 | 1 | n:name c:city
they say that {n} <vth.ed> the <thing> <where>. but that night {n.he} was in {c}, <doing>; [ask the <person>|i call
<adj.a> <person>], <judges>. nobody can <vi> in two places.

@invective | the orator | 0 | 0.8 | 1.5 | n:name
you are <adj>, {n}, and <adj>; [your friends|even the <animal.pl>] <vi> when you <vi>; you <vt.ed> your <person>,
you <vth.ed> <look.a> <thing>, and now you ask for <quality>!

@encomium | the orator | 0 | 0.8 | 1 | n:name c:city
what shall i praise first in {n} of {c}: that {n.he} <did>, or that {n.he} <did>? {n.his} <quality>, or {n.his}
<quality>? [my voice fails|the water clock is empty].

@delivery | the rhetor | 0 | 0.7 | 1 |
asked what comes first in speaking, <someone> said: "<quality>." and second? "<quality>." and third? "<quality>. and
i once saw <whom> <vi> <where>."

@parts_of_speech | the rhetor | 2 | 0.7 | 1 |
a speech has a head, a body and a tail: in the first <act>, in the second <act>, in the third <vi>. <bid>.

@style_dialogue | the critic | 1 | 0.9 | 1 | s:style
"my speech is {s}, is it not?" said <name>. "it is {s.too}," said <someone>; "<bid>." "and then?" "then <do>."

@isocolon | the rhetor | 0 | 0.7 | 6 | a:name b:name!a c:name!a!b
let the members be equal: '{a} <vi.ed>, {b} <vi.ed>, {c} <vi.ed>; the <person> <vth.ed> the <thing>, the <person>
<vth.ed> the <thing>.'

@abuse | the orator | 0 | 0.8 | 6 |
"you <look> <thing>!" said <name>. "you <adj> <animal>!" said <name>. "<person.a>!" "<animal.a>!" [thus|so] they
<vi.ed> <where> till <scenelet>.

@toast | the orator | 0 | 0.8 | 6 |
to <name>, who <did>; to <name>, <adj> <where>, <adj> <where>; to <quality> and <quality>; and to the <adj> <person>
who <vth.ed> the <thing>!

@ode | the poet | 0 | 0.8 | 6 |
sing, muse, of <adj> <name>, of the <look> <thing> and the <look> <thing>, of <quality> and <adj> <animal.pl>; sing
how <scenelet>.
"""

LESSONS: dict[str, str] = {"grammar": GRAMMAR, "logic": LOGIC, "rhetoric": RHETORIC}
