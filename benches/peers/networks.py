"""The networks that several comparisons run: torchvision's, with random weights and batch statistics that fit them."""


def network(builder, size, pictures):
    """The network in inference mode, with batch statistics from one pass over `pictures`; of size 32 with the usual stem
    for small pictures."""
    import torch
    import torchvision

    model = getattr(torchvision.models, builder)(weights=None)
    if size == 32:
        model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = torch.nn.Identity()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
        if isinstance(module, torch.nn.Linear) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.02)
    with torch.no_grad():
        model.train()(pictures)
    return model.eval().requires_grad_(False)
