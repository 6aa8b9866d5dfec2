"""Making the two views of SimCLR (crops, mirroring, colour, grey) of batches of 256 images of 32×32, beside the library
`kornia`: images a second, of two views each, from 40 batches after 5 (1 minute)."""

import duel
import simclr


def main():
    given = duel.arguments(__doc__, rounds=3)
    _, decoded = duel.data_set("cifar10")
    settings = {"data": decoded, "batch_size": 256, "warm_steps": 5, "steps": 2 if given.quick else 40}
    systems = [
        duel.System(duel.OURS, "our_views.py", {**settings, "augment": simclr.VIEWS}),
        duel.System("kornia", "kornia_views.py", settings, "kornia"),
    ]
    lines, ratios, ranges = duel.figures(duel.duel(systems, given))
    duel.told("views", "images a second, 32×32, two views each", given, lines, ratios, ranges)


if __name__ == "__main__":
    main()
