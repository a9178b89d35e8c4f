"""Edits of repetitive code, written as models write them, whose right outcome is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

CALLS = ("load", "save", "check", "send", "read")
NAMES = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta")


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit.

    Attributes:
        path: File, in Python or JavaScript.
        kind: What the description names it.
        original: Text before.
        block: What the reply has for it.
        wanted: Text after it.
    """

    path: str
    kind: str
    original: str
    block: str
    wanted: str


def edits(number: int, seed: int = 1) -> Iterator[Edit]:
    """Yield edits, the same for each seed."""
    random = Random(seed)  # noqa: S311 - it only has to be the same each time
    while number:
        made = _Writer(random).edit()
        if made is not None:
            number -= 1
            yield made


class _Writer:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.braces = random.random() < 0.5
        self.step = "  " if self.braces else "    "
        self.reference = ("//" if self.braces else "#") + " ... existing code ..."

    def edit(self) -> Edit | None:
        old: list[str] = ["import a", ""]
        spans: list[tuple[int, int]] = []
        for name in self.random.sample(NAMES, 4):
            start = len(old)
            old += self._function(name)
            spans.append((start, len(old)))
            old.append("")
        old.pop()
        start, end = self.random.choice(spans)
        make = self.random.choice([self._statements, self._statements, self._whole, self._added_function])
        made = make(old, start, end)
        if made is None:
            return None
        kind, block, wanted = made
        texts = ["\n".join(lines) + "\n" for lines in (old, block, wanted)]
        return Edit("a.js" if self.braces else "a.py", kind, *texts)

    def _function(self, name: str) -> list[str]:
        head = f"function {name}(x) {{" if self.braces else f"def {name}(x):"
        return [head, *self._body(1), self._statement(1, "return x"), *(["}"] if self.braces else [])]

    def _body(self, depth: int) -> list[str]:
        lines: list[str] = []
        for _ in range(self.random.randint(1, 4)):
            if depth < 3 and self.random.random() < 0.25:
                head = f"if (x{depth}) {{" if self.braces else f"if x{depth}:"
                lines += [self.step * depth + head, *self._body(depth + 1), *([self.step * depth + "}"] if self.braces else [])]
            else:
                call = f"{self.random.choice(CALLS)}(x{self.random.randint(1, 2)})"
                lines.append(self._statement(depth, call))
        return lines

    def _statement(self, depth: int, text: str) -> str:
        return self.step * depth + text + (";" if self.braces else "")

    def _statements(self, old: list[str], start: int, end: int) -> tuple[str, list[str], list[str]] | None:
        """Add, replace or remove statements, and show some lines around them, perhaps with the head of the function."""
        kind = self.random.choice(["add", "replace", "remove"])
        first = self.random.randint(start + 1, end - 2)
        last = first if kind == "add" else min(first + self.random.randint(1, 2), end - 1)
        indents = {len(line) - len(line.lstrip()) for line in old[first - 1 : last + 1]}
        if len(indents) > 1 or any(line.endswith(("{", "}", ":")) for line in old[first - 1 : last + 1]):
            return None
        indent = indents.pop()
        new = [] if kind == "remove" else [" " * indent + f"fresh_{n}(x)" for n in range(self.random.randint(1, 3))]
        before = max(start, first - self.random.randint(1, 3))
        behind = min(end, last + self.random.randint(1, 3))
        block = [self.reference]
        if before > start and self.random.random() < 0.5:
            block += [old[start], *([self.step + self.reference] if before > start + 1 else [])]
        block += [*old[before:first], *new, *old[last:behind]]
        return kind, [*block, *([self.reference] if behind < len(old) else [])], [*old[:first], *new, *old[last:]]

    def _whole(self, old: list[str], start: int, end: int) -> tuple[str, list[str], list[str]]:
        """Write a function anew."""
        new = [old[start], *self._function("")[1:]]
        behind = ["", self.reference] if end < len(old) else []
        return "replace", [self.reference, "", *new, *behind], [*old[:start], *new, *old[end:]]

    def _added_function(self, old: list[str], _start: int, end: int) -> tuple[str, list[str], list[str]]:
        """Add a function behind another, and show how that ends and how the next one begins."""
        new = ["", *self._function("nova")]
        before = end - self.random.randint(1, 3)
        behind = [*old[end : end + 2], self.reference] if end < len(old) else []
        return "add", [self.reference, *old[before:end], *new, *behind], [*old[:end], *new, *old[end:]]
