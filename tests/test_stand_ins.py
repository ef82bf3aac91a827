"""The stand-ins: real data, real arithmetic, and scripts that we did not write."""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ladder.rungs import ROOT
from rehearsal import arithmetic
from rehearsal.data import Digits
from rehearsal.weights import CHECKPOINT, small_vit
from tests.warm import run

PAGE = (ROOT / "docs" / "rehearsal.md").read_text()


def test_digits_are_split_without_overlap():
    train, test = Digits(train=True), Digits(train=False)
    assert (len(train), len(test)) == (1438, 359)
    images = [image.tobytes() for part in (train, test) for image in part.data]
    assert len(set(images)) == 1797
    image, label = train[0]
    assert (image.size, image.mode) == ((32, 32), "RGB")
    assert label == train.targets[0]
    assert set(train.targets) == set(test.targets) == set(range(10))


def test_checkpoint_is_small_and_holds_all_but_the_head():
    assert CHECKPOINT.stat().st_size <= 5e6
    model = small_vit()
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} million" in PAGE
    missing, unexpected = model.load_state_dict(load_file(CHECKPOINT), strict=False)
    assert set(missing) == {"heads.head.weight", "heads.head.bias"}
    assert unexpected == []
    assert CHECKPOINT.with_suffix(".log").exists()


def test_16_bit_products_are_rounded_once_as_on_tensor_cores():
    torch.manual_seed(0)
    for dtype in arithmetic.HALF:
        a, b = torch.randn(8, 64).to(dtype), torch.randn(5, 64).to(dtype)
        result = arithmetic._accumulate_in_float32(F.linear)(a, b)
        exact = a.double() @ b.double().T
        assert result.dtype == dtype
        assert torch.equal(result, exact.float().to(dtype))


PLAIN_SCRIPT = """
import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import CIFAR10
from torchvision.models import vit_b_16, ViT_B_16_Weights

if __name__ == "__main__":
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    assert device.type == "cuda"
    transform = transforms.Compose([transforms.Resize((224, 224)), transforms.ToTensor()])
    data = CIFAR10("data", train=True, download=True, transform=transform)
    loader = DataLoader(data, batch_size=8, shuffle=True, num_workers=1, pin_memory=True)
    model = vit_b_16(weights=ViT_B_16_Weights.DEFAULT)
    model.heads.head = nn.Linear(model.heads.head.in_features, 10)
    model = model.cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    scaler = torch.amp.GradScaler("cuda")
    criterion = nn.CrossEntropyLoss().to(0)
    noise = torch.zeros(8, 10, device="cuda")
    for step, (images, labels) in enumerate(loader):
        images, labels = images.to(device, non_blocking=True), labels.cuda()
        with torch.autocast("cuda", dtype=torch.float16):
            output = model(images)
        assert output.dtype == torch.float16
        loss = criterion(output.float() + noise, labels)
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        if step == 2:
            break
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    end.record()
    torch.cuda.synchronize()
    assert start.elapsed_time(end) >= 0
    print(torch.cuda.max_memory_allocated(), torch.cuda.get_device_name(0))
"""


def test_a_plain_script_of_somebody_else_runs_unmodified(tmp_path):
    script, results = tmp_path / "theirs.py", tmp_path / "rows.json"
    script.write_text(PLAIN_SCRIPT)
    process = run("rehearse.py", str(script), "--results", str(results))
    assert process.returncode == 0, process.stdout + process.stderr
    assert "float16 mixed, GradScaler" in process.stdout
    assert list(tmp_path.glob("data*")) == []


def test_weights_without_a_stand_in_are_told(tmp_path):
    script = tmp_path / "theirs.py"
    script.write_text("import torchvision\ntorchvision.models.resnet18(weights='DEFAULT')\n")
    process = run("rehearse.py", str(script), "--results", str(tmp_path / "rows.json"))
    assert process.returncode == 1
    assert "there is no stand-in for the weights ResNet18_Weights" in process.stdout


def test_products_of_16_bits_add_up_in_float32_however_they_are_written():
    """In 16 bits, 1 + 2**-9 + … would stay 1; and the way without float32 is far slower."""
    program = (
        "import torch\n"
        "from rehearsal import arithmetic\n"
        "arithmetic.install()\n"
        "a = torch.full((2, 1025), 2.0**-9).bfloat16(); a[:, 0] = 1\n"
        "b = torch.ones(1025, 2).bfloat16()\n"
        "for r in (a @ b, a.matmul(b), a.mm(b), torch.mm(a, b), torch.matmul(a, b),\n"
        "          torch.bmm(a[None], b[None])):\n"
        "    print(r.dtype, set(r.flatten().tolist()))\n"
    )
    process = run("-c", program)
    assert process.stdout.splitlines() == ["torch.bfloat16 {3.0}"] * 6, process.stderr
