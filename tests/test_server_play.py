"""What the playground asks for over HTTP: rows of the data where a server was asked to show them, and nowhere else."""

import base64
import json
import time

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks

import jichu.cli.commands.serve
from explored import make
from jichu.cli.main import main
from jichu.runs import Run
from served import Server, server
from served import make as fresh
from test_server import TOKEN, error

KINDS = ("images", "table", "reviews", "sounds")
ROW = {"age": 30, "income": 28.0, "job": "clerk"}
PATHS = ("/v1/models/{name}/samples", "/v1/models/{name}/map", "/v1/neighbours", "/v1/counterfactual")


def ready(client, model):
    """As soon as the data are read; until then the answer is to come again."""
    for _ in range(400):
        answer = client.get(f"/v1/models/{model}/samples?count=1")
        if answer.status_code != 503:
            return answer
        assert answer.headers["retry-after"]
        time.sleep(0.05)
    raise AssertionError("it never is")


@pytest.fixture(scope="module")
def found(explored, tmp_path_factory):
    folders = {kind: explored[kind] for kind in KINDS}
    lost = make(tmp_path_factory.mktemp("lost") / "lost", "table", steps=2)
    (lost / "loans.csv").unlink()
    with server({**folders, "lost": lost}, play=True, body=1.0) as running, running.client() as client:
        for kind in KINDS:
            assert ready(client, kind).status_code == 200
        yield running


@pytest.fixture
def client(found):
    with found.client() as made:
        yield made


def told(answer):
    assert answer.status_code == 200, answer.text
    assert (
        "/tmp" not in answer.text and ".wav" not in answer.text and ".csv" not in answer.text
    )  # names no file
    return {k: v for k, v in answer.json().items() if k not in ("model", "system_fingerprint")}


def same(one, other):
    """But for the last digits."""
    if isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in other)
    if isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == (pytest.approx(other, abs=1e-4) if isinstance(other, float) else other)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_run_says(client, explored, kind):
    run = Run(explored[kind])
    page = told(client.get(f"/v1/models/{kind}/samples", params={"count": 3, "order": "uncertain"}))
    assert same(page, run.samples(count=3, order="uncertain").plain())
    row = page["samples"][0]["row"]
    whole = told(client.get(f"/v1/models/{kind}/samples?row={row}"))["sample"]
    assert same(whole, run.sample(row).plain(whole=True))
    item = whole.get("cells") or (
        whole["texts"][0] if "texts" in whole else whole.get("sound") or whole["image"]
    )
    (prediction,) = client.post("/v1/predict", json={"model": kind, "inputs": [item]}).json()["predictions"]
    assert prediction["label"] == next(iter(whole["prediction"].values()))["label"]
    given = base64.b64decode(item.partition(",")[2]) if str(item).startswith("data:") else item
    near = told(client.post("/v1/neighbours", json={"model": kind, "inputs": [item], "k": 4, "place": True}))
    assert same(near["neighbours"], [[one.plain() for one in run.neighbours([given], 4)[0]]])
    at = run.map().rows.tolist().index(row)
    assert near["places"][0] == pytest.approx(run.map().places[at].tolist(), abs=1e-2)
    changed = told(client.post("/v1/counterfactual", json={"model": kind, "inputs": [item], "tries": 300}))
    assert same(changed["counterfactuals"], [run.counterfactual([given], tries=300)[0].plain()])
    assert same(told(client.get(f"/v1/models/{kind}/map")), run.map().plain())


