"""CPython's own opinion, asked one JSON line at a time.

    {"ask": "filled", "source": ..., "filled": ..., "data": {name: value}}   what differs beyond the slots; null is fine
    {"ask": "literals", "pairs": [[json, literal], ...]}                     the first that reads back otherwise
    {"ask": "run", "script": ...}                                            how it ends, run on its own
    {"ask": "compile", "path": ...}                                          {"source", "refused"} of a file

It knows nothing of how the library finds slots: it holds the two syntax trees against each other.
"""

import ast
import contextlib
import io
import json
import linecache
import sys
import tokenize
import warnings

warnings.simplefilter("ignore")
# Pythons older than 3.10.7 know no bound.
bound_digits = getattr(sys, "set_int_max_str_digits", lambda digits: None)
NAMES = ("inputs", "context", "parameters")
TOO_MUCH = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)


def same(a, b):
    """Equal, and of the same types all the way down; members in the same order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return repr(a) == repr(b) if isinstance(a, float) else a == b


def bound(statement):
    """The name and dict of `NAME = {...}` or `NAME: T = {...}`."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target = statement.target
    else:
        return None
    is_ours = isinstance(target, ast.Name) and target.id in NAMES and isinstance(statement.value, ast.Dict)
    return target.id if is_ours else None


def without_value(statement):
    value, statement.value = statement.value, ast.Constant(None)
    try:
        return ast.dump(statement)
    finally:
        statement.value = value


def filled(source, filled, data):
    try:
        before = ast.parse(source).body
        dumps = [ast.dump(statement) for statement in before]
    except TOO_MUCH:
        return None
    try:
        after = ast.parse(filled).body
    except TOO_MUCH as error:
        return f"the filled source does not parse: {error}"
    left, seen, shift, may_shift = list(zip(before, dumps)), set(), 0, False

    def has_data(name, value):
        seen.add(name)
        return same(ast.literal_eval(value), data.get(name, {}))

    for statement in after:
        name = bound(statement)
        fresh = name is not None and name not in seen
        if left and ast.dump(statement) == left[0][1]:
            # A slot whose default happens to be the data counts as filled.
            if fresh and name in data and same_or_none(statement.value, data[name]):
                seen.add(name)
        elif left and fresh and bound(left[0][0]) == name and without_value(statement) == without_value(left[0][0]):
            if name not in data or not has_data(name, statement.value):
                return f"`{name}` does not hold its data"
        elif fresh and isinstance(statement, ast.Assign):
            # A binding on a line of its own moves what follows.
            may_shift = True
            if not has_data(name, statement.value):
                return f"the binding of `{name}` does not hold its data"
            continue
        else:
            return f"line {statement.lineno}: a statement that was not there"
        moved = statement.lineno - left[0][0].lineno
        if moved != shift and not (may_shift and moved == 1):
            return f"line {left[0][0].lineno} has moved by {moved}"
        shift, may_shift = moved, False
        left.pop(0)
    if left:
        return f"line {left[0][0].lineno} is gone"
    missing = [name for name in data if name not in seen]
    return f"`{missing[0]}` is not bound" if missing else None


def same_or_none(value, data):
    try:
        return same(ast.literal_eval(value), data)
    except TOO_MUCH:
        return False


def literals(pairs):
    for text, literal in pairs:
        bound_digits(0)
        value = json.loads(text)
        bound_digits(4300)
        if not same(ast.literal_eval(literal), value):
            return text[:200]
    return None


def run(script):
    names, out = {"__name__": "__main__"}, io.StringIO()
    try:
        with contextlib.redirect_stdout(out):
            exec(compile(script, "<skill>", "exec", dont_inherit=True), names)
    except BaseException as error:
        lines = [frame.lineno for frame in frames(error.__traceback__) if frame.filename == "<skill>"]
        return {"type": type(error).__name__, "line": lines[-1] if lines else None, "stdout": out.getvalue()}
    if "result" not in names:
        return {"type": "no_result", "line": None, "stdout": out.getvalue()}
    bound_digits(0)
    return {"value": json.dumps(names["result"]), "stdout": out.getvalue()}


def frames(traceback):
    import traceback as tracebacks

    return tracebacks.extract_tb(traceback)


def compiled(path):
    with open(path, "rb") as file:
        raw = file.read()
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(raw).readline)
    except SyntaxError as error:
        return {"encoding": None, "refused": str(error)}
    try:
        compile(raw, path, "exec", dont_inherit=True)
    except TOO_MUCH as error:
        return {"encoding": encoding, "refused": f"{type(error).__name__}: {error}"}
    return {"encoding": encoding, "refused": None}


def answer(question):
    ask = question.pop("ask")
    linecache.clearcache()
    return {"filled": filled, "literals": literals, "run": run, "compile": compiled}[ask](**question)


for line in sys.stdin:
    bound_digits(0)
    request = json.loads(line)
    bound_digits(4300)
    reply = answer(request)
    bound_digits(0)
    sys.__stdout__.write(json.dumps(reply) + "\n")
    sys.__stdout__.flush()
