"""A masked autoencoder (ViT, 6 layers of 192, patches of 4; a decoder of 2 layers of 128) on 32×32 images, batches of 256,
beside the example of `transformers` (ViTMAEForPreTraining in the Trainer), in float32 and in bfloat16, without workers and
with two: images a second from 15 steps after 3 that do not count (about 5 minutes a round on 2 cores)."""

import duel

WIDTH, DEPTH, HEADS, PATCH, DECODER = 192, 6, 3, 4, (128, 2)


def systems(quick):
    data, decoded = duel.data_set("cifar10")
    warm, steps, batch = (1, 1, 16) if quick else (3, 15, 256)
    stage = {
        "stage": "pretrain", "backbone": {"name": "vit", "width": WIDTH, "depth": DEPTH, "heads": HEADS, "patch": PATCH},
        "objective": {"name": "masked-images", "width": DECODER[0], "depth": DECODER[1]}, "batch_size": batch,
        "budget": "30 epochs", "augment": {"flip": True, "crop": 0.2}, "log_every": warm,
        "optimizer": {"name": "adamw", "lr": 1.5e-4, "weight_decay": 0.05},
    }  # fmt: skip
    recipe = duel.write_recipe({"name": "mae", "data": {"path": data}, "stages": [stage]})
    config = {
        "image_size": 32, "patch_size": PATCH, "hidden_size": WIDTH, "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS, "intermediate_size": 4 * WIDTH, "decoder_hidden_size": DECODER[0],
        "decoder_num_hidden_layers": DECODER[1], "decoder_num_attention_heads": 4, "norm_pix_loss": True,
        "decoder_intermediate_size": 4 * DECODER[0],
    }  # fmt: skip
    example = {"data": decoded, "config": config, "batch_size": batch, "warm_steps": warm, "steps": steps}
    ours = {"recipe": recipe, "stage": "pretrain", "warm_steps": warm, "steps": steps}
    peers = [
        duel.System(
            f"transformers, {precision}, {workers} workers", "mae_trainer.py",
            {**example, "precision": precision, "workers": workers}, "transformers",
        )
        for precision in ("float32", "bfloat16") for workers in (0, 2)
    ]  # fmt: skip
    return [duel.System(duel.OURS, "ours.py", ours), *peers]


def main():
    given = duel.arguments(__doc__, rounds=3)
    lines, ratios, ranges = duel.figures(duel.duel(systems(given.quick), given))
    duel.told("masked_autoencoder", "images a second, 32×32", given, lines, ratios, ranges)


if __name__ == "__main__":
    main()
