"""Lessons of the quadrivium: arithmetic, geometry, music and astronomy, in the notation of `lessons`."""

TABLES: dict[str, str] = {
    "interval": """
sg/a/hi/lo
octave/an octave/2/1
fifth/a fifth/3/2
fourth/a fourth/4/3
tone/a tone/9/8
twelfth/a twelfth/3/1
double octave/a double octave/4/1
major third/a major third/5/4
minor third/a minor third/6/5
major sixth/a major sixth/5/3
""",
    "compound": """
sg/is
a fifth and a fourth/an octave
an octave and a fifth/a twelfth
a twelfth and a fourth/a double octave
an octave and an octave/a double octave
a fourth and a tone/a fifth
a major third and a minor third/a fifth
a fourth and a major third/a major sixth
""",
    "foot": """
sg/a/pl/is/times
iamb/an iamb/iambs/a short and a long/3
trochee/a trochee/trochees/a long and a short/3
spondee/a spondee/spondees/two longs/4
dactyl/a dactyl/dactyls/a long and two shorts/4
anapaest/an anapaest/anapaests/two shorts and a long/4
pyrrhic/a pyrrhic/pyrrhics/two shorts/2
""",
    "instrument": """
sg/a/pl
lyre/a lyre/lyres
harp/a harp/harps
lute/a lute/lutes
kithara/a kithara/kitharas
""",
    "mode": """
sg
dorian
phrygian
lydian
aeolian
ionian
""",
    "planet": """
sg/rank/years
the moon/1/0
mercury/2/0
venus/3/0
the sun/4/1
mars/5/2
jupiter/6/12
saturn/7/30
""",
    "outer": """
sg/years
mars/2
jupiter/12
saturn/30
""",
    "sign": """
sg/after/begins
the ram/the bull/0
the bull/the twins/30
the twins/the crab/60
the crab/the lion/90
the lion/the virgin/120
the virgin/the balance/150
the balance/the scorpion/180
the scorpion/the archer/210
the archer/the goat/240
the goat/the water-bearer/270
the water-bearer/the fishes/300
the fishes/the ram/330
""",
    "polygon": """
sg/a/n
triangle/a triangle/3
quadrilateral/a quadrilateral/4
pentagon/a pentagon/5
hexagon/a hexagon/6
heptagon/a heptagon/7
octagon/an octagon/8
decagon/a decagon/10
dodecagon/a dodecagon/12
""",
    "triple": """
sg/b/c
3/4/5
5/12/13
8/15/17
7/24/25
20/21/29
9/40/41
12/35/37
""",
    "solid": """
sg/faces/edges/corners
a cube/6/12/8
a pyramid on a square/5/8/5
a tetrahedron/4/6/4
an octahedron/8/12/6
a dodecahedron/12/30/20
an icosahedron/20/30/12
a wedge with three sides/5/9/6
""",
    "part": """
sg/n
half/2
third/3
fourth/4
fifth/5
tenth/10
""",
    "span": """
sg/n/unit
weeks/7/days
days/24/hours
years/12/months
hours/60/minutes
""",
}

