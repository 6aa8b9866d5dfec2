"""A masked autoencoder as the example of `transformers` trains one: ViTMAEForPreTraining in the Trainer, on images that are
cropped, mirrored and normalised one by one (torchvision's part written out with Pillow).

Settings: data, config (of the model), batch_size, precision, workers, warm_steps, steps.
"""

import json
import sys

import numpy as np
import torch
import transformers
from PIL import Image
from plain_images import Images, Normalize, to_tensor
from stopwatch import Stopwatch


def crop(image):
    """A part of 20% to 100% of the area, of an aspect from 3/4 to 4/3, mirrored half the time."""
    side = image.size[0]
    area, aspect = torch.empty(1).uniform_(0.2, 1.0).item(), np.exp(np.random.uniform(-0.2877, 0.2877))
    width, height = (min(side, round(side * (area * a) ** 0.5)) for a in (aspect, 1 / aspect))
    left, top = np.random.randint(side - width + 1), np.random.randint(side - height + 1)
    image = image.resize((side, side), Image.BICUBIC, (left, top, left + width, top + height))
    return image.transpose(Image.FLIP_LEFT_RIGHT) if torch.rand(1).item() < 0.5 else image


class Pixels(Images):
    def __getitem__(self, index):
        return {"pixel_values": super().__getitem__(index)[0]}


def main():
    given = json.loads(sys.argv[1])
    torch.set_num_threads(given["threads"])
    torch.manual_seed(0)
    rows = Pixels(given["data"], "train", [crop, to_tensor, Normalize([0.5] * 3, [0.5] * 3)])
    model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**given["config"]))
    watch = Stopwatch(given["warm_steps"], given["steps"])

    class Told(transformers.TrainerCallback):
        def on_step_end(self, args, state, control, **more):
            control.should_training_stop = not watch.step(given["batch_size"])

    arguments = transformers.TrainingArguments(
        given["folder"], per_device_train_batch_size=given["batch_size"], bf16=given["precision"] == "bfloat16",
        use_cpu=True, report_to=[], save_strategy="no", max_steps=10**6, disable_tqdm=True, logging_steps=10**9,
        learning_rate=1.5e-4, weight_decay=0.05, dataloader_num_workers=given["workers"], remove_unused_columns=False,
    )  # fmt: skip
    transformers.Trainer(model, arguments, train_dataset=rows, callbacks=[Told()]).train()
    watch.report(versions={"torch": torch.__version__, "transformers": transformers.__version__})


if __name__ == "__main__":
    main()
