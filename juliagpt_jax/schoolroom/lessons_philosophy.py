"""Lessons of philosophy: ethics, politics and metaphysics, in the notation of `lessons`."""

TABLES: dict[str, str] = {
    "golden": """
sg/less/more
courage/cowardice/rashness
generosity/avarice/waste
modesty/shyness/shamelessness
truthfulness/irony/boasting
wit/dullness/buffoonery
gentleness/apathy/anger
temperance/insensibility/luxury
friendliness/surliness/flattery
proper pride/meekness/vanity
thrift/avarice/waste
""",
    "practice": """
sg/doing
just/doing just deeds
brave/standing in the line
patient/waiting
temperate/leaving the table
honest/telling the truth
generous/giving
grateful/remembering gifts
gentle/not answering in anger
""",
    "rule": """
sg/of/decay
monarchy/the rule of one/tyranny
aristocracy/the rule of the best/oligarchy
democracy/the rule of the many/mob rule
""",
    "growth": """
sg/becomes
an acorn/an oak
an egg/a hen
a calf/an ox
a tadpole/a frog
a cub/a lion
a seed/a tree
a lamb/a sheep
a block of marble/a statue
a heap of bricks/a house
a caterpillar/a moth
a pupil/a teacher
clay/a jar
wool/a cloak
flour/a loaf
""",
    "made": """
sg/matter/form/maker/end
a statue/bronze/the shape of a god/the sculptor/honour
a house/brick/the plan/the builder/shelter
a shoe/leather/the shape of a foot/the cobbler/walking
a lyre/wood and gut/the ratio of the strings/the maker of lyres/music
a ship/timber/the lines of the hull/the shipwright/trade
a jar/clay/the hollow/the potter/wine
a loaf/flour/the round shape/the baker/supper
a sword/iron/the edge/the smith/war
a cloak/wool/the weave/the weaver/warmth
a law/words/justice/the lawgiver/peace
a speech/words/order/the orator/persuasion
""",
}

