"""Wrong variants of a program by single changes to its syntax tree, the mistakes that mutation testing knows.

Operators follow the usual set (DeMillo, Lipton and Sayward, "Hints on test data selection", 1978): replace an
arithmetic, comparison or Boolean operator, change a constant, negate a condition, swap a function for its opposite,
drop an operation or a statement, lose the returned value.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from typing import Any

_SWAPPED: dict[type[ast.AST], Any] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.FloorDiv,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}

_OPPOSITE_NAMES = {"min": "max", "any": "all", "upper": "lower", "startswith": "endswith", "lstrip": "rstrip"}
_OPPOSITE_NAMES |= {opposite: name for name, opposite in _OPPOSITE_NAMES.items()}

Change = Callable[[], None]


def mutants(program: str) -> list[str]:
    """All distinct single-change variants of `program` in the order of its syntax tree, written by `ast.unparse`.

    A variant may happen to be equivalent to the original; only its text is certain to differ. Raises SyntaxError when
    `program` does not parse.
    """
    original = ast.parse(program)
    seen = {ast.unparse(original): None}
    for index in range(sum(1 for _ in _changes(original))):
        tree = copy.deepcopy(original)
        next(change for position, change in enumerate(_changes(tree)) if position == index)()
        seen.setdefault(ast.unparse(ast.fix_missing_locations(tree)))
    return list(seen)[1:]


def _changes(tree: ast.Module) -> Iterator[Change]:
    """The possible changes, each a function that applies it to `tree` in place."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Constant() if id(node) in docstrings:
                continue
            case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in _SWAPPED:
                yield lambda node=node, op=op: setattr(node, "op", _SWAPPED[type(op)]())
            case ast.Compare(ops=[op, *_]) if type(op) in _SWAPPED:
                yield lambda node=node, op=op: node.ops.__setitem__(0, _SWAPPED[type(op)]())
            case ast.Constant(value=bool(value)):
                yield lambda node=node, value=value: setattr(node, "value", not value)
            case ast.Constant(value=int(value)):
                yield lambda node=node, value=value: setattr(node, "value", value + 1)
                if value > 0:
                    yield lambda node=node, value=value: setattr(node, "value", value - 1)
            case ast.Constant(value=str(value)) if value:
                yield lambda node=node, value=value: setattr(node, "value", value[:-1])
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
                yield lambda node=node, test=test: setattr(node, "test", ast.UnaryOp(ast.Not(), test))
            case ast.Name(id=name) if name in _OPPOSITE_NAMES:
                yield lambda node=node, name=name: setattr(node, "id", _OPPOSITE_NAMES[name])
            case ast.Attribute(attr=name) if name in _OPPOSITE_NAMES:
                yield lambda node=node, name=name: setattr(node, "attr", _OPPOSITE_NAMES[name])
            case ast.Return(value=ast.expr() as value):
                match value:
                    case (
                        ast.UnaryOp(operand=inner)
                        | ast.Call(func=ast.Attribute(value=inner))
                        | ast.Call(args=[inner, *_])
                    ):
                        yield lambda node=node, inner=inner: setattr(node, "value", inner)
                yield lambda node=node: setattr(node, "value", None)
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(block, list) and not isinstance(node, ast.Module):
                for position, statement in enumerate(block):
                    if len(block) > 1 and not isinstance(statement, ast.Expr):
                        yield lambda block=block, position=position: block.__delitem__(position)
