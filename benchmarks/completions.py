"""Whether what a run of `gpt-code` writes is Python: the functions of its held-out files are begun by their
first lines, `def …:`, and the share of the completions that parse is told with its 95% interval (Wilson),
beside the same of the files' own next tokens, cut in the same way (about 5 minutes on 2 cores).

    python benchmarks/completions.py runs/gpt-code
"""

import argparse
import ast
import math
import random

import results

import jichu
from jichu.data.texts import text_of

WRITTEN = 96  # tokens, of which whole lines are kept, up to the end of the function
AT_ONCE = 32


def functions(source):
    """(first lines up to the colon, what follows) of the functions in a file, as if they stood by themselves."""
    lines = source.split("\n")
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.body[0].lineno > node.lineno:
            head = lines[node.lineno - 1 : node.body[0].lineno - 1]
            body = lines[node.body[0].lineno - 1 : node.end_lineno]
            if len(body) > 2 and head[-1].rstrip().endswith(":"):
                # the line's end is the model's to write: it is one token with the indentation that follows
                yield "\n".join(head), "\n" + "\n".join(body) + "\n\n"


def parses(head, written, whole):
    """Whether a function parses, with whole lines of what is written, up to the next that is not its own."""
    kept = []
    lines = written.split("\n")
    for line in lines if whole else lines[:-1]:
        if line and not line[0].isspace() and not line.startswith(("#", ")", "]", "}")):
            break
        kept.append(line)
    try:
        ast.parse(head + "\n".join(kept) + "\n")
    except (SyntaxError, ValueError):
        return False
    return True


def share(hits):
    """A share with Wilson's interval."""
    n, p, z = len(hits), sum(hits) / len(hits), 1.96
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return {"value": p, "low": centre - half, "high": centre + half, "functions": n}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--functions", type=int, default=300)
    given = parser.parse_args()
    run = jichu.open(given.run)
    dataset = run.dataset()
    held_out = [text_of(dataset.texts["text"], row) for row in dataset.splits["test"].tolist()]
    found = [f for text in held_out for f in functions(text)]
    random.Random(0).shuffle(found)
    tokenizer, context = run.tokenizer, run.config.text.context
    found = [f for f in found if len(tokenizer.encode([f[0]])[0]) + WRITTEN < context][: given.functions]
    heads = [head for head, _ in found]
    own = [ids[:WRITTEN] for ids in tokenizer.encode([body for _, body in found])]
    whole = [len(ids) < WRITTEN for ids in own]
    rows = [{"system": "the files themselves", **share(
        [parses(h, tokenizer.decode(ids), w) for h, ids, w in zip(heads, own, whole, strict=True)]
    )}]  # fmt: skip
    for temperature in (0.0, 0.5, 0.8):
        written = []
        for start in range(0, len(heads), AT_ONCE):
            some = heads[start : start + AT_ONCE]
            written += run.generate(some, most=WRITTEN, temperature=temperature, seed=start)
        hits = [parses(h, w, False) for h, w in zip(heads, written, strict=True)]
        rows.append({"system": f"temperature {temperature}", **share(hits)})
    bits = run.headline["bits_per_byte"]["value"]
    results.write("completions", "share of completions that parse", rows, {}, bits_per_byte=bits)


if __name__ == "__main__":
    main()
