"""typeshed_client, by which jsonargparse and Lightning's CLI find the parameters of a class.

By itself, it starts another Python to ask it for its import path.
"""

import functools
import sys
from pathlib import Path
from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported


def install(context: Context) -> None:
    """Let it look where this Python does."""
    when_imported("typeshed_client.finder", _finder)


def _finder(module: ModuleType) -> None:
    find = module.get_search_context

    @functools.wraps(find)
    def get_search_context(*, search_path=None, python_executable=None, **options):
        if search_path is None:
            search_path = [Path(path) for path in sys.path if path]
        return find(search_path=search_path, **options)

    module.get_search_context = get_search_context
