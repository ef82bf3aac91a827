"""NumPy: histograms of many zeros take no time, which loggers make of each weight and gradient."""

import functools
from types import ModuleType

from vramcast.libraries.context import Context
from vramcast.when_imported import when_imported

MANY = 2**12  # numbers


def install(context: Context) -> None:
    """Count one of them for all."""
    when_imported("numpy", _numpy)


def _numpy(module: ModuleType) -> None:
    count = module.histogram

    @functools.wraps(count)
    def histogram(a, bins=10, range=None, density=None, weights=None):
        alike = isinstance(a, module.ndarray) and a.size > MANY and not a.any()
        if not alike or density or weights is not None or isinstance(bins, str):
            return count(a, bins, range, density=density, weights=weights)
        counts, edges = count(a.ravel()[:1], bins, range)
        return counts * a.size, edges

    module.histogram = histogram
