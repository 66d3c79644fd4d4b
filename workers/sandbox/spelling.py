"""What a test asserts, in one form for the many ways to write it: `test_f` around an assert, a variable for a result,
or `not f(1) != 2`. It says which tests are the same, and judges nothing.

What a text does beside asserting has no such form.
"""

# A match over syntax leaves what it does not know to the code behind it.
# pyright: reportMatchNotExhaustive=false

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterable

Fold = Callable[[ast.expr], ast.expr | None]
"""The literal of an expression that has a value without a program; None for others."""

# Without those of order: where there is none, neither a comparison nor its inverse holds.
_INVERSE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OF_UNITTEST: dict[str, type[ast.cmpop]] = {
    "assertEqual": ast.Eq, "assertEquals": ast.Eq, "assertListEqual": ast.Eq, "assertDictEqual": ast.Eq,
    "assertTupleEqual": ast.Eq, "assertSetEqual": ast.Eq, "assertSequenceEqual": ast.Eq, "assertMultiLineEqual": ast.Eq,
    "assertNotEqual": ast.NotEq, "assertIs": ast.Is, "assertIsNot": ast.IsNot, "assertIn": ast.In,
    "assertNotIn": ast.NotIn, "assertLess": ast.Lt, "assertLessEqual": ast.LtE, "assertGreater": ast.Gt,
    "assertGreaterEqual": ast.GtE,
}  # fmt: skip
_MOST = 200
"""Asserts of a test beyond which it is left as it is."""


class Other(Exception):
    """The text does something else than asserting."""


def conditions(tree: ast.Module, fold: Fold) -> list[ast.expr]:
    """What a text asserts, each once, in the order of the text.

    Raises `Other` where it does something else.
    """
    asserted = _Reader().read(tree.body, {})
    folded = [_Folding(fold).visit(condition) for condition in asserted]
    found: dict[str, ast.expr] = {}
    for condition in (part for each in folded for part in _parts(each)):
        found.setdefault(ast.dump(condition), condition)
        if len(found) > _MOST:
            raise Other
    return list(found.values())


class _Reader:
    """Reads statements. `names` are the variables that were set, with what they stand for."""

    def __init__(self) -> None:
        self._functions: set[str] = set()

    def read(self, statements: Iterable[ast.stmt], names: dict[str, ast.expr]) -> list[ast.expr]:
        found: list[ast.expr] = []
        for statement in statements:
            match statement:
                case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Expr(value=ast.Constant()):
                    pass
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name not in names:
                    names[name] = _put(value, names)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name not in names:
                    names[name] = _put(value, names)
                case ast.Assert(test=test):
                    found.append(_put(test, names))
                case ast.If(test=test, body=[ast.Raise()], orelse=[]):
                    found.append(ast.UnaryOp(ast.Not(), _put(test, names)))
                case ast.If(test=ast.Compare(left=ast.Name(id="__name__"), ops=[ast.Eq()]), body=body, orelse=[]):
                    found += self.read(body, names)
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    found += self._of_function(statement, names, method=False)
                case ast.ClassDef(body=body, decorator_list=[], keywords=[]):
                    for method in body:
                        if not isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef)):
                            raise Other
                        found += self._of_function(method, names, method=True)
                case ast.Expr(value=ast.Call(func=ast.Name(id=called), args=[])) if called in self._functions:
                    pass
                case ast.Expr(
                    value=ast.Call(func=ast.Attribute(value=ast.Name(id="unittest"), attr="main"))
                ):  # collects what is read here
                    pass
                case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name), args=arguments)):
                    found.append(_of_unittest(name, [_put(each, names) for each in arguments]))
                case _:
                    raise Other
        return found

    def _of_function(
        self, function: ast.FunctionDef | ast.AsyncFunctionDef, names: dict[str, ast.expr], *, method: bool
    ) -> list[ast.expr]:
        given = [each.arg for each in function.args.args]
        if (
            not function.name.startswith("test")
            or function.decorator_list
            or given != ["self"] * method
            or function.args.vararg
            or function.args.kwarg
            or function.args.kwonlyargs
            or function.args.posonlyargs
        ):
            raise Other
        if not method:
            self._functions.add(function.name)
        return self.read(function.body, dict(names))


def _of_unittest(name: str, arguments: list[ast.expr]) -> ast.expr:
    match name, arguments:
        case "assertTrue", [value, *_]:
            return value
        case "assertFalse", [value, *_]:
            return ast.UnaryOp(ast.Not(), value)
        case "assertIsNone", [value, *_]:
            return ast.Compare(value, [ast.Is()], [ast.Constant(None)])
        case "assertIsNotNone", [value, *_]:
            return ast.Compare(value, [ast.IsNot()], [ast.Constant(None)])
        case str(), [left, right, *_] if name in _OF_UNITTEST:
            return ast.Compare(left, [_OF_UNITTEST[name]()], [right])
    raise Other


