"""Sums and arguments as puzzles: what they ask, what follows, what a user may write."""

import itertools

import numpy as np
import pytest

from juliagpt_jax.data.puzzles import build, logic
from juliagpt_jax.data.puzzles.logic import Logic
from juliagpt_jax.data.tasks import lessons
from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.schoolroom.logic import follows, proposition


@pytest.fixture
def puzzles(tiny):
    def make(*overrides):
        own = ["data.puzzle.kind=logic", "data.path=generated", "model.kind=recursive", "train.objective=recursive"]
        few = ["data.puzzle.side=40", "data.puzzle.train=40", "data.puzzle.test=20", "model.context=160"]
        found = build.build_puzzles(tiny(*own, *few, *overrides))
        assert isinstance(found, Logic)
        return found

    return make


def test_the_answers_are_those_of_the_lessons():
    """The generator knows each answer by its form, `answer` finds it by trying what follows."""
    rng, forms = np.random.default_rng(0), set()
    for tried in range(600):
        draw = lessons.draw_argument if tried % 2 else lessons.draw_sum
        _, example = draw(rng)
        question, said = logic.parse(example.prompt + example.answer)
        assert said == example.answer == logic.answer(question), example
        forms.add(example.facts.get("form", example.facts.get("kind")))
    assert len(forms) == len(lessons.ARGUMENTS) + 4


TERMS = ("cooks", "owls", "poets")
SAID = [
    form.format(a, b)
    for a, b in itertools.permutations(TERMS, 2)
    for form in ("all {} are {}", "no {} are {}", "some {} are {}", "some {} are not {}")
]


def worlds():
    """Every set of kinds of things that there are, each thing a cook or not, an owl or not, a poet or not."""
    things = list(itertools.product((False, True), repeat=3))
    return (some for many in range(5) for some in itertools.combinations(things, many))


def holds(said, world):
    form, subject, predicate = proposition(said)
    s, p = [f"{term}s" for term in (subject, predicate)]
    both = [(thing[TERMS.index(s)], thing[TERMS.index(p)]) for thing in world]
    return {
        "A": all(b for a, b in both if a),
        "E": not any(a and b for a, b in both),
        "I": any(a and b for a, b in both),
        "O": any(a and not b for a, b in both),
    }[form]


def test_what_follows_is_what_holds_in_every_world():
    """Of all pairs of premises about three kinds: an argument fails where a world of at most four things does. The
    conclusion that is found is one of those that hold, and none is found where none needs both premises."""
    true = {said: frozenset(i for i, world in enumerate(worlds()) if holds(said, world)) for said in SAID}
    valid = lambda premises, said: frozenset.intersection(*(true[p] for p in premises)) <= true[said]
    several = 0
    for pair in itertools.combinations(SAID, 2):
        follow = {said for said in SAID if valid(pair, said)}
        assert follow == {said for said in SAID if follows([*map(proposition, pair)], proposition(said))}, pair
        needs = {said for said in follow if not any(valid([one], said) for one in pair)}
        ends = {term for said in pair for term in said.split() if term in TERMS and " ".join(pair).count(term) == 1}
        needs = {said for said in needs if len(ends) == 2 and ends <= {*said.split()}}
        found = logic.conclusion(pair)
        assert found in needs if needs else not found, pair
        several += len(needs) > 1
    assert several > 10


def test_generated_puzzles(puzzles):
    one = puzzles()
    one.load()
    keys = []
    for part in (one.train, one.test):
        keys.append({min(logic.orders(one.question(tokens))) for tokens in part.inputs})
        for puzzle, answer in zip(part.inputs, part.targets, strict=True):
            assert not one.refuse(puzzle) and not one.wrong(puzzle, answer)
            assert (puzzle.reshape(one.shape)[-1] == one.symbols.index("_")).all()
    assert [len(some) for some in keys] == [40, 20] and not keys[0] & keys[1]
    hard = one.hardness(one.train.inputs)
    assert set(hard.tolist()) == {0, 2, 3} and 10 <= (hard == 0).sum() <= 30


