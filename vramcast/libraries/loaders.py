"""Data loaders that give the same batch again and again, until the peak no longer changes."""

import contextlib
import functools
import itertools
import random
import sys
import weakref
from collections.abc import Callable, Iterator

import torch
from torch.utils.data import DataLoader, IterableDataset
from torch.utils.data import dataloader as torch_dataloader

from vramcast import compat
from vramcast.libraries import whole_batches
from vramcast.libraries.context import Context, Loaders
from vramcast.loops.course import Course
from vramcast.loops.growth import Growth
from vramcast.loops.watched import QUIET
from vramcast.operators import ranges

PASSES = 4  # backward passes of accumulation, with which a step without a new peak counts as two
ENDLESS = 10**6  # batches of a loader that does not know how many it has
AHEAD = 128  # batches that may be taken before a model sees the first of them


def install(context: Context) -> None:
    """Let all loaders do so from now on.

    A loader ends once the memory has stayed the same: in training from one optimizer step to the
    next, two times; in evaluation, and when it is used again, for one batch. Before it ends, the
    loop that uses it may want to see other iterations (vramcast/loops/). If memory grows, the rest
    is counted (loops/growth.py). The batch size that was asked for replaces the first loader's, and
    that of other loaders with the same size, unless the number in the script itself is replaced.
    """
    options, tracker = context.options, context.tracker
    watched, cost = context.watched, context.cost
    _replace_batch_size(
        context.loaders, None if options.number else options.batch_size, watched.notes
    )
    iterate = DataLoader.__iter__
    firsts, forms = weakref.WeakKeyDictionary(), weakref.WeakKeyDictionary()
    steady = weakref.WeakSet()

    def batches(loader):
        pin, loader.num_workers, loader.pin_memory = loader.pin_memory, 0, False
        if loader not in firsts or _outside(lambda: _form(loader)) != forms[loader]:
            steady.discard(loader)
            with whole_batches.of(loader):
                found = _outside(lambda: _largest(iterate(loader), options.batches, watched.notes))
            firsts[loader] = torch.utils._pytree.tree_map_only(torch.Tensor, _on_host, found)
            forms[loader] = _outside(lambda: _form(loader))
        first = firsts[loader]
        if first is None:
            watched.empty = True
            watched.notes.append("a loader has no batch: fewer samples than one, and drop_last?")
            return
        course = Course(watched)
        growth = Growth(course)
        line = _line(str(context.script))
        steps, ahead, passes = tracker.steps, 0, tracker.passes
        before = backwards = tracker.backwards
        samples = _samples(first)
        count, place, given, last = _length(loader), 0, 0, False
        epoch = count * samples
        with contextlib.suppress(TypeError):  # a sampler without a length
            epoch = min(epoch, len(loader.sampler))
        watched.loaders += 1
        watched.runs += 1
        cost.interrupt()
        try:
            while place < count:
                place, given = place + 1, given + 1
                watched.batches += 1
                cost.batch(samples, epoch)
                batch = torch.utils._pytree.tree_map_only(torch.Tensor, fake, first)
                if pin:  # one batch: those that workers have ready beforehand are not counted
                    batch = torch.utils._pytree.tree_map_only(torch.Tensor, _pinned, batch)
                yield batch
                ahead = 0 if tracker.passes > passes else ahead + 1
                passes = tracker.passes
                if 0 < ahead < AHEAD:
                    continue  # to be accumulated, say
                training = tracker.backwards > before
                if training and tracker.steps == steps:
                    continue  # within a cycle
                many = tracker.backwards - backwards >= PASSES
                steps, backwards = tracker.steps, tracker.backwards
                course.turn(place)
                course.quiet += many and course.quiet > 0
                growth.turn()
                left = None if count == ENDLESS else count - place
                if last:
                    break
                if growth.due(training):
                    growth.goes_on(left, "batch", line)
                    last = True  # the peak comes with the last batch
                elif course.varies() and course.turns < options.batches and loader not in steady:
                    continue  # the script draws sizes at random, say
                elif course.quiet >= (QUIET if training and loader not in steady else 1):
                    if step := watched.loops.more(course, left):
                        place += step - 1
                        continue
                    growth.rests(left, "batch", line)
                    watched.varied("batch", line, course)
                    steady.add(loader)
                    break
            more = None if count == ENDLESS else count - given
            watched.left_out("batches", line, given, more)
            return more == 0  # whether all were given
        finally:
            watched.loaders -= 1
            cost.interrupt()

    def fake(tensor):
        """A tensor without numbers, since other batches have others: at most with their range."""
        return _like(tensor, getattr(tensor, "place", "cpu"))

    def begin(loader):
        asked = loader.batch_sampler or loader.sampler
        if type(loader).__iter__ is begin or hasattr(type(asked), "__len__"):
            return batches(loader)
        return _Again(lambda: batches(loader))

    DataLoader.__iter__ = begin
    torch_dataloader.DataLoader.__iter__ = begin


class _Again:
    """The batches of a loader with an endless sampler and an `__iter__` of its own.

    Its workers live as long as the training (YOLOv5's, timm's): after all batches, and after an
    early end, comes the next epoch. Such a sampler has no length.
    """

    def __init__(self, begin: Callable[[], Iterator]) -> None:
        self.begin, self.batches = begin, begin()

    def __iter__(self) -> Iterator:
        return self

    def __next__(self) -> object:
        try:
            return next(self.batches)
        except StopIteration as end:
            self.batches = self.begin()
            if end.value:
                return next(self.batches)
            raise


