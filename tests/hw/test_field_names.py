"""Fields in `write`, `update` and `wait` calls are keyword arguments, which mypy cannot check: each one must exist.

The source files are parsed. `nic.RXDCTL[queue].update(ENABLE=1)` names its register; a variable is followed to the
assignments and loops of its function (`control = nic.RXDCTL[queue]`) or to its annotation (`Accessor[LINKS]`), and
`self.control` to the assignments in its file.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from ixrings.hw import fields
from ixrings.hw.register import Row, Word
from ixrings.hw.registers import Registers, VfRegisters

ROOT = Path(__file__).parents[2]
FOLDERS = ("driver", "hw", "tests", "examples")
METHODS = {"write", "update", "wait"}
NOT_FIELDS = {"timeout", "section"}
WRONG_ON_PURPOSE = {"tests/hw/emulator/test_registers.py: TXDCTL has no ENABEL"}
MOST_NOT_RESOLVED = 5  # at present 0


@dataclass(frozen=True)
class Use:
    """One call with fields, and the layouts that its register may have."""

    place: str
    code: str
    names: tuple[str, ...]
    layouts: frozenset[tuple[str, type[Word]]]


@dataclass
class Variables:
    """The expressions that are assigned to each name in one function."""

    values: dict[str, list[ast.expr]] = field(default_factory=dict)
    annotations: dict[str, ast.expr] = field(default_factory=dict)

    @classmethod
    def of(cls, scope: ast.AST) -> Variables:
        found = cls()
        for node in own_nodes(scope):
            match node:
                case ast.Assign(targets=[target], value=value) | ast.NamedExpr(target=target, value=value):
                    found.bind(target, value)
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                    found.annotations[name] = annotation
                case ast.For(target=target, iter=values) | ast.comprehension(target=target, iter=values):
                    found.bind_each(target, values)
                case ast.arg(arg=name, annotation=ast.expr() as annotation):
                    found.annotations[name] = annotation
        return found

    def bind(self, target: ast.expr, value: ast.expr) -> None:
        match target, value:
            case ast.Tuple(elts=targets), ast.Tuple(elts=values):
                for each, of in zip(targets, values):
                    self.bind(each, of)
            case ((ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name)), _):
                self.values.setdefault(name, []).append(value)

    def bind_each(self, target: ast.expr, values: ast.expr) -> None:
        """Bind the target of a loop over an array or a tuple of registers, also with zip() or enumerate()."""
        match target, values:
            case ast.Tuple(elts=[_, target]), ast.Call(func=ast.Name(id="enumerate"), args=[values, *_]):
                self.bind_each(target, values)
            case ast.Tuple(elts=targets), ast.Call(func=ast.Name(id="zip"), args=arguments):
                for each, of in zip(targets, arguments):
                    self.bind_each(each, of)
            case _, (ast.Tuple(elts=elements) | ast.List(elts=elements)):
                for element in elements:
                    self.bind(target, element)
            case _:
                self.bind(target, values)


def attributes(module: ast.Module) -> Variables:
    """The expressions that are assigned to `self.NAME` in the classes of a file."""
    found = Variables()
    for node in ast.walk(module):
        match node:
            case ast.Assign(targets=[ast.Attribute() as target], value=value):
                found.bind(target, value)
    return found


def own_nodes(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function or module, without the nodes of functions inside it."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, ast.FunctionDef):
            yield from own_nodes(child)


def layouts(of: ast.expr, scopes: list[Variables], depth: int = 4) -> frozenset[tuple[str, type[Word]]]:
    """(name, layout) of each register that the expression may be."""
    if not depth:
        return frozenset()
    match of:
        case ast.Subscript(value=ast.Name(id="Accessor"), slice=ast.Name(id=name) | ast.Attribute(attr=name)):
            layout = getattr(fields, name, None)
            return frozenset({(name, layout)} if layout else ())
        case ast.Subscript(value=value) | ast.Starred(value=value):
            return layouts(value, scopes, depth)
        case ast.IfExp(body=one, orelse=other):
            return layouts(one, scopes, depth) | layouts(other, scopes, depth)
        case ast.Attribute(attr=name) if isinstance(
            row := getattr(Registers, name, getattr(VfRegisters, name, None)), Row
        ):
            return frozenset({(name, row.layout)})
        case ast.Name(id=name) | ast.Attribute(value=ast.Name(id="self"), attr=name):
            for variables in scopes:
                if name in variables.values:
                    found = [layouts(value, scopes, depth - 1) for value in variables.values[name]]
                    return frozenset().union(*found) if all(found) else frozenset()
                if name in variables.annotations:
                    return layouts(variables.annotations[name], scopes, depth - 1)
    return frozenset()


def uses_in(scope: ast.AST, path: str, outer: list[Variables]) -> Iterator[Use]:
    scopes = [Variables.of(scope), *outer]
    for node in own_nodes(scope):
        match node:
            case ast.FunctionDef():
                yield from uses_in(node, path, scopes)
            case ast.Call(func=ast.Attribute(value=register, attr=method), keywords=keywords) if method in METHODS:
                names = tuple(each.arg for each in keywords if each.arg and each.arg not in NOT_FIELDS)
                if names and all(name.isupper() for name in names):
                    place = f"{path}:{node.lineno}"
                    yield Use(place, ast.unparse(node), names, layouts(register, scopes))


@cache
def uses() -> list[Use]:
    found: list[Use] = []
    for file in (file for folder in FOLDERS for file in sorted(ROOT.joinpath(folder).rglob("*.py"))):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        found += uses_in(tree, str(file.relative_to(ROOT)), [attributes(tree)])
    return found


@pytest.mark.slow
def test_every_field_that_is_written_or_waited_for_exists() -> None:
    missing = {
        f"{use.place.partition(':')[0]}: {register} has no {name}"
        for use in uses()
        for register, layout in use.layouts
        for name in use.names
        if name not in layout.fields
    }
    assert missing == WRONG_ON_PURPOSE


@pytest.mark.slow
def test_nearly_every_use_of_a_field_is_checked() -> None:
    not_resolved = [f"{use.place}: {use.code}" for use in uses() if not use.layouts]
    print(*not_resolved, sep="\n")
    assert sum(len(use.names) for use in uses() if use.layouts) > 500
    assert len(not_resolved) <= MOST_NOT_RESOLVED


@pytest.mark.parametrize(
    "code",
    [
        "nic.RXDCTL[0].update(ENABLE=1, ENABEL=1)",
        "control = self.raw.RXDCTL[0]\n    control.update(ENABEL=1)",
        "for q, control in enumerate(nic.RXDCTL):\n        control.wait(ENABEL=1, timeout=1)",
        "for control in (nic.TXDCTL[0], nic.RXDCTL[0]):\n        control.write(ENABEL=1)",
    ],
)
def test_a_misspelt_field_is_found(code: str) -> None:
    (use,) = uses_in(ast.parse(f"def step(nic):\n    {code}\n"), "driver/step.py", [])
    assert use.layouts and "ENABEL" in use.names
    assert all("ENABEL" not in layout.fields for _, layout in use.layouts)
