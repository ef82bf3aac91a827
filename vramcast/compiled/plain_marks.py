"""The marks of loops and conditions (loops/marks.py) where they mean nothing: in compiled code.

Dynamo follows these functions, so that no graph breaks at them. They are in a module of their own,
the only one of this package that it does not leave out.
"""

import itertools
from collections.abc import Callable, Iterable


def loop(items: Iterable, place: str) -> Iterable:
    return items


def endless(place: str) -> Iterable:
    return itertools.count()


def number(value, key: tuple):
    return value


def whole(function: Callable, value):
    return function(value)


def divisor(value):
    return value


def more(one, other, place: str):
    return one > other


def less(one, other, place: str):
    return one < other
