"""Ways to spoil bytes, text and trees; everything is drawn from the `random.Random` given."""

import copy
import struct

NUMBERS = (0, 1, -1, 2, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, -(2**63), 10**30)


def odd(rng, depth=2):
    """A value that seldom stands where one is expected."""
    plain = [
        None, True, False, 0.0, -0.0, 0.5, 1e-320, 1e308, float("nan"), float("inf"), -float("inf"), 10**400,
        "", " ", "\t", "0", "-1", "1e3", "nan", "auto", "a" * 5000, "日本語", "💥", "\u202e", "\u0085", "\x00",
        "\ud800", ".", "/dev/zero", "{}", "%s", "²", "9" * 5000, "٣", "<b>", "a:b",
        "10m", "3 epochs", "0 steps", f"{'9' * 400} epochs", "50M tokens", "x.y", "(?P<", "\\", "'", '"', "#",
        [], {}, [[]], {"": ""}, {"name": None}, {"name": "cnn"}, b"\xff", 1 + 10**18,
    ]  # fmt: skip
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(NUMBERS)
    if depth and kind > 0.9:
        return [odd(rng, depth - 1) for _ in range(rng.randrange(4))]
    if depth and kind > 0.8:
        return {str(odd(rng, 0))[:20]: odd(rng, depth - 1) for _ in range(rng.randrange(4))}
    return copy.copy(rng.choice(plain))


def misspelt(rng, word):
    """A word with one letter lost, doubled, changed or swapped with the next."""
    if not word:
        return "x"
    i = rng.randrange(len(word))
    return rng.choice(
        [
            word[:i] + word[i + 1 :],
            word[: i + 1] + word[i:],
            word[:i] + rng.choice("abz_-. ") + word[i + 1 :],
            word[:i] + word[i : i + 2][::-1] + word[i + 2 :],
            word.upper(),
        ]
    )


def places(tree, path=()):
    """(holder, key) of every value of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield tree, key
        yield from places(value)


def spoil_tree(rng, tree):
    """A copy with one to three values replaced, removed, moved, wrapped or given another key."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        found = list(places(tree))
        if not found:
            return odd(rng)
        holder, key = rng.choice(found)
        other, at = rng.choice(found)
        match rng.randrange(7):
            case 0 | 1:
                holder[key] = odd(rng)
            case 2:
                del holder[key]
            case 3 if isinstance(holder, dict):
                holder[misspelt(rng, str(key))] = holder.pop(key)
            case 3 | 4:
                holder[key] = copy.deepcopy(other[at])
            case 5:
                holder[key] = rng.choice(([holder[key]], {"name": holder[key]}, str(holder[key])))
            case 6 if isinstance(holder, dict):
                holder[rng.choice((1, None, "", "name", "extra", "from"))] = odd(rng)
    return tree


def spoil_bytes(rng, data, times=6):
    """Bits flipped, numbers overwritten, pieces cut, doubled, zeroed or put in."""
    data = bytearray(data)
    for _ in range(rng.randint(1, times)):
        size = len(data)
        # headers are where damage goes deepest
        i = rng.randrange(min(size, 64) if rng.random() < 0.4 else size) if size else 0
        j = min(size, i + rng.choice((1, 2, 4, 8, 64, 1000)))
        match rng.randrange(8):
            case 0 if size:
                data[i] ^= 1 << rng.randrange(8)
            case 1 if size:
                data[i] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            case 2:
                form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
                number = rng.choice(NUMBERS) % 2 ** (8 * struct.calcsize(form))
                data[i : i + struct.calcsize(form)] = struct.pack(form, number)
            case 3:
                del data[i:j]
            case 4:
                data[i:i] = data[i:j]
            case 5:
                data[i:j] = bytes(j - i)
            case 6:
                data[i:i] = rng.randbytes(rng.choice((1, 2, 16)))
            case 7:
                del data[i:]
    return bytes(data)


