"""The playground in a browser: every view, by keyboard, in both languages, on a phone, with texts that want to be HTML."""

import json

import httpx
import pytest

from jichu.ship.server.playground import STATIC
from served import Server, make, server

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def address(explored, tmp_path_factory):
    runs = {"images": explored["images"], HOSTILE: explored["reviews"], "table": explored["table"]}
    fresh = tmp_path_factory.mktemp("fresh")
    runs |= {kind: make(fresh / kind, kind) for kind in ("series", "chat")}
    made = Server(runs, play=True, keep=str(tmp_path_factory.mktemp("kept")))
    yield made.running.address
    made.end()


CODES = {"Tab": 9, "Enter": 13, "ArrowDown": 40}


def key(page, name, **more):
    for kind in ("keyDown", "keyUp"):
        code = {"windowsVirtualKeyCode": CODES[name]} if name in CODES else {}
        page.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, **code, **more)


def walk(page, to, back=False):
    """Tab on, or back, until what has the focus is so."""
    for _ in range(60):
        key(page, "Tab", modifiers=8 if back else 0)
        if page.value(f"((e) => {to})(document.activeElement)"):
            return
    raise AssertionError((to, page.value("document.activeElement.outerHTML")))


def enter(page):
    key(page, "Enter", text="\r")


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
        "((m) => m && +m[1] < +m[2])(/of (\\d+) rows, of (\\d+)/.exec(document.querySelector('.note').innerText))"
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


def test_by_keyboard_alone_on_a_phone_in_chinese(chromium, address):
    chromium.open(f"{address}/?language=zh&keys#/{HOSTILE.replace(' ', '%20')}/ask", width=390, dark=True)
    chromium.until("document.querySelector('#text')")
    walk(chromium, "e.id == 'text'")
    chromium.call("Input.insertText", text="the film was splendid and warm")
    walk(chromium, "e.innerText == '预测' && e.type == 'submit'")
    enter(chromium)
    chromium.until("document.querySelector('.said')", 30)
    walk(chromium, "e.innerText.startsWith('为什么')")
    enter(chromium)
    chromium.until("document.querySelectorAll('.marked span').length > 3", 30)
    walk(chromium, "e.innerText == '测试集'", back=True)
    enter(chromium)
    chromium.until(
        "document.querySelectorAll('.row').length == 24 && document.activeElement.id == 'main'", 30
    )
    walk(chromium, "e.className == 'row'")
    assert chromium.value("document.activeElement.ariaLabel") is None  # it is named by what it shows
    enter(chromium)
    chromium.until("document.querySelector('.said') && document.activeElement.id == 'main'", 30)
    chromium.until("document.querySelector('.note').innerText.includes('测试集')")
    walk(chromium, "e.innerText == '纠正答案'")
    enter(chromium)
    chromium.until("document.querySelector('#right0')?.value === ''")  # nobody has said anything yet
    walk(chromium, "e.id == 'right0'")
    key(chromium, "ArrowDown")
    walk(chromium, "e.innerText == '保存'")
    enter(chromium)
    chromium.until("document.body.innerText.includes('已保存')")
    assert chromium.value("document.documentElement.scrollWidth") <= 390


def test_what_is_asked_last_is_answered(chromium, address):
    """However late an answer comes; and it is told where it is one to another text, which is not corrected."""
    chromium.open(f"{address}/?language=en&late#/{HOSTILE.replace(' ', '%20')}/ask")
    chromium.until("document.querySelector('#text')")
    slow = "const real = fetch; let n = 0; window.fetch = async (a, how) => { const r = await real(a, how); if (/predict/.test(a) && n++ === 0) await new Promise((f) => setTimeout(f, 600)); return r; }"
    chromium.value(slow)
    write = "((b, v) => { b.value = v; b.dispatchEvent(new Event('input')); })(document.querySelector('#text'), '%s')"
    for said in ("awful dreary cold", "lovely splendid warm"):
        chromium.value(write % said)
        chromium.value("document.querySelector('form').requestSubmit()")
    chromium.until("document.querySelector('.said')", 30)
    chromium.value("setTimeout(() => { window.waited = true; }, 700)")
    chromium.until("window.waited")
    assert chromium.value("document.querySelector('.said').innerText").startswith("good")
    chromium.value(write % "something else")
    chromium.until(
        "document.querySelector('.parts').inert && document.body.innerText.includes('what stood here before')"
    )
    chromium.value("document.querySelector('#other').click()")
    chromium.until(
        "document.querySelector('nav a').innerText == '预测' && document.activeElement.id == 'other'"
    )
    assert chromium.value("document.querySelector('#text').value") == "something else"