def test_a_row_has_wishes(client):
    asked = {"model": "table", "inputs": [ROW], "immutable": ["income"]}
    (one,) = told(client.post("/v1/counterfactual", json=asked))["counterfactuals"]
    assert all(change["column"] != "income" for change in one["changes"])
    wrong = told(client.get("/v1/models/images/samples?wrong=true&label=3&count=100"))
    assert len(wrong["samples"]) == wrong["total"] and wrong["total"] > 0
    for sample in wrong["samples"]:
        assert sample["truth"]["label"] == "3" != sample["prediction"]["label"]["label"]


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ("/v1/models/table/samples?count=1000", 400, "invalid_request"), ("/v1/models/table/samples?cuont=3", 400, "invalid_request"),
        ("/v1/models/table/samples?row=123456", 400, "invalid_request"), ("/v1/models/tabel/samples", 404, "model_not_found"),
        ("/v1/models/table/samples?row=-1", 400, "invalid_request"), ("/v1/models/table/map?part=all", 400, "invalid_request"),
        ("/v1/models/table/samples?label=maybe", 400, "invalid_request"), ("/v1/models/lost/samples", 400, "invalid_request"),
        ({"inputs": [ROW], "immutable": ["x"]}, 400, "invalid_request"), ({"inputs": [ROW], "tries": 10**6}, 400, "invalid_request"),
        ({"inputs": [ROW] * 17}, 400, "invalid_request"), ({"inputs": ["x"]}, 400, "invalid_input"),
    ],
)  # fmt: skip
def test_what_is_asked_wrongly(client, asked, status, code):
    if isinstance(asked, str):
        if "lost" in asked:
            ready(client, "lost")
        answer = client.get(asked)
    else:
        answer = client.post("/v1/counterfactual", json={"model": "table", **asked})
    assert error(answer, status)["code"] == code


@pytest.mark.parametrize("path", PATHS)
def test_the_document_holds(found, client, path):
    """Requests drawn from the server's own OpenAPI document, right ones and wrong ones."""
    schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
    (operation,) = (o.ok() for o in schema.get_all_operations() if o.ok().path == path)
    holds_for = [
        checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance,
    ]  # fmt: skip

    @settings(
        max_examples=12, derandomize=True, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy())
    def holds(case):
        if "name" in case.path_parameters:
            case.path_parameters["name"] = "table"
        answer = case.call(base_url=found.address, timeout=30)
        case.validate_response(answer, checks=holds_for)

    holds()


def test_a_server_shows_nothing_if_it_was_not_asked_to(explored, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(f"app {TOKEN}")
    with server({"m": explored["table"]}, tokens) as found, found.client(TOKEN) as client:
        for path in PATHS[:2]:
            answer = error(client.get(path.replace("{name}", "m")), 403)
            assert answer["code"] == "not_shown" and "play=true" in answer["message"]
        for path in PATHS[2:]:
            assert error(client.post(path, json={"inputs": [ROW]}), 403)["code"] == "not_shown"
        assert found.running.models.served["m"].shown is None  # not even read
    with server({"m": explored["table"]}, tokens, play=True) as found, found.client() as client:
        error(client.get("/v1/models/m/samples"), 401)
        with found.client(TOKEN) as known:
            assert ready(known, "m").status_code == 200


def test_who_does_not_wait_is_not_computed_for(explored, monkeypatch):
    """And predictions go on while it is."""
    with server({"m": explored["images"]}, play=True, timeout=0.5) as found, found.client() as client:
        whole = ready(client, "m") and client.get("/v1/models/m/samples?row=0").json()["sample"]["image"]
        served = found.running.models.served["m"]
        asked = []

        def slow(run):
            while True:
                asked.append(run.embed([base64.b64decode(whole.partition(",")[2])]))
                time.sleep(0.02)

        monkeypatch.setattr(Run, "map", lambda run, *_: slow(run))
        error(client.get("/v1/models/m/map"), 504)
        assert client.post("/v1/predict", json={"inputs": [whole]}).status_code == 200
        monkeypatch.undo()
        assert client.get("/v1/models/m/samples?count=1").status_code == 200  # its turn has come
        count = len(asked)
        assert served.shown is not None and not served.shown.line.rows
        time.sleep(0.1)
        assert len(asked) == count


def test_models_without_rows_to_show(tmp_path):
    with server({"gpt": fresh(tmp_path / "gpt", "gpt")}, play=True) as found, found.client() as client:
        error(ready(client, "gpt"), 400)
        assert client.post("/v1/completions", json={"prompt": "It", "max_tokens": 2}).status_code == 200


def test_open_shows_the_data_and_opens_a_browser(explored, monkeypatch, capsys):
    import webbrowser

    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    made = []

    def once(runs, **settings):
        made.append(settings)
        running = Server({"m": explored["table"]}, play=settings["play"])
        running.end()
        running.running.run = lambda: None
        return running.running

    monkeypatch.setattr("jichu.serving.server", once)
    assert main(["serve", str(explored["table"]), "--port", "0", "--open", "--json"]) == 0
    assert made[0]["play"] is True and opened == [json.loads(capsys.readouterr().out)["address"]]
    assert jichu.cli.commands.serve.answer
