"""Opacus' own training loop on images, as its tutorials write it: a PrivacyEngine makes model, optimizer and loader private.

Settings: data, network, mean, std, batch_size, lr, noise, clip; `tensors` for a TensorDataset made beforehand; warm_steps and
steps.
"""

import json
import sys
import warnings

import networks
import opacus
import torch
from opacus import PrivacyEngine
from plain_images import Images, Normalize, as_tensors, to_tensor
from stopwatch import Stopwatch
from torch import nn, optim
from torch.utils.data import DataLoader


def main():
    given = json.loads(sys.argv[1])
    warnings.simplefilter("ignore")
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    train = Images(given["data"], "train", [to_tensor, Normalize(given["mean"], given["std"])])
    train = as_tensors(train) if given.get("tensors") else train
    model = networks.cnn(**given["network"])
    model, optimizer, loader = PrivacyEngine().make_private(
        module=model, optimizer=optim.Adam(model.parameters(), lr=given["lr"]),
        data_loader=DataLoader(train, given["batch_size"]), noise_multiplier=given["noise"], max_grad_norm=given["clip"],
    )  # fmt: skip
    criterion = nn.CrossEntropyLoss()
    watch, going = Stopwatch(given["warm_steps"], given["steps"]), True
    while going:
        for images, labels in loader:
            optimizer.zero_grad()
            criterion(model(images), labels).backward()
            optimizer.step()
            going = watch.step(len(labels))
            if not going:
                break
    watch.report(
        parameters=networks.count(model), versions={"torch": torch.__version__, "opacus": opacus.__version__}
    )


if __name__ == "__main__":
    main()
