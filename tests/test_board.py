"""The board: what its page asks for, who may, and how a real browser shows it."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from jichu.core.errors import UsageError
from jichu.tracking.board import server
from jichu.tracking.runs import Runs, tag
from run_folders import make, rows
from test_docs import blocks
from test_processes import environment
from test_runs_command import WAITS

TOKEN = "a-token-of-enough-characters"
HOSTILE = "<img src=x onerror=alert(1)>"
OURS = {"x-jichu-board": "1"}


@contextlib.contextmanager
def served(folder, tokens=None, port=0):
    made = server(folder, tokens=tokens, port=port)
    logged = []
    made._server.config.app.log = logged.append
    thread = threading.Thread(target=made.run)
    thread.start()
    while not made.started:
        time.sleep(0.01)
    made.logged = logged
    try:
        yield made
    finally:
        made.end()
        thread.join(20)


def client(made, **more):
    return httpx.Client(base_url=made.address, trust_env=False, **more)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("board") / "runs"
    make(folder, "good", accuracy=0.9, logged=5000)
    make(folder, "better", accuracy=0.95, logged=30, lr=0.2)
    make(folder, HOSTILE, ended=f"<script>{HOSTILE}</script>", logged=3)
    (folder / HOSTILE / "metrics.jsonl").write_text(
        json.dumps({"stage": HOSTILE, "step": 1, HOSTILE: 1.0})
        + "\n"
        + json.dumps({"stage": "__proto__", "step": 1, "polluted": 2})
        + "\n"
        + rows(3)
    )
    make(folder, "half").joinpath("recipe.yaml").unlink()
    tag(Runs(folder).find("good"), ["fine"])
    return folder


@pytest.fixture(scope="module")
def board(place):
    with served(place) as made:
        yield made


def test_what_the_page_asks_for(board):
    with client(board) as c:
        told = c.get("/api/runs", params={"sort": "accuracy", "most": 2}).json()
        assert [run["name"] for run in told["runs"]] == ["better", "good"] and told["all"] == told[
            "found"
        ] == 4
        assert told["states"] == {"finished": 2, "failed": 1, "damaged": 1} and told["tags"] == {"fine": 1}
        assert [r["name"] for r in c.get("/api/runs?tag=fine&state=finished&search=goo").json()["runs"]] == [
            "good"
        ]
        assert [r["name"] for r in c.get("/api/runs?sort=name&start=3").json()["runs"]] == ["half"]
        told = c.get(
            "/api/runs", params={"where": "accuracy > 0.9 or tag = fine", "picked": ["good", "gone"]}
        ).json()
        assert {r["name"] for r in told["runs"]} == {"good", "better"} and told["picked"] == ["good"]
        one = c.get("/api/runs/good")
        assert one.json()["pages"] == ["report"] and one.json()["recipe"].startswith("name: good")
        assert c.get("/api/runs/good", headers={"if-none-match": one.headers["etag"]}).status_code == 304
        lines = c.get("/api/runs/good/metrics").json()
        steps, values = lines["stages"]["net"]["loss"]
        assert len(steps) <= 1000 and steps[0] == 1 and steps[-1] == 5000 and values[0] == 1
        rest = c.get("/api/runs/good/metrics", params={"after": lines["at"]})
        assert rest.json()["stages"] == {} and len(rest.content) < 200
        assert c.get("/api/runs/good/timing").json()["stages"] == {}
        found = c.get("/api/compare?run=good&run=better").json()
        assert found["recipes"] == {"stages.0.optimizer.lr": [0.1, 0.2]}
        assert "not measured" in c.get("/api/compare/rows?run=good&run=better", headers=OURS).json()["why"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("/api/runs/none", 404), (f"/api/runs/{'n' * 300}", 404), ("/api/runs/..", 404), ("/api/runs/%2e%2e/metrics", 404), ("/api/runs?sort=nothing", 400), ("/api/runs?state=x", 400), ("/api/runs?where=acuracy%3E1", 400),
     ("/api/runs?start=x", 422), ("/api/compare?run=good", 400), ("/api/compare?run=good&run=half", 400), ("/files/good/recipe.yaml", 404), ("/files/good/data", 404),
     ("/files/good/examples/..%2freport.html", 404), ("/files/none/report", 404), ("/nothing", 404), ("/api/runs/good/stop", 405)],
)  # fmt: skip
def test_bad_requests(board, place, path, status):
    with client(board) as c:
        answer = c.get(path)
        assert answer.status_code == status, answer.text
        assert str(place.parent) not in answer.text and "Traceback" not in answer.text


def test_pages_of_a_run_have_no_rights(board):
    with client(board) as c:
        report = c.get("/files/good/report")
        assert report.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert report.headers["x-content-type-options"] == "nosniff"
        page = c.get("/")
        assert "script-src 'self'" in page.headers[
            "content-security-policy"
        ] and "unsafe-inline" not in re.sub("style-src[^;]*", "", page.headers["content-security-policy"])
        assert (
            sum(
                len(c.get(p).content)
                for p in (
                    "/",
                    "/static/page.css",
                    "/static/board.css",
                    "/static/common.js",
                    "/static/plot.js",
                    "/static/board.js",
                    "/words/zh.json",
                )
            )
            < 100_000
        )


def test_no_other_site_can_do_anything(board):
    with client(board) as c:
        for headers in ({}, {**OURS, "sec-fetch-site": "cross-site"}, {"x-jichu-board": "0"}):
            answer = c.post("/api/runs/good/tags", json={"add": ["x"]}, headers=headers)
            assert answer.status_code == 403 and answer.json()["error"]["code"] == "cross_site"
        assert c.post("/api/runs/good/stop").status_code == 403
        assert c.get("/api/runs", headers={"host": "evil.example"}).status_code == 403
        asked = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "x-jichu-board",
            "origin": "http://evil",
        }
        assert "access-control-allow-origin" not in c.options("/api/runs/good/stop", headers=asked).headers
        assert c.post("/api/runs/good/tags", json={"add": ["more"]}, headers=OURS).json() == {
            "tags": ["fine", "more"]
        }
        assert c.post("/api/runs/good/tags", json={"remove": ["more"]}, headers=OURS).json() == {
            "tags": ["fine"]
        }
        for body in (b"", b"[", b"[]", b'{"add": "x"}', b'{"add": ["a b"]}', b'{"other": []}'):
            assert c.post("/api/runs/good/tags", content=body, headers=OURS).status_code == 400
        assert c.post("/api/runs/good/stop", headers=OURS).status_code == 400


def test_a_run_is_stopped_as_by_ctrl_c(board, place):
    path = make(place, "at-work", logged=2)
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", WAITS, path], stdout=subprocess.PIPE, env=environment()
        )
        process.stdout.readline()
        with client(board) as c:
            assert c.get("/api/runs/at-work").json()["state"] == "running"
            assert c.post("/api/runs/at-work/stop", headers=OURS).json() == {"process": process.pid}
            assert process.wait(20) == 130
            assert c.get("/api/runs/at-work").json()["state"] == "interrupted"
        process.stdout.close()
    finally:
        shutil.rmtree(path)


def test_who_has_no_token_sees_nothing_of_any_run(place, tmp_path):
    (tmp_path / "tokens").write_text(f"me {TOKEN}")
    with served(place, tmp_path / "tokens") as made, client(made) as c:
        for path in ("/", "/healthz", "/static/board.js", "/words/zh.json"):
            assert c.get(path).status_code == 200
        for path in (
            "/api/runs",
            "/api/runs/good",
            "/files/good/report",
            "/metrics",
            "/docs",
            "/openapi.json",
        ):
            assert c.get(path).status_code == 401
        assert c.post("/api/runs/good/stop", headers=OURS).status_code == 401
        assert c.get("/api/runs", headers={"authorization": f"Bearer {TOKEN}"}).json()["all"] == 4
    with pytest.raises(UsageError, match="nobody would be asked for a token"):
        server(place, host="0.0.0.0", port=0)
    with pytest.raises(UsageError, match="no runs in"):
        server(place / "none", port=0)


# --- in the browser


@pytest.fixture(scope="module")
def page(chromium):
    sooner = "const wait = setTimeout; window.setTimeout = (call, after) => wait(call, after / 20)"
    chromium.call("Page.addScriptToEvaluateOnNewDocument", source=sooner)
    return chromium


def test_the_page_in_a_browser(page, board, place):
    page.open(f"{board.address}/?language=en")
    page.until("document.querySelectorAll('tbody tr').length == 4")
    shown = page.value("document.body.innerText")
    assert HOSTILE in shown and f"<script>{HOSTILE}</script>" in shown and "0.9 [0.8, 1]" in shown
    page.value("document.querySelector('input[type=search]').focus()")
    page.call("Input.insertText", text="goo")
    page.until("document.querySelectorAll('tbody tr').length == 1")
    page.value("document.querySelector('tbody a').click()")
    page.until("document.querySelector('.plot svg path') && document.title.startsWith('good')")
    page.value("document.querySelector('.plot svg').focus()")
    for key in ("Home", "ArrowRight"):
        page.call("Input.dispatchKeyEvent", type="keyDown", key=key)
    assert "loss" in page.value("document.querySelector('.plot h3').innerText")
    assert page.value("document.querySelector('.plot svg').getAttribute('aria-valuetext')").endswith(
        "net 0.5"
    )
    assert page.value("document.querySelector('.plot desc').textContent").endswith(
        "points, from 1 to 2.00e-4"
    )
    with open(place / "good" / "metrics.jsonl", "a") as more:
        more.write(rows(1, 5001))
    page.until("document.querySelector('.plot svg').getAttribute('aria-valuemax') == '5001'")
    # the run that is out to break the page, and one that goes away while it is shown
    page.value(f"location.hash = '#/run/' + encodeURIComponent({json.dumps(HOSTILE)})")
    page.until(f"document.querySelector('.plot h3')?.innerText == {json.dumps(HOSTILE)}")
    copy = make(place, "short-lived", logged=3)
    page.value("location.hash = '#/run/short-lived'")
    page.until("document.title.startsWith('short') && document.querySelector('.plot svg path')")
    shutil.rmtree(copy)
    page.until("document.querySelector('[role=alert]')?.innerText.includes('is gone')")
    page.value("location.hash = '#/compare/good,better'")
    page.until(
        "document.body.innerText.includes('stages.0.optimizer.lr') && document.querySelectorAll('.plot .c1').length > 0",
    )
    page.value("document.querySelector('.plot svg').focus()")
    page.call(
        "Input.dispatchKeyEvent", type="keyDown", key="End"
    )  # where the shorter line has ended long ago
    page.until("document.querySelector('.plot svg').getAttribute('aria-valuetext').endsWith('better –')")
    assert page.value("document.querySelector('.plot .key').innerText").endswith("step 5,001")
    page.open(f"{board.address}/?language=zh", width=390)
    page.until(
        "document.querySelector('h1')?.innerText == '运行' && document.querySelectorAll('tbody tr').length == 4",
    )
    assert page.value("document.documentElement.lang") == "zh-Hans"
    assert page.value("document.documentElement.scrollWidth") <= 390
    assert page.value("({}).polluted === undefined && ({}).loss === undefined")
    assert page.dialogs == [] and page.value("document.title") != "hacked"
    assert all(url.startswith((board.address, "blob:", "data:")) for url in page.requests)


def test_what_is_held_on_the_page_stays(page, board, place):
    """Though runs come and go; a deed that is refused is told where it was asked for, and can be asked for anew."""
    page.open(f"{board.address}/?language=en&held")
    page.until("document.querySelectorAll('tbody tr').length == 4")
    page.value("window.held = [...document.querySelectorAll('tbody a')].find((a) => a.innerText == 'good')")
    page.value("held.focus(); getSelection().selectAllChildren(held)")
    page.value("document.querySelector('[aria-label=\"Compare good\"]').click()")
    copy = make(place, "another", accuracy=0.99995, logged=3)
    page.until("document.querySelectorAll('tbody tr').length == 5")
    page.value("document.querySelector('[aria-label=\"Compare another\"]').click()")
    page.until("document.querySelector('button.mark').innerText == 'Compare (2)'")
    assert page.value("document.activeElement === held && getSelection().toString()") == "good"
    assert "accuracy 0.99995 [0.9, 1.1]" in page.value("document.querySelector('tbody').innerText")
    shutil.rmtree(copy)
    page.until("document.querySelector('button.mark').innerText == 'Compare (1)'")
    search = "((i) => { i.value = '%s'; i.dispatchEvent(new Event('input')); })(document.querySelector('[type=search]'))"
    page.value(search % "acuracy > 0.9")
    page.until("document.querySelector('main').innerText.includes('did you mean accuracy?')")
    page.value(search % "accuracy > 0.9 or tag = fine")
    page.until(
        "document.querySelectorAll('tbody tr').length == 2 && document.querySelector('tbody a').offsetParent"
    )
    page.value("location.hash = '#/run/nobody'")
    page.until("document.querySelector('[role=alert]').innerText == 'There is no run nobody here.'")
    page.value("location.hash = '#/run/good'")
    page.until("document.querySelector('summary') && document.title.startsWith('good')")
    page.value("window.held = [...document.querySelectorAll('button')].find((b) => b.innerText == 'Tags')")
    page.value("held.focus(); held.click()")
    page.value("document.getElementById('tags').value = 'a,b'")
    page.value("document.querySelector('dialog form').requestSubmit()")
    page.until("document.querySelector('dialog [role=alert]').innerText.includes('is no tag')")
    page.value("document.getElementById('tags').value = 'fine'")
    page.value("document.querySelector('dialog form').requestSubmit()")
    page.until("!document.querySelector('dialog')")
    assert page.value("document.activeElement === held")


def test_a_server_that_goes_away_and_asks_for_a_token(page, place, tmp_path):
    (tmp_path / "tokens").write_text(f"me {TOKEN}")
    with served(place, tmp_path / "tokens") as made:
        page.open(f"{made.address}/?language=en")
        page.until("document.querySelector('dialog #token')")
        for given in ("令牌", "wrong"):  # the first is what no header can carry
            page.call("Input.insertText", text=given)
            page.value("document.querySelector('dialog button').click()")
            page.until("document.querySelector('dialog #token')?.value === ''")
            page.until("document.querySelector('dialog').innerText.includes('not known')")
        page.call("Input.insertText", text=TOKEN)
        page.value("document.querySelector('dialog button').click()")
        page.until("document.querySelectorAll('tbody tr').length == 4")
        page.value("location.hash = '#/run/good'")
        page.until("document.querySelector('nav a')")
        page.value("document.querySelector('nav a').click()")
        page.until("document.querySelector('dialog.viewer iframe')")
        assert page.value("document.querySelector('dialog.viewer iframe').sandbox.length") == 0
        assert page.value("document.title").startswith("good")
        assert not any(TOKEN in url for url in page.requests) and TOKEN not in json.dumps(made.logged)
        port = int(made.address.rpartition(":")[2])
    page.until("document.getElementById('status').innerText.includes('does not answer')")
    with served(place, tmp_path / "tokens", port=port):
        page.until("document.getElementById('status').innerText == ''", 20)


def test_ten_thousand_runs(tmp_path):
    """What takes long is done once; the page asks for a part."""
    for i in range(300):
        (tmp_path / f"r{i:03}").mkdir()
        (tmp_path / f"r{i:03}" / "recipe.yaml").write_text("name: x\n")
    with served(tmp_path) as made, client(made) as c:
        answer = c.get("/api/runs?sort=name&start=100").json()
        assert (answer["all"], len(answer["runs"]), answer["runs"][0]["name"]) == (300, 100, "r100")
        assert len(c.get("/api/runs?most=1000").json()["runs"]) == 200


def test_the_command_of_the_page(place):
    """As docs/board.md has it, but for the port and the browser."""
    (command,) = blocks("docs/board.md", "bash")
    words = [*command.split()[1:], str(place), "--port", "0", "--json"]
    with subprocess.Popen(
        [sys.executable, "-m", "jichu", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(BROWSER="true"),
    ) as process:
        told = b""
        while not told.endswith(b"}\n"):
            told += process.stdout.readline()
        assert httpx.get(f"{json.loads(told)['address']}/api/runs", trust_env=False).json()["all"] == 4
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert (
            process.wait(20) == 0 and b"the board is at http://127.0.0.1" in said and b"Traceback" not in said
        )
