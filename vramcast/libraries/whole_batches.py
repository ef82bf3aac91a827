"""Batches of a TensorDataset, made at once: row by row, many rows take minutes."""

import contextlib
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate

from vramcast.compat import FakeTensor
from vramcast.operators import ranges


class Rows:
    """Some rows of a data set's tensors, not yet taken."""

    def __init__(self, tensors: tuple[torch.Tensor, ...], places: list[int]) -> None:
        self.tensors, self.places = tensors, places

    def stacked(self) -> list[torch.Tensor]:
        """What `default_collate` makes of them: each of its tensors is all that it allocates."""
        return [self._stacked(tensor) for tensor in self.tensors]

    def _stacked(self, tensor: torch.Tensor) -> torch.Tensor:
        stacked = tensor.new_empty((len(self.places), *tensor.shape[1:]))
        ranges.drop(stacked)
        whole = not (tensor.is_floating_point() or tensor.is_complex())
        if whole and tensor.dtype != torch.bool and (ends := ranges.of(tensor)):
            ranges.keep(stacked, ends)
        return stacked


@contextlib.contextmanager
def of(loader: DataLoader) -> Iterator[None]:
    """A context in which a loader makes its batches so, if its rows are those of tensors.

    So they are unless the data set's class or `collate_fn` is the script's own. Rows that are not
    there are still looked for one by one.
    """
    data = loader.dataset
    while type(data) is Subset:
        data = data.dataset
    if type(data) is not TensorDataset or loader.collate_fn is not default_collate:
        yield
        return

    def rows(dataset: TensorDataset, places: list[int]) -> Rows | list:
        many = len(dataset)
        known = all(type(place) is int and 0 <= place < many for place in places)
        if places and known and _plain(dataset):
            return Rows(dataset.tensors, places)
        return [dataset[place] for place in places]

    def collate(batch: Rows | list):
        return batch.stacked() if type(batch) is Rows else default_collate(batch)

    TensorDataset.__getitems__, loader.collate_fn = rows, collate
    try:
        yield
    finally:
        del TensorDataset.__getitems__
        loader.collate_fn = default_collate


def _plain(data: TensorDataset) -> bool:
    """Whether a data set's tensors are such that their rows are views, of which nothing is kept."""
    return all(
        type(one) is FakeTensor and one.layout is torch.strided and not one.requires_grad
        for one in data.tensors
    )
