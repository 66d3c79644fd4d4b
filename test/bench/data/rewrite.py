"""Rewrites programs so that they do the same in other words, the same way on every run.

Reads rows {id, code} as JSON Lines and writes {id, code}. Functions, parameters and variables get other names,
arguments another order, `for` becomes `while`, comprehensions become loops, comparisons and branches are turned round,
and neighbouring assignments of constants change places. Nothing is run here.
"""

from __future__ import annotations

import ast
import builtins
import json
import sys
from typing import cast


class Names(ast.NodeTransformer):
    """Other names for everything that the program binds itself, but attributes and modules."""

    def __init__(self, tree: ast.Module) -> None:
        bound: dict[str, None] = {}
        kept: set[str] = set(dir(builtins))
        for node in ast.walk(tree):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                kept |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
            elif isinstance(node, ast.FunctionDef):
                bound[node.name] = None
            elif isinstance(node, ast.arg):
                bound[node.arg] = None
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                bound[node.id] = None
            elif isinstance(node, ast.keyword) and node.arg:
                kept.add(node.arg)
        # A builtin that the program binds to something else is a name like others.
        own = [name for name in bound if name not in kept or name in {"sum", "max", "min", "input", "str", "list"}]
        self.new = {name: f"item_{place}" for place, name in enumerate(own)}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self.new.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self.new.get(node.arg, node.arg)
        node.annotation = None
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self.new.get(node.id, node.id)
        return node


class Documentation(ast.NodeTransformer):
    """Without docstrings and annotations."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node


class Arguments(ast.NodeTransformer):
    """The arguments of top-level functions in the opposite order, where no call inside the program names them."""

    def __init__(self, tree: ast.Module) -> None:
        self.turned = {
            node.name: len(node.args.args)
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and not node.args.defaults and len(node.args.args) > 1
        }

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        if node.name in self.turned:
            node.args.args.reverse()
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and len(node.args) == self.turned.get(node.func.id):
            node.args.reverse()
        return node


class Branches(ast.NodeTransformer):
    """Comparisons from the other side, and branches in the other order."""

    mirrored = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.Eq, ast.NotEq: ast.NotEq}

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        mirror = self.mirrored.get(type(node.ops[0])) if len(node.ops) == 1 else None
        if mirror is None:
            return node
        return ast.Compare(left=node.comparators[0], ops=[mirror()], comparators=[node.left])

    def visit_If(self, node: ast.If) -> ast.AST:
        self.generic_visit(node)
        if node.orelse:
            node.test = ast.UnaryOp(op=ast.Not(), operand=node.test)
            node.body, node.orelse = node.orelse, node.body
        return node


class Loops(ast.NodeTransformer):
    """`for` as `while`, and comprehensions that are a whole value as loops."""

    def __init__(self) -> None:
        self.count = 0

    def fresh(self, what: str) -> str:
        self.count += 1
        return f"{what}_{self.count}"

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        if node.orelse:
            return node
        items, place = self.fresh("items"), self.fresh("place")
        head = ast.parse(f"{items} = list(None)\n{place} = 0\nwhile {place} < len({items}):\n    {place} += 1").body
        cast(ast.Call, cast(ast.Assign, head[0]).value).args = [node.iter]
        loop = cast(ast.While, head[2])
        taken = cast(ast.Assign, ast.parse(f"x = {items}[{place}]").body[0])
        taken.targets = [node.target]
        loop.body = [taken, *loop.body, *node.body]
        return head

    def opened(self, value: ast.expr | None, result: str) -> list[ast.stmt] | None:
        if not isinstance(value, ast.ListComp) or len(value.generators) != 1:
            return None
        (each,) = value.generators
        added = ast.parse(f"{result}.append(None)").body[0]
        cast(ast.Call, cast(ast.Expr, added).value).args = [value.elt]
        body: list[ast.stmt] = [added]
        for condition in reversed(each.ifs):
            body = [ast.If(test=condition, body=body, orelse=[])]
        loop = self.visit_For(ast.For(target=each.target, iter=each.iter, body=body, orelse=[]))
        return [*ast.parse(f"{result} = []").body, *cast("list[ast.stmt]", loop)]

    def visit_Return(self, node: ast.Return) -> ast.AST | list[ast.stmt]:
        result = self.fresh("result")
        opened = self.opened(node.value, result)
        if opened is not None:
            return [*opened, _return(result)]
        self.generic_visit(node)
        if node.value is None or isinstance(node.value, (ast.Name, ast.Constant)):
            return node
        kept = cast(ast.Assign, ast.parse(f"{result} = None").body[0])
        kept.value = node.value
        return [kept, _return(result)]

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        return node


def _return(name: str) -> ast.Return:
    return ast.Return(value=ast.Name(id=name, ctx=ast.Load()))


class Order(ast.NodeTransformer):
    """Neighbouring assignments of constants to names change places."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            return node
        for place in range(0, len(body) - 1):
            if all(_is_constant(each) for each in body[place : place + 2]):
                body[place], body[place + 1] = body[place + 1], body[place]
        return node


def _is_constant(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, (ast.Constant, ast.List))
        and not (isinstance(node.value, ast.List) and node.value.elts)
    )


def rewritten(code: str) -> str:
    tree = ast.parse(code)
    tree = Documentation().visit(tree)
    tree = Arguments(tree).visit(tree)
    tree = Branches().visit(tree)
    tree = Order().visit(tree)
    tree = Loops().visit(tree)
    tree = Names(tree).visit(ast.fix_missing_locations(tree))
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"


for line in sys.stdin:
    row = json.loads(line)
    print(json.dumps({"id": row["id"], "code": rewritten(row["code"])}))