ARITHMETIC = """
%count_open
count <how>:
count again, <sir>:
attend, <sir>:
let the <adj> <person> count:
<name> counts thus:
say it <how>:
on the fingers of <adj.a> <person>:
as <someone> reckons,
first a sum, then supper:
no <person> can deny it:
in <city> as in <city>,
the <thing> and the abacus agree:

%sum_tail
5*.<aside>
, <told>.
, and <vow>.
; <scenelet>.
: so <someone> reckoned, and <deed>.
; the <person.pl> of <city> get another sum, and <vi>.

%sum_end
.
4*<sum_tail>

@sum | the arithmetician | 1 | 0.5 | 3 | a:2..99 b:2..99
<count_open> {a} and {b} [are|make] {=a+b}<sum_tail>

@sum_three | the arithmetician | 2 | 0.5 | 1 | a:2..40 b:2..40 c:2..20
[<count_open> |]{a} and {b} are {=a+b}, and {=a+b} and {c} are {=a+b+c}<sum_end>

@difference | the arithmetician | 1 | 0.5 | 3 | a:2..60 d:2..90
<count_open> [take {a} from {=a+d}, and {d} remain|{=a+d} less {a} is {d}]<sum_tail>

@product | the arithmetician | 1 | 0.5 | 3 | a:2..12 b:2..40
<count_open> {a} times {b} [are|make] {=a*b}<sum_tail>

@square | the arithmetician | 2 | 0.6 | 1 | a:2..40 b:2..12
[<count_open> |]the square of {a} is {=a*a}, and the square of {b} is {=b*b}<sum_end>

@cube | the arithmetician | 3 | 0.6 | 0.7 | a:2..12
the cube of {a} is {=a**3}, for {a} times {a} is {=a*a}<sum_end>

@division | the arithmetician | 2 | 0.6 | 1 | b:2..12 q:2..30
[<count_open> |]{=b*q} divided by {b} is {q}, for {b} times {q} is {=b*q}<sum_end>

@remainder | the arithmetician | 2 | 0.7 | 1 | b:3..12 q:2..20 r:1..b-1
{=b*q+r} divided by {b} is {q}, and {r} {='is' if r == 1 else 'are'} left over, like <adj.a> <person> at a
feast<sum_end>

@proportion | the pythagorean | 2 | 0.7 | 3 | a:2..15 b:2..15!a k:2..9
[<count_open> |]as {a} is to {b}, so is {=a*k} to {=b*k}<sum_tail>

@third_proportional | the pythagorean | 3 | 0.8 | 0.7 | a:2..9 b:2..9!a
as {=a*a} is to {=a*b}, so is {=a*b} to {=b*b}: the middle term [serves two masters|keeps the peace between its
neighbours|is fair to both], as <scene>.

@parity | the pythagorean | 1 | 0.6 | 0.7 | a:2..120/2 b:3..121/2
{a} is even, {b} is odd, and {=a+b} is odd; [the odd one spoils the pair|the odd wins|even with odd makes odd], as
<adj.a> <person> spoils <quality>.

@primes | the arithmetician | 3 | 0.7 | 1 | n:4..120
<count_open> [it is agreed|all agree|nobody denies|they say] that {=divisor_remark(n)}<sum_tail>

@divisors | the arithmetician | 3 | 0.7 | 0.7 | n:12..100/2
the divisors of {n} are {=listing(divisors(n))}<sum_end>

@triangular | the pythagorean | 2 | 0.7 | 1 | n:3..20
set out pebbles in rows, one, two, three, and so on: {n} rows hold {=n*(n+1)//2} pebbles. <name> set them out
<where>; <scene>.

@gnomons | the pythagorean | 2 | 0.8 | 0.7 | n:3..30
the first {n} odd numbers make {=n*n}, which is the square of {n}<sum_end>

@mean | the arithmetician | 2 | 0.7 | 1 | m:8..60 d:1..6
the mean between {=m-d} and {=m+d} is {m}, as the mean between <vice> and <vice> is <virtue><sum_end>

@double_half | the arithmetician | 1 | 0.5 | 0.7 | n:2..98/2
the double of {n} is {=2*n} and the half of {n} is {=n//2}<sum_end>

@gave | the schoolmaster | 2 | 0.8 | 6 | b:2..30 d:2..40 x:thing
<someone> had {=b+d} {x.pl} and gave {b} to <whom>; {d} [remained|were left]. [<maxim>.|at this <scene>.|"and the
{x.pl}?" "<vow>."|count them <how>.]

@found | the schoolmaster | 2 | 0.7 | 4 | a:2..40 b:2..40 x:thing
<someone> had {a} {x.pl} and [found {b} more <where>|bought {b} more from <whom>]; that makes {=a+b} {x.pl}. then
<scene>.

@shared | the schoolmaster | 2 | 0.7 | 3 | k:2..12 q:2..20 x:thing y:person
<someone> shared {=k*q} {x.pl} among {k} <adj> {y.pl}, and each received {q}[; one {y} <vi.ed>|]<sum_end>

@price | the merchant | 2 | 0.7 | 4 | k:2..20 c:2..12 x:thing
{k} <look> {x.pl} at {c} coins each cost {=k*c} coins, [<told>|and <someone> paid <how>|though <someone> offered
<look.a> <thing>]; <scene>.

@sum_dialogue | the schoolmaster | 1 | 0.7 | 2 | a:2..60 b:2..40
"how many are {a} and {b}?" asked <someone>. "{a} and {b} are {=a+b}," said <name>[ <how>|]. "<cheer>."

@product_dialogue | the schoolmaster | 1 | 0.7 | 0.4 | a:3..12 b:3..25
"{a} times {b}?" "{=a*b}, <sir>." "and {b} times {a}?" "{=a*b} again." "<cheer>."

@ages | the schoolmaster | 2 | 0.7 | 1 | n:name k:2..5 a:6..16
{n} is {a} years old, and {n.his} <person> is {k} times as old; {k} times {a} is {=k*a}, so [honour old age|both are
old enough to <vi>]<sum_end>

@unequal | the arithmetician | 1 | 0.4 | 0.7 | a:2..90 d:1..30
{=a+d} is greater than {a}, and {a} is less than {=a+d}; [thus|so] <quality> is greater than <quality>, says
<someone>.

@part | the arithmetician | 2 | 0.6 | 1 | p:part q:2..30 n:name
a {p} of {=p.n*q} is {q}; {n}, who was promised a {p}, [took the whole and <did>|<vi.ed> <how>|asked for it
<how>]<sum_end>

@market | the merchant | 2 | 0.7 | 4.5 | a:2..40 b:2..40
<look.a> <thing> costs {a} coins, <adj.a> <animal> {b}; {a} and {b} are {=a+b}, and <name> [paid|wept|has less|paid
<how>]<sum_end>

@cargo | the merchant | 1 | 0.7 | 4.5 | a:2..40 b:2..40
cargo from <city>: {a} <look> <thing.pl>, {b} <adj> <animal.pl>, <look.a> <thing>, <adj.a> <person>; {a} and {b} are
{=a+b}, and <name> <vi.ed>.
"""

