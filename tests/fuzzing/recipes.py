"""Recipes, YAML and `--set`: drawn from the grammar or shipped, and spoilt."""

import functools

from jichu.core.config import check, dump_yaml, parse_yaml
from jichu.recipe.checks import check_names
from jichu.recipe.config import Recipe, folder_of_recipes, read_recipe, shipped

from . import grammar
from .cases import Broken
from .mutations import misspelt, odd, snippets, spoil_bytes, spoil_text, spoil_tree


@functools.cache
def _shipped():
    found = {name: (folder_of_recipes() / f"{name}.yaml").read_text(encoding="utf-8") for name in shipped()}
    return found, {name: parse_yaml(text) for name, text in found.items()}


def _recipe_tree(rng):
    return grammar.recipe(rng) if rng.random() < 0.6 else rng.choice(list(_shipped()[1].values()))


def _recipe_text(case):
    rng = case.rng
    tree = _recipe_tree(rng)
    if rng.random() < 0.7:
        tree = spoil_tree(rng, tree)
    text = yaml_of(rng, tree)
    return spoil_text(rng, text, case.canary) if rng.random() < 0.4 else text


def yaml_of(rng, tree):
    try:
        return dump_yaml(tree, inline=rng.random() < 0.1)
    except Exception:  # what cannot be written as plain YAML: bytes, numbers without end
        return repr(tree)


def _same_again(recipe):
    """What is written into the run folder is read as the same recipe."""
    text = dump_yaml(recipe.plain())
    if (again := check(Recipe, parse_yaml(text))) != recipe:
        raise Broken(f"{recipe!r}\nbecame\n{again!r}")


def yaml_text(case):
    rng = case.rng
    text = (
        rng.choice(list(_shipped()[0].values())) if rng.random() < 0.5 else rng.choice(snippets(case.canary))
    )
    text = spoil_text(rng, text, case.canary)
    if rng.random() < 0.3:
        text = spoil_bytes(rng, text.encode("utf-8", "surrogatepass")).decode("latin-1")
    value = parse_yaml(text, "case.yaml")
    if (again := parse_yaml(dump_yaml(value))) != value and repr(again) != repr(value):
        raise Broken(f"{value!r} became {again!r}")


def recipe(case):
    content = _recipe_text(case).encode("utf-8", "surrogatepass")
    if case.rng.random() < 0.15:
        content = spoil_bytes(case.rng, content)
    if case.rng.random() < 0.05:
        content = content.decode("utf-8", "replace").encode(
            case.rng.choice(("utf-16", "utf-32", "utf-8-sig"))
        )
    found = read_recipe(
        str(case.file("case.yaml", content)), drawn_assignments(case) if case.rng.random() < 0.2 else []
    )
    _same_again(found)
    check_names(found, {})


def drawn_assignments(case):
    rng = case.rng
    tree = rng.choice(list(_shipped()[1].values()))
    found = []
    for _ in range(rng.choice((1, 1, 2, 4))):
        keys, node = [], tree
        while isinstance(node, (dict, list)) and node and (not keys or rng.random() < 0.8):
            key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
            node = node[key]
            keys.append(
                node.get("name", str(key)) if isinstance(node, dict) and rng.random() < 0.3 else str(key)
            )
        if rng.random() < 0.4:
            i = rng.randrange(len(keys))
            keys[i] = rng.choice((misspelt(rng, keys[i]), str(odd(rng, 0)), "", "0", "-1", "²", "99"))
        value = rng.choice(
            (str(odd(rng)), rng.choice(snippets(case.canary)), yaml_of(rng, odd(rng)), str(node))
        )
        found.append(rng.choice((".".join(keys) + "=" + value,) * 9 + (value,)))
    return found


def assignments(case):
    found = read_recipe(case.rng.choice(shipped()), drawn_assignments(case))
    _same_again(found)
    check_names(found, {})
