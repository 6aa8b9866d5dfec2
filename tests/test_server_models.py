"""Models that are exchanged, ended and started again while they are asked."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from jichu.core.errors import DataError, JichuError, UsageError
from jichu.runs import Run
from jichu.serving import named
from jichu.ship.server.running import Running
from jichu.ship.server.settings import Settings
from served import make, server
from test_processes import environment

ROW = {"age": 30, "town": "a"}
ADMIN, OTHER = "the-token-of-the-admin", "the-token-of-another"


@pytest.fixture
def two(tmp_path):
    """Two versions of a model, and what they say of a row."""
    folders = [make(tmp_path / name, "table", seed) for seed, name in enumerate(("m", "newer"))]
    scores = [Run(folder).predict(ROW)[0]["scores"]["yes"] for folder in folders]
    assert abs(scores[0] - scores[1]) > 1e-3
    return folders, scores


@pytest.fixture
def tokens(tmp_path):
    (tmp_path / "tokens").write_text(f"ops {ADMIN} admin\napp {OTHER}\n")
    return tmp_path / "tokens"


def exchange(folders):
    """The newer model takes the place of the other, file after file, as a copy does."""
    for file in ("model.safetensors", "config.json"):
        shutil.copy(folders[1] / "model" / file, folders[0] / "model" / file)


def asked_while(found, token, body, path="/v1/predict"):
    """Four clients that ask until told to end; what they got."""
    answers, over = [], threading.Event()

    def ask():
        with found.client(token) as client:
            while not over.is_set():
                answers.append(client.post(path, json=body))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()

    def end():
        over.set()
        for thread in threads:
            thread.join()
        return answers

    return end


def test_a_model_is_exchanged_under_load_and_no_answer_is_lost_or_wrong(two, tokens):
    folders, scores = two
    with server({"m": folders[0]}, tokens) as found:
        before = found.running.models.served["m"]
        end = asked_while(found, OTHER, {"inputs": [ROW]})
        time.sleep(0.3)
        exchange(folders)
        with found.client(ADMIN) as client:
            answer = client.post("/v1/models/m/reload").json()
            assert answer["changed"] and answer["system_fingerprint"] != before.version
            assert not client.post("/v1/models/m/reload").json()["changed"]
        time.sleep(0.3)
        answers = end()
        expected = dict(zip((before.version, answer["system_fingerprint"]), scores, strict=True))
        assert {a.status_code for a in answers} == {200}
        assert {a.headers["x-model-version"] for a in answers} == set(expected)
        for a in answers:
            (row,) = a.json()["predictions"]
            assert row["scores"]["yes"] == pytest.approx(expected[a.headers["x-model-version"]], abs=1e-6)
        before.predicting.join(5)
        assert not before.predicting._thread.is_alive()


def test_a_text_that_was_begun_is_ended_by_the_model_that_began_it(tmp_path, tokens):
    folders = [make(tmp_path / name, "gpt", seed) for seed, name in enumerate(("m", "newer"))]
    expected = [Run(folder).generate("It was", most=40, temperature=0) for folder in folders]
    with server({"m": folders[0]}, tokens) as found:
        step = (writing := found.running.models.served["m"].writer.writing).step
        writing.step = lambda joining: (time.sleep(0.02), step(joining))[1]
        asked = {"prompt": "It was", "temperature": 0, "max_tokens": 40}
        streamed = {**asked, "stream": True}
        with found.client(OTHER) as client, client.stream("POST", "/v1/completions", json=streamed) as answer:
            lines = answer.iter_lines()
            got = [next(lines)]
            exchange(folders)
            with found.client(ADMIN) as admin:
                assert admin.post("/v1/models/m/reload").json()["changed"]
                newer = admin.post("/v1/completions", json=asked).json()
            got += lines
        pieces = [json.loads(line[6:]) for line in got if line.startswith("data: {")]
        assert "".join(p["choices"][0]["text"] for p in pieces) == expected[0]
        assert newer["choices"][0]["text"] == expected[1]
        assert pieces[0]["system_fingerprint"] != newer["system_fingerprint"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: (model / "model.safetensors").write_bytes(b"half"),
        lambda model: (model / "config.json").write_text("{"),
        lambda model: (model / "config.json").unlink(),
        lambda model: (model / "config.json").write_text(
            (model / "config.json").read_text().replace('"age"', '"age", "height"')
        ),
        lambda model: shutil.rmtree(model),
    ],
)
def test_what_cannot_be_read_takes_no_place(two, tokens, spoil):
    folders, scores = two
    with server({"m": folders[0]}, tokens) as found:
        spoil(folders[0] / "model")
        with found.client(ADMIN) as client:
            told = client.post("/v1/models/m/reload")
            assert told.status_code == 409 and told.json()["error"]["code"] == "model_unusable"
            assert str(folders[0]) not in told.text
            (row,) = client.post("/v1/predict", json={"inputs": [ROW]}).json()["predictions"]
            assert row["scores"]["yes"] == pytest.approx(scores[0], abs=1e-6)
    with pytest.raises((UsageError, DataError)):
        Running({"m": folders[0]}, Run, Settings(port=0))


def test_a_model_that_changes_while_it_is_read_is_not_served(two, monkeypatch):
    folders, _ = two

    def opened(path):
        run = Run(path)
        run.model  # noqa: B018 (read, and then another is put into its place)
        exchange(folders)
        return run

    from jichu.ship.server import models

    versions = iter(["m@1", "m@2"])
    monkeypatch.setattr(models, "version", lambda run: next(versions))
    with pytest.raises(DataError, match="changed while it was read"):
        Running({"m": folders[0]}, opened, Settings(port=0))


def test_a_recipe_that_is_written_while_its_model_is_served(two):
    folders, scores = two
    with server({"m": folders[0]}) as found, found.client() as client:
        (folders[0] / "recipe.yaml").write_text("name: {half")
        (row,) = client.post("/v1/predict", json={"inputs": [ROW]}).json()["predictions"]
        assert row["scores"]["yes"] == pytest.approx(scores[0], abs=1e-6)


def test_only_an_admin_exchanges(two, tokens):
    folders, _ = two
    with server({"m": folders[0]}, tokens) as found, found.client(OTHER) as client:
        assert client.post("/v1/models/m/reload").status_code == 403
        with found.client(ADMIN) as admin:
            assert admin.post("/v1/models/n/reload").status_code == 404


def test_names_of_runs(tmp_path):
    a, b = make(tmp_path / "x" / "a", "table"), make(tmp_path / "y" / "a", "table")
    assert named([a, f"other={b}"]) == {"a": a, "other": b}
    with pytest.raises(UsageError, match=r"two runs are called a(.|\n)*NAME=RUN"):
        named([a, b])
    with pytest.raises(UsageError, match="is no name"):
        named([f"={a}"])


# --- as a process


class Process:
    """`jichu serve` in a process of its own."""

    def __init__(self, *arguments, **variables):
        self.errors = []
        command = [sys.executable, "-m", "jichu", "serve", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(
            command, env=environment(**variables), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )  # fmt: skip
        for line in self.process.stderr:
            self.errors.append(line)
            if found := re.search(r"http://[\w.\[\]:]+:\d+", line):
                self.address = found[0]
                break
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self):
        with self.process.stderr:
            self.errors.extend(self.process.stderr)

    def client(self, token=None):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.address, timeout=60, headers=headers, trust_env=False)

    def end(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        code = self.process.wait(60)
        self._reading.join()
        return code


def test_signals(two, tokens):
    """SIGHUP reads the model again under load; SIGTERM ends what was begun, and the process with 0."""
    folders, scores = two
    found = Process(folders[0], "--tokens", tokens, "--set", "wait=300")
    try:
        end = asked_while(found, OTHER, {"inputs": [ROW]})
        exchange(folders)
        found.process.send_signal(signal.SIGHUP)
        for _ in range(600):
            if any("model read again" in line for line in found.errors):
                break
            time.sleep(0.05)
        answers = end()
        assert {a.status_code for a in answers} == {200}
        begun = []

        def ask():
            with found.client(OTHER) as client:
                begun.append(client.post("/v1/predict", json={"inputs": [ROW]}))

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.1)
        assert found.end() == 0
        thread.join()
        assert begun[0].status_code == 200
        assert begun[0].json()["predictions"][0]["scores"]["yes"] == pytest.approx(scores[1], abs=1e-6)
        for line in found.errors[1:]:
            assert json.loads(line)["time"]
    finally:
        if found.process.poll() is None:
            found.end(signal.SIGKILL)


def test_what_is_still_computed_does_not_spoil_the_end(tmp_path):
    """A thread that is in C++ when Python ends is not to end the process by abort."""
    found = Process(make(tmp_path / "m", "reviews"), "--set", "drain=0.1", "--set", "timeout=0.5")
    try:
        asked = {"inputs": ["It was"] * 4, "method": "shapley", "arguments": {"samples": 10**4}}
        with found.client() as client:
            assert client.post("/v1/explain", json=asked).status_code == 504  # nobody waits any more
        assert found.end() == 0
        assert not any("terminate" in line for line in found.errors)
    finally:
        if found.process.poll() is None:
            found.end(signal.SIGKILL)


def test_a_hangup_is_kept_while_models_are_loaded(two, tmp_path):
    """The tokens come of a pipe, so that it is known when it loads; afterwards others are in their place."""
    pipe, newer = tmp_path / "tokens", tmp_path / "newer-tokens"
    os.mkfifo(pipe)
    newer.write_text(f"app {OTHER}\n")
    command = [
        sys.executable,
        "-m",
        "jichu",
        "serve",
        str(two[0][0]),
        "--port",
        "0",
        "--json",
        "--tokens",
        str(pipe),
    ]
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as started:
        try:
            with pipe.open("w") as tokens:  # when it is opened there
                newer.replace(pipe)
                started.send_signal(signal.SIGHUP)
                tokens.write(f"app {ADMIN}\n")
            address = next(line.decode().split('"')[3] for line in started.stdout if b"http" in line)
            with httpx.Client(
                base_url=address, headers={"Authorization": f"Bearer {OTHER}"}, trust_env=False
            ) as client:
                assert any(
                    client.get("/v1/models").status_code == 200 or time.sleep(0.05) for _ in range(200)
                )
        finally:
            started.terminate()


def test_killed_it_starts_again_and_answers_the_same(two):
    folders, scores = two
    for number in (signal.SIGKILL, signal.SIGINT):
        found = Process(folders[0])
        with found.client() as client:
            (row,) = client.post("/v1/predict", json={"inputs": [ROW]}).json()["predictions"]
            assert row["scores"]["yes"] == pytest.approx(scores[0], abs=1e-6)
        assert found.end(number) == (-signal.SIGKILL if number == signal.SIGKILL else 0)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--host", "0.0.0.0"], 2, "nobody would be asked for a token"),
        (["--set", "bach=3"], 2, "did you mean: batch"),
        (["--set", "batch=0"], 2, "batch"),
        (["--host", "198.51.100.7"], 2, "nobody would be asked"),
        (["--tokens", "nowhere"], 2, "cannot read the tokens"),
        (["--host", "a" * 70], 2, "no name of a machine"),
    ],
)
def test_what_cannot_be_served_is_told(two, capsys, monkeypatch, arguments, code, words):
    from jichu.cli.main import main

    monkeypatch.delenv("JICHU_TOKEN", raising=False)
    if words == "no name of a machine":
        monkeypatch.setenv("JICHU_TOKEN", "a-token-of-enough-characters")
    assert main(["serve", str(two[0][0]), *arguments]) == code
    assert words in capsys.readouterr().err


def test_a_port_that_is_taken(two, capsys):
    from jichu.cli.main import main

    with server({"m": two[0][0]}) as found:
        port = found.address.rpartition(":")[2]
        assert main(["serve", str(two[0][0]), "--port", port]) == 2
        assert f"port {port}" in capsys.readouterr().err


def test_the_address_for_machines(two, capsys, monkeypatch):
    from jichu.cli.main import main

    monkeypatch.setattr(Running, "run", lambda self: self.socket.close())
    assert main(["serve", str(two[0][0]), "--port", "0", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert re.fullmatch(r"http://127.0.0.1:\d+", told["address"]) and told["models"][0].startswith("m@")


def test_a_missing_library_is_told(two, monkeypatch):
    import importlib.util

    import jichu

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(JichuError, match=r"fastapi is not installed(.|\n)*jichu\[serve\]"):
        jichu.serve(two[0][0])