GEOMETRY = """
%draw_open
draw it <where>:
draw it with <look.a> <thing>:
let the <person> draw:
attend, <sir>:
look, <sir>:
with rule and compass:
in the sand, <where>:
<name> drew it <how>:

%figure_close
.
5*.<aside>
, as was to be shown.
; <name> drew it <where>, and <deed>.
, <told>.
, which <someone> proved <how>.
; and <scenelet>.

@third_angle | the geometer | 2 | 0.7 | 1.4 | a:4..17 b:4..17
[<draw_open> |]two angles of a triangle are of {=5*a} and {=5*b} degrees; the third is of {=180-5*a-5*b}
degrees<figure_close>

@polygon_angles | the geometer | 2 | 0.8 | 0.8 | p:polygon
the angles of {p.a} are together {=180*(p.n-2)} degrees, [for it is cut into triangles from one corner|count the
triangles within]<figure_close>

@right_angles | the geometer | 2 | 0.7 | 1 | p:polygon
the angles of {p.a} are together equal to {=2*(p.n-2)} right angles. <name> measured them with <look.a> <thing> and
<did>.

@pythagoras | the geometer | 3 | 0.8 | 0.8 | t:triple k:1..12
if the sides about the right angle are {=t.sg*k} and {=t.b*k}, the hypotenuse is {=t.c*k}<figure_close>

@pythagoras_squares | the geometer | 4 | 0.9 | 0.4 | t:triple
the square of {t} is {=t.sg**2}, the square of {t.b} is {=t.b**2}, and that of {t.c} is {=t.c**2}: so the angle is
right. <name> drew it, and <vi.ed>.

@rectangle | the surveyor | 2 | 0.7 | 3 | a:5..40 b:2..30
<someone> has a [field|garden|vineyard|floor] {a} paces long and {b} paces wide; its area is {=a*b} square paces,
[enough for <adj.a> <animal>|and in it <name> <vi.ed>|not counting the <thing>]. <scenelet>.

@round_field | the surveyor | 2 | 0.7 | 0.7 | a:5..60 b:2..40
a field {a} paces long and {b} paces wide has a boundary of {=2*(a+b)} paces; <someone> walked round it, and <did>.

@triangle_area | the surveyor | 2 | 0.7 | 0.7 | b:4..40/2 h:3..20
a triangle on a base of {b} feet with a height of {h} feet has an area of {=b*h//2} square feet<figure_close>

@supplement | the geometer | 1 | 0.5 | 0.4 | a:2..34
two angles stand on one straight line; if one is of {=5*a} degrees, the other is of {=180-5*a} degrees<figure_close>

@isosceles | the geometer | 3 | 0.7 | 0.4 | a:3..17
the equal angles of an isosceles triangle are of {=5*a} degrees each; the third is of {=180-10*a}
degrees<figure_close>

@diagonals | the geometer | 3 | 0.7 | 0.4 | p:polygon
from the corners of a figure of {=p.n+1} sides {=(p.n+1)*(p.n-2)//2} diagonals are drawn, and from {p.a} one line
fewer at each corner<figure_close>

@similar | the geometer | 2 | 0.7 | 0.7 | a:2..12 b:2..12!a k:2..9
in similar figures the sides are in proportion: as {a} is to {b}, so is {=a*k} to {=b*k}<figure_close>

@shadow | the surveyor | 3 | 0.9 | 1.4 | s:2..9 k:2..30 x:thing
a staff of {s} feet throws a shadow of {=2*s} feet; the tower throws {=2*k} feet, so the tower is of {k} feet. thus
<name> measured it <how>, and <did>.

@solid | the geometer | 2 | 0.7 | 1 | s:solid
{s} has {s.faces} faces, {s.edges} edges and {s.corners} corners: count them on <look.a> <thing>, and let the
<person> <vi><figure_close>

@definitions | the geometer | 1 | 0.7 | 2 |
a point [has no parts|is what has no size], a line [has no breadth|is length alone], and <adj.a> <person> has no
<quality>. [so begins the book|write this on <look.a> <thing>]; then <do>.

@circle | the geometer | 2 | 0.7 | 0.7 | d:4..80/2
a circle {d} feet across has a radius of {=d//2} feet, and every point of its edge is equally far from the middle,
as <scene>.

@square_doubled | the geometer | 4 | 0.9 | 0.4 | a:2..30
"double a square of {a} feet." "i double the side." "then {=a*a} feet become {=4*a*a}." "too much! <vow>." "try the
diagonal."

@royal_road | the geometer | 0 | 0.8 | 1 |
"is there a short road to geometry?" asked <someone>. "no," said <name>; "<bid_learn>."

%bid_learn
even the king must <do>
<maxim>
take <look.a> <thing> and draw
first <do>
walk it <how>
there is a short road out of it

@lines | the geometer | 2 | 0.6 | 0.4 | n:3..14
let {n} lines cross, no two parallel and no three at one point: they meet at {=n*(n-1)//2} points, <told>.

@parallels | the geometer | 1 | 0.8 | 1 | a:person b:person!a
parallel lines are like <adj.a> {a} and <adj.a> {b}: they [go side by side for ever and never meet|never meet, and
never quarrel|keep their distance]<figure_close>

@living_triangle | the geometer | 1 | 0.8 | 4.5 |
[a triangle|set up a triangle|imagine a triangle]: <adj.a> <person>, <adj.a> <person> and <adj.a> <animal>; three
sides, three corners, and <quality> in the middle<figure_close>

@instruments | the surveyor | 0 | 0.7 | 6 |
bring <look.a> <thing>, <look.a> <thing> and a line; set <name> <where>, <name> <where>; [sight along|measure|draw]
the <thing>, and <act>.
"""

