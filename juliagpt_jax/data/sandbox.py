"""Jinja as transformers runs chat templates, with bounds on what a template can make of its texts."""

import json
from collections.abc import Iterable
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# Filters and methods that make a text as long as a number says.
WIDENING = ("center", "wordwrap", "format", "indent", "urlize", "ljust", "rjust", "zfill", "expandtabs", "format_map")


class Refused(Exception):
    """Refusal of what a template asks for."""


class Generation(Extension):
    """`{% generation %}`, with which a template marks what the model writes: its contents, with `Sandbox.around` before
    and behind them."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the nodes between the tag and its end."""
        line = next(parser.stream).lineno
        inside = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        begin, end = (
            nodes.Output([nodes.TemplateData(text, lineno=line)], lineno=line)
            for text in self.environment.around  # pyright: ignore[reportAttributeAccessIssue]
        )
        return [begin, *inside, end]


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment whose texts and lists grow to `longest` at most; `around` stands around what the model writes."""

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, longest: int, around: tuple[str, str] = ("", "")):
        self.around = around
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
        self._longest = longest
        for name in WIDENING:
            self.filters.pop(name, None)
        self.filters |= {"tojson": _json, "join": self._join, "replace": self._replace}
        del self.globals["lipsum"]
        self.concat = self._join  # pyright: ignore[reportAttributeAccessIssue]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Return the tree of a template, in which `a ~ b` is the filter join, which is bounded."""
        tree = super()._parse(source, name, filename)
        for parent in [*reversed([*tree.find_all(nodes.Node)]), tree]:  # from the leaves up
            for field, value in parent.iter_fields():
                made = [_joined(own) for own in value] if isinstance(value, list) else _joined(value)
                setattr(parent, field, made)
        return tree

    def wrap_str_format(self, value: Any) -> None:
        """Leave a text's own `format` to `is_safe_attribute`, which has no place for it."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Say whether a template may have an attribute."""
        return attr not in WIDENING and super().is_safe_attribute(obj, attr, value)

    def call(self, context: Any, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls; a text's own `replace` and `join` as the filters of that name."""
        own = getattr(obj, "__self__", None)
        if isinstance(own, str) and obj.__name__ in ("replace", "join"):
            return self._replace(own, *args) if obj.__name__ == "replace" else self._join(args[0], own)
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Return the result of an operation that can make something large, where it does not."""
        if operator in ("**", "%") and not (operator == "%" and isinstance(left, int)):
            raise Refused(f"{type(left).__name__} {operator} {type(right).__name__}")
        size = lambda value: len(value) if hasattr(value, "__len__") else 1
        if operator == "+":
            self._hold(size(left) + size(right))
        if operator == "*":
            if all(isinstance(value, int) for value in (left, right)):
                self._hold(max(abs(left), 1) * max(abs(right), 1))
            else:
                number = next((value for value in (left, right) if isinstance(value, int)), 1)
                self._hold(size(left) * size(right) * max(number, 1))
        return super().call_binop(context, operator, left, right)

    def _hold(self, size: int) -> None:
        if size > self._longest:
            raise Refused(f"a text or a number of {size:,}")

    def _join(self, values: Iterable[Any], between: str = "", attribute: str | int | None = None) -> str:
        picked = (value[attribute] for value in values) if attribute is not None else values
        parts, size = [], 0
        for value in picked:
            parts.append(str(value))
            size += len(parts[-1]) + len(between)
            self._hold(size)
        return between.join(parts)

    def _replace(self, text: str, old: str, new: str, count: int | None = None) -> str:
        text, old, new = str(text), str(old), str(new)
        self._hold(len(text) + text.count(old) * len(new))
        return text.replace(old, new, -1 if count is None else count)


def _joined(node: Any) -> Any:
    if not isinstance(node, nodes.Concat):
        return node
    items = nodes.List(node.nodes, lineno=node.lineno)
    return nodes.Filter(items, "join", [], [], None, None, lineno=node.lineno)


def _json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    if indent is not None and not 0 <= indent <= 16:
        raise Refused(f"indent={indent}")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)


def environment(longest: int, around: tuple[str, str] = ("", "")) -> Sandbox:
    """Return an environment to fill templates in."""
    return Sandbox(longest, around)
