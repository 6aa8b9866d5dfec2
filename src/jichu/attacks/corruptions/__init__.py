"""What happens to inputs without anybody's will, in five strengths: bad cameras and weather, hasty typing, gaps, noise."""

from __future__ import annotations

STRENGTHS = (1, 2, 3, 4, 5)

# by kind of data: {name: module:function(inputs, strength 1 to 5, generator)}
CORRUPTIONS = {
    "image": {
        name: f"jichu.attacks.corruptions.images:{name}"
        for name in (
            "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
            "snow", "frost", "fog", "brightness", "contrast", "elastic", "pixelate", "jpeg",
        )
    },
    "text": {name: f"jichu.attacks.corruptions.texts:{name}" for name in ("typos", "word_drops", "letter_case")},
    "table": {name: f"jichu.attacks.corruptions.tables:{name}" for name in ("noise", "missing", "swapped")},
    "audio": {name: f"jichu.attacks.corruptions.sounds:{name}" for name in ("noise", "faster", "slower", "quiet", "clipped")},
}  # fmt: skip
