"""What the machine can do at most: the best matmul by precision, and, of a network for images, what one image
costs, forward and backward, in multiplications and additions (two operations each pair)."""

import json
import sys
import time

import networks
import torch
from torch.utils.flop_counter import FlopCounterMode

SIDES = (1024, 2048, 4096)


def matmul(dtype, side, seconds):
    """The best of some products [side, side] × [side, side], in operations a second."""
    a, b = torch.randn(side, side).to(dtype), torch.randn(side, side).to(dtype)
    best, ends = float("inf"), time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - started)
        if time.perf_counter() > ends:
            return 2 * side**3 / best


def main():
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    sides = SIDES if given["seconds"] > 1 else SIDES[:1]
    found = {
        str(dtype).removeprefix("torch."): max(matmul(dtype, side, given["seconds"]) for side in sides)
        for dtype in (torch.float32, torch.bfloat16)
    }
    told = {"matmul": found, "best": max(found.values())}
    if "network" in given:
        options = {k: v for k, v in given["network"].items() if k != "name"}
        model = networks.ResNet18(**options)
        with FlopCounterMode(display=False) as counter:
            model(torch.randn(2, 3, given["size"], given["size"])).sum().backward()
        told["flops_per_image"] = counter.get_total_flops() / 2
    print(json.dumps(told))


if __name__ == "__main__":
    main()
