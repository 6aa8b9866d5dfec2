"""The same attack of the library `adversarial-robustness-toolbox`, from as many random starts as ours, with its step sizes."""

import art
import torch
from art.attacks import evasion
from art.estimators.classification import PyTorchClassifier
from attacked import attacked


def theirs(net, given):
    epsilon, size = given["epsilon"], given["batch_size"]
    victim = PyTorchClassifier(
        net, torch.nn.CrossEntropyLoss(), input_shape=(1, 28, 28), nb_classes=10, clip_values=(0.0, 1.0),
        device_type="cpu",
    )  # fmt: skip
    steps = {"eps": epsilon, "max_iter": given["steps"], "batch_size": size, "verbose": False}
    auto = {**steps, "eps_step": 2 * epsilon, "nb_random_init": 1}
    attack = {
        "fgsm": lambda: evasion.FastGradientMethod(victim, eps=epsilon, batch_size=size),
        "pgd": lambda: evasion.ProjectedGradientDescent(
            victim, **steps, eps_step=2.5 * epsilon / given["steps"], num_random_init=1
        ),
        "apgd": lambda: evasion.AutoProjectedGradientDescent(victim, **auto, loss_type="cross_entropy"),
        "apgd-dlr": lambda: evasion.AutoProjectedGradientDescent(
            victim, **auto, loss_type="difference_logits_ratio"
        ),
        "square": lambda: evasion.SquareAttack(
            victim, eps=epsilon, max_iter=given["queries"], batch_size=size, verbose=False
        ),
    }[given["attack"]]()
    return lambda x, truth: torch.from_numpy(attack.generate(x.numpy(), truth.numpy()))


if __name__ == "__main__":
    attacked(theirs, art=art.__version__)
