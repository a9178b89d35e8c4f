"""From method and path to the rpc: literal paths by one look-up, the others through a small trie.

Literal segments win over variables, and `{x=**}` comes last. Where a more literal path does not take the method, a less
literal one that does is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from core.kernel.rpc import BindingError

T = TypeVar("T")

_VARIABLE = re.compile(r"\{([a-zA-Z0-9_.]+)(?:=([^}]*))?\}")
_ENCODED_SLASH = re.compile(r"%2f", re.IGNORECASE)
_REFUSED = frozenset({"", ".", ".."})
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable of a template.

    Attributes:
        name: Field path.
        start: Index of its first segment.
        stop: Index after its last segment; None for all that follow.
    """

    name: str
    start: int
    stop: int | None


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed path template.

    Attributes:
        segments: Literals, `*` and `**`.
        variables: Variables in order.
        verb: What follows the colon after a final variable; empty when there is none.
    """

    segments: tuple[str, ...]
    variables: tuple[Variable, ...]
    verb: str

    @classmethod
    @cache
    def parse(cls, path: str) -> Template:
        """Parse the path of an HTTP rule.

        Raises:
            BindingError: It is no path template.
        """
        segments: list[str] = []
        variables: list[Variable] = []
        rest, verb = path, ""
        if path.startswith("/"):
            ending = re.search(r"\}:([^/{}]+)$", path)
            if ending:
                verb, rest = ending[1], path[: ending.start() + 1]
        for part in _split(rest):
            found = _VARIABLE.fullmatch(part)
            inner = (found[2] or "*").split("/") if found else [part]
            if found:
                stop = None if inner[-1] == "**" else len(segments) + len(inner)
                variables.append(Variable(found[1], len(segments), stop))
            segments.extend(inner)
        if not path.startswith("/") or any("{" in s or "}" in s for s in segments) or "**" in segments[:-1]:
            raise BindingError(f"{path} is no path template")
        return cls(tuple(segments), tuple(variables), verb)

    @property
    def literal(self) -> bool:
        """Whether the template names one path."""
        return not self.variables and "*" not in self.segments and "**" not in self.segments


@dataclass(slots=True)
class _Entry(Generic[T]):
    template: Template
    owner: str
    target: T


@dataclass(slots=True)
class _Node(Generic[T]):
    literals: dict[str, _Node[T]] = field(default_factory=dict[str, "_Node[T]"])
    star: _Node[T] | None = None
    # By verb, then by method; the second table serves `**`.
    ends: dict[str, dict[str, _Entry[T]]] = field(default_factory=dict[str, dict[str, "_Entry[T]"]])
    deep: dict[str, dict[str, _Entry[T]]] = field(default_factory=dict[str, dict[str, "_Entry[T]"]])


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """What serves a request: the target, and the values of the template's variables in order."""

    target: T
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Miss(Generic[T]):
    """Nothing serves the request.

    Attributes:
        allowed: Methods of the path; none for an unknown one.
        near: What serves the path by another method.
    """

    allowed: tuple[str, ...] = ()
    near: T | None = None


REMEMBERED = 4096
"""Paths whose way is remembered: the same boards and sources are asked for again and again."""


