"""Sizes that depend on numbers, on the GPU without data: printed as JSON; see test_numbers.py."""

import json

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from vramcast import gpus
from vramcast.device import mode as gpu
from vramcast.device.unknown import Unsized
from vramcast.memory.tracker import Tracker

GPU = {"device": "cuda"}
LENGTHS = [3, 10, 7, 1]
notes: list[str] = []
found = {}


def refused(make) -> str | None:
    try:
        make()
    except Unsized as failure:
        return str(failure)
    return None


def written():
    """A number that is not known makes a known tensor unknown, also by a view of it."""
    kept = torch.tensor([5, 6, 7])
    view = kept[1:]
    view[0] = torch.ones(3, **GPU).long().sum().cpu()
    return kept.constant is None


def packed(lengths, kind):
    network = getattr(torch.nn, kind)(16, 32, batch_first=True, bidirectional=True).cuda()
    rows = torch.randn(4, 10, 16, requires_grad=True, **GPU)
    sequence = pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=False)
    output, _ = network(sequence)
    padded, _ = pad_packed_sequence(output, batch_first=True)
    padded.sum().backward()
    return [
        list(sequence.data.shape), sequence.batch_sizes.tolist(), list(output.data.shape),
        list(padded.shape), list(rows.grad.shape),
    ]  # fmt: skip


def ctc(targets, inputs, labels):
    scores = torch.randn(50, 4, 20, requires_grad=True, **GPU)
    loss = F.ctc_loss(scores.log_softmax(2), targets, inputs, labels)
    kept = loss.grad_fn.next_functions[0][0].next_functions[0][0]
    shape = list(kept._saved_result1.shape)
    loss.backward()
    return [type(kept).__name__, shape]


tracker = Tracker()
tracker.install()
mode = gpu.install(tracker, gpus.DEFAULT, 1, notes)
with mode:
    torch.manual_seed(0)
    data = np.arange(100_000)
    places = torch.randint(len(data) - 8, (3,))
    rows = torch.stack([torch.from_numpy(data[i : i + 8].astype(np.int64)) for i in places])
    mask = torch.tensor([1, 0, 1, 1])
    blank = torch.empty(3, dtype=torch.long)
    blank[1:] = torch.tensor([4, 2])
    found["known"] = {
        "rows": rows.tolist(),
        "places": [int(i) for i in places],
        "count": mask.sum().item(),
        "all": [bool(mask.all()), bool((mask >= 0).all())],
        "shuffled": torch.randperm(5).tolist(),
        "drawn": torch.multinomial(torch.tensor([0.0, 1.0]), 3, True).tolist(),
        "spread": torch.linspace(0, 1, 3).tolist(),
        "chance": float(torch.rand(1)),
        "in place": blank[1:].tolist(),
        "chosen": [mask.nonzero().tolist(), mask[mask > 0].tolist(), mask.unique().tolist()],
        "repeated": torch.arange(4).repeat_interleave(mask).tolist(),
        "masked": list(torch.randn(4, 2, **GPU)[mask.bool()].shape),
    }
    labels = torch.arange(60_000) % 10
    found["handed over"] = [len(np.where(np.array(labels.clone()) == 3)[0]), labels[:3].tolist()]
    some = [torch.tensor(2), 3, torch.tensor([1.5])]
    found["of tensors"] = [torch.tensor(some).tolist(), torch.tensor([some[:2]]).tolist()]
    unknown = torch.tensor([3, torch.ones(3, **GPU).sum()])
    found["of unknown"] = [unknown.constant is None, str(unknown.dtype)]
    found["greatest"] = [labels.cuda().max().item() + 1, labels.cuda()[None].min().item()]
    found["written"] = written()
    x = torch.randn(8, 16, **GPU)
    found["empty"] = list(torch.zeros(0, **GPU).shape)
    positive = (x > 0).sum().item()
    classes = torch.randint(3, 9, (4,), **GPU)
    some = classes.max().item()
    any_number = torch.empty(1, dtype=torch.long, **GPU).item()
    found["bounds"] = {
        "sum": len(torch.zeros(positive + 1)),
        "slice": list(x[:, :some].shape),
        "rest": list(x[:, some:].shape),
        "argmax": len(torch.zeros(max(1, x.argmax(1).max().item()))),
        "topk": len(torch.zeros(x.topk(2).indices.max().item())),
        "all": list(x[:any_number].shape),
        "parts": [len(part) for part in x.split([some, any_number])],
        "repeated": list(x.repeat_interleave(torch.randint(1, 4, (8,), **GPU), 0).shape),
        "given": list(x.repeat_interleave(classes.repeat(2), 0, output_size=40).shape),
        "classes": list(F.one_hot(classes).shape),
        "counted": list(torch.bincount(classes).shape),
    }
    found["still empty"] = [list(torch.zeros(0, **GPU).shape), list(x[:0].shape)]
    lost = int(classes.max())
    found["refused"] = [
        refused(lambda: torch.zeros(any_number)),
        refused(lambda: x.view(any_number, -1)),
        refused(lambda: torch.zeros(lost)),
        refused(lambda: x[0, :lost]),
    ]
    assert classes.min() >= 3
    assert not (classes > 9).any()
    found["asserted"] = bool(classes.max() < 9)
    found["again"] = torch.tensor([torch.tensor(2), 3]).tolist()  # now that numbers were read
    found["value"] = [torch.tensor([1, 2]).mul(any_number).constant is None]
    lengths = torch.tensor(LENGTHS)
    found["packed"] = {kind: packed(lengths, kind) for kind in ("LSTM", "GRU", "RNN")}
    found["packed, unknown"] = packed(torch.randint(1, 9, (4,), **GPU).cpu(), "LSTM")
    labels = torch.ones(40, dtype=torch.int)
    found["ctc"] = {
        "rows": ctc(labels.view(4, 10).cuda(), torch.full((4,), 50), torch.full((4,), 9)),
        "lists": ctc(labels.cuda(), [50] * 4, [12, 8, 10, 10]),
        "cuDNN": ctc(labels, [50] * 4, [10] * 4),
        "unknown": ctc(labels.cuda(), torch.full((4,), 50, **GPU), torch.full((4,), 10, **GPU)),
    }
found["notes"] = notes
print(json.dumps(found))
