"""The report and the page of the data: what they say first, and how a real browser shows them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

import jichu
from jichu.auditing import verdict
from jichu.auditing.blocks import Note, Records, Table, cell
from jichu.cli.main import main
from jichu.core.errors import DataError, UsageError
from jichu.core.files import read_json
from jichu.core.words import speaking

SCRIPT = "<script>hacked=1</script>"
IMAGE = '"><img src=x onerror=hacked=1>'
LONG = "w" * 300
ARABIC = "مرحبا بالعالم"
BRACES = "{rows} {{ 7 * 7 }}"
PARTS = [
    "calibration", "doubtful", "embeddings", "membership", {"name": "robustness", "rows": 12}, {"name": "cost", "seconds": 0.1},
    {"name": "explanation", "rows": 4, "method": "occlusion"}, {"name": "slices", "by": [f"kind{SCRIPT}"], "least": 8},
    {"name": "fairness", "by": [f"kind{SCRIPT}"], "favourable": SCRIPT, "least": 5}, {"name": "corruptions", "rows": 20},
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose names are out to break the page, on a table."""
    folder = tmp_path_factory.mktemp("page")
    rng, classes = np.random.default_rng(0), [SCRIPT, LONG, ARABIC]
    kinds = [IMAGE, BRACES, "plain", ""]
    rows = [["x", f"kind{SCRIPT}", LONG[:80], "y"]]
    for i in range(240):
        x = rng.normal(i % 3, 0.8)
        rows.append([f"{x:.3f}", kinds[i % 4], f"{rng.normal():.3f}", classes[i % 3]])
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    (folder / "<b>t.csv").write_text("\n".join(quoted))
    recipe = {
        "name": "hostile",
        "data": {"path": "<b>t.csv", "target": "y", "split": {"test": 0.3, "validation": 0.2}},
        "stages": [
            {"stage": "inspect"},
            {"stage": "finetune", "name": "one", "head": "logistic-regression"},
            {
                "stage": "finetune",
                "name": "net",
                "backbone": {"name": "mlp", "widths": [8]},
                "budget": "3 steps",
            },
            {
                "stage": "audit",
                "gain": ["net", "one"],
                "parts": PARTS,
                "gates": {"accuracy.lower": 0.99, "log_loss": 99},
            },
        ],
        "result": "net",
    }
    (folder / "r.json").write_text(json.dumps(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["run", "r.json", "--quiet"]) == 4
        yield folder / "runs" / "hostile"


def written(run, language):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parents[1])
        assert jichu.open("runs/hostile").rewrite(language).exists()
    return {name: (run / name).read_text() for name in ("report.html", "data.html", "MODEL_CARD.md")}


# --- what it says


def test_the_first_screen_says_the_verdict(run):
    page = written(run, "en")["report.html"]
    first = page.partition("<nav")[0]
    found = read_json(run / "audit.json")
    primary = found["models"]["net"]["metrics"]["accuracy"]
    shown, ends = cell(primary)
    assert f"<b>{shown}</b><span>{ends} on 72 rows</span>" in first and "net: accuracy" in first
    assert "1 of 2 gates hold" in first and "accuracy.lower &gt;= 0.99: is" in first
    assert "Between net and one this run shows no difference." in first
    titles = re.findall(r'<h2 id="(s\d+)">(.*?)</h2>', page)
    assert re.findall(r'<a href="#(s\d+)">(.*?)</a>', page) == titles and len(titles) > 12


