import torch
from torchvision.models.segmentation import fcn_resnet50

model = fcn_resnet50(weights_backbone=None).cuda().eval()
found = []
with torch.no_grad():
    for _ in range(30):
        images = torch.randn(16, 3, 224, 224, device="cuda")
        found.append(model(images)["out"])  # [16, 21, 224, 224]
found = torch.cat(found).argmax(1)
