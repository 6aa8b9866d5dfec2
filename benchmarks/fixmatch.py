"""FixMatch with 40 and with 250 labels of CIFAR-10, three draws of each: accuracy on the test images of a network that is
fitted to the labels alone, by FixMatch, and by both from one that was pretrained without labels (that of labels.py). The
paper trains a larger network for a million steps; these are as many as half an hour on two cores allows."""

import argparse
import os
import tempfile

import labels
import results

STEPS, WRAP = "400 steps", [{"name": "fixmatch", "ratio": 2, "threshold": 0.9}]


def stages(network, pretrained):
    fitted = {"augment": "auto", "batch_size": 64, "budget": STEPS}
    return [
        labels.stage("alone", **network, **fitted),
        labels.stage("fixmatch", **network, **fitted, wrap=WRAP),
        {**labels.stage("prototypes", head="prototypes"), "from": pretrained},
        {**labels.stage("tuned", **fitted), "from": pretrained},
        {**labels.stage("tuned_fixmatch", **fitted, wrap=WRAP), "from": pretrained},
        {"stage": "audit"},
    ]


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    os.chdir(tempfile.mkdtemp())
    made = labels.SETS["cifar10"]()
    network = {"backbone": made["pretrain"]["backbone"]}
    pretrained, rows = labels.pretrained("cifar10", made), []
    for count in (40, 250):
        data = {**made["data"], "labels_per_class": count // 10, "draws": labels.DRAWS}
        found = labels.run(f"fixmatch-{count}", data, stages(network, pretrained))[1]["headline"]
        rows += [{"system": name, "labels": count, **interval} for name, interval in found.items()]
        results.write(
            "fixmatch", f"accuracy on the test images of CIFAR-10, {labels.DRAWS} draws of labels", rows
        )


if __name__ == "__main__":
    main()
