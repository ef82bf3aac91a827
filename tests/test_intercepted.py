"""What the rehearsal puts in the place of PyTorch's functions, and what it observes there."""

import random

import pytest
import torch
import torch.nn.functional as F

import imdb
from rehearsal import hardware, language, observer, reviews, weights
from rehearsal.observer import Observer
from rehearsal.outcome import together, why_failed
from tests.warm import run

RANK = {
    "precision": "float32", "parameters_held": 0.5, "optimizer_held": 0.25, "seconds": 3.0,
    "images_per_second": 10.0, "loss_first": 2.0, "loss_last": 1.0, "accuracy": 0.9,
    "targets": dict.fromkeys("0123456789", 5), "steps": 7, "host_gb": 1.0, "error": None,
    "ended": 1.0,
}  # fmt: skip


def test_what_is_replaced_takes_its_arguments_in_every_form():
    process = run("-m", "tests.probes.intercepted")
    assert process.stdout == "[]\n", process.stderr


def test_what_several_ranks_observed_is_put_together():
    """Speeds add up, losses are means, and the rest is of the slowest or the largest."""
    other = RANK | {
        "parameters_held": 0.75, "optimizer_held": 0.5, "seconds": 2.0, "images_per_second": 30.0,
        "loss_first": 4.0, "loss_last": 2.0, "accuracy": 0.1, "host_gb": 4.0,
        "targets": {"0": 900},
    }  # fmt: skip
    row = together([RANK, other])
    assert row == {
        "precision": "float32", "ranks": 2, "parameters_held": 0.75, "optimizer_held": 0.5,
        "seconds": 3.0, "images_per_second": 40.0, "loss_first": 3.0, "loss_last": 1.5,
        "accuracy": 0.9, "host_gb": 4.0,
        "learned": False,  # 905 of 950 are of one class
    }  # fmt: skip
    assert together([RANK])["learned"] is True
    assert together([RANK, RANK | {"images_per_second": None}])["images_per_second"] is None


def test_the_rank_that_failed_first_says_why():
    failed = [RANK | {"error": "second", "ended": 3.0}, RANK | {"error": "first", "ended": 2.0}]
    assert why_failed(1, failed) == "first"
    assert why_failed(0, [RANK]) is None
    idle = RANK | {"steps": 0}
    assert why_failed(0, [idle, RANK]) is None
    assert why_failed(0, [idle | {"differentiated": True}]) is None
    assert "did not train" in why_failed(0, [idle])


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which a test sets."""
    now = [100.0]
    monkeypatch.setattr(observer.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.filterwarnings("ignore:size_average")
def test_losses_are_per_image_and_the_first_batch_does_not_count_for_speed(clock):
    seen, logits = Observer(), torch.zeros(4, 3, requires_grad=True)
    loss, labels = seen._watch_loss(F.cross_entropy), torch.tensor([0, 1, 2, 0])
    of_one = torch.tensor(3.0).log().item()
    calls = [
        ((logits, labels), {}),
        ((), {"input": logits, "target": labels, "reduction": "sum"}),
        ((logits, labels, None, None, -100, None, "sum"), {}),
        ((logits, labels, None, False), {}),  # as it was once called
        ((logits[0], labels[0]), {}),  # one image, without a batch
        ((logits[0], torch.ones(3) / 3), {"label_smoothing": 0.1}),
        ((logits, torch.ones(4, 3) / 3), {}),
        ((logits[:0], labels[:0]), {"reduction": "sum"}),  # no image
        ((logits[:0], labels[:0]), {}),
    ]
    for args, options in calls:
        loss(*args, **options)
        seen._count_step()
        assert seen._step_losses[-1] == pytest.approx(of_one)
        clock[0] += 0.5
    assert len(seen._step_losses) == 7
    assert seen.images_per_second() == (4 + 4 + 4 + 1 + 1 + 4) / 3.0
    assert seen.losses() == (pytest.approx(of_one), pytest.approx(of_one))


def test_a_loss_that_a_script_catches_or_cannot_read_ends_nothing():
    seen = Observer()
    loss, logits = seen._watch_loss(F.cross_entropy), torch.zeros(4, 3, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 0])
    with pytest.raises(ValueError, match="batch_size"):
        loss(logits, labels[:1])
    torch.func.vmap(loss)(logits, labels)
    with torch.no_grad():
        loss(logits, labels)
    assert seen.losses() == (None, None)
    for scale in (0, 1):  # without an optimizer, each is a step
        loss(scale * torch.eye(4)[:, :3].requires_grad_(), labels)
    first, last = seen.losses()
    assert first == pytest.approx(torch.tensor(3.0).log().item())
    assert last != first


def test_micro_batches_count_by_their_images():
    seen = Observer()
    seen._losses = [(1.0, 3), (5.0, 1)]
    seen._count_step()
    seen._losses = [(7.0, 1)]
    assert seen.losses() == (2.0, 7.0)
    assert seen.images_per_second() is None


def test_an_event_tells_milliseconds(clock):
    start, end = hardware._Event(enable_timing=True), hardware._Event()
    start.record(stream=None)
    clock[0] += 1.5
    end.record()
    assert start.elapsed_time(end_event=end) == 1500.0


def test_patches_of_another_size_see_an_even_image_alike():
    kernel = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0)) + 1
    assert weights._resize_patches(kernel, 32) is kernel
    for size in (16, 74):
        resized = weights._resize_patches(kernel, size)
        assert resized.shape == (5, 3, size, size)
        even = [F.conv2d(torch.ones(1, 3, *one.shape[2:]), one) for one in (kernel, resized)]
        assert torch.allclose(*even, rtol=0.02)


def test_a_review_s_label_is_the_opinion_in_it(monkeypatch):
    """As IMDb has it, 1 is for a good one, in batches as well; and none is in both sets."""
    train, test = reviews.write_all()
    for review in (*train, *test):
        said = {
            label: any(sentence in review["text"] for sentence in sentences)
            for label, sentences in ((1, reviews.POSITIVE), (0, reviews.NEGATIVE))
        }
        assert said == {review["label"]: True, 1 - review["label"]: False}
    assert not {review["text"] for review in train} & {review["text"] for review in test}
    assert {len(part) for part in (train, test)} == {reviews.TRAIN, reviews.TEST}

    monkeypatch.setattr(imdb.datasets, "load_dataset", language.load_reviews)
    parts = imdb.load_imdb()
    assert [list(part) for part in parts] == [train, test]
    batch = random.Random(0).sample(train, 8)
    texts, labels = imdb.review_batch(batch)
    assert texts == [review["text"] for review in batch]
    assert labels.tolist() == [review["label"] for review in batch]
    assert labels.dtype == torch.int64