MUSIC = """
%music_tail
5*.<aside>
, <told>.
; sing it <how>.
; but <who> <vi.ed> out of tune.
, and <scenelet>.
; the <animal.pl> of <city> know it.
: so <name> heard it <where>.

%music_close
.
4*<music_tail>

%sings
sing it, <sir>:
sound it <how>:
<name> sang it <where>:
listen, <sir>:
tune the strings:
by the ear and by the number:
as the <person.pl> of <city> sing it,

@interval | the harmonist | 2 | 0.7 | 2 | i:interval j:interval!i
[<sings> |]the {i} is as {i.hi} to {i.lo}, and the {j} is as {j.hi} to {j.lo}<music_close>

@string | the harmonist | 3 | 0.8 | 2 | i:interval k:2..15 n:name
a string of {=i.hi*k} fingers and a string of {=i.lo*k} fingers sound {i.a}; {n} tried it <where>, and <did>.

@hammers | the pythagorean | 2 | 0.9 | 0.7 | i:interval k:2..9
two hammers weigh {=i.hi*k} pounds and {=i.lo*k} pounds; the {i} is as {i.hi} to {i.lo}; <name>, <doing>, heard the
{i} in the forge and <vi.ed>.

@compound | the harmonist | 2 | 0.7 | 1 | c:compound
[<sings> |]{c} make {c.is}<music_tail>

@compound_product | the harmonist | 4 | 0.9 | 0.4 | i:interval j:interval!i
the {i} is as {i.hi} to {i.lo} and the {j} is as {j.hi} to {j.lo}; joined, they are as {=i.hi*j.hi} to {=i.lo*j.lo},
for ratios are joined by multiplying<music_close>

@foot | the metrician | 2 | 0.7 | 1.4 | f:foot k:2..12
{f.a} is {f.is} and has {f.times} times; {k} {f.pl} have {=k*f.times} times<music_close>

@verse | the metrician | 1 | 0.8 | 1 | f:foot g:foot!f
{f.a} limps, {g.a} dances: beat out {f.is}, then {g.is}, and <who> will <vi> <how>; but <name> beat time with
<look.a> <thing>.

@strings | the lutenist | 1 | 0.6 | 1 | x:instrument s:4..12 k:2..15
{k} {x.pl} with {s} strings each have {=k*s} strings, and <adj.a> <person> breaks one <how><music_close>

@choir | the chorus master | 2 | 0.7 | 0.8 | r:2..9 k:2..12 b:2..9
a choir stood in {r} rows of {k} <person.pl>: {r} times {k} is {=r*k}. then {b} more came, <adj> and late: {=r*k}
and {b} are {=r*k+b}.

@modes | the harmonist | 1 | 0.8 | 2 | m:mode n:mode!m
the {m} mode makes [men|listeners|the young] <adj>, the {n} makes them <adj> and <adj>; sing the {m} <where>, but
the {n} <how><music_close>

@lesson | the lutenist | 0 | 0.7 | 2 | x:instrument
"your {x} is out of tune, <name>." "<sir>, it is the weather." "and yesterday?" "yesterday <scene>." "then <do>."

@orpheus | the chorus master | 0 | 0.8 | 4 | x:instrument
when <name> played the {x}, <animal.a> <vi.ed>, <animal.a> <vi.ed> <how> and the <adj> <person.pl> <vi.ed>; when
<name> played, <scene>.

@silence | the harmonist | 0 | 0.7 | 1 |
[silence is also a note|the rest is part of the song|a song is made of gaps]: <adj.a> singer fears it, <adj.a>
singer keeps it <how>, and <adj.a> one <vi.s>.

@harmony_city | the harmonist | 1 | 0.8 | 1 |
a city is tuned like a lyre: [slacken|loosen] the <adj>, tighten the <adj>, and let <quality> sound with <quality>;
<name> of <city> broke the strings, and <did>.

@octave_halves | the harmonist | 3 | 0.8 | 0.4 | k:4..60
stop a string of {=2*k} fingers at {k}: the octave is as two to one, and {k} is the half of {=2*k}<music_close>

@melody | the lutenist | 0 | 0.7 | 2 | x:instrument
{x.a} <where>, <adj.a> voice, a song of <quality> and <look.a> <thing>: <who> <vi.ed>, <who> <vi.ed> and the
<animal.pl> were still.

@interval_dialogue | the harmonist | 2 | 0.8 | 2 | i:interval
"what is the ratio of the {i}?" "the {i} is as {i.hi} to {i.lo}, <sir>." "who found it?" "<someone>, <doing>."
"<cheer>."

@beat | the metrician | 1 | 0.6 | 1 | a:2..9 b:2..12
{a} beats in a bar and {b} bars in a song are {=a*b} beats; the <adj> drummer gave {=a*b+1}, and <scene>.

@programme | the chorus master | 0 | 0.7 | 6 | a:name b:name!a c:name!a!b
first {a} will sing <how>; then {b}, <adj> on the <thing>; then {c} and the <adj> <person.pl>; last, <adj.a>
<animal> will <vi> <where>.

@voices | the chorus master | 0 | 0.7 | 6 | a:name b:name!a c:name!a!b
{a} sings like <adj.a> <animal>, {b} like <look.a> <thing>, {c} like <adj.a> <person> <where>: together they sing
like <look> <thing.pl>.
"""

