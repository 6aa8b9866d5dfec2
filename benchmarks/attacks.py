"""Our attacks beside those of the library `adversarial-robustness-toolbox`, one after the other on the same small network
for MNIST, the same images, epsilon (0.1, linf), steps (40), starts and queries (1,000): images a second, and the accuracy
that each leaves. The library has no FAB, so that ours, and the ensemble, stand alone.

    python benchmarks/attacks.py --parts pgd apgd
"""

import sys

import duel
import numpy as np
import torch

sys.path.append(str(duel.PEERS))
import attacked

PEER = "adversarial-robustness-toolbox"
BOTH, ALONE = ("fgsm", "pgd", "apgd", "apgd-dlr", "square"), ("fab", "ensemble")


def fitted(data, steps):
    """The file of the weights of a network after some steps of 128 images."""
    torch.manual_seed(0)
    path = duel.CACHE / f"attacked-{steps}.npz"
    if not path.exists():
        net, (x, truth) = attacked.network(), attacked.images(data, "train")
        optimizer = torch.optim.Adam(net.parameters(), 1e-3)
        for _ in range(steps):
            rows = torch.randint(len(x), (128,))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x[rows]), truth[rows]).backward()
            optimizer.step()
        np.savez(path, **{name: value.numpy() for name, value in net.state_dict().items()})
    return str(path)


def main():
    given = duel.arguments(__doc__, rounds=3, parts=[*BOTH, *ALONE])
    _, data = duel.data_set("mnist")
    size = {"batch_size": 20, "batches": 1, "steps": 5, "queries": 20} if given.quick else {
        "batch_size": 200, "batches": 5, "steps": 40, "queries": 1000}  # fmt: skip
    settings = {"data": data, "weights": fitted(data, 30 if given.quick else 1000), "epsilon": 0.1, **size}
    lines, ratios, ranges = [], {}, {}
    for name in given.parts:
        systems = [duel.System(duel.OURS, "our_attacks.py", {**settings, "attack": name})]
        if name in BOTH:
            systems.append(duel.System(PEER, "art_attacks.py", {**settings, "attack": name}, "art"))
        told, ratio, span = duel.figures(duel.duel(systems, given))
        lines += [{"attack": name, **line} for line in told]
        if PEER in ratio:
            ratios[name], ranges[name] = ratio[PEER], span[PEER]
    duel.told("attacks", "images attacked a second", given, lines, ratios, ranges, epsilon=0.1, **size)


if __name__ == "__main__":
    main()