def test_what_is_offered_is_sound_and_a_function_of_its_step(puzzles):
    one, other = puzzles(), puzzles()
    one.load()
    other.load()
    assert one.fingerprint == other.fingerprint
    offered, again = one.offer(3, 5, 60), other.offer(3, 5, 60)
    np.testing.assert_array_equal(offered.inputs, again.inputs)
    np.testing.assert_array_equal(offered.targets, again.targets)
    assert not any(one.wrong(*pair) for pair in zip(offered.inputs, offered.targets, strict=True))
    known = {tokens.tobytes() for tokens in one.train.inputs}
    assert any(tokens.tobytes() not in known for tokens in offered.inputs)
    forms = {min(logic.orders(one.question(tokens))) for tokens in one.train.inputs}
    assert {min(logic.orders(one.question(tokens))) for tokens in offered.inputs} <= forms


SYLLOGISM = "all poets are owls; some cooks are poets; therefore"


@pytest.mark.parametrize(
    "line, said, says",
    [
        (SYLLOGISM, "some cooks are owls", ""),
        (SYLLOGISM, "some owls are cooks", ""),
        (SYLLOGISM, "all cooks are owls", "does not follow"),
        (SYLLOGISM, "some cooks are poets", "does not follow"),
        (SYLLOGISM, "some cooks __e owls", "2 places are blank"),
        ("forty-one less seven is", "thirty-four", ""),
        ("forty-one less seven is", "thirty-three", "another number"),
        ("forty-one less seven is", "thirty-four poets", "another number"),
        ("two hundred and one and three are", "two hundred and four", ""),
        ("sixty divided by five is", "twelve", ""),
    ],
)
def test_the_verifier(puzzles, tmp_path, line, said, says):
    one, path = puzzles(), tmp_path / "mine.txt"
    path.write_text(f"# mine\n{line}\n")
    (given,) = one.read(path)
    assert given.name == f"{path}:2" and not one.refuse(given.puzzle)
    answer = one._lay(one.question(given.puzzle), said)
    why = one.wrong(given.puzzle, answer)
    assert (says in why) if says else not why
    assert one.text(answer) == f"{line} {said}" and said in one.beside(given.puzzle, answer)
    changed = answer.copy()
    changed[0] = one.symbols.index("z")
    assert "the question was changed" in one.wrong(given.puzzle, changed)


@pytest.mark.parametrize(
    "line, says",
    [
        ("all poets are owls", "neither a sum"),
        ("Seven and seven are", "neither a sum"),
        ("all poets are Owls; some cooks are poets; therefore", "'O' is no small letter"),
        ("seven less nine is", "no whole number"),
        ("seven divided by two is", "no whole number"),
        ("some poets are owls; some cooks are poets; therefore", "nothing follows"),
        ("all poets are owls; all poets are owls; therefore", "nothing follows"),
        ("all poets are owls; all cooks are cooks; therefore", "nothing follows"),
        ("poets sing; owls listen; therefore", "nothing follows"),
        (f"{SYLLOGISM} no cooks are owls", "the answer beside it is none: 'no cooks are owls' does not follow"),
        (f"all {'very ' * 8}old poets are owls; all owls are cooks; therefore", "a row of 62 characters"),
        ("", "no puzzle in it"),
    ],
)
def test_what_is_no_puzzle_is_refused_with_its_line(puzzles, tmp_path, line, says):
    path, one = tmp_path / "mine.txt", puzzles()
    path.write_text(line)
    with pytest.raises(UserError, match=says) as error:
        for given in one.read(path):
            if reason := one.refuse(given.puzzle):
                raise UserError(f"{given.name}: {reason}")
    assert "mine.txt" in str(error.value)


def test_puzzles_from_a_file(puzzles, tmp_path):
    one = puzzles()
    one.load()
    path = tmp_path / "mine.txt"
    turned = one.vary(np.random.default_rng(0), one.train)
    path.write_text("\n".join(one.text(tokens) for tokens in [*one.train.targets, *turned.targets]))
    read = puzzles(f"data.path={path}", "data.puzzle.train=30", "data.puzzle.test=10")
    read.load()
    assert {*map(bytes, np.int8(read.train.inputs))} < {*map(bytes, np.int8(one.train.inputs))}
    assert len(read.train.inputs) == 30 and len(read.test.inputs) == 10
    with pytest.raises(UserError, match="40 different puzzles"):
        puzzles(f"data.path={path}", "data.puzzle.train=30", "data.puzzle.test=11").load()


@pytest.mark.parametrize(
    "override, says",
    [("data.puzzle.side=20", "32 to 64 characters, not 20"), ("data.path=nowhere", "no such file")],
)
def test_settings_without_sense_are_refused(puzzles, override, says):
    with pytest.raises(UserError, match=says):
        puzzles(override)
