"""torchao's benchmark of optimizers: a timm model finetuned on images of 45 classes."""

import timm
import torch
import torch.nn.functional as F
import torchao.optim

SIZE = 224  # pixels, to which the benchmark crops its images for every model


def finetune(
    name: str,
    batch: int,
    optimizer: str = "AdamW",
    amp: bool = False,
    checkpointing: bool = False,
    compiled: bool = False,
    offload: bool = False,
    offload_gradients: bool = False,
) -> None:
    """Four optimizer steps, in bfloat16, or with autocast to it (`amp`).

    `optimizer`: "AdamW" is PyTorch's, fused, another name torchao's. `offload`: by torchao's
    CPUOffloadOptimizer.
    """
    model = timm.create_model(name, num_classes=45, img_size=SIZE)
    if checkpointing:
        model.set_grad_checkpointing()
    if not amp:
        model.bfloat16()
    model.cuda()
    if compiled:
        model.compile(fullgraph=True)
    parameters, settings = model.parameters(), {"lr": 1e-4, "weight_decay": 0}
    if optimizer == "AdamW":
        kind, settings["fused"] = torch.optim.AdamW, True
    else:
        kind = getattr(torchao.optim, optimizer)
    if offload:
        settings["offload_gradients"] = offload_gradients
        stepper = torchao.optim.CPUOffloadOptimizer(parameters, kind, **settings)
    else:
        stepper = kind(parameters, **settings)
    model.train()
    for _ in range(4):
        images = torch.rand(batch, 3, SIZE, SIZE, device="cpu")
        if not amp:
            images = images.bfloat16()
        labels = torch.zeros(batch, dtype=torch.long, device="cpu")
        with torch.autocast("cuda", torch.bfloat16, enabled=amp):
            loss = F.cross_entropy(model(images.cuda()), labels.cuda())
        loss.backward()
        stepper.step()
        stepper.zero_grad()
