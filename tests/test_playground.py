"""The playground in a browser: every view, by keyboard, in both languages, on a phone, with texts that want to be HTML."""

import json

import httpx
import pytest

from served import Server

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def address(explored, tmp_path_factory):
    runs = {"images": explored["images"], HOSTILE: explored["reviews"], "table": explored["table"]}
    made = Server(runs, play=True, keep=str(tmp_path_factory.mktemp("kept")))
    yield made.running.address
    made.end()


def key(page, name, **more):
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, **more)


def test_a_picture_is_asked_about_and_the_answer_looked_into(chromium, address):
    chromium.open(f"{address}/?language=en")
    chromium.until("document.querySelector('#file')")
    chromium.value(
        "[...document.querySelectorAll('button')].find((b) => b.innerText.startsWith('Any row')).focus()"
    )
    key(chromium, "Enter", text="\r")
    chromium.until(
        "document.querySelectorAll('.bars li').length == 10 && document.querySelector('.said').innerText", 30
    )
    assert chromium.value("document.querySelector('.best .fill').style.width").endswith("%")
    chromium.value(
        "document.querySelectorAll('details.part, .part').forEach((p) => { p.parentNode.open = true; })"
    )
    chromium.until(
        "document.querySelector('.overlay canvas') && document.querySelectorAll('.part .rows li').length >= 8",
        30,
    )
    chromium.until(
        "document.body.innerText.includes('becomes') || document.body.innerText.includes('Nothing was found')",
        30,
    )
    chromium.value("document.querySelector('#right0').value = '7'")
    chromium.value("document.querySelector('.part form').requestSubmit()")
    chromium.until("document.body.innerText.includes('Kept;')")


def test_the_test_set_and_the_map_by_keyboard(chromium, address):
    chromium.open(f"{address}/?language=en&again#/images/rows")
    chromium.until("document.querySelectorAll('.rows li').length == 24", 30)
    chromium.value("document.querySelector('.bar input').click()")
    chromium.until(
        "((m) => m && +m[1] < +m[2])(/(\\d+) of (\\d+) rows/.exec(document.querySelector('.note').innerText))"
    )
    chromium.value("location.hash = '#/images/map'")
    chromium.until("document.querySelector('.map canvas')?.width > 300", 30)
    chromium.value("document.querySelector('.map canvas').focus()")
    key(chromium, "ArrowRight")
    chromium.until("document.querySelector('.map .note').innerText.startsWith('row ')")
    before = chromium.value("document.querySelector('.map .note').innerText")
    key(chromium, "ArrowLeft")
    chromium.until(f"document.querySelector('.map .note').innerText != {json.dumps(before)}")
    key(chromium, "Enter", text="\r")
    chromium.until("location.hash.startsWith('#/images/ask/') && document.querySelector('.said')", 30)


def test_texts_are_texts_and_tables_have_fields(chromium, address):
    chromium.open(f"{address}/?language=zh#/{HOSTILE.replace(' ', '%20')}/ask", width=390)
    chromium.until("document.querySelector('#text') && document.querySelector('nav a').innerText == '预测'")
    chromium.value("document.querySelector('#text').focus()")
    chromium.call("Input.insertText", text=f"the film was awful {HOSTILE}")
    key(chromium, "Enter", text="\r", modifiers=2)
    chromium.until("document.querySelector('.said')", 30)
    chromium.value("document.querySelectorAll('.part').forEach((p) => { p.parentNode.open = true; })")
    chromium.until(
        "document.querySelectorAll('.marked span').length > 3 && document.querySelectorAll('.part .rows li').length >= 8",
        30,
    )
    assert chromium.value("document.documentElement.scrollWidth") <= 390
    chromium.value("location.hash = '#/table/ask'")
    chromium.until("document.querySelectorAll('.cells > div').length == 3")
    chromium.value(
        "Object.entries({ age: '30', income: 'much', job: 'nurse' }).forEach(([n, v]) => { document.getElementsByName(n)[0].value = v; })"
    )
    chromium.value("document.querySelector('form').requestSubmit()")
    chromium.until("document.querySelector('.results [role=alert]')?.innerText.includes('income')")
    chromium.value("document.getElementsByName('income')[0].value = '50.5'")
    chromium.value("document.querySelector('form').requestSubmit()")
    chromium.until("document.querySelector('.said')", 30)
    assert chromium.dialogs == [] and all(
        url.startswith((address, "data:", "blob:")) for url in chromium.requests
    )


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
