"""An attack of ours by its name."""

import torch
from attacked import attacked

import jichu
from jichu.attacks import Threat, Victim, drawing, make
from jichu.core.config import Spec


def ours(net, given):
    steps, queries, draw = {"steps": given["steps"]}, {"queries": given["queries"]}, drawing(0)
    settings = {
        "fgsm": {}, "pgd": steps, "apgd": steps, "apgd-dlr": {**steps, "loss": "dlr"}, "fab": steps,
        "square": queries, "ensemble": steps | queries,
    }[given["attack"]]  # fmt: skip
    attack, threat = (
        make(Spec(name=given["attack"].removesuffix("-dlr"), **settings)),
        Threat(given["epsilon"]),
    )

    def on(x, truth):
        return attack(Victim(lambda z, _: net(z), torch.arange(len(x))), x, truth, threat, draw)

    return on


if __name__ == "__main__":
    attacked(ours, jichu=jichu.__version__)
