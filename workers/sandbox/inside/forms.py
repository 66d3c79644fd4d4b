"""What a test is: finds and runs what a text defines, in whichever form people write tests, and counts its assertions.

A text is run as a script named `__main__`. Then what it has defined and not called itself is run: classes of
`unittest`, functions and classes as pytest collects them, and HumanEval's `check(candidate)`. A test in which no
assertion about the program was evaluated is `vacuous`, whatever else it did. Assertions are `assert` statements,
methods and functions whose names begin with `assert`, contexts such as `pytest.raises`, and conditions that decide
whether the test raises; one that names nothing of the program does not count, nor does one whose failure is swallowed.
"""

# What a test computes has no type that is known here.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownLambdaType=false, reportUnknownParameterType=false

from __future__ import annotations

import ast
import builtins
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest_like
import repairs

CUSTOMARY = frozenset(
    {
        "solution", "solutions", "your_module", "my_module", "mymodule", "yourmodule", "program", "main", "module",
        "your_solution", "answer", "submission", "code_solution", "candidate", "implementation", "my_solution",
        "module_name", "your_code", "source", "target", "task", "impl", "my_program", "your_program", "code_under_test",
        "student", "app",
    }
)  # fmt: skip
"""Names under which tests import the program."""

_AS_EQUAL: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Is: ast.Eq, ast.IsNot: ast.NotEq}
_RAISES = frozenset(
    {"raises", "assertRaises", "assertRaisesRegex", "assertWarns", "assertWarnsRegex", "warns", "assertLogs"}
)
_EXITS = frozenset({"exit", "quit", "_exit", "fail"})
_SWALLOWING = frozenset({"Exception", "BaseException", "AssertionError"})
_BUILTINS = frozenset(dir(builtins))


class Refused(Exception):
    """The test needs what the sandbox does not have."""


class Count:
    """Assertions about the program that were evaluated."""

    def __init__(self) -> None:
        self.evaluated = 0
        self.mutated = 0
        self.ran: set[str] = set()
        self._seen = 0

    def seen(self, value: Any) -> Any:
        """What an assertion names of the program, at the moment in which it is looked at."""
        self._seen += 1
        return value

    def before(self) -> int:
        """What `counted` is given, from before the assertion is evaluated."""
        return self._seen

    def counted(self, before: int, value: Any) -> Any:
        """The value of an assertion, which counts where something of the program was looked at meanwhile: in
        `all(f(x) for x in [])` nothing is.
        """
        self.evaluated += self._seen > before
        return value

    def ended(self) -> None:
        """An assertion has held that is no expression."""
        self.evaluated += 1

    def changed(self, value: Any) -> Any:
        """A value in a test that is known to be false."""
        self.mutated += 1
        return value

    def caught(self) -> None:
        """A handler was entered in which the test expects to be."""
        if not isinstance(sys.exc_info()[1], AssertionError) or _is_foreign(sys.exc_info()[1]):
            self.evaluated += 1


def _is_foreign(error: BaseException | None) -> bool:
    return getattr(error, "_of_program", False) is True


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _bound(target: ast.AST) -> set[str]:
    names = _names(target)
    return names | {part.attr for part in ast.walk(target) if isinstance(part, ast.Attribute)}


def concerned(tree: ast.Module, program_names: frozenset[str]) -> set[str]:
    """Names in a test whose values may come from the program."""
    known = set(program_names) | {"candidate"}
    nodes = list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, (ast.ImportFrom, ast.Import)):
            module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                root = (module or alias.name).split(".")[0]
                if root in CUSTOMARY or root not in sys.stdlib_module_names:
                    known.add(alias.asname or alias.name.split(".")[0])
        elif isinstance(node, ast.arg) and node.arg not in ("self", "cls"):
            known.add(node.arg)
    while True:
        before = len(known)
        for node in nodes:
            match node:
                case ast.Assign(targets=targets, value=value) if _touches(value, known):
                    for target in targets:
                        known |= _bound(target) - {"self", "cls"}
                case ast.AnnAssign(target=target, value=ast.expr() as value) if _touches(value, known):
                    known |= _bound(target) - {"self", "cls"}
                case ast.AugAssign(target=target, value=value) if _touches(value, known):
                    known |= _bound(target) - {"self", "cls"}
                case ast.NamedExpr(target=target, value=value) if _touches(value, known):
                    known |= _bound(target)
                case ast.For(target=target, iter=source) | ast.AsyncFor(target=target, iter=source) if _touches(
                    source, known
                ):
                    known |= _bound(target)
                case ast.comprehension(target=target, iter=source) if _touches(source, known):
                    known |= _bound(target)
                case ast.With(items=items) | ast.AsyncWith(items=items):
                    if any(_touches(each, known) for each in node.body):
                        # `redirect_stdout(text)` fills what it is given.
                        for item in items:
                            if isinstance(item.context_expr, ast.Call):
                                known |= {each.id for each in item.context_expr.args if isinstance(each, ast.Name)}
                    for item in items:
                        if item.optional_vars is not None and any(
                            _touches(each, known) for each in [item.context_expr, *node.body]
                        ):
                            known |= _bound(item.optional_vars)
                case ast.Try(body=body, handlers=handlers) if any(_touches(each, known) for each in body):
                    known |= {handler.name for handler in handlers if handler.name}
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    bases = node.bases if isinstance(node, ast.ClassDef) else []
                    if any(_touches(each, known) for each in [*node.body, *node.decorator_list, *bases]):
                        known.add(name)
                case ast.Call(func=function, args=arguments) if _touches(function, known):
                    # The program may change what it is given.
                    known |= {each.id for each in arguments if isinstance(each, ast.Name)}
                case ast.Call(func=ast.Attribute(value=ast.Name(id=name)), args=arguments) if name not in known:
                    if name not in ("self", "cls") and any(_touches(each, known) for each in arguments):
                        known.add(name)
                case _:
                    pass
        if len(known) == before:
            return known


