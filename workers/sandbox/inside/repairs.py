"""What was written as an assertion and is none, made into the one that was meant."""

from __future__ import annotations

import ast


def is_lone_comparison(tree: ast.Module) -> bool:
    """Whether a text consists of comparisons, and imports, where asserts were meant."""
    statements = [each for each in tree.body if not isinstance(each, (ast.Import, ast.ImportFrom))]
    return bool(statements) and all(
        isinstance(each, ast.Expr)
        and isinstance(each.value, (ast.Compare, ast.BoolOp))
        and all(
            isinstance(part, ast.Compare)
            for part in (each.value.values if isinstance(each.value, ast.BoolOp) else [each.value])
        )
        for each in statements
    )


def is_tuple_assert(statement: ast.stmt) -> bool:
    """Whether an assert is true whatever it says, because its brackets make it a tuple."""
    return (
        isinstance(statement, ast.Assert)
        and isinstance(statement.test, ast.Tuple)
        and 1 <= len(statement.test.elts) <= 2
    )


_FLAT = (ast.Assert, ast.Assign, ast.Expr, ast.Import, ast.ImportFrom)


def repair(tree: ast.Module) -> bool:
    """Make assertions of what was meant as one; whether there was any."""
    repaired = False
    if is_lone_comparison(tree):
        repaired = True
        tree.body = [
            ast.copy_location(ast.Assert(each.value, None), each) if isinstance(each, ast.Expr) else each
            for each in tree.body
        ]
    # Only statements hold statements, and most tests are asserts alone.
    for statement in tree.body if all(isinstance(each, _FLAT) for each in tree.body) else ast.walk(tree):
        if isinstance(statement, ast.Assert) and is_tuple_assert(statement):
            assert isinstance(statement.test, ast.Tuple)
            condition, *message = statement.test.elts
            statement.test, statement.msg = condition, message[0] if message else statement.msg
            repaired = True
    return repaired
