"""SimCLR of the library `lightly`, as the example in its documentation has it for small images: its transform on PIL
images in workers, its projection head and loss, SGD.

Settings: data, batch_size, workers, precision, warm_steps, steps.
"""

import contextlib
import json
import sys

import lightly
import networks
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from plain_images import Images
from stopwatch import Stopwatch
from torch import nn


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = networks.ResNet18(small=True)
        self.backbone.fc = nn.Identity()
        self.projection_head = SimCLRProjectionHead(512, 512, 128)

    def forward(self, x):
        return self.projection_head(self.backbone(x))


def main():
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    rows = Images(given["data"], "train", [SimCLRTransform(input_size=32, gaussian_blur=0.0)])
    loader = torch.utils.data.DataLoader(
        rows, given["batch_size"], shuffle=True, drop_last=True, num_workers=given["workers"]
    )
    model, criterion = SimCLR(), NTXentLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
    half = torch.autocast("cpu", torch.bfloat16) if given["precision"] == "bfloat16" else None
    watch, going = Stopwatch(given["warm_steps"], given["steps"]), True
    while going:
        for (one, two), labels in loader:
            with half or contextlib.nullcontext():
                loss = criterion(model(one), model(two))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            going = watch.step(len(labels))
            if not going:
                break
    watch.report(versions={"torch": torch.__version__, "lightly": lightly.__version__})


if __name__ == "__main__":
    main()
