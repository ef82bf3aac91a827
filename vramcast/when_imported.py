"""Change a library's module right after a script has imported it, and not before."""

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable
from types import ModuleType

_wanted: dict[str, list[Callable[[ModuleType], None]]] = {}


def when_imported(name: str, change: Callable[[ModuleType], None]) -> None:
    """Call `change(module)` when the module of this full name is imported; now if it already is."""
    if name in sys.modules:
        change(sys.modules[name])
        return
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    _wanted.setdefault(name, []).append(change)


class _Finder(importlib.abc.MetaPathFinder):
    """An import hook that finds nothing itself; it adds the change to what other finders find."""

    def find_spec(self, name, path=None, target=None):
        changes = _wanted.pop(name, None)
        spec = changes and importlib.util.find_spec(name)  # of the others, since it is popped
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            for change in changes:
                change(module)

        spec.loader.exec_module = exec_module
        return spec
