import timm
import torch

model = timm.create_model("vit_base_patch16_384", num_classes=10).cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)
for _ in range(4):
    images = torch.randn(16, 3, 384, 384, device="cuda")
    labels = torch.randint(10, (16,), device="cuda")
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