def test_a_worst_slice_and_a_leak_are_among_the_worries():
    slices = {"models": {"m": {"given": [], "found": [{
        "slice": "a = 1", "values": [["a", "1"]], "rows": 40, "error": {"value": 0.5, "low": 0.4, "high": 0.6},
        "above": {"value": 0.3, "low": 0.2, "high": 0.4}}]}}}  # fmt: skip
    leak = {"auroc": {"value": 0.9, "low": 0.8, "high": 0.95}}
    audit = {
        "models": {"m": {}}, "column": "y", "gates": [], "parts": {
            "slices": slices, "membership": {"models": {"m": {"loss": leak}}, "members": 30, "strangers": 20},
            "robustness": {"models": {"m": {"hidden": ["7 stand 16 times the change"]}}},
        },
    }  # fmt: skip
    with speaking("en"):
        told = list(verdict.worries(audit, "m", {}))
    assert [t.split(":")[0] for t in told] == [
        "m is worst where a = 1", "Who asks m can tell its training rows from others",
        "The gradients of m may be hidden, so that it looks stronger than it is",
    ]  # fmt: skip
    assert "0.50 [0.40, 0.60] on 40 rows" in told[0] and "on 50 rows" in told[1]
    quiet = {"slices": {"models": {"m": {"given": [], "found": []}}}, "membership": {"models": {}}}
    assert not list(verdict.worries(audit | {"parts": quiet}, "m", {}))


@pytest.mark.parametrize(
    ("found", "wanted"),
    [((0.9, 0.85, 0.95), ("0.90", "[0.85, 0.95]")), ((0.91893, 0.8922, 0.9422), ("0.919", "[0.892, 0.942]")),
     ((-0.0001, -0.02, 0.02), ("0.000", "[-0.020, 0.020]")), ((51234.5, 50000.1, 52000.9), ("51,234", "[50,000, 52,001]")),
     ((None, 0, 1), ("–", "")), ((float("nan"), 0, 1), ("–", "")), ((1.0, 1.0, 1.0), ("1", "[1, 1]")),
     ((0.5, None, 1), ("0.5", "[–, 1]")), ((3e-9, 1e-9, 5e-9), ("3e-09", "[1e-09, 5e-09]"))],
)  # fmt: skip
def test_figures_end_where_their_interval_says_nothing_more(found, wanted):
    assert cell(dict(zip(("value", "low", "high"), found, strict=True))) == wanted


def test_text_stands_on_the_left_and_numbers_on_the_right():
    table = Table(["a", "b", "c"], [["x", 1, "y"], ["z", None, None]])
    assert table.aligned == ["left", "right", "left"] and Records(["a", "b"], []).aligned == ["left", "right"]
    assert not Note("x").loud


# --- in two languages


def test_what_is_measured_is_the_same_and_what_is_said_another(run):
    before = {
        path: path.read_bytes()
        for path in run.rglob("*")
        if path.suffix in (".json", ".parquet", ".safetensors")
    }
    english, chinese = written(run, "en"), written(run, "zh")
    assert written(run, "en") == english and "audit.json" in {path.name for path in before}
    assert {path: path.read_bytes() for path in before} == before
    for page in ("report.html", "data.html"):
        assert '<html lang="en">' in english[page] and '<html lang="zh-Hans">' in chinese[page]
    for text in (
        "准确率",
        "置信区间",
        "成员推断",
        "对抗攻击",
        "公平性",
        "校准",
        "目录",
        "2 项门槛中 1 项通过",
    ):
        assert text in chinese["report.html"], text
    for text in ("预期用途", "局限", "联系方式", "留出样本"):
        assert text in chinese["MODEL_CARD.md"], text


def test_no_english_sentence_is_left_in_chinese_pages(run):
    """Three words of English one after the other that are not among the names we gave."""
    chinese = written(run, "zh")
    names = r"Benjamini.Hochberg|img src x onerror hacked|logistic-regression|script hacked"
    for page in ("report.html", "data.html"):
        text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", chinese[page], flags=re.DOTALL)
        left = [
            m for m in re.findall(r"[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}[a-z ]*", text) if not re.search(names, m)
        ]
        assert not left, (page, left)


