"""Runs behind HTTP: rows, limits, who may ask."""

import base64
import contextlib
import io
import json
import socket
import struct
import threading
import time
import tracemalloc
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from PIL import Image

from jichu.core.errors import DataError, UsageError
from jichu.runs import Run
from jichu.ship.server import gate, items, keys
from jichu.ship.server.errors import refused
from jichu.ship.server.running import Running
from jichu.ship.server.settings import Settings
from served import make, png, server

KINDS = ("images", "grey", "sounds", "table", "reviews", "pairs", "gpt")
ROW = {"age": 30, "town": "a"}
TOKEN = "a-token-of-enough-characters"


def wav(seconds=0.2, rate=8000):
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(int(seconds * rate)) / 3), rate, format="WAV")
    return file.getvalue()


def b64(content):
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {kind: make(folder / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def all_of_them(runs):
    with server(runs, body=1.0, rows=20) as found:
        yield found


@pytest.fixture
def client(all_of_them):
    with all_of_them.client() as found:
        yield found


def said(answers):
    return [{k: v for k, v in answer.items() if k != "input"} for answer in answers]


def error(answer, status):
    assert answer.status_code == status, answer.text
    found = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"} and found["message"]
    assert "Traceback" not in answer.text and "/tmp" not in answer.text
    return found


@pytest.mark.parametrize(
    ("kind", "given", "sent"),
    [
        ("images", [png(), png("L")], lambda x: b64(x)),
        ("grey", [png("RGBA")], lambda x: f"data:image/png;base64,{b64(x)}"),
        ("sounds", [wav(), wav(1.0, 16000)], b64),
        ("table", [ROW, {"age": None, "town": "b"}], lambda x: x),
        ("reviews", ["It was the best", "", "the worst 光"], lambda x: x),
        ("pairs", [("It was", "the best")], list),
    ],
)
def test_predictions_are_those_of_the_run(client, runs, kind, given, sent):
    answer = client.post("/v1/predict", json={"model": kind, "inputs": [sent(item) for item in given]})
    assert answer.status_code == 200, answer.text
    run = Run(runs[kind])
    expected = said(run.predict(given))
    found = answer.json()
    assert [row["label"] for row in found["predictions"]] == [row["label"] for row in expected]
    for row, other in zip(found["predictions"], expected, strict=True):
        assert row["scores"] == pytest.approx(other["scores"], abs=1e-5)
    assert found["model"] == kind and found["system_fingerprint"] == answer.headers["x-model-version"]
    assert found["system_fingerprint"].startswith(f"{kind}@")


def test_files_and_bodies(client, runs):
    image = png()
    (expected,) = said(Run(runs["images"]).predict([image]))
    raw = client.post("/v1/predict?model=images", content=image, headers={"content-type": "image/png"})
    parts = [("file", ("a.png", image, "image/png")), ("another", ("b.png", image))]
    form = client.post("/v1/predict", files=parts, data={"model": "images"})
    text = client.post(
        "/v1/predict?model=reviews", content="the best 光", headers={"content-type": "text/plain"}
    )
    assert raw.json()["predictions"][0]["scores"] == pytest.approx(expected["scores"], abs=1e-5)
    assert (
        len(form.json()["predictions"]) == 2 and form.json()["predictions"][0]["label"] == expected["label"]
    )
    assert text.json()["predictions"][0]["label"] == Run(runs["reviews"]).predict(["the best 光"])[0]["label"]


def test_models_whose_rows_do_not_join(tmp_path):
    """Written answers, and forecasts of a series, of which a request holds one."""
    folders = {kind: make(tmp_path / kind, kind) for kind in ("answers", "series")}
    steps = [{"load": float(i % 5)} for i in range(9)]
    given = {"answers": ["It was the", "worst"], "series": steps}
    with server(folders) as found, found.client() as client:
        for kind, rows in given.items():
            expected = said(Run(folders[kind]).predict(rows))
            answer = client.post("/v1/predict", json={"model": kind, "inputs": rows})
            assert answer.json()["predictions"] == expected
        json_type = {"content-type": "application/json"}
        for odd in ({"load": v} for v in ("x", {}, [1], "\ud800")):
            rows = [{**row, "other": "x"} for row in steps] + [{**odd, "other": 1}]
            body = json.dumps({"model": "series", "inputs": rows})
            answer = client.post("/v1/predict", content=body, headers=json_type)
            assert answer.json()["predictions"] == said(Run(folders["series"]).predict(rows))
        rows = [*steps, {"load": 10**30}]  # more than a float32 can be squared
        assert client.post("/v1/predict", json={"model": "series", "inputs": rows}).status_code == 200
        body = json.dumps({"model": "series", "inputs": [*steps, {"\ud800": 1}]})
        told = error(client.post("/v1/predict", content=body, headers=json_type), 400)
        assert "names no column" in told["message"]
        error(client.post("/v1/embeddings", json={"model": "series", "input": steps}), 400)
        error(client.post("/v1/completions", json={"model": "answers", "prompt": "a"}), 400)


def test_precision(runs):
    expected = Run(runs["reviews"]).predict(["It was the best"])[0]
    with server({"m": runs["reviews"]}, precision="bfloat16") as found, found.client() as client:
        row = client.post("/v1/predict", json={"inputs": ["It was the best"]}).json()["predictions"][0]
        assert found.running.models.served["m"].computed.precision == "bfloat16"
    assert (
        row["scores"] == pytest.approx(expected["scores"], abs=0.03) and row["scores"] != expected["scores"]
    )


def test_rows_of_several_requests_are_predicted_together_each_as_alone(runs):
    run, batches = Run(runs["images"]), []
    images = [png() for _ in range(40)]
    expected = run.predict(images)
    with server({"m": runs["images"]}, wait=200.0, batch=64) as found:
        served = found.running.models.served["m"]
        seen = served.predicting._seen
        served.predicting._seen = lambda rows: (batches.append(rows), seen(rows))
        answers = [None] * 20

        def ask(i):
            with found.client() as client:
                rows = [b64(image) for image in images[2 * i : 2 * i + 2]]
                answers[i] = client.post("/v1/predict", json={"inputs": rows}).json()["predictions"]

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    flat = [row for answer in answers for row in answer]
    for row, other in zip(flat, expected, strict=True):
        assert row["scores"] == pytest.approx(other["scores"], abs=1e-5)
    assert sum(batches) == 40 and len(batches) < 20


def test_a_request_that_spoils_a_batch_spoils_no_other(runs):
    """What goes wrong with several together is tried for each alone."""
    with server({"m": runs["table"]}, wait=100.0) as found:
        served = found.running.models.served["m"]
        scores = served.run.scores

        def fails_on_many(given):
            if (given.tensors["numbers"] == 7).any():
                raise RuntimeError("no")
            return scores(given)

        served.run.scores = fails_on_many
        answers = {}

        def ask(age):
            with found.client() as client:
                answers[age] = client.post("/v1/predict", json={"inputs": [ROW | {"age": age}]})

        threads = [threading.Thread(target=ask, args=(age,)) for age in (5, 6, 7, 8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {age: answer.status_code for age, answer in answers.items()} == {
            5: 200,
            6: 200,
            7: 500,
            8: 200,
        }
        broken = answers[7]
        assert "RuntimeError" not in str(error(broken, 500))
        assert "RuntimeError: no" in found.line(broken.headers["x-request-id"])["error"]


def test_embeddings_are_those_of_the_run(client, runs):
    given = ["It was the best", "the worst"]
    expected = Run(runs["reviews"]).embed(given)
    answer = client.post("/v1/embeddings", json={"model": "reviews", "input": given}).json()
    assert np.allclose([row["embedding"] for row in answer["data"]], expected, atol=1e-5)
    assert answer["object"] == "list" and answer["usage"]["total_tokens"] > 20
    packed = client.post(
        "/v1/embeddings", json={"model": "reviews", "input": given[0], "encoding_format": "base64"}
    ).json()
    assert np.allclose(
        np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4"), expected[0], atol=1e-5
    )
    image = png()
    answer = client.post("/v1/embeddings", json={"model": "images", "input": [b64(image)]}).json()
    assert np.allclose(answer["data"][0]["embedding"], Run(runs["images"]).embed([image])[0], atol=1e-5)


def test_explanations_are_those_of_the_run(client, runs):
    asked = {"model": "reviews", "inputs": ["It was the best"], "method": "occlusion"}
    (found,) = client.post("/v1/explain", json=asked).json()["explanations"]
    (expected,) = Run(runs["reviews"]).explain(["It was the best"], "occlusion")
    assert found["places"] == list(expected.places) and found["answer"] == expected.answer
    assert found["worth"] == pytest.approx(expected.worth.tolist(), abs=1e-5)
    others = [{"age": 20 + i, "town": "ab"[i % 2]} for i in range(8)]
    answer = client.post("/v1/explain", json={"model": "table", "inputs": [ROW], "background": others})
    assert answer.json()["explanations"][0]["places"] == ["age", "town"]
    told = error(client.post("/v1/explain", json=asked | {"method": "oclusion"}), 400)
    assert "did you mean occlusion" in told["message"]
    for arguments in ({"stepsss": 3}, {"method": "shapley", "arguments": {"name": "occlusion"}}):
        asked = {
            "model": "reviews",
            "inputs": ["It was"],
            **({"arguments": arguments} if "method" not in arguments else arguments),
        }
        assert error(client.post("/v1/explain", json=asked), 400)["param"] == "arguments"
    many = {"method": "shapley", "arguments": {"samples": 10**9}}
    asked = {"model": "reviews", "inputs": ["It was"], **many}
    assert "samples" in error(client.post("/v1/explain", json=asked), 400)["message"]


def test_the_files_of_this_machine_are_not_told(tmp_path):
    """Of a table without a background the run's own data are read."""
    folder = make(tmp_path / "table", "table")
    recipe = (folder / "recipe.yaml").read_text()
    (tmp_path / "of-patients.csv").touch()
    (folder / "recipe.yaml").write_text(recipe.replace("nowhere", str(tmp_path / "of-patient.csv")))
    with server({"m": folder}) as found, found.client() as client:
        told = error(client.post("/v1/explain", json={"inputs": [ROW]}), 400)["message"]
    assert "patient" not in told and "background" in told
    with pytest.raises(DataError, match=r"of-patient\.csv"):
        Run(folder).explain(ROW)


def test_words_like_a_path_are_left_in_messages():
    error = UsageError("found 1.5 in ./r and /x/r", expected="images", nearest=Path("/x/s"))
    assert (
        str(refused(error, {"m": Path("."), "n": Path("/x/r")}).detail)
        == "found 1.5 in ./r and n; expected images"
    )


def test_an_explanation_that_nobody_waits_for_is_given_up(runs):
    asked = {
        "inputs": ["It was the best of times, " * 2],
        "method": "shapley",
        "arguments": {"samples": 10_000},
    }
    with server({"m": runs["reviews"]}, timeout=5.0) as found:
        with found.client() as client, pytest.raises(httpx.ReadTimeout):
            client.post("/v1/explain", json=asked, timeout=0.5)
        with found.client() as client:
            answer = client.post("/v1/explain", json={"inputs": ["It was"], "method": "saliency"})
        assert answer.status_code == 200


def test_a_model_is_named_in_the_address_or_in_the_body(client):
    body = {"model": "table", "inputs": [ROW]}
    assert client.post("/v1/predict?model=table", json={"inputs": [ROW]}).json()["model"] == "table"
    assert client.post("/v1/predict?model=table", json=body).status_code == 200
    assert error(client.post("/v1/predict?model=nope", json=body), 400)["param"] == "model"
    form = {"files": [("file", ("a.png", png()))], "data": {"model": "images"}}
    assert error(client.post("/v1/predict?model=grey", **form), 400)["param"] == "model"


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("predict", {"inputs": ["a"]}, 400, "no model is named"),
        ("predict", {"model": "imags", "inputs": ["a"]}, 404, "did you mean images"),
        ("predict", {"model": "images", "inputs": []}, 400, "inputs"),
        ("predict", {"model": "images", "input": ["a"]}, 400, "did you mean inputs"),
        ("predict", {"model": "images", "inputs": ["not base64!"]}, 400, "inputs.0: no base64"),
        ("predict", {"model": "images", "inputs": [b64(b"no image")]}, 400, "inputs.0: not an image"),
        ("predict", {"model": "images", "inputs": ["/etc/passwd"]}, 400, "inputs.0"),
        ("predict", {"model": "images", "inputs": [{"path": "/etc/passwd"}]}, 400, "an image in base64"),
        ("predict", {"model": "sounds", "inputs": [b64(png())]}, 400, "not a sound"),
        ("predict", {"model": "table", "inputs": [{"age": 3}]}, 400, "the column 'town' is missing"),
        ("predict", {"model": "table", "inputs": [{"age": "x", "town": "a"}]}, 400, "column 'age'"),
        ("predict", {"model": "table", "inputs": ["../../etc/passwd"]}, 400, "an object"),
        ("predict", {"model": "reviews", "inputs": [3]}, 400, "inputs.0: found 3; expected a text"),
        ("predict", {"model": "pairs", "inputs": [["one"]]}, 400, "two texts"),
        ("predict", {"model": "reviews", "inputs": ["a"] * 21}, 413, "21 rows; expected 20 at most"),
        ("predict", {"model": "gpt", "inputs": ["a"]}, 400, "no head to predict with"),
        ("predict", [1], 400, "mapping"),
        ("embeddings", {"model": "reviews", "input": [[1, 2]]}, 400, "a text"),
        ("embeddings", {"model": "reviews", "input": "a", "dimensions": 3}, 400, "3 dimensions; expected 32"),
        ("explain", {"model": "gpt", "inputs": ["a"]}, 400, "no head"),
        ("explain", {"model": "table", "inputs": [ROW]}, 400, ""),
        ("completions", {"model": "reviews", "prompt": "a"}, 400, "does not go on with texts"),
    ],
)
def test_what_is_wrong_is_told(client, path, body, status, words):
    assert words in error(client.post(f"/v1/{path}", json=body), status)["message"]


def test_bodies_that_are_none(client):
    json_type = {"content-type": "application/json"}
    for body in (
        b"",
        b"{",
        b"\xff\xfe",
        b'{"a": NaN}',
        b"[" * 10_000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b"9" * 9000,
    ):
        error(client.post("/v1/predict", content=body, headers=json_type), 400)
    error(client.post("/v1/predict", content=b"x", headers={"content-type": "text/csv"}), 415)
    error(client.post("/v1/embeddings", content=b"x", headers={"content-type": "text/plain"}), 415)
    error(client.post("/v1/predict?model=table", content=b"x", headers={"content-type": "image/png"}), 415)
    error(
        client.post("/v1/predict?model=reviews", content=b"\xff", headers={"content-type": "text/plain"}), 400
    )
    error(client.post("/v1/predict", content=b"--x", headers={"content-type": "multipart/form-data"}), 400)
    error(client.post("/v1/predict", data={"model": "images"}, files={"a": ("a.png", b"")}), 400)
    error(client.post("/v1/nothing"), 404)
    error(client.get("/v1/predict"), 405)
    error(client.get("/v1/models/..%2f..%2fetc"), 404)


def test_bombs_are_refused_before_they_are_decoded(client):
    file = io.BytesIO()
    Image.new("1", (8000, 8000)).save(file, "PNG")
    assert len(file.getvalue()) < 50_000
    asked = {"model": "images", "inputs": [b64(file.getvalue())]}
    assert "64,000,000 pixels" in error(client.post("/v1/predict", json=asked), 413)["message"]
    inner = (
        b"ic07" + struct.pack(">I", 8 + len(file.getvalue())) + file.getvalue()
    )  # 128 × 128, says this one
    icon = b"icns" + struct.pack(">I", 8 + len(inner)) + inner
    asked = {"model": "images", "inputs": [b64(icon)]}
    assert "none of BMP, GIF" in error(client.post("/v1/predict", json=asked), 400)["message"]
    file = io.BytesIO()
    Image.new("1", (5000, 5000)).save(file, "PNG")
    parts = [("file", ("a.png", file.getvalue()))] * 11
    told = error(client.post("/v1/predict", data={"model": "images"}, files=parts), 413)
    assert "275,000,000 pixels so far" in told["message"]
    long = io.BytesIO()
    soundfile.write(long, np.zeros((2**16, 8), np.int16), 8000, format="FLAC")
    flac = bytearray(long.getvalue())
    flac[21:26] = bytes([flac[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])  # 2^36 samples, says the header
    asked = {"model": "sounds", "inputs": [b64(bytes(flac))]}
    assert "samples" in error(client.post("/v1/predict", json=asked), 413)["message"]
    asked = {"model": "reviews", "inputs": ["a" * 1_000_000]}
    assert client.post("/v1/predict", json=asked).status_code == 200  # cut, as in training


@pytest.mark.parametrize("value", [b"[]", b"{}", b'{"":0}', b"7777", b"[[[[[]]]]]", b'"ab"', b"1.5"])
def test_what_json_takes_in_memory_is_foreseen(value):
    body = b"[" + b",".join([value] * 10_000) + b"]"
    tracemalloc.start()
    try:
        kept = items.parsed(body)
        assert kept and tracemalloc.get_traced_memory()[0] < items.weight(body)
    finally:
        tracemalloc.stop()


def test_json_of_too_many_values_is_refused(all_of_them, client, monkeypatch):
    head = {"content-type": "application/json"}
    told = error(client.post("/v1/predict", content=b"[" + b"[]," * 100_000, headers=head), 413)
    assert "more than 32,768 commas" in told["message"]
    monkeypatch.setattr(gate, "_HELD", 2)  # what JSON becomes counts beside what it was, for all requests
    body = json.dumps({"model": "table", "inputs": [ROW], "x": [0] * 18_000})
    assert error(client.post("/v1/predict", content=body, headers=head), 503)["code"] == "overloaded"
    assert client.post("/v1/predict", json={"model": "table", "inputs": [ROW]}).status_code == 200


def test_images_of_any_mode_are_seen(client):
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        content = png(mode, colour=1) if mode.startswith("I") else png(mode)
        assert (
            client.post("/v1/predict", json={"model": "images", "inputs": [b64(content)]}).status_code == 200
        )


def test_large_bodies_are_cut_off(all_of_them, client):
    told = error(
        client.post("/v1/predict", content=b"x" * 2_000_000, headers={"content-type": "image/png"}), 413
    )
    assert told["message"] == "a body of more than 1 MiB"
    sent = 0

    def endless():
        nonlocal sent
        while True:
            sent += 65536
            yield bytes(65536)

    try:  # without a length, so that it is to be counted
        error(client.post("/v1/predict", content=endless(), headers={"content-type": "image/png"}), 413)
    except Exception as lost:  # where the answer comes while it is still sent, the connection is gone
        assert "rror" in type(lost).__name__
    assert sent < 50_000_000


def raw(address, content, wait=10):
    """What comes back when bytes are sent as they are."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=wait) as open_:
        open_.sendall(content)
        found = b""
        while part := open_.recv(65536):
            found += part
        return found


def test_who_sends_slowly_or_garbage_or_hangs_up(runs):
    with server({"m": runs["table"]}, patience=0.5) as found:
        head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        answer = raw(found.address, head + b"Content-Length: 100\r\n\r\n{")
        assert b"408" in answer.split(b"\r\n")[0] and b'"timeout"' in answer
        assert raw(found.address, b"POST / HTTP/1.1\r\nHos") == b""  # headers that never end
        assert raw(found.address, b"") == b""
        assert b"400" in raw(found.address, b"\x16\x03\x01\x00\xa5 nonsense\r\n\r\n").split(b"\r\n")[0]
        told = raw(found.address, head + b"Connection: close\r\nContent-Length: many\r\n\r\n")
        assert b"400" in told.split(b"\r\n")[0]
        host, port = found.address.removeprefix("http://").split(":")
        for _ in range(5):
            with socket.create_connection((host, int(port))) as gone:
                gone.sendall(head + b"Content-Length: 100\r\n\r\n{")
        with found.client() as client:
            assert client.post("/v1/predict", json={"inputs": [ROW]}).status_code == 200
        assert not [line for line in found.logged if line.get("status") == 500]


@pytest.mark.parametrize("line", [b"X-A: " + b"a" * 50 + b"\r\n", b"a"], ids=["many", "long"])
def test_headers_are_bounded(all_of_them, line):
    """Of a client without a token too, and with whatever parser of uvicorn's is installed."""
    host, port = all_of_them.address.removeprefix("http://").split(":")
    part, sent = line * (2**18 // len(line)), 0
    with socket.create_connection((host, int(port)), timeout=10) as open_:
        open_.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-B: b\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < 2**25:
                open_.sendall(part)
                sent += len(part)
    assert sent < 2**25  # what the system holds between us is less


def deaf(found, content):
    """A connection that sends this and never reads; few bytes fit between."""
    found.running.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    host, port = found.address.removeprefix("http://").split(":")
    made.connect((host, int(port)))
    made.sendall(content)
    return made


def soon(holds):
    """Whether something comes to hold within ten seconds."""
    return any(holds() or time.sleep(0.02) for _ in range(500))


def test_who_does_not_read_keeps_nobody_out(runs, tmp_path, monkeypatch):
    """What everybody may ask for, and what is refused, does not count; who reads nothing is cut off."""
    monkeypatch.delenv(keys.TOKEN, raising=False)
    monkeypatch.setattr(gate, "_READ", 0)
    (tmp_path / "tokens").write_text(f"app {TOKEN}\n")
    with server({"m": runs["table"]}, tmp_path / "tokens", queue=3, patience=1.0) as found:
        asked = [
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n" for path in ("/openapi.json", "/v1/models")
        ]
        held = [deaf(found, path.encode() * 1000) for path in asked for _ in range(6)]
        connections = found.running._server.server_state.connections
        assert soon(lambda: sum(c.flow.write_paused for c in connections) == len(held))
        with found.client(TOKEN) as client:
            assert client.get("/v1/models").status_code == 200
        assert soon(lambda: len(connections) <= 1)  # the client's
        for one in held:
            one.close()


def test_too_many_are_told_to_come_again(runs):
    """Never a hang: what there is no room for is refused at once, and what takes too long in time."""
    with server({"m": runs["table"]}, queue=2, batch=1, timeout=1.0) as found:
        served = found.running.models.served["m"]
        told, go_on = served.run.told, threading.Event()

        def slow(names, tensors):
            go_on.wait(20)
            return told(names, tensors)

        served.run.told = slow
        answers = []

        def ask():
            with found.client() as client:
                answers.append(client.post("/v1/predict", json={"inputs": [ROW]}))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        for thread in threads:
            thread.join()
        counts = sorted(answer.status_code for answer in answers)
        assert counts == [503] * 5 + [504] * 3
        assert all(a.headers["retry-after"] for a in answers if a.status_code == 503)
        go_on.set()
        with found.client() as client:
            assert client.post("/v1/predict", json={"inputs": [ROW]}).status_code == 200


@contextlib.contextmanager
def slow_reading(found):
    """Images are decoded as soon as that is allowed."""
    served, go_on, begun = found.running.models.served["m"], threading.Event(), []
    served.read = lambda items: (begun.append(len(items)), go_on.wait(20))
    try:
        yield begun
    finally:
        go_on.set()
        del served.read


def test_decoding_is_not_waited_for_longer_than_other_work(runs):
    """And no more of it begins than there are threads, though nobody waits for what they do."""
    content = {"content": png(), "headers": {"content-type": "image/png"}}
    with server({"m": runs["images"]}, timeout=0.3) as found, found.client() as client:
        readers = found.running.service._free._value
        with slow_reading(found) as begun:
            for _ in range(readers + 1):
                assert error(client.post("/v1/predict", **content), 504)["code"] == "timeout"
            assert len(begun) <= readers
        assert soon(lambda: found.running.service._free._value == readers)
        assert client.post("/v1/predict", **content).status_code == 200


@pytest.mark.parametrize("drain", [0.1, 30.0])
def test_the_end_does_not_wait_for_what_is_decoded(runs, drain):
    """What was begun gets an answer when its time is over, or by the second signal."""
    with server({"m": runs["images"]}, drain=drain) as found, slow_reading(found) as begun:
        answers = []

        def ask():
            with found.client() as client:
                answers.append(
                    client.post("/v1/predict", content=png(), headers={"content-type": "image/png"})
                )

        thread = threading.Thread(target=ask)
        thread.start()
        assert soon(lambda: begun)
        loop = found.running.models.served["m"].predicting._loop
        for _ in range(2 if drain > 1 else 1):
            loop.call_soon_threadsafe(found.running._server._asked)
        thread.join(10)
        found._thread.join(10)
        assert not found._thread.is_alive()
        assert "ending" in error(answers[0], 503)["message"] and answers[0].headers["retry-after"]


def test_a_client_that_hangs_up_is_not_worked_for(runs):
    with server({"m": runs["table"]}, batch=1) as found:
        served = found.running.models.served["m"]
        told, go_on, seen = served.run.told, threading.Event(), []

        def slow(names, tensors):
            seen.append(len(names))
            go_on.wait(20)
            return told(names, tensors)

        served.run.told = slow
        body = json.dumps({"inputs": [ROW]}).encode()
        head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
        host, port = found.address.removeprefix("http://").split(":")
        for _ in range(4):
            with socket.create_connection((host, int(port))) as gone:
                gone.sendall(head + str(len(body)).encode() + b"\r\n\r\n" + body)
                time.sleep(0.2)
        time.sleep(0.3)
        go_on.set()
        with found.client() as client:
            assert client.post("/v1/predict", json={"inputs": [ROW]}).status_code == 200
        assert len(seen) == 2


# --- who may ask


def test_an_open_address_wants_a_token(runs, monkeypatch):
    monkeypatch.delenv(keys.TOKEN, raising=False)
    with pytest.raises(UsageError, match=r"nobody would be asked for a token(.|\n)*JICHU_TOKEN"):
        Running({"m": runs["table"]}, Run, Settings(host="0.0.0.0", port=0))


def test_tokens(runs, tmp_path, monkeypatch):
    monkeypatch.setenv(keys.TOKEN, TOKEN)
    file = tmp_path / "tokens"
    old, busy = "an-old-token-that-expired", "a-token-for-few-requests"
    file.write_text(f"# who\nold {old} expires=2020-01-31\n\nbusy {busy} rate=2  # a minute\n")
    with server({"m": runs["table"]}, file, host="0.0.0.0") as found:
        found.address = found.address.replace("0.0.0.0", "127.0.0.1")

        def ask(token, path="/v1/predict"):
            with found.client(token) as client:
                return client.post(path, json={"inputs": [ROW]})

        assert "no token" in error(ask(None), 401)["message"]
        assert error(ask("another-token-altogether"), 401)["code"] == "invalid_api_key"
        assert "expired on 2020-01-31" in error(ask(old), 401)["message"]
        assert ask(TOKEN).status_code == 200
        assert [ask(busy).status_code for _ in range(3)] == [200, 200, 429]
        assert int(ask(busy).headers["retry-after"]) in range(1, 62)
        assert ask(TOKEN).status_code == 200  # of another key
        error(ask(TOKEN, "/v1/models/m/reload"), 403)
        with found.client() as client:
            assert client.get("/healthz").status_code == 200
            error(client.get("/metrics"), 401)
            error(client.get("/v1/models"), 401)
        file.write_text(f"new {old}\n")
        found.running.keys.again()
        assert ask(old).status_code == 200 and ask(busy).status_code == 401
        lines = json.dumps(found.logged)
        assert not any(token in lines for token in (TOKEN, old, busy, "another-token-altogether"))
        assert {line["key"] for line in found.logged} == {"-", "default", "busy", "new"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no token in it"),
        ("app", "a line without a token"),
        ("app short", "a token of 5 characters(.|\n)*tokens:1"),
        ("app secret-sécret-secret", "no request can carry(.|\n)*tokens:1"),
        ("app secret-secret-secret expire=2030-01-01", "did you mean: expires"),
        ("app secret-secret-secret expires=soon", "a date or a rate that is none"),
        ("app secret-secret-secret rate=0", "a date or a rate"),
        ("app secret-secret-secret\nweb secret-secret-secret", "the name or the token of web is given twice"),
    ],
)
def test_faults_of_a_token_file_are_told_and_no_token(tmp_path, monkeypatch, text, words):
    monkeypatch.delenv(keys.TOKEN, raising=False)
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(UsageError, match=words) as told:
        keys.read(tmp_path / "tokens")
    assert "secret" not in str(told.value)


def test_what_a_token_may_be(tmp_path, monkeypatch):
    monkeypatch.delenv(keys.TOKEN, raising=False)
    (tmp_path / "tokens").write_text(f"\ufeffapp {TOKEN}#1 rate=2 # of app\n# web {TOKEN}\n", "utf-8")
    (found,) = keys.Keys(lambda: keys.read(tmp_path / "tokens")).all
    assert (found.name, found.rate) == ("app", 2)
    known = keys.Keys(lambda: [found])
    assert known.admit(f"Bearer {TOKEN}#1", "") is found
    for token in (f"{TOKEN} ", f"{TOKEN}é", f"{TOKEN} {TOKEN}"):
        monkeypatch.setenv(keys.TOKEN, token)
        with pytest.raises(UsageError, match=r"no request can carry(.|\n)*JICHU_TOKEN"):
            keys.read(None)


def test_on_this_machine_alone_no_other_name_is_answered_to(client):
    """A page in a browser can have its own name stand for 127.0.0.1."""
    error(client.get("/v1/models", headers={"host": "evil.example:8000"}), 403)
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000"):
        assert client.get("/v1/models", headers={"host": host}).status_code == 200


def test_on_this_machine_alone_no_other_page_asks(client):
    """A page of another site may send a form, or plain text, without asking first."""
    other = {"sec-fetch-site": "cross-site", "origin": "http://evil.example"}
    error(client.post("/v1/predict", content=b"a text", headers={**other, "content-type": "text/plain"}), 403)
    assert (
        client.get("/v1/models", headers=other).status_code == 200
    )  # a link to us, whose answer it cannot read


# --- what is told


def test_health_models_and_counts(client, runs):
    assert client.get("/healthz").json()["status"] == "ok"
    listed = client.get("/v1/models").json()["data"]
    assert [model["id"] for model in listed] == list(KINDS)
    assert client.get("/v1/models/table").json()["predicts"] == {
        "kind": {"task": "classification", "classes": ["no", "yes"], "calibrated": False}
    }
    client.post("/v1/predict", json={"model": "table", "inputs": [ROW]})
    client.post("/v1/a-path-of-mine")
    counts = client.get("/metrics").text
    assert 'jichu_requests_total{model="table",path="/v1/predict",status="200"}' in counts
    assert 'jichu_batch_rows_count{model="table"}' in counts and "a-path-of-mine" not in counts


def test_answers_do_not_wait_for_the_client_to_acknowledge_their_heads(all_of_them):
    """Nagle's algorithm and delayed acknowledgements would make each answer on a kept connection 40 ms late."""
    assert all_of_them.running.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_page_of_paths_asks_nothing_of_others(client):
    page = client.get("/docs").text
    assert "//" not in page.replace(str(client.base_url).rstrip("/"), "") and "<script" not in page
    for path in client.get("/openapi.json").json()["paths"]:
        assert f"</b>{path}</code>" in page
    assert "prompt" in page and "messages" in page and "list of string" in page


def test_a_line_of_each_request(all_of_them, client):
    answer = client.post(
        "/v1/predict?model=table",
        json={"model": "table", "inputs": [ROW]},
        headers={"X-Request-Id": "mine-1"},
    )
    assert answer.headers["x-request-id"] == "mine-1"
    line = all_of_them.line("mine-1")
    assert (
        line["status"] == 200 and line["rows"] == 1 and line["path"] == "/v1/predict" and line["seconds"] > 0
    )
    assert line["model"] == answer.headers["x-model-version"]
    odd = client.get("/healthz", headers={"X-Request-Id": 'a"\\b c'}).headers["x-request-id"]
    assert len(odd) == 32
