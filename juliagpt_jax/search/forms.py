"""Forms that an answer may be held to: a number, one of some labels, JSON by a schema.

Of JSON Schema this much: `type` object, array, string, integer, number, boolean and null, or a list of these; `enum`
and `const`; `properties`, all of them `required`; `items` with `minItems` and `maxItems`; `minLength` and `maxLength`;
`anyOf`. The keys are written in the schema's order. What has no bound in the schema gets one here, so that every answer
ends: LONGEST characters of a text, MOST_ITEMS of a list, DIGITS of a number. Any other keyword that would restrict is
refused, not passed over.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from juliagpt_jax.ground.errors import UserError
from juliagpt_jax.ground.words import near
from juliagpt_jax.search.automaton import Automaton, Piece, build, byte, either, maybe, row, text, times

DIGITS, PLACES = 15, 6  # of a number, before and behind its point
LONGEST, MOST_ITEMS, DEPTH = 64, 8, 8
LARGEST_FILE = 100_000  # bytes of a schema

_DIGIT = byte((0x30, 0x39))
_INTEGER = row(maybe(text("-")), either(text("0"), row(byte((0x31, 0x39)), times(_DIGIT, 0, DIGITS - 1))))
_NUMBER = row(_INTEGER, maybe(row(text("."), times(_DIGIT, 1, PLACES))))
_TAIL = byte((0x80, 0xBF))
# A character of a JSON text: as it is in UTF-8 (table 3-7 of the Unicode standard), or behind a backslash.
_CHARACTER = either(
    byte((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7F)),
    row(byte((0xC2, 0xDF)), _TAIL),
    row(byte((0xE0, 0xE0)), byte((0xA0, 0xBF)), _TAIL),
    row(byte((0xE1, 0xEC), (0xEE, 0xEF)), _TAIL, _TAIL),
    row(byte((0xED, 0xED)), byte((0x80, 0x9F)), _TAIL),
    row(byte((0xF0, 0xF0)), byte((0x90, 0xBF)), _TAIL, _TAIL),
    row(byte((0xF1, 0xF3)), _TAIL, _TAIL, _TAIL),
    row(byte((0xF4, 0xF4)), byte((0x80, 0x8F)), _TAIL, _TAIL),
    row(text("\\"), byte(*((ord(c), ord(c)) for c in '"\\/bfnrt'))),
)
_COMMA, _COLON = row(text(","), maybe(text(" "))), row(text(":"), maybe(text(" ")))


def asked(grammar: str | None, calculator: bool, draft: bool = False, stop: bool = False) -> Automaton | None:
    """Return the form that --grammar names, before a model is read; None without one.

    Args:
        draft, stop: --draft and --stop are given.

    Raises:
        UserError: there is no such form, or what is given besides does not go with it.
    """
    if draft and (grammar is not None or calculator):
        raise UserError("--draft guesses freely: it does not go with --grammar and --calculator")
    if grammar is None:
        return None
    if stop:
        raise UserError("--stop does not go with --grammar: a form ends by itself")
    if calculator:
        raise UserError("--grammar and --calculator: give one of them; a form says already what may be written")
    return form(grammar)


def form(word: str) -> Automaton:
    """Return the form that --grammar names: "number", "integer", "labels:yes,no" or "json:FILE".

    Raises:
        UserError: there is no such form, or its schema says what is not supported.
    """
    name, _, rest = word.partition(":")
    if name not in FORMS:
        raise UserError(f"no form is called {name[:40]!r}{near(name, FORMS)}, only {', '.join(FORMS)}")
    return begun(FORMS[name](rest))


def begun(piece: Piece) -> Automaton:
    """Return a form before which one blank may stand, as many tokens begin with one."""
    return build(row(maybe(text(" ")), piece))


def of_labels(labels: list[str]) -> Piece:
    """Return the piece that is one of some labels.

    Raises:
        UserError: there is none, or one is empty.
    """
    if not labels or not all(label.strip() for label in labels):
        raise UserError("labels: at least one, and none of them empty: labels:yes,no")
    return either(*map(text, labels))


def of_schema(schema: Any) -> Piece:
    """Return the piece that is JSON of a schema.

    Raises:
        UserError: the schema is none, or has what is not supported.
    """
    return _value(schema, "schema", 0)


def _read(path: str) -> Piece:
    file = Path(path).expanduser()
    if not path:
        raise UserError("--grammar=json:FILE needs the file of a JSON schema")
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise UserError(f"{path}: more than {LARGEST_FILE:,} bytes are no small schema")
        return of_schema(json.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {error}") from error


def _bare(piece: Piece, name: str) -> Callable[[str], Piece]:
    def made(rest: str) -> Piece:
        if rest:
            raise UserError(f"--grammar={name} takes nothing behind it, not {rest[:40]!r}")
        return piece

    return made


def _value(schema: Any, where: str, depth: int) -> Piece:
    if not isinstance(schema, Mapping):
        raise UserError(f"{where}: a schema is an object, not {json.dumps(schema)[:40]}")
    if depth > DEPTH:
        raise UserError(f"{where}: schemas in schemas go {DEPTH} deep at most")
    unknown = [key for key in schema if key not in _SAID and key not in _READ]
    if unknown:
        raise UserError(f"{where}: {unknown[0]!r} is not supported, only {', '.join(sorted(_READ))}")
    choices = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if choices is not None:
        _only(schema, where, {"enum", "const", "type"})
        if not isinstance(choices, list) or not choices:
            raise UserError(f"{where}: enum is a list of at least one value")
        return either(*(_exactly(choice, where) for choice in choices))
    if "anyOf" in schema:
        _only(schema, where, {"anyOf"})
        if not isinstance(schema["anyOf"], list) or not schema["anyOf"]:
            raise UserError(f"{where}: anyOf is a list of at least one schema")
        return either(*(_value(own, f"{where}.anyOf[{n}]", depth + 1) for n, own in enumerate(schema["anyOf"])))
    kinds = schema.get("type", "object" if "properties" in schema else None)
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list) or not kinds or not all(isinstance(kind, str) for kind in kinds):
        raise UserError(f"{where}: needs a type: {', '.join(_TYPES)}")
    for kind in kinds:
        if kind not in _TYPES:
            raise UserError(f"{where}: no type is called {kind!r}{near(kind, _TYPES)}")
    _only(schema, where, {"type"}.union(*(_TYPES[kind][0] for kind in kinds)))
    return either(*(_TYPES[kind][1](schema, where, depth) for kind in kinds))


def _exactly(value: Any, where: str) -> Piece:
    try:
        return text(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _only(schema: Mapping[str, Any], where: str, allowed: set[str]) -> None:
    wrong = [key for key in schema if key in _READ and key not in allowed]
    if wrong:
        raise UserError(f"{where}: {wrong[0]!r} says nothing beside {', '.join(sorted(allowed & schema.keys()))}")


def _object(schema: Mapping[str, Any], where: str, depth: int) -> Piece:
    properties = schema.get("properties", {})
    if not isinstance(properties, Mapping):
        raise UserError(f"{where}: properties is an object of schemas")
    required = schema.get("required", [])
    if not isinstance(required, list) or {*map(str, required)} != set(properties):
        raise UserError(f"{where}: required must name every one of properties, and nothing else")
    if schema.get("additionalProperties", False) not in (False, True):
        raise UserError(f"{where}: additionalProperties is true or false")
    members = []
    for name, own in properties.items():
        key = _exactly(name, where)
        members.append(row(key, _COLON, _value(own, f"{where}.{name}", depth + 1)))
    between = [piece for member in members for piece in (_COMMA, member)][1:]
    return row(text("{"), *between, text("}"))


def _array(schema: Mapping[str, Any], where: str, depth: int) -> Piece:
    if "items" not in schema:
        raise UserError(f"{where}: an array needs items, the schema of each")
    least, most = _bounds(schema, where, "minItems", "maxItems", MOST_ITEMS)
    item = _value(schema["items"], f"{where}.items", depth + 1)
    some = row(item, times(row(_COMMA, item), max(0, least - 1), most - 1)) if most else row()
    inside = some if least else maybe(some) if most else row()
    return row(text("["), inside, text("]"))


def _string(schema: Mapping[str, Any], where: str, depth: int) -> Piece:
    least, most = _bounds(schema, where, "minLength", "maxLength", LONGEST)
    return row(text('"'), times(_CHARACTER, least, most), text('"'))


def _bounds(schema: Mapping[str, Any], where: str, low: str, high: str, most: int) -> tuple[int, int]:
    least = schema.get(low, 0)
    most = schema.get(high, max(most, least) if type(least) is int else most)
    if type(least) is not int or type(most) is not int or not 0 <= least <= most:
        raise UserError(f"{where}: {low} and {high} are whole numbers, the first not above the second")
    return least, most


_plain = lambda piece: lambda schema, where, depth: piece
# `_TYPES[type]` is the keywords that it reads and the piece that it makes.
_TYPES: dict[str, tuple[set[str], Callable[[Mapping[str, Any], str, int], Piece]]] = {
    "object": ({"properties", "required", "additionalProperties"}, _object),
    "array": ({"items", "minItems", "maxItems"}, _array),
    "string": ({"minLength", "maxLength"}, _string),
    "integer": (set(), _plain(_INTEGER)),
    "number": (set(), _plain(_NUMBER)),
    "boolean": (set(), _plain(either(text("true"), text("false")))),
    "null": (set(), _plain(text("null"))),
}
_READ = {"type", "enum", "const", "anyOf"}.union(*(keys for keys, _ in _TYPES.values()))
_SAID = {"$schema", "$id", "$comment", "title", "description", "default", "examples", "deprecated"}  # restrict nothing
# `FORMS[name](what stands behind the colon)` is the piece of a form.
FORMS: dict[str, Callable[[str], Piece]] = {
    "number": _bare(_NUMBER, "number"),
    "integer": _bare(_INTEGER, "integer"),
    "labels": lambda rest: of_labels(rest.split(",")),
    "json": _read,
}
