"""The plain PyTorch loop on images, as the tutorials write it: a Dataset that makes a PIL image of each
sample and transforms it, a DataLoader, a loop. What `ToTensor`, `Normalize` and `Resize` of torchvision do is
written out here, so that the loop runs on the same PyTorch as we do.

Settings: data, network, batch_size, optimizer; `tensors` for a TensorDataset made beforehand instead;
workers; `rows` for only the first ones; `precision` and `channels_last`, as who knows of them sets them; `frozen` for a new last layer on a
frozen network; `resize`; warm_steps and steps, and `tested` for the accuracy at the end; or `target`, an
accuracy on the test images to train for, looked at after each epoch, for at most `epochs`.
"""

import contextlib
import json
import sys
from pathlib import Path

import networks
import numpy as np
import torch
from PIL import Image
from stopwatch import Stopwatch
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset, TensorDataset


def to_tensor(image):
    pixels = torch.from_numpy(np.array(image, np.uint8, copy=True))
    pixels = pixels.view(image.size[1], image.size[0], len(image.getbands()))
    return pixels.permute(2, 0, 1).contiguous().to(torch.float32).div(255)


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, tensor):
        mean = torch.as_tensor(self.mean, dtype=tensor.dtype).view(-1, 1, 1)
        std = torch.as_tensor(self.std, dtype=tensor.dtype).view(-1, 1, 1)
        return tensor.clone().sub_(mean).div_(std)


class Images(Dataset):
    """Images held as arrays, given as PIL images through transforms, as torchvision's MNIST and CIFAR10."""

    def __init__(self, folder, split, transforms):
        self.images = np.load(Path(folder) / f"{split}-images.npy")
        self.labels = np.load(Path(folder) / f"{split}-labels.npy")
        self.transforms = transforms

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        image, label = Image.fromarray(self.images[index]), int(self.labels[index])
        for transform in self.transforms:
            image = transform(image)
        return image, label


def as_tensors(data):
    """The whole data set transformed at once, into memory."""
    images, labels = zip(*(data[i] for i in range(len(data))), strict=True)
    return TensorDataset(torch.stack(images), torch.tensor(labels))


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    hits = sum((model(images).argmax(1) == labels).sum().item() for images, labels in loader)
    model.train()
    return hits / len(loader.dataset)


def build(given):
    name, options = given["network"]["name"], {k: v for k, v in given["network"].items() if k != "name"}
    model = {"cnn": networks.cnn, "resnet18": networks.ResNet18}[name](**options)
    if given.get("frozen"):
        for parameter in model.parameters():
            parameter.requires_grad = False
        model.fc = nn.Linear(512, 10)
    if given.get("channels_last"):
        model = model.to(memory_format=torch.channels_last)
    return model


def main():
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.manual_seed(given.get("seed", 0))
    resize = given.get("resize")
    transforms = [lambda image: image.resize((resize, resize), Image.BILINEAR)] if resize else []
    transforms += [to_tensor, Normalize(given["mean"], given["std"])]
    train = Images(given["data"], "train", transforms)
    test = Images(given["data"], "test", transforms)
    train.labels = train.labels[: given.get("rows")]
    if given.get("tensors"):
        train, test = as_tensors(train), as_tensors(test)
    loader = DataLoader(train, given["batch_size"], shuffle=True, num_workers=given.get("workers", 0))
    held_out = DataLoader(test, 1000)
    model = build(given)
    learnt = [p for p in model.parameters() if p.requires_grad]
    make = {"adam": optim.Adam, "sgd": optim.SGD}[given["optimizer"].pop("name")]
    optimizer = make(learnt, **given["optimizer"])
    criterion = nn.CrossEntropyLoss()
    half = torch.autocast("cpu", torch.bfloat16) if given.get("precision") == "bfloat16" else None
    watch = Stopwatch(given.get("warm_steps", 0), given.get("steps"))
    curve, going, target = [], True, given.get("target")
    for _ in range(given["epochs"]):
        running = 0.0
        for images, labels in loader:
            if given.get("channels_last"):
                images = images.to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            with half or contextlib.nullcontext():
                loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            running += loss.item()
            going = watch.step(len(labels))
            if not going:
                break
        if target or given.get("tested"):
            curve.append([watch.elapsed(), accuracy(model, held_out)])
        if not going or (target and curve[-1][1] >= target):
            break
    found = {"accuracy": curve[-1][1], "curve": curve, "taken": curve[-1][0]} if curve else {}
    watch.report(parameters=networks.count(model), versions={"torch": torch.__version__}, **found)


if __name__ == "__main__":
    main()
