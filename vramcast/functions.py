"""A function, as a notebook defines it, turned into a script that calls it."""

import ast
import builtins
import dis
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType

PLAIN = (int, float, complex, bool, str, bytes, type(None))


def script_of(function: Callable) -> str:
    """The text of a script that defines a function, with all that it uses, and calls it.

    Modules that it uses are imported, other functions and classes defined, plain values written
    down. As a rule, its lines have the numbers that they have in its cell or file.

    Raises ValueError if it uses something else, such as a model that is already there.
    """
    if not isinstance(function, FunctionType) or function.__name__ == "<lambda>":
        raise ValueError(f"{function!r} is no function that could be run as a script")
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"{function.__name__}() is asynchronous: nothing would run it")
    if function.__closure__:
        names = ", ".join(function.__code__.co_freevars)
        raise ValueError(f"{function.__name__}() uses {names} of the function that it is in")
    own = _source(function)
    found: dict[str, str] = {}
    _collect(function, found)
    found.pop(function.__name__, None)
    call = f"{function.__name__}()\n"
    if set(_names(compile(own, "a function", "exec"), within=False)) & found.keys():
        return "\n".join([*found.values(), own, call])  # its decorator, say, comes first
    _, first = inspect.getsourcelines(function)
    return "\n" * (first - 1) + "\n".join([own, *found.values(), call])


def _collect(thing: FunctionType | type, found: dict[str, str]) -> None:
    """Add the statements that define what a function or class uses, those that others use first."""
    if isinstance(thing, FunctionType):
        known = thing.__globals__
    else:
        known = vars(sys.modules[thing.__module__])
    source = _source(thing)
    for name in dict.fromkeys(_names(compile(source, "a function", "exec"))):
        if name in found or name == thing.__name__ or name not in known or hasattr(builtins, name):
            continue
        value = known[name]
        mine = isinstance(value, FunctionType | type) and value.__module__ == thing.__module__
        if mine:
            found[name] = ""  # so that two which use each other come to an end
            _collect(value, found)
            del found[name]  # after what it uses
            found[name] = _source(value)
            if name != value.__name__ and value.__name__.isidentifier():  # no lambda
                found[name] += f"{name} = {value.__name__}\n"
        else:
            found[name] = _statement(name, value, thing)


def _statement(name: str, value: object, user: FunctionType | type) -> str:
    """A statement that gives a name its value."""
    if isinstance(value, ModuleType):
        return f"import {value.__name__} as {name}"
    module, own = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    elsewhere = module not in ("__main__", user.__module__)
    if elsewhere and own.isidentifier() and getattr(sys.modules.get(module), own, None) is value:
        return f"from {module} import {own} as {name}"
    if _plain(value):
        return f"{name} = {value!r}"
    if str(type(value)) == "<class 'torch.dtype'>":
        return f"import torch\n{name} = {value}"
    if str(type(value)) == "<class 'torch.device'>":
        return f"import torch\n{name} = torch.device({str(value)!r})"
    raise ValueError(
        f"{user.__name__}() uses {name}, a {type(value).__name__} that is already there: make it "
        "within the function, or write a script"
    )


def _plain(value: object) -> bool:
    """Whether `repr` of a value gives the same value."""
    if type(value) in (tuple, list):
        return all(map(_plain, value))
    if type(value) is dict:
        return all(map(_plain, [*value, *value.values()]))
    return type(value) in PLAIN and repr(value) not in ("nan", "inf", "-inf")


def _source(thing: FunctionType | type) -> str:
    try:
        if isinstance(thing, type):
            return _class_source(thing)
        return textwrap.dedent(inspect.getsource(thing))
    except (OSError, TypeError):
        raise ValueError(f"the source of {thing.__name__} is not known here") from None


def _class_source(thing: type) -> str:
    """The source of a class, which `inspect` does not find in a notebook: it is around a method's.

    Raises OSError if it is not known.
    """
    methods = [one.__code__ for one in vars(thing).values() if isinstance(one, FunctionType)]
    for method in methods:
        text = "".join(linecache.getlines(method.co_filename))
        for node in ast.walk(ast.parse(text)):
            inside = isinstance(node, ast.ClassDef) and node.name == thing.__name__
            if inside and node.lineno <= method.co_firstlineno <= node.end_lineno:
                return textwrap.dedent(_lines(text, node))
    return textwrap.dedent(inspect.getsource(thing))


def _lines(text: str, node: ast.ClassDef) -> str:
    """The lines of a class, with its decorators."""
    first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
    return "".join(text.splitlines(keepends=True)[first - 1 : node.end_lineno])


def _names(code: CodeType, within: bool = True) -> Iterator[str]:
    """The global names that code reads; `within`: also when what it defines is called."""
    for one in dis.get_instructions(code):
        if one.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            yield one.argval
    for constant in code.co_consts:
        if within and isinstance(constant, CodeType):
            yield from _names(constant)
