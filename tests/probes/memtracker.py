"""Print the peak, in bytes, that PyTorch's MemTracker sees of a ViT without data on the CPU.

Arguments: model (s or b), batch size, precision (full or bf16). SCRIPT is the
same training for a GPU, for vramcast.
"""

import sys

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

LAYERS = 2  # of each model: more take longer and show no more
SCRIPT = """
import torch
import torch.nn.functional as F
from torchvision.models import VisionTransformer

sizes = {{"s": (6, 384, 1536), "b": (12, 768, 3072)}}
heads, width, hidden = sizes[{size!r}]
torch.set_default_dtype(torch.bfloat16 if {precision!r} == "bf16" else torch.float32)


def train(device, steps, done=lambda model, optimizer: None):
    with torch.device(device):
        model = VisionTransformer(224, 16, {layers}, heads, width, hidden, num_classes=10)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, foreach=False)
        for _ in range(steps):
            done(model, optimizer)
            images = torch.ones({batch}, 3, 224, 224)
            labels = torch.zeros({batch}, dtype=torch.long)
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()


if __name__ == "__main__":
    train("cuda", 99)
"""


def main(size: str, batch: str, precision: str) -> None:
    watch, scope = MemTracker(), {"__name__": "probe"}
    exec(SCRIPT.format(size=size, batch=batch, precision=precision, layers=LAYERS), scope)

    def done(model, optimizer):
        if not scope.get("known"):
            watch.track_external(model, optimizer)
            scope["known"] = True
        watch.reset_mod_stats()

    torch.nn.init.trunc_normal_ = lambda tensor, **options: tensor  # it looks at the numbers
    with FakeTensorMode(), watch:
        scope["train"]("cpu", 3, done)
    print(watch.get_tracker_snapshot("peak")[torch.device("cpu")]["Total"])


if __name__ == "__main__":
    main(*sys.argv[1:])
