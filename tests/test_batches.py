"""The batches of CIFAR-10 that all scripts get."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.models import ViT_H_14_Weights, ViT_L_16_Weights
from torchvision.transforms import InterpolationMode, v2

import local_utilities
from local_utilities import ImageBatches, cifar10_loaders
from rehearsal.data import Digits
from tests.warm import run


@pytest.fixture
def full_size(monkeypatch):
    """Data of CIFAR-10's size, all black."""
    train, test = (
        SimpleNamespace(data=np.zeros((size, 32, 32, 3), np.uint8), targets=[0] * size)
        for size in (50_000, 10_000)
    )
    monkeypatch.setattr(local_utilities, "load_cifar10", lambda: (train, test))


def test_splits_are_disjoint_and_complete(full_size):
    train, val, test = cifar10_loaders(batch_size=64)
    assert [len(loader.dataset) for loader in (train, val, test)] == [45_000, 5_000, 10_000]
    assert sorted([*train.dataset.indices, *val.dataset.indices]) == list(range(50_000))


def test_every_script_gets_the_same_batches(monkeypatch):
    monkeypatch.setattr(local_utilities, "load_cifar10", lambda: (Digits(), Digits(train=False)))
    torch.manual_seed(1)
    first = next(iter(cifar10_loaders(batch_size=16)[0]))
    torch.manual_seed(2)
    second = next(iter(cifar10_loaders(batch_size=16)[0]))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert len(set(first[1].tolist())) > 1  # shuffled


def test_images_are_what_the_pretrained_weights_expect():
    preset = ViT_L_16_Weights.IMAGENET1K_V1.transforms()
    assert preset.mean == ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1.transforms().mean
    assert preset.std == ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1.transforms().std
    one_by_one = v2.Compose(
        [
            v2.Resize((224, 224), InterpolationMode.BILINEAR),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(preset.mean, preset.std),
        ]
    )
    digits = Digits(transform=one_by_one)
    expected = torch.stack([digits[index][0] for index in range(8)])
    images, labels = ImageBatches(digits).__getitems__(list(range(8)))
    ours = F.interpolate(images, size=224, mode="bilinear")
    one_level = 1 / 255 / min(preset.std)  # PIL rounds to whole pixel values, we do not
    assert (ours - expected).abs().max() < one_level
    assert labels.tolist() == digits.targets[:8]


def test_a_batch_is_prepared_as_a_whole(full_size, monkeypatch):
    prepare, sizes = ImageBatches.__getitems__, []

    def noted(self, indices):
        sizes.append(len(indices))
        return prepare(self, indices)

    monkeypatch.setattr(ImageBatches, "__getitems__", noted)
    for loader in cifar10_loaders(batch_size=64):
        images, labels = next(iter(loader))
        assert (images.shape, labels.shape) == ((64, 3, 32, 32), (64,))
    assert sizes == [64, 64, 64]


def test_the_benchmark_of_data_loading_prints_ratios_and_what_is_copied():
    process = run("benchmarks/dataloading.py", "--seconds", "0.1")
    assert process.returncode == 0, process.stderr
    rows = [line.split() for line in process.stdout.splitlines()[1:]]
    copied = {(row[0], " ".join(row[1:-3])): int(row[-1].replace(",", "")) for row in rows}
    for size in (224, 518):
        assert copied[f"{size}", "one by one"] == 4 * 3 * size**2
        assert copied[f"{size}", "whole batches, enlarged as uint8"] == 3 * size**2
        assert copied[f"{size}", "whole batches, for the GPU to enlarge"] == 4 * 3 * 32**2
    assert [row[-2] for row in rows if row[1:4] == ["one", "by", "one"]] == ["1.0", "1.0"]