ETHICS = """
%advice
<bid_life>
2*do not <do>
learn to <do>
keep <virtue>, and leave <vice> to the <person.pl>
<do>, and be <adj>
never <vt> <adj.a> <person>

%bid_life
bear <fortune> as <adj.a> <person> bears <look.a> <thing>
prefer <virtue> to <fortune>
think of <fortune>, and <vi> <how>
treat <fortune> as a guest
call nobody <adj> before the end

%farewell
farewell.
farewell, and <do>.
be well, and <vt> the <person.pl>.
farewell; the <animal.pl> greet you.
keep well, and do not <do>.
written <where>.
greet <whom>.

@golden_mean | the peripatetic | 2 | 0.8 | 2 | g:golden
{g} stands between {g.less} and {g.more}: <name> <vi.ed> <how>, and had too little; <name> <deed>, and had too much.

@habit | the peripatetic | 1 | 0.8 | 1.4 | d:practice
we become {d} by {d.doing}, as we become <person.pl> by <doing>; nobody was ever {d} in his sleep, [not even
<name>|though <name> <vi.ed>|as <someone> says].

@power | the stoic | 1 | 0.8 | 3 |
[in your power|yours] are <virtue> and <virtue>; not [in your power|yours] are <fortune>, <fortune> and the
<person>. when <who> <vt.s> you, <vi>, and <do>.

@letter | the stoic | 1 | 0.9 | 3 | n:name m:name!n
{n} to {m}, greetings. you ask me [whether|how it is that] <quality> is better than <quality>. i saw <whom> <vi>
<where>, and i doubt it. <farewell>

@letter_gift | the stoic | 0 | 0.8 | 3 | n:name m:name!n x:thing
{n} to {m}, greetings. i send you <look.a> {x}; [my friend|my neighbour|the <person>] <vi.ed> at the sight of it.
<advice>. <farewell>

@letter_complaint | the epicurean | 0 | 0.8 | 1.5 | n:name m:name!n
{n} to {m}, greetings. you promised me <look.a> <thing>, and you sent <animal.a>, which <did>. <farewell>

@epicure | the epicurean | 1 | 0.8 | 2 |
bread, [water|cheese|olives] and <adj.a> friend: what more has the <person>? he who wants <look.a> <thing> wants
two; the <adj> <vi> <how>.

@maxims | the moralist | 0 | 0.5 | 4 |
<maxim>; <maxim>. [so <someone>.|this <someone> said, <doing>.|<advice>.]

@last_words | the moralist | 0 | 0.8 | 1.5 | n:name
{n}, about to die, called <whom> and said: "<advice>; <advice>." then {n.he} <vi.ed>, and the <person.pl> <vi.ed>.

@epitaph | the moralist | 0 | 0.8 | 4 | n:name c:city
here lies {n} of {c}, <adj.a> <person>. {n.he} <did>, and <did>. stranger, <vi> <how>; [you too will lie still|no
more is asked|then go].

@anger | the stoic | 1 | 0.8 | 1.5 |
when <who> <vt.s> you, count the <thing.pl> in the room; if you still wish to <vt> the <person>, count the
<animal.pl>. <vice> is <adj.a> <person> with <look.a> <thing>.

@friend | the moralist | 1 | 0.7 | 1 | k:3..90
one friend who <vi.s> with you <how> is worth {k} who <vi> at your table; <name> had {k} and died <adj>, <name> had
one, and <did>.

@fable | the fabulist | 1 | 0.9 | 6 | x:animal y:animal!x a:adj b:adj!a
{a.a} {x} [met|saw|asked] {b.a} {y} <where>. "[friend|neighbour|fool]," said the {x}, "<bid_life>." but the {y}
<deed>. [the <adj> <vi>.|beware of the <adj>.|such is <fortune>.]

@fable_thing | the fabulist | 1 | 0.9 | 3 | x:animal y:animal!x t:thing
{x.a} found <look.a> {t} <where>. "[what use|what good] is {t.a} to {x.a}?" said <adj.a> {y}. the {x} <vi.ed>, and
<deed>.

@doctor | the sceptic | 0 | 0.8 | 1.5 |
asked for a cure of <vice>, <name> said to <whom>: "<advice>." the patient <did>, and was cured of <virtue>.

@teach_virtue | the dialectician | 2 | 0.8 | 2 | v:virtue
"can {v} be taught?" "who teaches it?" "the <person.pl>." "and do the <person.pl> <vi>?" "<how>." "then <who> may
teach it." "<vow>."

@examen | the stoic | 1 | 0.8 | 1 |
in the evening ask yourself: whom did i <vt>? why did i <vi> <where>? what did i <vth>? then put out the <thing>,
and <vi> [without <vice>|with <virtue>].

@cynic | the cynic | 0 | 0.9 | 4 | n:name
{n} the cynic <did>. when <who> laughed, {n.he} said: "[i am looking for|show me] <whom>[ <where>|]; <advice>."

@fortune_wheel | the moralist | 1 | 0.7 | 2 | n:name
yesterday {n} was <adj>, and the <person.pl> would <vt> {n.him}; today {n.he} is <adj>, and <scene>. <fortune> has
<look.a> wheel.

%resolution
to <do>
not to <do>

@resolutions | the pupil | 0 | 0.7 | 2 |
<name> resolved <resolution>, <resolution> and <resolution>; by <how_long> one promise was left, and it <vi.ed>.

%how_long
noon
supper
winter
the third day
the next full moon
breakfast
spring

@will | the moralist | 0 | 0.9 | 6 | a:name b:name!a
i leave my <look> <thing> to {a}, my <look> <thing> to the <adj> <person>, my <adj> <animal> to {b}, and my
<quality> to whoever <vi.s> <where>.

@character | the moralist | 1 | 0.8 | 6 | a:adj b:person
the {a} {b} <does>, <does>, and <vi.s> <how>; offer the {b} <look.a> <thing>, and you will hear of <quality>.

@confession | the pupil | 0 | 0.8 | 6 |
i <vt.ed> <whom>, i <vth.ed> the <look> <thing> of <name>, i <vi.ed> <where>; [forgive me|i blush], <sir>, and <vt>
the <adj> <person> instead.
"""