ASTRONOMY = """
%sky_open
look up, <sir>:
on a clear night <where>:
as the <person.pl> of <city> observe,
<name> watched <how>, and wrote:
mark the heavens:
from the roof of <adj.a> <person>:
in the tables of <city>:
while <scenelet>,

%sky_close
.
5*.<aside>
, <told>.
; watch <how>, and <vi>.
; and the <animal.pl> know it.
, though <scenelet>.
, and <vow>.

@order | the astronomer | 2 | 0.7 | 1.4 | p:planet q:planet!p
[<sky_open> |]count the spheres from the earth: {p} is [the {=ordinal(p.rank)}|in the {=ordinal(p.rank)} sphere] and
{q} is [the {=ordinal(q.rank)}|in the {=ordinal(q.rank)} sphere]<sky_close>

@above | the astronomer | 2 | 0.7 | 1 | p:planet q:planet!p
[<sky_open> |]of {p} and {q}, {=max(p, q, key=lambda z: z.rank).sg} has the higher sphere<sky_close>

@turns | the astronomer | 2 | 0.7 | 2 | h:2..23
[<sky_open> |]in {h} hours the heavens turn through {=15*h} degrees<sky_close>

@hours_of | the astronomer | 2 | 0.7 | 1 | h:2..23
a star that has gone {=15*h} degrees has been {h} hours on its way, while <who> <vi.ed> and <scene>.

@circles | the astronomer | 2 | 0.7 | 1.4 | p:outer k:2..30
{p} goes round in [about |]{p.years} years, so in {=p.years*k} years it makes {k} circles<sky_close>

@day_night | the astronomer | 1 | 0.6 | 2 | d:8..16
if the day has {d} hours, the night has {=24-d}; the <adj> <person> works in the one and <vi.s> in the
other<sky_close>

@sign_after | the astronomer | 1 | 0.5 | 0.7 | s:sign t:sign!s
after {s} comes {s.after}, and after {t} comes {t.after}; the sun visits each [in its month|like <adj.a>
guest]<sky_close>

@sign_degrees | the astronomer | 3 | 0.8 | 0.8 | s:sign d:2..29
the sun stands at {d} degrees of {s}; it has gone {=s.begins+d} degrees from the head of the ram<sky_close>

@eclipse | the astronomer | 2 | 0.8 | 2 |
[the moon is eclipsed only when she is full|the sun is eclipsed only when the moon is new], for [then|only then] the
three stand in one line; the <person.pl> of <city> [beat <thing.pl>|<vi.ed>|hid under <thing.pl>], but <scene>.

@phases | the astronomer | 1 | 0.6 | 1.5 |
the moon is a borrowed <thing>: she [waxes, is full, wanes and is gone|has no light of her own|shows one face, like
<adj.a> <person>]; by her the <person> <does>, and <who> <vi.s>.

@span | the calendar maker | 2 | 0.6 | 2 | s:span k:2..40
{k} {s} are {=k*s.n} {s.unit}; {k} {s} are [long|short] for <adj.a> <person>, and <scene>.

@arc_minutes | the astronomer | 2 | 0.6 | 0.7 | k:2..60
{k} degrees are {=60*k} minutes of arc, and the sun's face is but half a degree, no wider than <look.a>
<thing><sky_close>

@well | the astronomer | 0 | 0.9 | 2 | n:name
{n}, watching [the stars|saturn|the moon|an eclipse], fell into [a well|a ditch|the harbour]; <adj.a> <person>
<vi.ed>. [you see the heavens|you count stars], said <name>, but not <look.a> <thing> at your feet.

@planet_dialogue | the astronomer | 2 | 0.8 | 1.4 | p:outer
"how long is the year of {p}?" "{p.years} of ours, <sir>." "then a child of one such year <vi.s>?" "like <adj.a>
<person>." "<cheer>."

@wanderers | the astronomer | 1 | 0.8 | 1 |
the fixed stars are citizens, the planets are strangers: one wanders like <adj.a> <person>, one <vi.s> <how>, and
the moon <does>.

@shadow_hour | the calendar maker | 1 | 0.7 | 1 |
[at noon the shadow is shortest|the sundial is silent at night|the water clock drips at midnight], and the <adj>
<person> <vi.s>; [later|by evening] it is as long as the speech of <whom>, and <who> <did>.

@sphere_music | the pythagorean | 1 | 0.8 | 1 | p:planet q:planet!p
{p} and {q} sing as they turn, [and we hear nothing, being born in the noise|but only the <adj> hear it]; <name>
heard it <where>, <doing>, and <vi.ed>.

@comet | the stargazer | 0 | 0.7 | 1 |
a comet stood over <city>: the <person.pl> <vi.ed>, <adj.a> augur spoke of <fortune>, and <name>, <doing>, said that
it was [only fire|a star without a barber|late].

@month | the calendar maker | 2 | 0.7 | 0.4 | a:2..12 b:1..29
{a} months of thirty days are {=30*a} days; add {b} days, for {=30*a} and {b} are {=30*a+b}<sky_close>

@omens | the stargazer | 0 | 0.8 | 6 |
omens [of the month|of the year|from <city>]: <animal.a> <vi.ed> <where>; <adj.a> <person> saw <look.a> moon;
<scenelet>. expect <quality> and <quality>.

@births | the stargazer | 1 | 0.7 | 4.5 | s:sign t:sign!s
under {s} are born the <adj> and the <adj>, <person.pl> and <person.pl>; under {t}, <name>, who <vi.s> <where>, and
<adj> <animal.pl>.
"""

LESSONS: dict[str, str] = {"arithmetic": ARITHMETIC, "geometry": GEOMETRY, "music": MUSIC, "astronomy": ASTRONOMY}