def test_a_table_is_forecast(chromium, address):
    chromium.open(f"{address}/?language=en&series#/series/ask", width=390)
    chromium.until("document.querySelector('#moments')")
    ask = "((b, v) => { b.value = v; b.dispatchEvent(new Event('input')); b.form.requestSubmit(); })(document.querySelector('#moments'), %s)"
    rows = [f'{i};"{HOSTILE}";{i % 5},5' for i in range(30)]
    chromium.value(ask % json.dumps("\n".join(["day;what;load", *rows, "30;x;many"])))
    chromium.until("document.querySelector('form').innerText.includes('row 31: load is many')")
    chromium.value(ask % json.dumps("\n".join(["day;what;load", *rows])))
    chromium.until("document.querySelectorAll('.plot > svg .line').length == 2", 30)
    key = chromium.value("document.querySelector('.plot .key').innerText").split()
    assert key[:2] == ["known", "4.5"] and key[2] == "forecast" and float(key[3])
    chromium.value("document.querySelector('.plot details').open = true")
    chromium.until("document.querySelectorAll('.plot tbody tr').length == 15")
    assert chromium.value("document.documentElement.scrollWidth") <= 390


def test_a_conversation_keeps_what_was_answered(chromium, address):
    """And neither what was refused nor what was begun before."""
    chromium.open(f"{address}/?language=en&chat#/chat/chat")
    chromium.until("document.querySelector('#prompt')")
    chromium.value(
        "window.sent = []; const real = fetch; window.fetch = (a, how) => { if (/chat/.test(a)) sent.push(JSON.parse(how.body)); return real(a, how); }"
    )
    chromium.value("document.querySelector('#most').value = '2'")
    say = "((b) => { b.value = '%s'; b.dispatchEvent(new Event('input')); b.form.requestSubmit(); })(document.querySelector('#prompt'))"
    chromium.value(say % ("x" * 200))
    chromium.until("document.querySelector('.assistant [role=alert]')", 30)
    assert chromium.value("document.querySelector('#prompt').value") == "x" * 200
    for said in ("good", "day"):
        chromium.value(say % said)
        chromium.until(
            "document.querySelector('.log').ariaBusy == 'false' && document.querySelector('#prompt').value == ''",
            30,
        )
    assert chromium.value("sent.map((s) => s.messages.map((m) => m.role[0]).join(''))") == ["u", "u", "uau"]
    chromium.value("location.hash = '#/table/ask'")
    chromium.until("document.querySelector('.cells')")
    chromium.value("location.hash = '#/chat/chat'")
    chromium.until("document.querySelectorAll('.log article').length == 4")
    chromium.value(
        "[...document.querySelectorAll('button')].find((b) => b.innerText == 'Begin anew').click()"
    )
    chromium.value(say % "anew")
    chromium.until("sent.length == 4 && sent[3].messages.length == 1")


def test_the_page_is_small_and_allows_nothing_from_elsewhere(address):
    with httpx.Client(base_url=address, trust_env=False) as client:
        first = client.get("/")
        policy = first.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        sizes = [len(client.get(f"/static/{name}").raise_for_status().content) for name in STATIC]
        assert len(first.content) + sum(sizes) < 100_000


def test_who_has_a_token_is_asked_for_it_and_it_stays_with_them(chromium, explored, tmp_path):
    token = "a-token-of-enough-characters"
    (tmp_path / "tokens").write_text(f"me {token}")
    with server({"table": explored["table"]}, tmp_path / "tokens", play=True) as found:
        chromium.open(f"{found.address}/?language=en&token")
        chromium.until("document.querySelector('dialog #token')")
        assert "table" not in chromium.value("document.body.innerText")
        chromium.call("Input.insertText", text=token)
        enter(chromium)
        chromium.until("document.querySelector('.cells')")
        chromium.value(
            "[...document.querySelectorAll('button')].find((b) => b.innerText.startsWith('Any row')).click()"
        )
        chromium.until("document.querySelector('.said')", 30)
        kept = chromium.value("JSON.stringify([{...localStorage}, location.href, document.cookie])")
        assert not any(token in told for told in (*chromium.requests, kept, json.dumps(found.logged)))
        chromium.value("sessionStorage.clear()")