POLITICS = """
%politics_end
.
5*.<aside>
; so <name> of <city> <deed>.
, said <someone>.
; ask the <person.pl> of <city>.
, and <scenelet>.

@rule_decay | the statesman | 2 | 0.7 | 0.8 | r:rule s:rule!r
{r} is {r.of} and decays into {r.decay}; {s} is {s.of} and decays into {s.decay}[. the <person.pl> <vi> in each.|;
under both <who> <vi.s>.|. <maxim>.]

@decree | the herald | 0 | 0.8 | 4.5 | c:city
[decreed by|the will of|by order of] the [people|council|elders] of {c}: no <person> shall <do>, on pain of
[exile|<quality>|<look.a> <thing>]; and let the <person.pl> <do>.

@vote | the herald | 2 | 0.8 | 3 | b:2..60 d:1..40
{=b+d} voted for <whom> and {b} against; the motion was carried by {d}[, and <scene>|. the <adj> <person> <did>|;
those who lost <vi.ed> <how>].

@tax | the treasurer | 2 | 0.7 | 2 | k:3..30 c:2..12
{k} <person.pl> pay {c} coins each, so the treasury receives {=k*c} coins; [the <person> counts them <how>|with
these <someone> buys <look.a> <thing>]<politics_end>

@phalanx | the general | 2 | 0.7 | 1 | r:4..16 k:5..30
{r} ranks of {k} men are {=r*k} men; <adj.a> general counts them before he <vi.s>, <adj.a> one after. <scene>.

@embassy | the envoy | 0 | 0.9 | 2 | c:city d:city!c
the envoys of {c} said to the people of {d}: "[send us|give back|we bring you] <look.a> <thing>, or we shall <do>."
{d} sent <adj.a> <animal>.

@tyrant | the historian | 0 | 0.9 | 3 | n:name c:city
{n}, tyrant of {c}, feared the <person.pl>, and [banished|taxed|forbade] <quality>; then {n.he} <did>, and {n.he}
died <how>, <doing>.

@ship | the statesman | 1 | 0.8 | 3 |
a city is a ship: the <person> <does>, the <person> <does>, and [all the while|meanwhile] nobody <vi.s> at the helm
but <adj.a> <person>.

@ostracism | the historian | 0 | 0.9 | 0.7 | n:name
<adj.a> <person> asked {n} to write '{n}' on <look.a> <thing>. "what harm did {n} do you?" "none; but i am tired of
hearing {n.him} called <adj>." {n} wrote it, and <vi.ed>.

@lawgiver | the lawgiver | 1 | 0.8 | 2 |
the lawgiver of <city> made few laws: not to <do>, not to <do>, and to <vt> the <person.pl>. when he had finished,
he <vi.ed> <how>.

@law_dialogue | the statesman | 2 | 0.8 | 2 | a:person b:person!a
"who should rule, the {a} or the {b}?" "the law." "and who <vt.s> the law?" "<someone>." "then <vow>," said
<someone>.

@best_city | the philosopher king | 1 | 0.7 | 1.5 |
in the best city the <person.pl> <vi>, the <person.pl> <vi>, and each <vth.s> <look.a> <thing>; nobody is <adj>, and
<adj.a> <person> is king.

@assembly | the historian | 0 | 0.8 | 3 |
in the assembly of <city> <who> spoke for war and <who> for peace; then <scene>, and the people voted for
[supper|both|neither|<quality>].

@justice | the dialectician | 2 | 0.8 | 1 |
"justice is to <vt> friends and <vt> enemies," said <name>. "and if the friend is <adj>, and the enemy <adj>?" "then
<vow>." so we began again.

@history | the historian | 0 | 0.8 | 6 | y:2..20
in the {=ordinal(y)} year of the war <scenelet>; the <person.pl> of <city> <deed>, and [they say that|that winter]
<name> <deed>.

@grain | the treasurer | 2 | 0.7 | 1 | b:5..60 d:5..90
the granary held {=b+d} sacks; the <animal.pl> and the <person.pl> ate {b}, and {d} remained<politics_end>

@two_cities | the historian | 1 | 0.7 | 1.5 | c:city d:city!c
the people of {c} love <quality>, those of {d} <quality>: in {c} the <adj> <vi>, in {d} the <person.pl> <vi>; <who>
<vi.ed> in both.

@magistrate | the moralist | 1 | 0.7 | 1.5 |
office shows the <person>: <name> was <adj> in the <thing> trade and <adj> in office; <name> <vth.ed> the seal, and
<did>.

@elected | the herald | 0 | 0.7 | 6 | a:name b:name!a c:name!a!b d:name!a!b!c
elected in <city>: {a}, <adj>, as <person>; {b}, <adj>, as <person>; {c}, <adj>, as <person>. defeated: {d}, who
<deed>.

@ships | the historian | 0 | 0.8 | 6 | a:name b:name!a
from <city> came <adj> {a} with <look> ships, from <city> {b} with <adj> <person.pl>, from <city> <adj.a> <animal>
and <look.a> <thing>.

@trial | the advocate | 0 | 0.8 | 6 | a:name b:name!a c:name!a!b
{a} accused {b} of <vice>; {c}, <adj.a> <person>, saw {b.him} <where> with <look.a> <thing>; the jury <vi.ed>, and
the <person> <vi.ed> <how>.
"""