class _Putting(ast.NodeTransformer):
    def __init__(self, names: dict[str, ast.expr]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        known = self._names.get(node.id) if isinstance(node.ctx, ast.Load) else None
        return node if known is None else copy.deepcopy(known)


def _put(expression: ast.expr, names: dict[str, ast.expr]) -> ast.expr:
    """An expression with what its variables stand for."""
    return _Putting(names).visit(copy.deepcopy(expression)) if names else expression


class _Folding(ast.NodeTransformer):
    """Puts literals in the place of expressions that mean them, and arguments in the place of a list of them."""

    def __init__(self, fold: Fold) -> None:
        self._fold = fold

    def _folded(self, node: ast.expr) -> ast.AST:
        self.generic_visit(node)
        return self._fold(node) or node

    visit_BinOp = _folded
    visit_UnaryOp = _folded

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        arguments: list[ast.expr] = []
        for each in node.args:
            match each:
                case ast.Starred(value=ast.List(elts=parts) | ast.Tuple(elts=parts)):
                    arguments += parts
                case _:
                    arguments.append(each)
        node.args = arguments
        return self._fold(node) or node


def _parts(condition: ast.expr) -> list[ast.expr]:
    """The conditions that one consists of, each in its plainest form."""
    match condition:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            match operand:
                case ast.UnaryOp(op=ast.Not(), operand=inner):
                    return _parts(inner)
                case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _INVERSE:
                    return _parts(ast.Compare(left, [_INVERSE[type(op)]()], [right]))
                case ast.BoolOp(op=ast.Or(), values=values):
                    return [part for each in values for part in _parts(ast.UnaryOp(ast.Not(), each))]
        case ast.BoolOp(op=ast.And(), values=values):
            return [part for each in values if not _is_constant(each, True) for part in _parts(each)]
        case ast.BoolOp(op=ast.Or(), values=values):
            left = [each for each in values if not _is_constant(each, False)]
            if len(left) == 1:
                return _parts(left[0])
        case ast.Call(func=ast.Name(id="all" | "any" as name), args=[ast.List(elts=parts) | ast.Tuple(elts=parts)]):
            if (
                parts
                and (name == "all" or len(parts) == 1)
                and not any(isinstance(each, ast.Starred) for each in parts)
            ):
                return [part for each in parts for part in _parts(each)]
        case ast.Call(func=ast.Name(id="bool"), args=[told], keywords=[]) if is_truth(told):
            return _parts(told)
        case ast.Call(func=ast.Attribute(value=left, attr="__eq__"), args=[right], keywords=[]):
            return _parts(ast.Compare(left, [ast.Eq()], [right]))
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _comparison(left, op, right) or [condition]
        case ast.Compare(left=low, ops=[ast.LtE(), ast.LtE()], comparators=[value, high]):
            if ast.dump(low) == ast.dump(high):
                return _parts(ast.Compare(value, [ast.Eq()], [high]))
    return [condition]


def _comparison(left: ast.expr, op: ast.cmpop, right: ast.expr) -> list[ast.expr] | None:
    """The conditions that a comparison consists of; None where it is plain."""
    if isinstance(op, (ast.Eq, ast.Is, ast.NotEq, ast.IsNot)):
        for told, truth in ((left, right), (right, left)):
            if is_truth(told) and isinstance(truth, ast.Constant) and isinstance(truth.value, bool):
                same = isinstance(op, (ast.Eq, ast.Is)) is truth.value
                return _parts(told if same else ast.UnaryOp(ast.Not(), told))
    match left, op, right:
        case _, ast.In(), ast.List(elts=[one]) | ast.Tuple(elts=[one]) | ast.Set(elts=[one]) if not isinstance(
            one, ast.Starred
        ):
            return _parts(ast.Compare(left, [ast.Eq()], [one]))
        case (ast.List(elts=ours), ast.Eq(), ast.List(elts=theirs)) | (
            ast.Tuple(elts=ours),
            ast.Eq(),
            ast.Tuple(elts=theirs),
        ):
            if ours and len(ours) == len(theirs) and not any(isinstance(each, ast.Starred) for each in ours + theirs):
                pairs = zip(ours, theirs, strict=True)
                return [part for one, two in pairs for part in _parts(ast.Compare(one, [ast.Eq()], [two]))]
    return None


def is_truth(node: ast.expr) -> bool:
    """Whether an expression is True or False."""
    match node:
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return True
        case ast.BoolOp(values=values):
            return all(map(is_truth, values))
        case ast.Constant(value=value):
            return isinstance(value, bool)
    return False


def _is_constant(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