def _ends_early(kind: type) -> None:
    """Let the `__iter__` that a loader's class has of its own end where the batches do.

    A generator would make an error of an end that it does not expect (PEP 479).
    """
    iterate = vars(kind).get("__iter__")
    if kind is DataLoader or iterate is None or hasattr(iterate, "ends_early"):
        return

    @functools.wraps(iterate)
    def until_end(loader):
        found = iterate(loader)
        items = found if hasattr(found, "__next__") else iter(found)
        while True:
            try:
                item = [next(items)]
            except StopIteration:
                return
            except RuntimeError as failure:
                if isinstance(failure.__cause__, StopIteration):
                    return
                raise
            yield item.pop()  # so that nothing here keeps it

    until_end.ends_early = True
    kind.__iter__ = until_end


def _outside(function: Callable):
    """What a function returns where tensors have numbers; if it makes some on a GPU, where not."""
    try:
        with compat.unset_fake_temporarily():
            return function()
    except (RuntimeError, AssertionError) as failure:
        if not any(word in str(failure) for word in ("NVIDIA", "CUDA")):
            raise
    return function()


def _form(loader: DataLoader) -> list | None:
    """What a batch of a data set's first sample alone looks like; None if that cannot be said.

    It tells whether a loader that is used again gives other batches, since its data set, or what
    collates it, was told another size. Random numbers that come later stay the same.
    """
    if isinstance(loader.dataset, IterableDataset):
        return None
    state, others = torch.default_generator.get_state(), random.getstate()
    numpy = sys.modules.get("numpy")
    numpys = numpy and numpy.random.get_state()
    try:
        sample = loader.dataset[0]
        batch = loader.collate_fn([sample] if loader.batch_sampler is not None else sample)
    except Exception:  # one sample may be too few for a script's own function
        return None
    finally:
        torch.default_generator.set_state(state)
        random.setstate(others)
        if numpy:
            numpy.random.set_state(numpys)
    leaves = torch.utils._pytree.tree_leaves(batch)
    form = [(one.shape, one.dtype) for one in leaves if isinstance(one, torch.Tensor)]
    return [getattr(loader.batch_sampler, "batch_size", None), *form]


def _on_host(tensor: torch.Tensor) -> torch.Tensor:
    """What stands for a tensor of the first batch: nothing on the GPU, where a data set made it."""
    if tensor.device.type == "cpu":
        return tensor
    made = _like(tensor, "cpu")
    made.place = tensor.device
    return made


def _like(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """A tensor of this form on a device, whose numbers are in the same range and else not known."""
    made = torch.empty_like(tensor, device=device)
    ranges.drop(made)
    if found := ranges.kept(tensor):
        ranges.keep(made, found[0])
    return made


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.pin_memory() if tensor.device.type == "cpu" else tensor


def _line(script: str) -> str:
    """The line of the script from which a loader is used; "" if there is none."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != script:
        frame = frame.f_back
    return f"line {frame.f_lineno}" if frame else ""


def _length(loader: DataLoader) -> int:
    """How many batches a loader has; a very large number if it does not know."""
    try:
        return len(loader)
    except TypeError:
        return ENDLESS


def _largest(batches: Iterator, count: int, notes: list[str]):
    """The first batch, or the largest of `count` if the second has another size; None if empty."""
    some = list(itertools.islice(batches, 2))
    if len({_numbers(batch) for batch in some}) > 1:
        rest = list(itertools.islice(batches, max(count - 2, 0)))
        if not rest and _numbers(some[1]) < _numbers(some[0]):
            return some[0]  # and the rest of the data set
        some += rest
        notes.append(
            f"batches differ in size: the largest of the first {len(some)} counts (--batches)"
        )
    return max(some, key=_numbers, default=None)


def _numbers(batch: object) -> int:
    """How many numbers the tensors of a batch have."""
    leaves = torch.utils._pytree.tree_leaves(batch)
    return sum(leaf.numel() for leaf in leaves if isinstance(leaf, torch.Tensor))


def _samples(batch: object) -> int:
    """How many samples a batch has: as many as its first tensor has rows."""
    for leaf in torch.utils._pytree.tree_leaves(batch):
        if isinstance(leaf, torch.Tensor) and leaf.dim():
            return len(leaf)
    return 0


def _replace_batch_size(loaders: Loaders, batch_size: int | None, notes: list[str]) -> None:
    init = DataLoader.__init__

    @functools.wraps(init)
    def resized(loader, dataset, size=1, *args, **kwargs):
        for kind in type(loader).__mro__[: type(loader).__mro__.index(DataLoader)]:
            _ends_early(kind)
        size = kwargs.pop("batch_size", size)
        if size is not None and kwargs.get("batch_sampler") is None:
            first = loaders.batch_size is None
            if first:
                loaders.batch_size = size
            if batch_size and size == loaders.batch_size:
                size = batch_size
            if first and hasattr(dataset, "__len__"):
                loaders.samples = len(dataset)
                if size > len(dataset):
                    notes.append(
                        f"the data set has only {len(dataset)} samples, so that a batch of {size} "
                        f"has {len(dataset)}"
                    )
        init(loader, dataset, size, *args, **kwargs)

    DataLoader.__init__ = resized
