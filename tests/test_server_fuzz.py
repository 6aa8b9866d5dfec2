"""Whatever is sent, an answer or an error in one form comes back, and no 500."""

import base64
import json
import random

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks

from fuzzing.mutations import odd, spoil_bytes, spoil_text, spoil_tree
from fuzzing.pictures import spoilt_picture
from fuzzing.sounds import spoilt_sound
from jichu.ship.server import items
from jichu.ship.server.errors import Refused
from served import make, server

KINDS = ("images", "sounds", "table", "reviews", "pairs", "gpt", "chat")
EXAMPLES, CASES = 12, 60
CHECKS = [
    checks.not_a_server_error, checks.status_code_conformance, checks.content_type_conformance, checks.response_schema_conformance,
]  # fmt: skip
GIVEN = {
    "predict": [
        {"model": "table", "inputs": [{"age": 30, "town": "a"}]}, {"model": "pairs", "inputs": [["It was", "the best"]]},
        {"model": "reviews", "inputs": ["It was"]}, {"model": "images", "inputs": ["iVBORw0KGgo="]},
    ],
    "embeddings": [{"model": "reviews", "input": ["It was"], "encoding_format": "float"}, {"model": "gpt", "input": "a"}],
    "explain": [
        {"model": "reviews", "inputs": ["It was"], "method": "occlusion", "arguments": {}, "target": "yes"},
        {"model": "table", "inputs": [{"age": 3, "town": "b"}], "background": [{"age": 3, "town": "b"}] * 3},
    ],
    "completions": [
        {"model": "gpt", "prompt": "It was", "max_tokens": 3, "temperature": 1, "top_p": 0.5, "stop": ["x"], "seed": 3, "n": 2},
        {"model": "gpt", "prompt": [[1, 2], [3]], "max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}},
    ],
    "chat/completions": [
        {"model": "chat", "messages": [{"role": "user", "content": "It was"}], "max_tokens": 3, "stream": False},
        {"model": "chat", "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "max_completion_tokens": 2},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {kind: make(folder / kind, kind) for kind in KINDS}


@pytest.fixture(scope="module")
def found(runs):
    with server(runs, body=1.0) as running:
        yield running


@pytest.fixture(scope="module")
def client(found):
    with found.client() as made:
        yield made


@pytest.fixture(scope="module")
def schema(found, client):
    return schemathesis.openapi.from_dict(client.get("/openapi.json").json())


PATHS = ["/healthz", "/metrics", "/v1/models", "/v1/models/{name}", "/v1/models/{name}/reload", "/v1/predict",
         "/v1/embeddings", "/v1/explain", "/v1/neighbours", "/v1/counterfactual", "/v1/models/{name}/samples", "/v1/models/{name}/map", "/v1/completions", "/v1/chat/completions"]  # fmt: skip


def test_every_path_is_tried(schema):
    assert sorted(operation.ok().path for operation in schema.get_all_operations()) == sorted(PATHS)


@pytest.mark.parametrize("path", PATHS)
def test_the_document_holds(schema, found, path):
    """Requests drawn from the server's own OpenAPI document, right ones and wrong ones."""
    (operation,) = (o.ok() for o in schema.get_all_operations() if o.ok().path == path)
    how = {"max_examples": EXAMPLES, "derandomize": True, "deadline": None, "database": None}

    @settings(**how, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def holds(case):
        answer = case.call(base_url=found.address, timeout=30)
        case.validate_response(answer, checks=CHECKS)

    holds()


def fine(answer):
    """An answer that was asked for, or one error in one form."""
    assert answer.status_code < 500, answer.text
    if answer.status_code != 200:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize("path", GIVEN)
@pytest.mark.parametrize("seed", range(CASES // 10))
def test_spoilt_requests(client, path, seed):
    rng = random.Random(f"{path} {seed}")
    for _ in range(10):
        asked = spoil_tree(rng, rng.choice(GIVEN[path]))
        body = json.dumps(asked, default=str, skipkeys=True)
        kind = rng.random()
        if kind > 0.8:
            body = spoil_text(rng, body, "canary")
        content = body.encode("utf-8", "surrogatepass")
        if kind > 0.9:
            content = spoil_bytes(rng, content)
        fine(client.post(f"/v1/{path}", content=content, headers={"content-type": "application/json"}))


class _Case:
    """What the makers of spoilt files ask for."""

    def __init__(self, seed):
        self.rng, self.canary = random.Random(seed), "canary"


@pytest.mark.parametrize(("kind", "spoilt"), [("images", spoilt_picture), ("sounds", spoilt_sound)])
def test_spoilt_files(client, kind, spoilt):
    for seed in range(CASES):
        content, _ = spoilt(_Case(f"{kind} {seed}"))
        if seed % 3 == 0:
            asked = {"model": kind, "inputs": [base64.b64encode(content).decode()]}
            fine(client.post("/v1/predict", json=asked))
        elif seed % 3 == 1:
            headers = {"content-type": f"{kind[:5]}/x" if kind == "images" else "audio/x"}
            fine(client.post(f"/v1/predict?model={kind}", content=content, headers=headers))
        else:
            fine(client.post("/v1/predict", data={"model": kind}, files={"file": ("a", content)}))


def test_spoilt_texts(client):
    rng = random.Random(0)
    for _ in range(CASES):
        content = spoil_bytes(
            rng, rng.choice(["It was the best", "窗前明月光💥", "\u2028\u202e\x00"]).encode()
        )
        headers = {"content-type": "text/plain"}
        fine(client.post("/v1/predict?model=reviews", content=content, headers=headers))


def test_odd_values_in_rows(client):
    rng = random.Random(0)
    for _ in range(CASES):
        rows = [{"age": odd(rng), "town": odd(rng)} for _ in range(rng.randint(1, 3))]
        body = json.dumps({"model": "table", "inputs": rows}, default=str, skipkeys=True)
        fine(client.post("/v1/predict", content=body, headers={"content-type": "application/json"}))


def test_headers_and_paths_of_any_kind(found):
    rng = random.Random(0)
    odd_words = [
        "",
        "é",
        "\x7f",
        "a" * 5000,
        "../../etc/passwd",
        "%00",
        "%2e%2e%2f",
        "bearer",
        "Bearer ",
        "\u2028",
    ]
    with httpx.Client(base_url=found.address, timeout=30, trust_env=False) as client:
        for _ in range(CASES):
            headers = {
                name: rng.choice(odd_words).encode("utf-8")
                for name in ("authorization", "x-request-id", "content-type", "accept") if rng.random() < 0.5
            }  # fmt: skip
            path = rng.choice(["/v1/models/", "/v1/predict?model=", "/", "/v1/models/x/reload?"])
            try:
                fine(
                    client.request(
                        rng.choice(["GET", "POST"]), path + rng.choice(odd_words[4:8]), headers=headers
                    )
                )
            except (httpx.InvalidURL, httpx.LocalProtocolError):
                continue  # which the client itself does not send


def test_json_is_walked_to_a_depth():
    deep = b"[" * 60 + b"]" * 60
    assert items.parsed(deep)
    for body in (b"[" * 70 + b"]" * 70, b"[" * 10**6, b'{"a":' * 10**5):
        with pytest.raises(Refused, match="JSON"):
            items.parsed(body)
