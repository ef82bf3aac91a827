from functools import partial

import torch
from torch.utils.checkpoint import checkpoint
from torchvision.models import ResNet50_Weights, resnet50

model = resnet50(weights=ResNet50_Weights.IMAGENET1K_V2)
model.fc = torch.nn.Linear(model.fc.in_features, 10)
for blocks in (model.layer1, model.layer2, model.layer3, model.layer4):
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        for layer in block.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum /= 2
model.cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
for _ in range(4):
    images = torch.randn(64, 3, 224, 224, device="cuda")
    labels = torch.randint(10, (64,), device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
