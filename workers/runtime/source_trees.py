"""Functions and classes of a source tree as seeds: texts that load alone, with calls of them that the tree holds.

A tree is parsed and never run. A seed takes along what its module gives it: imports of the standard library, and the
functions, classes and constants that it needs, in the order of the module. What it cannot take along is a reason.
"""

from __future__ import annotations

import ast
import builtins
import copy
import re
import symtable
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from runtime.files import Row

SKIPPED_FOLDERS = {"node_modules", "site-packages", "__pycache__", "venv", "build", "dist"}
MOST_STATEMENTS = 40
"""Statements of its module that a seed takes along."""
MOST_CHARACTERS = 12_000
"""Characters of a seed with what it takes along."""
MOST_CALLS = 12
"""Calls of the tree that a seed keeps as examples."""
MOST_CALL_CHARACTERS = 300
_INLINED_DEPTH = 3

_TEST_FILE = re.compile(r"(^|/)(tests?|testing)/|(^|/)(test_[^/]*|[^/]*_tests?|conftest)\.py$")
_BUILTINS = frozenset(dir(builtins)) | {"__name__", "__doc__"}


class Found(NamedTuple):
    """A function or class of a module: its name, and either its text as a seed or the reason why it is none."""

    name: str
    code: str
    reason: str | None


def files_of(root: Path) -> list[Path]:
    """The Python files of a tree, in the order of their paths."""
    if root.is_file():
        return [root]
    return sorted(
        path
        for path in root.rglob("*.py")
        if not any(part in SKIPPED_FOLDERS or part.startswith(".") for part in path.relative_to(root).parts[:-1])
    )


def seeds_of(name: str, root: Path, drops: Counter[str]) -> Iterator[Row]:
    """The seeds of a tree, in path order; what is left out is counted by its reason.

    `name` is the source of the rows. Tests of the tree are no seeds: their calls are the examples of others.
    """
    calls = calls_of(root)
    for path in files_of(root):
        relative = path.name if root.is_file() else path.relative_to(root).as_posix()
        parsed = _parsed(path)
        if parsed is None:
            drops["fileNotParsed"] += 1
            continue
        text, tree = parsed
        if _TEST_FILE.search(relative):
            drops["testOfTheTree"] += sum(isinstance(node, _DEFINITIONS) for node in tree.body)
            continue
        for function, code, reason in functions_of(tree, text):
            if reason is not None:
                drops[reason] += 1
                continue
            row: Row = {"id": f"{name}:{relative}:{function}", "source": name, "code": code, "entryPoint": function}
            if found := calls.get(function):
                row["calls"] = found[:MOST_CALLS]
            yield row


def _parsed(path: Path) -> tuple[str, ast.Module] | None:
    """Text and tree of a file; None where it is no Python of this version."""
    try:
        with tokenize.open(path) as file:
            text = file.read()
        return text, ast.parse(text)
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError, OSError):
        return None


# --- what can be a seed -----------------------------------------------------------------------------------------------


