"""Two processes under `torchrun` against one, each with one thread on a core of its own: images a second of
ResNet-18 with the small stem, batches of 64 in all, from 20 steps after 4 (about 8 minutes)."""

import duel
import resnet18_small


def main():
    given = duel.arguments(__doc__, rounds=3)
    given.threads = 1
    warm, steps, batch = (1, 1, 8) if given.quick else (4, 20, 64)
    data, _ = duel.data_set("cifar10")
    settings = {
        "recipe": resnet18_small.recipe(data, batch, warm), "stage": "finetune", "warm_steps": warm,
        "steps": steps, "pinned": True,
    }  # fmt: skip
    one = duel.System(f"{duel.OURS}, one process", "ours.py", settings)
    two = duel.System(f"{duel.OURS}, two processes", "ours.py", settings, processes=2)
    found = duel.duel([one, two], given)
    duel.told("ranks", f"images a second, batch {batch}", given, *duel.figures(found, ours=two.name))


if __name__ == "__main__":
    main()