def _touches(node: ast.AST, known: set[str]) -> bool:
    return any(
        (isinstance(part, ast.Name) and part.id in known) or (isinstance(part, ast.Attribute) and part.attr in known)
        for part in ast.walk(node)
    )


def _always_fails(statements: list[ast.stmt]) -> bool:
    """Whether the statements end the test as failed."""
    for node in (part for statement in statements for part in ast.walk(statement)):
        match node:
            case ast.Raise():
                return True
            case ast.Assert(test=ast.Constant(value=value)) if not value:
                return True
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _EXITS:
                return True
            case _:
                pass
    return False


class _Counting(ast.NodeTransformer):
    """Adds the calls that count assertions."""

    def __init__(self, tree: ast.Module, known: set[str], compare: bool) -> None:
        self._suppress = {"suppress"} | {
            alias.asname
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
            if alias.name == "suppress" and alias.asname
        }
        self._known = known
        self._compare = compare
        self._swallowed = 0
        self.functions: list[str] = []

    def _call(self, name: str, *arguments: ast.expr) -> ast.Call:
        return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])

    def _counts(self, node: ast.AST) -> bool:
        return not self._swallowed and _touches(node, self._known)

    def _counted(self, node: ast.expr) -> ast.expr:
        """An expression that counts as an assertion."""
        call = self._call("__counted__", self._call("__before__"), _Seen(self._known, self._call).visit(node))
        return ast.copy_location(call, node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        counts = self._counts(node.test)
        self.generic_visit(node)
        if counts:
            node.test = self._counted(node.test)
        return node

    def visit_Match(self, node: ast.Match) -> ast.AST:
        counts = self._counts(node.subject) and any(_always_fails(case.body) for case in node.cases)
        self.generic_visit(node)
        if counts:
            node.subject = self._counted(node.subject)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """`f(2) == 4 or fail()` asserts, too."""
        match node.value:
            case ast.BoolOp(values=[first, *rest]) if any(_always_fails([ast.Expr(each)]) for each in rest):
                counts = self._counts(first)
                self.generic_visit(node)
                if counts:
                    node.value.values[0] = self._counted(node.value.values[0])
            case _:
                self.generic_visit(node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node.func:
            case ast.Attribute(value=owner, attr=name):
                arguments: list[ast.AST] = [*node.args, *node.keywords]
                if not (isinstance(owner, ast.Name) and owner.id in ("self", "cls")):
                    arguments.append(owner)
            case ast.Name(id=name):
                arguments = [*node.args, *node.keywords]
            case _:
                name, arguments = "", []
        whole = name not in _RAISES or len(node.args) > 1  # else it is a context, which counts at its end
        counts = whole and name.startswith(("assert", "raises", "warns")) and any(map(self._counts, arguments))
        exits = name in _EXITS and any(map(self._counts, node.args))
        self.generic_visit(node)
        if exits:  # it does not come back
            node.args = [self._counted(each) for each in node.args]
        return self._counted(node) if counts and not exits else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        if not self._compare:
            # A copy of a text or number is as good as the same one.
            operands = [node.left, *node.comparators]
            for place, op in enumerate(node.ops):
                if any(_is_copied(each) for each in operands[place : place + 2]):
                    node.ops[place] = _AS_EQUAL.get(type(op), type(op))()
        counts = (
            self._compare and len(node.ops) == 1 and isinstance(node.ops[0], (ast.Eq, ast.NotEq, ast.In, ast.NotIn))
        )
        self.generic_visit(node)
        if not counts:
            return node
        operator = ast.Constant(type(node.ops[0]).__name__)
        return ast.copy_location(self._call("__compare__", operator, node.left, node.comparators[0]), node)

    def _visit_with(self, node: ast.With | ast.AsyncWith) -> Any:
        raising = any(
            isinstance(item.context_expr, ast.Call)
            and isinstance(item.context_expr.func, (ast.Attribute, ast.Name))
            and (
                item.context_expr.func.attr
                if isinstance(item.context_expr.func, ast.Attribute)
                else item.context_expr.func.id
            )
            in _RAISES
            for item in node.items
        )
        counts = raising and any(self._counts(each) for each in node.body)
        swallows = any(
            self._suppress & set(walk_names(item.context_expr)) and _names(item.context_expr) & _SWALLOWING
            for item in node.items
        )
        self._swallowed += swallows
        self.generic_visit(node)
        self._swallowed -= swallows
        if not counts:
            return node
        return [node, ast.copy_location(ast.Expr(self._call("__ended__")), node)]

    visit_With = _visit_with
    visit_AsyncWith = _visit_with

    def visit_If(self, node: ast.If) -> ast.AST:
        counts = self._counts(node.test) and (_always_fails(node.body) or _always_fails(node.orelse))
        self.generic_visit(node)
        if counts:
            node.test = self._counted(node.test)
        return node

    def visit_Try(self, node: ast.Try) -> ast.AST:
        expects = _touches(ast.Module(node.body, []), self._known) and (
            _always_fails(node.body) or _always_fails(node.orelse) or any(_raises_itself(each) for each in node.body)
        )
        swallows = any(
            (handler.type is None or _names(handler.type) & _SWALLOWING) and not _always_fails(handler.body)
            and not any(isinstance(part, ast.Assert) for each in handler.body for part in ast.walk(each))
            for handler in node.handlers
        )  # fmt: skip
        forgets = any(map(_leaves, node.finalbody))  # nothing that was raised gets past it
        self._swallowed += swallows + forgets
        node.body = self._visited(node.body)
        self._swallowed -= swallows
        for handler in node.handlers:
            handler.body = self._visited(handler.body)
            if expects and not self._swallowed and not _always_fails(handler.body):
                handler.body.insert(0, ast.copy_location(ast.Expr(self._call("__caught__")), handler.body[0]))
        node.orelse = self._visited(node.orelse)
        self._swallowed -= forgets
        node.finalbody = self._visited(node.finalbody)
        return node

    def _visited(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        visited: list[ast.stmt] = []
        for statement in statements:
            new = self.visit(statement)
            visited += new if isinstance(new, list) else [new]
        return visited

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        swallowed, self._swallowed = self._swallowed, 0
        self.generic_visit(node)
        self._swallowed = swallowed
        return node

    visit_FunctionDef = _visit_function
    visit_AsyncFunctionDef = _visit_function


class _Seen(ast.NodeTransformer):
    """Tells of each name of the program when it is looked at."""

    def __init__(self, known: set[str], call: Callable[..., ast.Call]) -> None:
        self._known = known
        self._call = call

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id not in self._known or not isinstance(node.ctx, ast.Load):
            return node
        return ast.copy_location(self._call("__seen__", node), node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        if node.attr not in self._known or not isinstance(node.ctx, ast.Load):
            return node
        return ast.copy_location(self._call("__seen__", node), node)


def _leaves(statement: ast.stmt) -> bool:
    """Whether a statement leaves the block that it stands in."""
    if isinstance(statement, (ast.Return, ast.Break, ast.Continue)):
        return True
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return False
    return any(_leaves(each) for each in ast.iter_child_nodes(statement) if isinstance(each, ast.stmt))


def _is_copied(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, (str, bytes, float, int))
        and type(node.value) is not bool
    )


def _raises_itself(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Raise)


class Runner:
    """Runs one text as a test.

    `names` are what the text finds of the program, `own` those of them that the program has not only imported;
    `namespace` holds the builtins; `entry_points` are the public functions of the program. `compare` decides
    comparisons, where the objects of the program are in this process.
    """

    def __init__(
        self,
        names: dict[str, Any],
        own: frozenset[str],
        namespace: dict[str, Any],
        entry_points: list[str],
        compare: Callable[[str, Any, Any], bool] | None = None,
    ) -> None:
        self._names = names
        self._own = own
        self._given = namespace
        self._entry_points = entry_points
        self._compare = compare
        self.skipped = False

    def run(self, text: str, most_reason: int) -> dict[str, Any]:
        """The record of the test: ran, vacuous, assertion_failed, raised or refused, with a reason."""
        count = Count()
        try:
            self._run(text, count)
        except SystemExit as end:
            if _is_foreign(end):
                return _failed("raised", end, most_reason)
            if end.code not in (None, 0, False):
                return {"status": "assertion_failed", "reason": f"the test exits with {end.code}"[:most_reason]}
        except Refused as error:
            return {"status": "refused", "reason": str(error)[:most_reason]}
        except AssertionError as error:
            return _failed("raised" if _is_foreign(error) else "assertion_failed", error, most_reason)
        except pytest_like.Failed as error:
            return {"status": "assertion_failed", "reason": str(error)[:most_reason]}
        except pytest_like.Skipped as error:
            return {"status": "vacuous", "reason": f"skipped: {error}"[:most_reason]}
        except Exception as error:  # noqa: BLE001 - whatever the test or the program raises
            return _failed("raised", error, most_reason)
        except KeyboardInterrupt as error:
            return _failed("raised", error, most_reason)
        except GeneratorExit as error:
            return _failed("raised", error, most_reason)
        if count.evaluated:
            return {"status": "ran", "mutated": True} if count.mutated else {"status": "ran"}
        return {"status": "vacuous", "reason": self._why_vacuous}

    _why_vacuous = "no assertion about the program was evaluated"

    def _run(self, text: str, count: Count) -> None:
        tree = ast.parse(text.removeprefix("\ufeff"), "<test>")
        repairs.repair(tree)
        own = self._own
        if not _names(tree) & own:  # the program may have nothing but what it imports
            own |= {name for name, value in self._names.items() if not isinstance(value, types.ModuleType)}
        known = concerned(tree, own)
        counting = _Counting(tree, known, self._compare is not None)
        for statement in tree.body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                mark = ast.Expr(ast.Call(ast.Name("__ran__", ast.Load()), [ast.Constant(statement.name)], []))
                is_text = isinstance(statement.body[0], ast.Expr) and isinstance(statement.body[0].value, ast.Constant)
                statement.body.insert(1 if is_text else 0, ast.copy_location(mark, statement.body[0]))
        counting.visit(tree)
        code = compile(ast.fix_missing_locations(tree), "<test>", "exec", dont_inherit=True)
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module
        namespace = module.__dict__
        given = dict(self._given)
        given["__import__"] = self.imported
        given["__counted__"], given["__caught__"] = count.counted, count.caught
        given["__before__"], given["__seen__"], given["__ended__"] = count.before, count.seen, count.ended
        given["__ran__"], given["__mutated__"] = count.ran.add, count.changed
        given["__compare__"] = self._compare
        namespace["__builtins__"] = given
        namespace.update(visible(self._names, tree))
        namespace["__name__"] = "__main__"
        if "candidate" not in namespace and len(self._entry_points) == 1:
            namespace["candidate"] = self._names[self._entry_points[0]]
        exec(code, namespace)  # noqa: S102
        self._collect(namespace, count)

    # --- imports ------------------------------------------------------------------------------------------------------

    def imported(
        self, name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0
    ) -> types.ModuleType:
        root = name.split(".")[0]
        if root == "pytest":
            sys.modules.setdefault("pytest", pytest_like)
            return sys.modules["pytest"]
        wanted = [each for each in fromlist or () if each != "*"]
        is_program = root in CUSTOMARY or (wanted and all(each in self._names for each in wanted))
        try:
            found = builtins.__import__(name, globals, locals, fromlist, level)
            if all(hasattr(found, each) or _is_submodule(name, each) for each in wanted) or not is_program:
                return _harmless(found, root)
        except ModuleNotFoundError as error:
            missing = (error.name or name).split(".")[0]
            if missing != root:
                raise
            if not is_program:
                if root in self._names and not wanted:
                    return self._program_module(root)
                raise Refused(f"the library {root} is not there") from None
        return self._program_module(root)

    def _program_module(self, name: str) -> types.ModuleType:
        module = types.ModuleType(name)
        module.__dict__.update(self._names)
        return module

    # --- what a text defines ------------------------------------------------------------------------------------------

    def _collect(self, namespace: dict[str, Any], count: Count) -> None:
        defined = {
            name: value
            for name, value in namespace.items()
            if isinstance(value, (type, types.FunctionType)) and getattr(value, "__module__", None) == "__main__"
        }
        if "unittest" in sys.modules:
            self._run_unittest([value for value in defined.values() if isinstance(value, type)])
        fixtures = {name: value for name, value in defined.items() if hasattr(value, "_fixture")}
        for name, value in defined.items():
            if name in count.ran or name in fixtures:
                continue
            if isinstance(value, types.FunctionType):
                if (
                    name.startswith("test")
                    and value.__code__.co_filename == "<test>"
                    and self._takes_fixtures(value, name)
                ):
                    pytest_like.run_function(value, fixtures, Refused)
                elif _is_check(name, value):
                    self._check(value)
            elif name.startswith("Test") and not _is_unittest(value) and "__init__" not in vars(value):
                pytest_like.run_class(value, fixtures, Refused)

    def _takes_fixtures(self, function: types.FunctionType, name: str) -> bool:
        """Whether pytest would run the function; `test(candidate)` is called with the program instead."""
        if _is_check(name, function):
            self._check(function)
            return False
        return name.startswith("test_") or name == "test" or name[4:5].isupper() or not function.__code__.co_argcount

    def _check(self, function: types.FunctionType) -> None:
        if len(self._entry_points) == 1:
            function(self._names[self._entry_points[0]])
        else:
            self._why_vacuous = (
                f"{function.__name__} is not called, and the program has {len(self._entry_points)} public functions"
            )

    def _run_unittest(self, classes: list[type]) -> None:
        import unittest

        classes = [each for each in classes if issubclass(each, unittest.TestCase)]
        if not classes:
            return
        loader = unittest.TestLoader()
        result = unittest.TestResult()
        first: list[BaseException] = []

        def remember(add: Callable[..., None]) -> Callable[..., None]:
            def added(case: Any, error: Any, *rest: Any) -> None:
                given = rest[0] if rest else error
                if given is not None and given[1] is not None:
                    first.append(given[1])
                add(case, error, *rest)

            return added

        result.addError = remember(result.addError)  # type: ignore[method-assign]
        result.addFailure = remember(result.addFailure)  # type: ignore[method-assign]
        result.addSubTest = remember(result.addSubTest)  # type: ignore[method-assign]
        unittest.TestSuite(loader.loadTestsFromTestCase(each) for each in classes).run(result)
        if result.skipped:
            self.skipped = True
        if not result.wasSuccessful():
            if not first:
                raise AssertionError("a test that is expected to fail does not")
            raise next((error for error in first if not isinstance(error, AssertionError)), first[0])
        if self.skipped and self._compare is not None:
            raise AssertionError("a test was skipped")


def _is_submodule(name: str, part: str) -> bool:
    return f"{name}.{part}" in sys.modules


def _is_check(name: str, function: types.FunctionType) -> bool:
    code = function.__code__
    return code.co_argcount == 1 and (name == "check" or code.co_varnames[0] == "candidate")


def _is_unittest(value: type) -> bool:
    unittest = sys.modules.get("unittest")
    return unittest is not None and issubclass(value, unittest.TestCase)


def _harmless(module: types.ModuleType, root: str) -> types.ModuleType:
    """A module that does not end the test when it is asked to run what it finds."""
    if root == "unittest":
        unittest = sys.modules["unittest"]
        unittest.main = lambda *_, **__: None  # type: ignore[assignment]
    return module


def _failed(status: str, error: BaseException, most_reason: int) -> dict[str, Any]:
    told = getattr(error, "_reason", None)
    if isinstance(told, str):
        reason = told
    else:
        try:
            message = str(error)
        except Exception:  # noqa: BLE001 - the program's own __str__
            message = ""
        name = type(error).__name__
        reason = f"{name}: {message}" if message else name
        if status == "assertion_failed" and name == "AssertionError":
            reason = message
    refused = getattr(error, "_errno", None) in REFUSED_ERRNOS
    record = {"status": "refused" if refused else status}
    if reason:
        record["reason"] = reason[:most_reason]
    return record


def visible(names: dict[str, Any], tree: ast.AST) -> dict[str, Any]:
    """The names of the program that a test finds. One that is also Python's own is Python's, so that a program cannot
    replace what its tests are made of; unless the test names nothing else of the program, and thus means it.
    """
    own = {name: value for name, value in names.items() if name not in _BUILTINS}
    return own if _names(tree) & (own.keys() | {"candidate"}) else names


REFUSED_ERRNOS = frozenset({1, 13, 27, 30})  # EPERM, EACCES, EFBIG, EROFS


def walk_names(tree: ast.AST) -> Iterator[str]:
    """All names and attributes of a tree, and modules that it imports."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield name
            case ast.alias(name=name):
                yield from name.split(".")
            case ast.ImportFrom(module=str(name)):
                yield from name.split(".")
            case _:
                pass
