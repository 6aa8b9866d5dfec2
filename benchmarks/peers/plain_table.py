"""The plain PyTorch loop on a table: a Dataset of rows of arrays (with `frame` of a pandas frame, as PyTorch's
own tutorial on data does; with `tensors` a TensorDataset), a DataLoader, a loop. The table is in memory and
standardised before the clock starts."""

import json
import sys

import networks
import numpy as np
import torch
from stopwatch import Stopwatch
from torch import nn, optim
from torch.utils.data import DataLoader, Dataset, TensorDataset


class Rows(Dataset):
    def __init__(self, numbers, categories, labels):
        self.numbers, self.categories, self.labels = numbers, categories, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return (
            torch.from_numpy(self.numbers[index]),
            torch.from_numpy(self.categories[index]),
            self.labels[index],
        )


class FrameRows(Dataset):
    def __init__(self, frame, numbers, categories):
        self.frame, self.numbers, self.categories = frame, numbers, categories

    def __len__(self):
        return len(self.frame)

    def __getitem__(self, index):
        row = self.frame.iloc[index]
        numbers = torch.tensor(row[self.numbers].to_numpy(np.float32))
        return numbers, torch.tensor(row[self.categories].to_numpy(np.int64)), int(row["label"])


def in_frame(numbers, categories, labels):
    import pandas as pd

    columns = {f"number_{i}": column for i, column in enumerate(numbers.T)}
    codes = {f"category_{i}": column for i, column in enumerate(categories.T)}
    return FrameRows(pd.DataFrame(columns | codes | {"label": labels}), list(columns), list(codes))


def main():
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.manual_seed(given.get("seed", 0))
    with np.load(given["data"]) as file:
        numbers, categories, labels = (file[name] for name in ("numbers", "categories", "labels"))
    numbers = (numbers - numbers.mean(0)) / numbers.std(0)
    if given.get("tensors"):
        data = TensorDataset(*(torch.from_numpy(a) for a in (numbers, categories, labels)))
    elif given.get("frame"):
        data = in_frame(numbers, categories, labels)
    else:
        data = Rows(numbers, categories, labels)
    loader = DataLoader(data, given["batch_size"], shuffle=True, num_workers=given.get("workers", 0))
    model = networks.TableMlp(numbers.shape[1], given["sizes"], given["vectors"], given["widths"], classes=2)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    criterion = nn.CrossEntropyLoss()
    watch = Stopwatch(given["warm_steps"], given["steps"])
    running, going = 0.0, True
    while going:
        for some, codes, truth in loader:
            optimizer.zero_grad()
            loss = criterion(model(some, codes), truth)
            loss.backward()
            optimizer.step()
            running += loss.item()
            going = watch.step(len(truth))
            if not going:
                break
    watch.report(parameters=networks.count(model), versions={"torch": torch.__version__}, loss=loss.item())


if __name__ == "__main__":
    main()