def test_the_recipe_chooses_and_bad_languages_are_refused(in_folder, capsys):
    recipe = {"name": "w", "language": "zh", "data": {"path": "sklearn:wine"},
              "stages": [{"stage": "inspect"}, {"stage": "finetune", "name": "m", "head": "naive-bayes"}, {"stage": "audit"}]}  # fmt: skip
    Path("r.json").write_text(json.dumps(recipe))
    assert main(["run", "r.json", "--quiet"]) == 0
    assert "准确率" in capsys.readouterr().out and "留出样本" in Path("runs/w/MODEL_CARD.md").read_text()
    assert 'lang="zh-Hans"' in Path("runs/w/data.html").read_text()
    assert main(["audit", "runs/w", "--language", "zh"]) == 0 and "置信区间" in capsys.readouterr().out
    assert main(["audit", "runs/w", "--report", "--language", "en"]) == 0
    assert capsys.readouterr().out.strip() == "runs/w/report.html"
    assert "Intended use" in Path("runs/w/MODEL_CARD.md").read_text()
    assert main(["audit", "runs/w", "--report"]) == 0  # in the language of the recipe
    assert "预期用途" in Path("runs/w/MODEL_CARD.md").read_text()
    assert main(["audit", "runs/w", "--report", "--language", "fr"]) == 2
    assert main(["audit", "runs/w", "--report", "--parts", "cost"]) == 2
    assert (
        "one of en, zh" in (told := capsys.readouterr().err) and "--parts does nothing with --report" in told
    )
    Path("r.json").write_text(json.dumps(recipe | {"language": "fr"}))
    assert main(["run", "r.json", "--quiet"]) == 2 and "language" in capsys.readouterr().err


def test_only_a_finished_run_of_unchanged_data_is_written_again(in_folder):
    Path("t.csv").write_text("x,y\n" + "\n".join(f"{i % 7},{'ab'[i % 2]}" for i in range(80)))
    found = jichu.finetune("columns", "t.csv", head="naive-bayes", name="m")
    assert found.rewrite("zh") == found.path / "report.html"
    found.folder.report.unlink()
    with pytest.raises(DataError, match="not finished"):
        jichu.open(str(found.path)).rewrite()
    found.folder.report.write_text("")
    Path("t.csv").write_text("x,y\n" + "\n".join(f"{i % 5},{'ab'[i % 2]}" for i in range(90)))
    with pytest.raises(DataError, match="have changed"):
        jichu.open(str(found.path)).rewrite()
    with pytest.raises(UsageError, match="'fr'"), speaking("fr"):
        pass


# --- in a browser


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("page", ["report.html", "data.html"])
def test_a_phone_shows_it_without_requests_scripts_or_scrolling_sideways(run, chromium, language, page):
    written(run, language)
    for dark in (False, True):
        chromium.open(run / page, width=390, dark=dark)
        assert chromium.value("document.documentElement.scrollWidth") <= 390
        asked = {re.match(r"\w+:", url)[0] for url in chromium.requests}
        assert asked <= {"file:", "data:"} and sum(url.startswith("file:") for url in chromium.requests) == 1
        assert chromium.value("typeof hacked") == "undefined" and not chromium.dialogs
        text = chromium.value("document.body.innerText")
        for hostile in (SCRIPT, IMAGE, BRACES, LONG[:60], ARABIC):
            assert hostile in text, hostile
        shade = chromium.value("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", shade)[:3])) < 128) == dark
        reached = "[...document.querySelectorAll('.scroll, figure.wide')].every(e => e.tabIndex === 0)"
        assert chromium.value(reached) is True
    assert chromium.value("document.documentElement.lang") == {"en": "en", "zh": "zh-Hans"}[language]


def test_contents_lead_to_their_sections(run, chromium):
    chromium.open(run / "report.html")
    ends = "[...document.querySelectorAll('nav a[href^=\"#\"]')].every(a => document.querySelector(a.getAttribute('href')))"
    assert chromium.value(ends) is True
    below = "[...document.querySelectorAll('svg, img')].every(e => e.getBoundingClientRect().width > 0)"
    assert chromium.value(below) is True


def test_paper_is_white(run, chromium):
    chromium.open(run / "report.html", dark=True, media="print")
    assert (
        chromium.value("getComputedStyle(document.documentElement).getPropertyValue('--ink')").strip()
        == "#1d1d1f"
    )
    torn = "['figure', 'tr', '.card'].map(s => getComputedStyle(document.querySelector(s)).breakInside)"
    assert chromium.value(torn) == ["avoid"] * 3
    assert chromium.value("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"
    assert chromium.pdf().startswith(b"%PDF")
