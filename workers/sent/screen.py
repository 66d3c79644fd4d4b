# Stands behind a seed or another program in the sandbox, and looks which problems of benchmarks its functions may
# solve.
#
# It runs in the process of the program, so everything is imported inside, and what it says is a suspicion alone: the
# tests of the problem decide, in a process of their own.


def __acecoder_screen__(problems, most_steps):
    """Which function answers the first inputs of which problem, as base64 of JSON: a list of {problem, function, order,
    cast}, with the index of the problem, an expression that is the function, the order of its arguments, and what its
    answer has to become.

    `problems` are (index, number of arguments, base64 of what `record.py` pickled). A call may take as many
    steps as lines of a program; the number is the same on every host.
    """
    import base64  # noqa: I001 - the names below stay in their lines
    import itertools
    import json
    import math
    import pickle
    import sys
    import types
    from builtins import (  # noqa: UP029 - the program may have given other things these names
        BaseException, all, bool, bytes, callable, complex, dict, enumerate, filter, float, frozenset, getattr, int,
        isinstance, iter, len, list, map, range, set, staticmethod, str, tuple, type, vars, zip,
    )  # fmt: skip

    class Slow(BaseException):
        pass

    names = globals()
    module = names.get("__name__")
    iterators = (types.GeneratorType, map, zip, filter, enumerate, range, type(iter([])), type(iter(())))
    views = (type({}.keys()), type({}.values()), type({}.items()))

    def code_of(value):
        value = getattr(value, "__wrapped__", value)
        return value if isinstance(value, types.FunctionType) else None

    def takes(function, bound):
        """The least and the most arguments that a call may have; None where it needs named ones."""
        code, defaults = function.__code__, len(function.__defaults__ or ())
        named = function.__kwdefaults__ or {}
        if code.co_kwonlyargcount > len(named) or code.co_flags & 0x280:
            return None
        count = code.co_argcount - bound
        return count - defaults, 99 if code.co_flags & 4 else count

    functions = []
    for name, value in list(names.items()):
        if name.startswith("__"):
            continue
        if isinstance(value, type):
            if getattr(value, "__module__", None) != module:
                continue
            for method, member in list(vars(value).items()):
                is_static = isinstance(member, staticmethod)
                function = code_of(member.__func__ if is_static else member)
                if function is None or method.startswith("_"):
                    continue
                if (fits := takes(function, 0 if is_static else 1)) is not None:

                    def called(*given, _class=value, _method=method):
                        return getattr(_class(), _method)(*given)

                    functions.append((f"(lambda *given: {name}().{method}(*given))", called, *fits))
        elif (
            callable(value)
            and (function := code_of(value)) is not None
            and function.__module__ == module
            and (fits := takes(function, 0)) is not None
        ):
            functions.append((name, value, *fits))

    def same(found, wanted, depth=0):
        if depth > 20:
            return False
        if isinstance(wanted, (list, tuple)):
            return (
                type(found) in (list, tuple)
                and len(found) == len(wanted)
                and all(same(one, other, depth + 1) for one, other in zip(found, wanted, strict=True))
            )
        if isinstance(wanted, float) or type(found) is float:
            if type(found) not in (int, float) or not isinstance(wanted, (int, float)):
                return False
            return math.isclose(found, wanted, rel_tol=1e-3, abs_tol=1e-3) or (found != found and wanted != wanted)
        if isinstance(wanted, dict):
            return (
                type(found) is dict
                and found.keys() == wanted.keys()
                and all(same(found[key], wanted[key], depth + 1) for key in wanted)
            )
        if type(found) not in (bool, int, str, bytes, complex, set, frozenset, type(None)):
            return False
        return found == wanted

    def answer(function, arguments):
        left = most_steps

        def step(frame, event, argument):
            nonlocal left
            left -= 1
            if left < 0:
                raise Slow
            return step

        sys.settrace(step)
        try:
            value = function(*arguments)
            kind = type(value)
            return (list(itertools.islice(value, 10_000)) if kind in iterators or kind in views else value), kind
        finally:
            sys.settrace(None)

    casts = {list: "list", tuple: "tuple"}

    def solves(function, inputs, order):
        cast = ""
        for given, wanted in inputs:
            arguments = pickle.loads(given)
            if order is not None:
                arguments = [arguments[place] for place in order]
            expected = pickle.loads(wanted)
            try:
                found, kind = answer(function, arguments)
                if not same(found, expected):
                    return None
                if kind is not type(expected):
                    cast = casts.get(type(expected), cast)
            except BaseException as error:
                if type(error).__name__ == "TimeOut":
                    raise
                return None
        return cast

    hits = []
    for index, size, packed in problems:
        fitting = [each for each in functions if each[2] <= size <= each[3]]
        if not fitting:
            continue
        inputs = pickle.loads(base64.b64decode(packed))
        for expression, function, _, _ in fitting:
            orders = [None]
            if 2 <= size <= 4:
                orders += list(itertools.permutations(range(size)))[1:]
            for order in orders:
                cast = solves(function, inputs, order)
                if cast is not None:
                    places = list(order or range(size))
                    hits.append({"problem": index, "function": expression, "order": places, "cast": cast})
                    break
    return base64.b64encode(json.dumps(hits).encode("ascii")).decode("ascii")