def functions_of(tree: ast.Module, text: str) -> Iterator[Found]:
    """Each function and class at the top of a module, with its text as a seed or the reason why it is none."""
    module = _Module(tree, text)
    last = {node.name: node for node in tree.body if isinstance(node, _DEFINITIONS)}
    for node in tree.body:
        if not isinstance(node, _DEFINITIONS):
            continue
        reason = "overwritten" if last[node.name] is not node else _why_not(node)
        if reason is None:
            code, reason = module.alone(node)
            yield Found(node.name, code, reason)
        else:
            yield Found(node.name, "", reason)


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _why_not(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> str | None:
    """Why a definition asks no question whatever it needs; None where it may."""
    if isinstance(node, ast.AsyncFunctionDef):
        return "asynchronous"
    if isinstance(node, ast.ClassDef):
        methods = [part for part in node.body if isinstance(part, ast.FunctionDef) and not part.name.startswith("_")]
        return None if any(map(_gives_something, methods)) else "noMethods"
    arguments = node.args
    if not (arguments.args or arguments.posonlyargs or arguments.vararg or arguments.kwonlyargs or arguments.kwarg):
        return "noArguments"
    if any(isinstance(part, ast.Global) for part in ast.walk(node)):
        return "changesItsModule"
    return None if _gives_something(node) else "returnsNothing"


def _gives_something(function: ast.FunctionDef) -> bool:
    """Whether a function returns a value or yields; what functions inside it do is not looked at."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Yield, ast.YieldFrom)) or (isinstance(node, ast.Return) and node.value is not None):
            return True
        if not isinstance(node, (*_DEFINITIONS, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))
    return False


@dataclass
class _Needs:
    """Names of its module that a statement reads: when it is executed, and when its functions are called."""

    at_once: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)

    @property
    def all(self) -> set[str]:
        return self.at_once | self.later


class _Module:
    """A module by the statements that bind its names."""

    def __init__(self, tree: ast.Module, text: str) -> None:
        self._lines = text.splitlines()
        self._body = tree.body
        self._binders: dict[str, list[int]] = defaultdict(list)
        self._changers: dict[str, list[int]] = defaultdict(list)
        self._needs: dict[int, _Needs] = {}
        self._imports: dict[str, tuple[str, set[str]]] = {}
        """By name: the top-level module that it comes from, and the import statements."""
        self._relative: set[str] = set()
        self._has_future = False
        for place, node in enumerate(tree.body):
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                self._has_future |= any(alias.name == "annotations" for alias in node.names)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                self._import(node)
            elif not _is_main_block(node):
                for name in _bound_by(node):
                    self._binders[name].append(place)
                for name in _changed_by(node):
                    self._changers[name].append(place)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            renamed = f" as {alias.asname}" if alias.asname else ""
            if isinstance(node, ast.Import):
                top = alias.name.split(".")[0]
                statements = self._imports.get(alias.asname or top, (top, set[str]()))[1]
                # `import a.b` and `import a.c` both bind `a`.
                self._imports[alias.asname or top] = (top, statements | {f"import {alias.name}{renamed}"})
            elif node.level or not node.module:
                self._relative.add(alias.asname or alias.name)
            else:
                statement = f"from {node.module} import {alias.name}{renamed}"
                self._imports[alias.asname or alias.name] = (node.module.split(".")[0], {statement})

    def alone(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> tuple[str, str | None]:
        """The text of a definition with what it needs of its module, or the reason why it cannot be had alone."""
        places = {place for place in self._binders[node.name] if self._body[place] is node}
        imports: set[str] = set()
        known: set[str] = {node.name}
        waiting = list(places)
        while waiting:
            place = waiting.pop()
            for name in sorted(self._needs_of(place).all - known):
                known.add(name)
                if name in self._binders:
                    more = {*self._binders[name], *self._changers[name]} - places
                    places |= more
                    waiting.extend(more)
                    if name in self._imports:
                        imports.add(name)
                elif name in self._imports:
                    imports.add(name)
                elif name in self._relative:
                    return "", "needsItsPackage"
                elif name not in _BUILTINS:
                    hidden = self._hides(node, name)
                    return "", "defaultNeedsItsModule" if hidden else "needsItsModule"
        if any(self._imports[name][0] not in sys.stdlib_module_names for name in imports):
            return "", "needsAPackage"
        for place in places:
            for part in ast.walk(self._body[place]):
                if isinstance(part, ast.ImportFrom) and part.level:
                    return "", "needsItsPackage"
        if any(self._needs_a_package(self._body[place]) for place in places):
            return "", "needsAPackage"
        lines = sorted({statement for name in imports for statement in self._imports[name][1]})
        if self._has_future:
            lines.insert(0, "from __future__ import annotations")
        parts = ["\n".join(lines)] if lines else []
        parts += [self._text(self._body[place]) for place in sorted(places)]
        code = "\n\n".join(parts) + "\n"
        if len(places) > MOST_STATEMENTS or len(code) > MOST_CHARACTERS:
            return "", "needsMuchOfItsModule"
        return code, None

    def _needs_a_package(self, node: ast.stmt) -> bool:
        """Whether a statement imports what is no part of the standard library, and has no other way."""
        if isinstance(node, ast.Try):
            return False
        tops = {
            name.split(".")[0]
            for part in ast.walk(node)
            for name in (
                [alias.name for alias in part.names]
                if isinstance(part, ast.Import)
                else [part.module or ""]
                if isinstance(part, ast.ImportFrom)
                else []
            )
        }
        return not tops <= {*sys.stdlib_module_names}

    def _hides(self, node: ast.stmt, name: str) -> bool:
        """Whether only the defaults of a function read a name, which its parameter of that name then hides."""
        return isinstance(node, ast.FunctionDef) and name in {
            argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        }

    def _needs_of(self, place: int) -> _Needs:
        if place not in self._needs:
            self._needs[place] = free_names(self._body[place], self._has_future)
        return self._needs[place]

    def _text(self, node: ast.stmt) -> str:
        decorators = node.decorator_list if isinstance(node, _DEFINITIONS) else []
        first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        return "\n".join(self._lines[first - 1 : node.end_lineno])


def free_names(node: ast.stmt, lazy_annotations: bool = False) -> _Needs:
    """Names of the module that a statement at its top reads, as Python itself resolves them.

    Defaults, decorators and annotations belong to the module, whatever the parameters are called. With
    `lazy_annotations` annotations are not evaluated.
    """
    statement: ast.stmt = node
    if lazy_annotations:
        statement = _WithoutAnnotations().visit(copy.deepcopy(node))
    module = ast.Module([statement], [])
    try:
        table = symtable.symtable(ast.unparse(ast.fix_missing_locations(module)), "<seed>", "exec")
    except (SyntaxError, ValueError, RecursionError):
        return _Needs()
    needs = _Needs()
    needs.at_once = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    waiting = table.get_children()
    while waiting:
        inner = waiting.pop()
        waiting.extend(inner.get_children())
        names = {symbol.get_name() for symbol in inner.get_symbols() if symbol.is_global() and symbol.is_referenced()}
        # The body of a class runs at once, and so does that of a comprehension.
        at_once = inner.get_type() == "class" or inner.get_name() in ("listcomp", "setcomp", "dictcomp", "genexpr")
        (needs.at_once if at_once else needs.later).update(names)
    return needs


class _WithoutAnnotations(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _is_main_block(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "__name__" in ast.dump(node.test)


def _bound_by(node: ast.stmt) -> set[str]:
    """Names that a statement at the top of a module binds; those of its functions' bodies are not among them."""
    if isinstance(node, _DEFINITIONS):
        return {node.name}
    names: set[str] = set()
    waiting: list[ast.AST] = [node]
    while waiting:
        part = waiting.pop()
        if isinstance(part, _DEFINITIONS):
            names.add(part.name)
            continue
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
            names.add(part.id)
        elif isinstance(part, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).split(".")[0] for alias in part.names)
        if not isinstance(part, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            waiting.extend(ast.iter_child_nodes(part))
    return names


def _changed_by(node: ast.stmt) -> set[str]:
    """Names whose values a statement at the top of a module changes: by a method, an item or an attribute."""
    if isinstance(node, (*_DEFINITIONS, ast.Import, ast.ImportFrom)):
        return set()
    names: set[str] = set()
    for part in ast.walk(node):
        target: ast.expr | None = None
        if (
            isinstance(part, ast.Call)
            and isinstance(part.func, ast.Attribute)
            and isinstance(node, (ast.Expr, ast.For))
        ):
            target = part.func.value
        elif isinstance(part, (ast.Subscript, ast.Attribute)) and isinstance(part.ctx, (ast.Store, ast.Del)):
            target = part.value
        while isinstance(target, (ast.Attribute, ast.Subscript)):
            target = target.value
        if isinstance(target, ast.Name):
            names.add(target.id)
    return names


# --- calls that the tree holds ----------------------------------------------------------------------------------------


def calls_of(root: Path) -> dict[str, list[str]]:
    """Calls of functions, and of methods of new objects, that stand in a tree with arguments that need nothing else.

    By the name of the function or class. Calls of the tree's own tests come first. They are only candidates: whether a
    name means the seed of that name shows when the call is run.
    """
    found: dict[str, list[str]] = defaultdict(list)
    parsed = {path: each[1] for path in files_of(root) if (each := _parsed(path)) is not None}
    names = {node.name for module in parsed.values() for node in module.body if isinstance(node, _DEFINITIONS)}
    for path in sorted(parsed, key=lambda path: (_TEST_FILE.search(path.as_posix()) is None, path)):
        for scope in ast.walk(parsed[path]):
            if not isinstance(scope, (ast.FunctionDef, ast.Module)):
                continue
            for name, text in list(_calls_in(scope, names)):
                if text not in found[name]:
                    found[name].append(text)
                if len(found[name]) == MOST_CALLS:
                    names.discard(name)
    return found


def _calls_in(scope: ast.FunctionDef | ast.Module, names: set[str]) -> Iterator[tuple[str, str]]:
    """Calls of one scope with closed arguments. A name that is assigned once stands for what it was given."""
    nodes = list(_own_nodes(scope))
    calls = [node for node in nodes if isinstance(node, ast.Call) and _name_of(node) in names]
    if not calls:
        return
    stores = Counter(node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    values: dict[str, ast.expr] = {}
    for node in nodes:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if stores[name] == 1:
                values[name] = node.value
    for node in calls:
        try:
            called = _called(_Inlined(values).visit(copy.deepcopy(node)))
        except (ValueError, RecursionError):
            # Some texts with braces cannot be written again.
            continue
        if called is not None and len(called[1]) <= MOST_CALL_CHARACTERS:
            yield called


def _name_of(call: ast.Call) -> str:
    """The name that a call, or the call of a method of a new object, is about."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call):
        return _name_of(function.value)
    return (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )


def _own_nodes(scope: ast.FunctionDef | ast.Module) -> Iterator[ast.AST]:
    """What stands in a scope, in its order, without the definitions in it."""
    waiting: list[ast.AST] = list(reversed(scope.body))
    while waiting:
        node = waiting.pop()
        if isinstance(node, _DEFINITIONS):
            continue
        yield node
        waiting.extend(reversed(list(ast.iter_child_nodes(node))))


class _Inlined(ast.NodeTransformer):
    """Puts values in the place of names, a few times over."""

    def __init__(self, values: dict[str, ast.expr], depth: int = 0) -> None:
        self._values, self._depth = values, depth

    def visit_Name(self, node: ast.Name) -> ast.AST:
        value = self._values.get(node.id)
        if value is None or self._depth >= _INLINED_DEPTH or not isinstance(node.ctx, ast.Load):
            return node
        return _Inlined(self._values, self._depth + 1).visit(copy.deepcopy(value))


def _called(call: ast.expr) -> tuple[str, str] | None:
    """Name and text of a call `f(...)`, `module.f(...)` or `C(...).m(...)` whose arguments are closed."""
    if not isinstance(call, ast.Call):
        return None
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Call):
        inner = _called(function.value)
        if inner is None or not inner[0].lstrip("_")[:1].isupper() or not _is_closed(call):
            return None
        return inner[0], f"{inner[1]}.{function.attr}({_arguments(call)})"
    name = (
        function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    )
    if not name or hasattr(builtins, name) or not _is_closed(call):
        return None
    return name, f"{name}({_arguments(call)})"


def _arguments(call: ast.Call) -> str:
    return ", ".join([*map(ast.unparse, call.args), *map(ast.unparse, call.keywords)])


def _is_closed(call: ast.Call) -> bool:
    """Whether the arguments of a call read nothing but built-in names and what they bind themselves."""
    read: set[str] = set()
    bound: set[str] = set()
    for part in (*call.args, *(keyword.value for keyword in call.keywords)):
        for node in ast.walk(part):
            if isinstance(node, ast.Name):
                (read if isinstance(node.ctx, ast.Load) else bound).add(node.id)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
    return read - bound <= _BUILTINS
