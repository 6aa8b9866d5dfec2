"""The playground in a browser: every view, by keyboard, in both languages, on a phone, with texts that want to be HTML."""

import json

import httpx
import pytest

import browser
from served import Server

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    if browser.FOUND is None:
        pytest.skip("no Chromium")
    found = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.fixture(scope="module")
def address(explored, tmp_path_factory):
    runs = {"images": explored["images"], HOSTILE: explored["reviews"], "table": explored["table"]}
    made = Server(runs, play=True, keep=str(tmp_path_factory.mktemp("kept")))
    yield made.running.address
    made.end()


def key(page, name, **more):
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, **more)


def test_a_picture_is_asked_about_and_the_answer_looked_into(page, address):
    page.open(f"{address}/?language=en")
    page.until("document.querySelector('#file')")
    page.value(
        "[...document.querySelectorAll('button')].find((b) => b.innerText.startsWith('Any row')).focus()"
    )
    key(page, "Enter", text="\r")
    page.until(
        "document.querySelectorAll('.bars li').length == 10 && document.querySelector('.said').innerText", 30
    )
    assert page.value("document.querySelector('.best .fill').style.width").endswith("%")
    page.value(
        "document.querySelectorAll('details.part, .part').forEach((p) => { p.parentNode.open = true; })"
    )
    page.until(
        "document.querySelector('.overlay canvas') && document.querySelectorAll('.part .rows li').length >= 8",
        30,
    )
    page.until(
        "document.body.innerText.includes('becomes') || document.body.innerText.includes('Nothing was found')",
        30,
    )
    page.value("document.querySelector('#right0').value = '7'")
    page.value("document.querySelector('.part form').requestSubmit()")
    page.until("document.body.innerText.includes('Kept;')")


def test_the_test_set_and_the_map_by_keyboard(page, address):
    page.open(f"{address}/?language=en&again#/images/rows")
    page.until("document.querySelectorAll('.rows li').length == 24", 30)
    page.value("document.querySelector('.bar input').click()")
    page.until(
        "((m) => m && +m[1] < +m[2])(/(\\d+) of (\\d+) rows/.exec(document.querySelector('.note').innerText))"
    )
    page.value("location.hash = '#/images/map'")
    page.until("document.querySelector('.map canvas')?.width > 300", 30)
    page.value("document.querySelector('.map canvas').focus()")
    key(page, "ArrowRight")
    page.until("document.querySelector('.map .note').innerText.startsWith('row ')")
    before = page.value("document.querySelector('.map .note').innerText")
    key(page, "ArrowLeft")
    page.until(f"document.querySelector('.map .note').innerText != {json.dumps(before)}")
    key(page, "Enter", text="\r")
    page.until("location.hash.startsWith('#/images/ask/') && document.querySelector('.said')", 30)


def test_texts_are_texts_and_tables_have_fields(page, address):
    page.open(f"{address}/?language=zh#/{HOSTILE.replace(' ', '%20')}/ask", width=390)
    page.until("document.querySelector('#text') && document.querySelector('nav a').innerText == '预测'")
    page.value("document.querySelector('#text').focus()")
    page.call("Input.insertText", text=f"the film was awful {HOSTILE}")
    key(page, "Enter", text="\r", modifiers=2)
    page.until("document.querySelector('.said')", 30)
    page.value("document.querySelectorAll('.part').forEach((p) => { p.parentNode.open = true; })")
    page.until(
        "document.querySelectorAll('.marked span').length > 3 && document.querySelectorAll('.part .rows li').length >= 8",
        30,
    )
    assert page.value("document.documentElement.scrollWidth") <= 390
    page.value("location.hash = '#/table/ask'")
    page.until("document.querySelectorAll('.cells > div').length == 3")
    page.value(
        "Object.entries({ age: '30', income: 'much', job: 'nurse' }).forEach(([n, v]) => { document.getElementsByName(n)[0].value = v; })"
    )
    page.value("document.querySelector('form').requestSubmit()")
    page.until("document.querySelector('.results [role=alert]')?.innerText.includes('income')")
    page.value("document.getElementsByName('income')[0].value = '50.5'")
    page.value("document.querySelector('form').requestSubmit()")
    page.until("document.querySelector('.said')", 30)
    assert page.dialogs == [] and all(url.startswith((address, "data:", "blob:")) for url in page.requests)


def test_the_page_is_small_and_allows_nothing_from_elsewhere(address):
    with httpx.Client(base_url=address, trust_env=False) as client:
        first = client.get("/")
        policy = first.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        names = (
            "page.css",
            "forms.css",
            "play.css",
            "common.js",
            "plot.js",
            "answers.js",
            "chat.js",
            "inputs.js",
            "map.js",
            "play.js",
        )
        sizes = [len(client.get(f"/static/{name}").raise_for_status().content) for name in names]
        assert len(first.content) + sum(sizes) < 100_000
