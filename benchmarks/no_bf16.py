"""Where bfloat16 does not pay, nothing may be slower than the plain loop. Three works of the other
benchmarks, each under two conditions: the libraries held to AVX2, where bfloat16 is emulated and slow, so that
our own measurement has to find that out; and our precision forced to float32. Rows a second, all systems
under the same condition (about 30 minutes on 2 cores)."""

import duel
import mnist_cnn
import resnet18_small
import table_rows

WORKS = {"mnist_cnn": mnist_cnn, "resnet18_small": resnet18_small, "table_rows": table_rows}
PLAIN = ("plain loop", "plain loop, float32", "plain loop, TensorDataset")
# what was measured under the usual condition must not be found again
AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "JICHU_CACHE": str(duel.CACHE / "avx2")}
CONDITIONS = {"held to AVX2": ({}, AVX2), "float32 forced": ({"precision": "float32"}, {})}


def main():
    given = duel.arguments(__doc__, rounds=3, parts=list(WORKS))
    lines, ratios, ranges = [], {}, {}
    for work in given.parts:
        for condition, (settings, variables) in CONDITIONS.items():
            systems = [
                s for s in WORKS[work].systems(given.quick, **settings) if s.name in (duel.OURS, *PLAIN)
            ]
            for system in systems:
                system.variables = variables
            some, ratio, spread = duel.figures(duel.duel(systems, given))
            where = f"{work}, {condition}: "
            lines += [{**row, "system": where + row["system"]} for row in some]
            ratios |= {where + name: value for name, value in ratio.items()}
            ranges |= {where + name: value for name, value in spread.items()}
    slower = [name for name, value in ratios.items() if value < 1]
    duel.told(
        "no_bf16", "rows a second where bfloat16 does not pay", given, lines, ratios, ranges, slower=slower
    )


if __name__ == "__main__":
    main()