METAPHYSICS = """
%metaphysics_end
.
5*.<aside>
; so <someone> taught.
, or so <name> dreamed.
; and the <thing> knows nothing of it.
, though <scenelet>.
; think of it <how>, and <vi>.

@causes | the peripatetic | 3 | 0.8 | 0.8 | m:made n:made!m
of {m}, {m.matter} is the matter, {m.maker} the maker and {m.end} the end; of {n}, {n.form} is the
form<metaphysics_end>

@causes_dialogue | the peripatetic | 2 | 0.8 | 0.4 | m:made
"what is {m}?" "{m.matter}, <sir>." "is all {m.matter} {m}?" "no; it wants {m.form}." "and who gives it that?"
"{m.maker}, for {m.end}."

@potency | the peripatetic | 2 | 0.7 | 2 | g:growth h:growth!g
{g} is {g.becomes} in potency, and {h} is {h.becomes}; but <adj.a> <person> is not <adj.a> <person>, [except|not
even] in hope<metaphysics_end>

@accident | the peripatetic | 2 | 0.8 | 1.4 | n:name x:person a:adj
that {n} is {a} is an accident, and that {n.he} is {x.a} is another; that {n.he} is an animal is not. take away the
{a} {x}, and <who> will <vi>.

@categories | the peripatetic | 3 | 0.8 | 2 | n:name
ask of {n}: what? <person.a>. of what kind? <adj>. where? <where>. doing what? <doing>. suffering what? <fortune>.
[having what? <look.a> <thing>.|when? <how>.]

@river | the obscure one | 1 | 0.8 | 0.7 |
nobody [steps twice into the same river|bathes twice in one stream]: the water <vi.s>, the <person> <vi.s>, and even
<look.a> <thing> is older than when you began to <vi>.

@theseus | the sceptic | 3 | 0.9 | 1.4 | k:2..12 y:3..30
a boat has {=k*y} planks, and each year {k} are changed; in {y} years no old plank is left. is it the same boat?
<name> <vi.s>, and <scenelet>.

@first_mover | the peripatetic | 3 | 0.7 | 2 | a:thing b:person c:animal
the {a} is moved by the {b}, the {b} by the {c}, the {c} by <fortune>; but [we cannot go back for ever|somewhere we
must stop], and there <who> <vi.s>.

@form | the academic | 2 | 0.8 | 1.4 | x:thing
this {x} is <look>, that {x} is <look>; but the form of the {x} is neither, [nor was it ever <where>|and nobody can
<vth> it]. "then on what <thing> do i lay it?" asked <name>.

@dream | the sceptic | 2 | 0.9 | 1.4 | n:name x:animal
{n} dreamed that {n.he} was {x.a}, <doing>. now {n.he} does not know whether {x.a} is dreaming that it is {n};
[meanwhile|so] {n.he} <vi.s> <how>.

@being | the eleatic | 2 | 0.7 | 1 |
what is, is; what is not, is not. [so nothing moves|change is a rumour], said <name>, <doing>; and <adj.a> <person>
rose, and <did>.

@achilles | the eleatic | 4 | 0.9 | 0.4 | x:animal a:2..20 k:2..10
{x.a} gives the tortoise a start of {=a*k} paces; while it runs {=a*k}, the tortoise goes {a}, and is ahead by {a},
and so for ever. the <person.pl> bet on <whom>.

@numbers | the pythagorean | 1 | 0.8 | 1 | n:2..20
all is number, says <someone>: [the {n} <thing.pl>|the {n} <animal.pl>], the <person> and the <person>. "and which
number," asked <name>, "<vth.s> the <thing>?"

@time | the academic | 2 | 0.8 | 1.4 |
the past is not, the future is not yet, and the present is [narrower than a knife|gone]; so when did <who> <vi>?
<name> <vi.ed>, and the question <vi.ed> too.

@soul | the academic | 2 | 0.7 | 3 | a:quality b:quality!a c:quality!a!b
the soul has three parts, like a house with <adj.a> <person>, <adj.a> <animal> and <adj.a> <animal>: one loves {a},
one {b} and one {c}<metaphysics_end>

@atoms | the atomist | 1 | 0.8 | 2 |
only atoms and the void: the <look> and the <look>, <quality> and <quality> are by custom. even <who> is atoms,
<doing>; when they part, nobody <vi.s>.

@wonder | the academic | 0 | 0.8 | 1.5 |
philosophy begins [in wonder|when something is odd]: <scene>, and <someone> asked why. [we are still asking.|nobody
knew, and a school was founded.|"<advice>," said <name>.]

@doubt | the sceptic | 2 | 0.8 | 1.4 | x:thing
"is this {x.a}?" "it seems so." "do you know it?" "i do not say that i know." "will you <vth> it?" "<how>." such was
<name> the sceptic, who <did>.

@same_name | the academic | 2 | 0.7 | 0.7 | n:name c:city
{n} the <person> and {n} of {c} share a name and nothing else: one <vi.s> <how>, the other is <adj>. are two things
one because we <vi> at both?

@cave | the academic | 1 | 0.8 | 4.5 | n:name
in the cave {n} saw the shadow of <look.a> <thing>, of <adj.a> <animal>, of <adj.a> <person> <vi.ing>; outside,
{n.he} saw <look.a> <thing>, and <vi.ed>.

@many | the eleatic | 1 | 0.7 | 6 |
<look> <thing.pl>, <adj> <animal.pl>, <quality>, <adj> <person.pl> <vi.ing> <where>: [all this is one|call it
one|and yet it is one], said <name>.

@possible | the academic | 2 | 0.7 | 4.5 | n:name
it is possible that {n} <vi.s> <where>, that the <adj> <person> <does>, that <look.a> <thing> is <look>; it is
necessary that [nobody be two|what is, is].
"""

LESSONS: dict[str, str] = {"ethics": ETHICS, "politics": POLITICS, "metaphysics": METAPHYSICS}
