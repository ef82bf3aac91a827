"""float16 throughout: a negative result, since the loss becomes NaN after one step.

Builds on: 03_bfloat16.py (variant)

A float16 takes the same 2 bytes as a bfloat16 but has 5 exponent bits instead of 8. Adam's second
moment averages squared gradients, and most of these squares underflow in float16: they become zero,
and so does the eps that guards the division by their root. The update then divides by zero. Mixed
precision avoids this with float32 parameters and a GradScaler, bfloat16 with its range. The script
stops at the first NaN, says what underflowed, and still evaluates what is left of the model: its
accuracy is that of guessing.

Run: python 03-2_float16-nan.py
"""

import torch
import torch.nn.functional as F
from lightning import Fabric
from torchmetrics import Accuracy
from torchvision.models import ViT_L_16_Weights, vit_l_16

from local_utilities import Progress, Report, check_gpus, cifar10_loaders


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    accuracy = Accuracy(task="multiclass", num_classes=10).to(device)
    for images, labels in loader:
        images = F.interpolate(images, size=224, mode="bilinear")
        accuracy.update(model(images), labels)
    return accuracy.compute().item()


if __name__ == "__main__":
    check_gpus(1)
    torch.manual_seed(123)
    torch.set_float32_matmul_precision("high")
    num_epochs = 1
    fabric = Fabric(accelerator="cuda", devices=1, precision="16-true")
    fabric.launch()
    report = Report(fabric)

    #########################################
    # 1. Data
    #########################################

    loaders = fabric.setup_dataloaders(*cifar10_loaders(batch_size=64))
    train_loader, val_loader, test_loader = loaders

    #########################################
    # 2. Model
    #########################################

    model = vit_l_16(weights=ViT_L_16_Weights.IMAGENET1K_V1)
    model.heads.head = torch.nn.Linear(model.heads.head.in_features, 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
    model, optimizer = fabric.setup(model, optimizer)
    report.model_created()

    #########################################
    # 3. Finetuning
    #########################################

    for epoch in range(1, num_epochs + 1):
        model.train()
        progress = Progress(train_loader, f"Epoch {epoch}/{num_epochs}")
        for images, labels in progress:
            images = F.interpolate(images, size=224, mode="bilinear")
            loss = F.cross_entropy(model(images), labels)
            progress.show(loss)
            if loss.isnan():
                half, eps = torch.finfo(torch.float16), torch.tensor(optimizer.defaults["eps"])
                squares = [state["exp_avg_sq"] for state in optimizer.state.values()]
                nonzero = sum(square.count_nonzero() for square in squares)
                zeros = 1 - nonzero / sum(square.numel() for square in squares)
                print(f"The loss is NaN. The smallest float16 is {half.tiny * half.eps:.0e}, so")
                print(f"Adam's eps of {eps:.0e} became {eps.half():.0e}, as did {zeros:.1%} of its")
                print("squared gradients, and it divided by 0. Use 03_bfloat16.py instead or,")
                print("on a GPU without bfloat16, 02_mixed-precision.py.")
                del loss  # which keeps the activations
                break
            optimizer.zero_grad()
            fabric.backward(loss)
            optimizer.step()
        val_accuracy = evaluate(model, Progress(val_loader, "Validation"), fabric.device)
        report.end_epoch(progress, val_accuracy)

    #########################################
    # 4. Test
    #########################################

    test_accuracy = evaluate(model, Progress(test_loader, "Test"), fabric.device)
    report.finish(test_accuracy)
