"""What saves memory elsewhere and not on this ladder: python -m benchmarks.without_effect [FILE]

Two questions, whose answers are kept in results/without_effect.json, or in that file. What does a
chunked cross-entropy save, for ten classes and for a language model's vocabulary (predicted)? And
what does a linear layer keep for its backward pass, with products in bfloat16, float8 and int8
(measured, on the CPU)?
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from ladder import fingerprints
from ladder.rungs import ROOT
from vramcast.options import Options
from vramcast.processes.supervisor import end_forkserver, start_forkserver, write_json
from vramcast.run.process import predict

RESULTS = ROOT / "results" / "without_effect.json"
HEADS = {  # what stands before the loss: rows, width, classes
    "ViT-L/16, 64 images, 10 classes": (64, 1024, 10),
    # Llama 3 8B (its config.json: hidden_size 4096, vocab_size 128256), two sequences of 4,096
    "a language model, 8,192 tokens, 128,256 words": (8192, 4096, 128_256),
}
SCRIPT = """
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

head = torch.nn.Linear({width}, {classes}, bias=False, dtype=torch.bfloat16, device="cuda")
optimizer = torch.optim.SGD(head.parameters())
features = torch.zeros({rows}, {width}, dtype=torch.bfloat16, device="cuda", requires_grad=True)
labels = torch.zeros({rows}, dtype=torch.long, device="cuda")

def total(some, their):
    return F.cross_entropy(head(some), their, reduction="sum")

while True:
    optimizer.zero_grad()
    features.grad = None
    loss = 0.0
    for some, their in zip(features.chunk({chunks}), labels.chunk({chunks})):
        loss += checkpoint(total, some, their, use_reentrant=False)
    (loss / {rows}).backward()
    optimizer.step()
"""
CHUNKS = {"in one piece": 1, "in 16 chunks": 16}


def losses() -> dict[str, dict[str, float]]:
    """Predicted GB (allocated, on the GPU) of only a head, its loss and its gradients, by head."""
    found = {}
    start_forkserver("vramcast.run.script")
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "head.py"
        for title, (rows, width, classes) in HEADS.items():
            found[title] = {}
            for name, chunks in CHUNKS.items():
                script.write_text(
                    SCRIPT.format(rows=rows, width=width, classes=classes, chunks=chunks)
                )
                found[title][name] = predict(script, Options())["allocated_gb"]
    end_forkserver()
    return found


def kept(layer: nn.Module, inputs: torch.Tensor) -> int:
    """Bytes of the tensors that a layer's forward pass on `inputs` saves for the backward pass."""
    storages = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        names = tensor.__tensor_flatten__()[0] if hasattr(tensor, "__tensor_flatten__") else []
        for part in [getattr(tensor, name) for name in names] or [tensor]:
            storage = part.untyped_storage()
            storages[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        layer(inputs).float().sum().backward()
    return sum(storages.values())


def products() -> dict[str, int]:
    """Bytes that a linear layer keeps for its backward pass, by the precision of its products.

    The layer is small, since float8 is slow on a CPU; a large one keeps the same types.
    """
    from torchao.float8 import convert_to_float8_training
    from torchao.prototype.quantized_training import int8_mixed_precision_training
    from torchao.quantization import quantize_

    changes = {
        "bfloat16": lambda model: None,
        "float8": convert_to_float8_training,
        "int8": lambda model: quantize_(model, int8_mixed_precision_training()),
    }
    found = {}
    for name, change in changes.items():
        model = nn.Sequential(nn.Linear(256, 1024, bias=False)).bfloat16()
        change(model)
        rows = 192  # about an image's tokens; of float8, multiples of 16
        inputs = torch.randn(rows, 256, dtype=torch.bfloat16, requires_grad=True)
        found[name] = kept(model, inputs)
    return found


if __name__ == "__main__":
    results = {
        "fingerprint": fingerprints.of_all("without_effect"),
        "losses": losses(),
        "products": products(),
    }
    write_json(results, Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)
    for title, row in results["losses"].items():
        print(title + ":", ", ".join(f"{name} {size:.4f} GB" for name, size in row.items()))
    print("kept by a linear layer:", results["products"])