def snippets(canary):
    """YAML that is odd, wrong, endless, or would run something."""
    touch = f"touch {canary}"
    return [
        "&a [*a]", "&a {k: *a}", "*undefined", "&x", "!!int abc", "!!int ''", "!!float x", "!!bool maybe",
        "!!null x", "!!timestamp 2020-99-99", "2020-13-45", "2020-01-01", "2020-01-01T99:00:00+99:99",
        "0001-01-01 00:00:00 +23:59", '!!binary "@@"', "!!binary aGk=", "!!set {a, b}", "!!set [a]",
        "!!omap [a: 1]", "!!omap {a: 1}", "!!pairs [a]", "!!map x", "!!map [1]", "!!seq x", "!!str [a]",
        "!!str {a: b}", "{<<: {a: 1}}", "{<<: [1]}", "<<", "=", "{? [a] : b}", "{{a: b}: c}", "? a", "0x", "0b2",
        "0o9", "09", "1:99:99", "190:20:30.15", "1_000", "+.inf", ".nan", "1e999", "-1e-999", "." , "-", "~",
        "9" * 5000, "0x" + "f" * 5000, "1" * 400 + ".0", "|\n  a\n b", ">-", "%YAML 9.9", "--- 2", "...", '"\\ud800"',
        '"\\x00"', '"\\U00110000"', '"\\q"', '"', "'", "@", "`", "%", "!", "!!", "!foo bar", "! x", "!<> x",
        "\x85", "\u2028", "\ufeff", "\t", "[" * 3000, "{a: " * 3000, "- " * 3000, "[" * 90 + "]" * 90, "[[[[[]]]]]",
        "{a: 1, a: 2}", "[,]", "{,}", "a: b: c", "# no", "x" * 70_000, "yes", "on", "NO", "null", "''",
        "[&a [1,1,1,1,1,1,1,1,1], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b,*b],"
        " &d [*c,*c,*c,*c,*c,*c,*c,*c,*c], &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], &f [*e,*e,*e,*e,*e,*e,*e,*e],"
        " &g [*f,*f,*f,*f,*f,*f,*f,*f,*f], &h [*g,*g,*g,*g,*g,*g,*g,*g,*g], [*h,*h,*h,*h,*h,*h,*h,*h]]",
        f'!!python/object/apply:os.system ["{touch}"]', f"!!python/object/new:os.system [{touch}]",
        f'!!python/object/apply:subprocess.check_output [[touch, "{canary}"]]', "!!python/name:os.system",
        "!!python/object:jichu.core.config.Spec {name: x}", "!!python/module:this", "!!python/tuple [1]",
        f'!!python/object/apply:builtins.open ["{canary}", "w"]',
    ]  # fmt: skip


def spoil_text(rng, text, canary):
    """Lines of YAML indented, doubled, lost or given a value of `snippets`; characters changed."""
    for _ in range(rng.randint(1, 3)):
        lines = text.split("\n")
        i = rng.randrange(len(lines))
        snippet = rng.choice(snippets(canary))
        match rng.randrange(11):
            case 0 | 1 | 2:
                key, colon, _ = lines[i].partition(":")
                lines[i] = f"{key}: {snippet}" if colon else snippet
            case 3:
                lines[i] = rng.choice(("\t", " ", "   ", "- ", "\ufeff", "#", "\x00", "\x1b")) + lines[i]
            case 4:
                lines.insert(rng.randrange(len(lines) + 1), lines[i])
            case 5:
                del lines[i]
            case 6:
                lines.insert(i, rng.choice((snippet, f"{snippet}: 1", f"x: {snippet}", f"- {snippet}")))
            case 7:
                lines[i] = lines[i].lstrip()
            case 8:
                lines[i] = misspelt(rng, lines[i])
            case 9:
                lines[i] = lines[i].replace(":", rng.choice(("", "::", ": :", ":\t", " :")), 1)
            case 10:
                lines = [line + "\r" for line in lines]
        text = "\n".join(lines) or snippet
    return text
