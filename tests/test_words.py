"""Two languages: every sentence that people read has a translation with the same placeholders, and none is left over."""

import ast
import re
import string
from pathlib import Path

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import nodes

import jichu
from jichu import pages
from jichu.attacks.corruptions import CORRUPTIONS
from jichu.auditing.explaining.methods import METHODS
from jichu.auditing.parts import PARTS
from jichu.core import chinese
from jichu.core.errors import UsageError
from jichu.core.words import language, named, retold, speaking, words
from jichu.data.language import SCRIPTS
from jichu.data.personal import KINDS
from jichu.metrics import METRICS, fairness
from jichu.metrics.thresholds import Goal

SOURCE = Path(jichu.__file__).parent
TREES = {path: ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}
PAGES = {path: path.read_text() for path in SOURCE.rglob("*.j2")}


def calls(tree):
    """Of `words` of core.words; another module may call something of its own so."""
    imported = any(
        isinstance(node, ast.ImportFrom) and node.module == "jichu.core.words" and "words" in [a.name for a in node.names]
        for node in ast.walk(tree)
    )  # fmt: skip
    if not imported:
        return []
    return [n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "words"]


def titles():
    """Of the parts of an audit, which are said by their name."""
    return {
        node.value.value
        for path, tree in TREES.items() if path.parent.name == "parts"
        for part in ast.walk(tree) if isinstance(part, ast.ClassDef)
        for node in part.body if isinstance(node, ast.Assign) and node.targets[0].id == "title"
    }  # fmt: skip


def sentences():
    """What is given to `words`, in the sources and in the templates."""
    found = titles()
    for path, tree in TREES.items():
        for call in calls(tree):
            told = call.args[0]
            if not isinstance(told, ast.Constant):
                assert ast.unparse(told) == "kind.title", (
                    f"{path}:{call.lineno}: no sentence that can be collected"
                )
                continue
            found.add(told.value)
    for text in PAGES.values():
        tree = jinja2.Environment().parse(text)
        for call in tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "words":
                assert isinstance(call.args[0], nodes.Const)
                found.add(call.args[0].value)
    for script in (SOURCE / "pages").glob("*.js"):
        found |= pages.sentences(script.read_text())
    return found


def test_scripts_say_nothing_but_sentences():
    """Else something would be said that cannot be collected; `said[…]` maps names to sentences."""
    for script in (SOURCE / "pages").glob("*.js"):
        calls = re.findall(r"(?<![\w.$])t\((.)", script.read_text().replace("export function t(", ""))
        assert set(calls) <= {'"'}, script


def literals():
    """Every text that stands in the sources, with {} for what is filled in."""
    found = set()
    for path, tree in TREES.items():
        if path.name == "chinese.py":
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            if isinstance(node, ast.JoinedStr):
                found.add("".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values))
    return found


def fields(template):
    return sorted((name, spec) for _, name, spec, _ in string.Formatter().parse(template) if name is not None)


def test_every_sentence_is_translated_and_none_is_left_over():
    found = sentences()
    missing, idle = sorted(found - set(chinese.SENTENCES)), sorted(set(chinese.SENTENCES) - found)
    assert not missing, "without a translation:\n" + "\n".join(map(repr, missing))
    assert not idle, "said nowhere:\n" + "\n".join(map(repr, idle))


@pytest.mark.parametrize("part", ["SENTENCES", "KEPT"])
def test_translations_have_the_same_placeholders(part):
    for template, translation in getattr(chinese, part).items():
        said, wanted = fields(translation), fields(template)
        assert said == wanted if part == "SENTENCES" else {*said} <= {*wanted}, (
            template
        )  # a plural's s is not wanted


def test_what_files_keep_is_said_somewhere():
    """Sentences that stand in files in English are found in the sources, whatever they call what is filled in."""
    said = literals()
    idle = [t for t in chinese.KEPT if re.sub(r"\{[^}]*\}", "{}", t) not in said]
    assert not idle, "\n".join(idle)