class Router(Generic[T]):
    """Finds what serves a method and a path."""

    def __init__(self) -> None:
        self._literal: dict[str, dict[str, _Entry[T]]] = {}
        self._root: _Node[T] = _Node()
        self._found: dict[tuple[str, str], Match[T]] = {}

    def add(self, method: str, path: str, owner: str, target: T) -> None:
        """Add a route.

        Raises:
            BindingError: The path is no template, or another owner has the same method and path.
        """
        template = Template.parse(path)
        table = self._literal.setdefault(path, {}) if template.literal else self._table(template)
        if method in table:
            raise BindingError(f"{table[method].owner} and {owner} both want {method} {path}")
        table[method] = _Entry(template, owner, target)

    def find(self, method: str, path: str, raw: bytes | None = None) -> Match[T] | Miss[T]:
        """Find what serves a request; `raw` is the path before percent-decoding, where there is one."""
        if raw is not None and b"%" in raw:
            return self._find(method, path, raw)
        found = self._found.get((method, path))
        if found is None:
            found = self._find(method, path, raw)
            if isinstance(found, Match):
                if len(self._found) >= REMEMBERED:
                    self._found.clear()
                self._found[method, path] = found
        return found

    def _find(self, method: str, path: str, raw: bytes | None) -> Match[T] | Miss[T]:
        segments = _decoded(path, raw)
        if segments is None:
            return Miss()
        # An encoded slash is no slash: such a path is no literal one.
        table = self._literal.get(path) if len(segments) == path.count("/") else None
        if table is not None and (entry := table.get(method)) is not None:
            return Match(entry.target)
        others = dict(table or {})
        fits: list[tuple[dict[str, dict[str, _Entry[T]]], bool]] = []
        _walk(self._root, segments, 0, fits)
        for ends, deep in fits:
            for verb, entries in ends.items():
                entry = entries.get(method)
                template = (entry or next(iter(entries.values()))).template
                values = _values(template, segments, verb, deep=deep)
                if values is None:
                    continue
                if entry is not None:
                    return Match(entry.target, values)
                others |= entries
        return Miss(tuple(others), next((entry.target for entry in others.values()), None))

    def _table(self, template: Template) -> dict[str, _Entry[T]]:
        node = self._root
        for segment in template.segments:
            if segment == "**":
                return _by_verb(node.deep, template.verb)
            if segment == "*":
                node.star = node.star or _Node()
                node = node.star
            else:
                node = node.literals.setdefault(segment, _Node())
        return _by_verb(node.ends, template.verb)


def _by_verb(tables: dict[str, dict[str, _Entry[T]]], verb: str) -> dict[str, _Entry[T]]:
    table = tables.setdefault(verb, {})
    # Verbs come before the plain form, whose variable would swallow them, and longer ones first.
    ordered = sorted(tables.items(), key=lambda item: len(item[0]), reverse=True)
    tables.clear()
    tables.update(ordered)
    return table


def _walk(node: _Node[T], segments: list[str], depth: int, fits: list[tuple[dict[str, dict[str, _Entry[T]]], bool]]) -> None:
    """Collect the tables of all nodes that fit, most literal first, each with whether it is one of `**`."""
    if depth == len(segments):
        if node.ends:
            fits.append((node.ends, False))
    else:
        literal = node.literals.get(segments[depth])
        if literal is not None:
            _walk(literal, segments, depth + 1, fits)
        if node.star is not None and segments[depth]:
            _walk(node.star, segments, depth + 1, fits)
    if node.deep:
        fits.append((node.deep, True))


def _values(template: Template, segments: list[str], verb: str, *, deep: bool) -> tuple[str, ...] | None:
    """Return the values of the variables; None where the path does not end with the verb or a value could not be one."""
    if verb:
        if not segments[-1].endswith(f":{verb}"):
            return None
        segments = [*segments[:-1], segments[-1][: -len(verb) - 1]]
    values: list[str] = []
    for variable in template.variables:
        parts = segments[variable.start : variable.stop]
        single = not deep or variable.stop is not None
        for part in parts:
            if part in _REFUSED or not (part.isprintable() or not _UNSAFE.search(part)) or (single and "/" in part):
                return None
        values.append("/".join(parts) if len(parts) != 1 else parts[0])
    return tuple(values)


def _decoded(path: str, raw: bytes | None) -> list[str] | None:
    """Return the segments of a path; None when it is not UTF-8. An encoded slash does not end a segment."""
    if raw is None or b"%" not in raw:
        return None if "\ufffd" in path else path.split("/")[1:]
    try:
        return [_segment(part) for part in raw.decode().split("/")[1:]]
    except UnicodeDecodeError:
        return None


def _segment(part: str) -> str:
    return unquote_to_bytes(_ENCODED_SLASH.sub("%2F", part)).decode()


def _split(path: str) -> list[str]:
    """Split a template at the slashes outside of braces."""
    return re.findall(r"(?:\{[^}]*\}|[^/{}]|[{}])+|(?<=/)(?=/|$)", path) or [""]