@pytest.mark.parametrize(
    ("file", "function"),
    [("data/inspection.py", "_remarks"), ("data/inspection.py", "_of_languages"), ("auditing/parts/robustness.py", "_signs"),
     ("data/cleaning.py", "_length"), ("data/profile.py", "_role"), ("models/statistics.py", "warnings"),
     ("models/statistics.py", "_trend"), ("objectives/views.py", "collapse")],
)  # fmt: skip
def test_what_is_kept_from_these_places_is_translated(file, function):
    known = {re.sub(r"\{[^}]*\}", "{}", template) for template in chinese.KEPT}
    (made,) = (n for n in ast.walk(TREES[SOURCE / file]) if getattr(n, "name", "") == function)
    told = {
        "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
        for node in ast.walk(made) if isinstance(node, ast.JoinedStr)
    }  # fmt: skip
    missing = [text for text in told if text.count("{}") and " " in text.strip() and text not in known]
    assert not missing, missing


def test_every_name_is_translated():
    rates = [*fairness.CLASSES.rates, *fairness.NUMBERS.rates]
    gaps = [gap.name for measure in (fairness.CLASSES, fairness.NUMBERS) for gap in measure.gaps]
    corruptions = [name for names in CORRUPTIONS.values() for name in names]
    others = [
        "train",
        "validation",
        "test",
        "classification",
        "regression",
        "number",
        "category",
        "text",
        "timestamp",
    ]
    for name in [
        *METRICS,
        *rates,
        *gaps,
        *corruptions,
        *METHODS,
        *PARTS,
        *SCRIPTS,
        *KINDS,
        *Goal.__args__,
        *others,
    ]:
        assert re.search("[\u4e00-\u9fff]", chinese.NAMES.get(name, "")) or name in ("auroc",), name


def test_words_are_said_in_the_language_that_is_spoken():
    with speaking("en"):
        assert words("{rows:,} records", rows=1234) == "1,234 records" and named("log_loss") == "log loss"
        with speaking("zh"):
            assert words("{rows:,} records", rows=1234) == "1,234 条记录" and named("log_loss") == "对数损失"
            assert named("my_own_metric") == "my own metric" and language() == "zh"
            with speaking(None):
                assert language() == "zh"
        assert language() == "en" and retold("not known") == "not known"


def test_values_are_not_read_as_placeholders():
    with speaking("zh"):
        assert "{0} {x}" in words("predicts {column}", column="{0} {x}")


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [({}, "en"), ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"LANG": "zh_CN", "LC_ALL": "C"}, "en"), ({"LANG": "de_DE"}, "en"),
     ({"LANGUAGE": "zh:en", "LC_ALL": "C"}, "zh"), ({"LC_ALL": "", "LANG": "ZH_TW"}, "zh")],
)  # fmt: skip
def test_the_environment_chooses_where_nobody_does(variables, wanted, monkeypatch):
    for name in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert language() == wanted


def test_an_unknown_language_is_refused():
    with pytest.raises(UsageError, match="'fr'"), speaking("fr"):
        pass


def test_kept_sentences_are_retold():
    with speaking("zh"):
        assert retold("7 stand 16 times the change") == "有 7 行在 16 倍的改动下依然预测正确"
        assert retold("30 to 40") == "30 至 40" and retold("test") == "测试集"
        assert retold("what nobody wrote") == "what nobody wrote"
        assert retold("input, text") == "输入，文本"
        assert retold(
            "there are personal data (e-mail in 3, phone in 12 rows): a model may learn them by heart;"
            " data.clean.personal leaves such texts out"
        ).startswith("含有个人信息（电子邮箱出现于 3, 电话号码出现于 12 行）")


@given(st.text(max_size=40))
def test_whatever_a_file_holds_is_retold_or_left(text):
    with speaking("zh"):
        assert isinstance(retold(text), str)
