"""Language models behind HTTP, as the official client of OpenAI asks them."""

import asyncio
import contextlib
import json
import threading
import time

import numpy as np
import openai
import pytest

from jichu.runs import Run
from jichu.ship.server.errors import Refused
from jichu.ship.server.forms import CompletionRequest
from jichu.ship.server.writer import Text
from jichu.ship.server.writing import Answer
from served import CONTEXT, make, server
from test_server import deaf, soon

GREEDY = {"temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return {kind: make(folder / kind, kind) for kind in ("gpt", "chat", "reviews", "lstm")}


@pytest.fixture(scope="module")
def all_of_them(runs):
    with server(runs, texts=4) as found:
        yield found


@contextlib.contextmanager
def asking(found, key="none"):
    with openai.OpenAI(base_url=f"{found.address}/v1", api_key=key, max_retries=0, timeout=30) as client:
        yield client


@pytest.fixture
def client(all_of_them):
    with asking(all_of_them) as found:
        yield found


def test_completions_are_those_of_the_run(client, runs):
    prompts = ["It was ", "the worst 光"]
    expected = Run(runs["gpt"]).generate(prompts, most=12, temperature=0)
    found = client.completions.create(model="gpt", prompt=prompts, **GREEDY)
    assert [choice.text for choice in found.choices] == expected
    assert found.usage.prompt_tokens == sum(map(len, prompts)) and found.object == "text_completion"
    assert found.system_fingerprint.startswith("gpt@")
    for choice, text in zip(found.choices, expected, strict=True):
        assert choice.finish_reason == ("length" if len(text) == 12 else "stop")
    (ids,) = Run(runs["gpt"]).tokenizer.encode(prompts[:1])
    assert client.completions.create(model="gpt", prompt=ids, **GREEDY).choices[0].text == expected[0]


def test_recurrent_networks_write_too(client, runs):
    (expected,) = Run(runs["lstm"]).generate(["It was "], most=12, temperature=0)
    found = client.completions.create(model="lstm", prompt="It was ", **GREEDY)
    assert found.choices[0].text == expected


def test_a_text_in_pieces_is_the_whole(client):
    whole = client.completions.create(model="gpt", prompt="It was", **GREEDY, n=2)
    pieces, reasons = ["", ""], [None, None]
    for event in client.completions.create(model="gpt", prompt="It was", **GREEDY, n=2, stream=True):
        (choice,) = event.choices
        pieces[choice.index] += choice.text
        reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert pieces == [choice.text for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]


def test_a_conversation(client, runs):
    said = [{"role": "system", "content": "It was"}, {"role": "user", "content": "the best?"}]
    ids = Run(runs["chat"]).tokenizer.chat(said, prompt=True)[0]
    (expected,) = Run(runs["chat"]).generate([ids], most=8, temperature=0)
    asked = {"model": "chat", "messages": said, "temperature": 0, "max_completion_tokens": 8}
    found = client.chat.completions.create(**asked)
    assert found.choices[0].message.content == expected and found.choices[0].message.role == "assistant"
    assert found.usage.prompt_tokens == len(ids) and found.usage.completion_tokens <= 8
    parts = [{"role": "developer", "content": "It was"}]
    parts += [
        {"role": "user", "content": [{"type": "text", "text": "the "}, {"type": "text", "text": "best?"}]}
    ]
    assert (
        client.chat.completions.create(**asked | {"messages": parts}).choices[0].message.content == expected
    )
    how = {"stream": True, "stream_options": {"include_usage": True}}
    *events, last, usage = client.chat.completions.create(**asked, **how)
    assert events[0].choices[0].delta.role == "assistant"
    assert "".join(event.choices[0].delta.content for event in events) == expected
    assert last.choices[0].finish_reason == found.choices[0].finish_reason and usage.usage == found.usage


def test_embeddings_by_the_client(client, runs):
    found = client.embeddings.create(
        model="reviews", input=["It was", "the worst"]
    )  # in base64, which it decodes
    expected = Run(runs["reviews"]).embed(["It was", "the worst"])
    assert np.allclose([row.embedding for row in found.data], expected, atol=1e-5)


def test_models_by_the_client(client):
    assert [model.id for model in client.models.list()] == ["gpt", "chat", "reviews", "lstm"]
    assert client.models.retrieve("gpt").owned_by == "jichu"


def test_a_seed_gives_the_same_text(client):
    def text(**how):
        asked = {"model": "gpt", "prompt": "It", "max_tokens": 20, "temperature": 1.2, "top_p": 0.9}
        return client.completions.create(**asked, **how, extra_body={"top_k": 20}).choices[0].text

    assert text(seed=1) == text(seed=1) != text(seed=2)
    assert len({text() for _ in range(3)}) > 1


def test_it_stops_before_a_text(client):
    whole = client.completions.create(model="gpt", prompt="It was", **GREEDY).choices[0].text
    found = client.completions.create(model="gpt", prompt="It was", stop=[whole[4:6]], **GREEDY).choices[0]
    assert found.text == whole[: whole.index(whole[4:6])] and found.finish_reason == "stop"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"max_tokens": 0}, "max_tokens: found 0"),
        ({"max_tokens": CONTEXT}, f"holds {CONTEXT}; expected {CONTEXT - 2} more at most"),
        ({"prompt": "a" * 100}, f"a prompt of 100 tokens, and the model holds {CONTEXT}"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [10**9]}, "the token 1000000000"),
        ({"prompt": [-1]}, "the token -1"),
        ({"temperature": -1}, "temperature"),
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"stop": ""}, "stop"),
        ({"n": 17}, "n: found 17"),
        ({"model": "reviews"}, "does not go on with texts"),
        ({"extra_body": {"temprature": 1}}, "did you mean temperature"),
    ],
)
def test_what_is_wrong_is_an_error_of_the_client(client, asked, words):
    with pytest.raises(openai.BadRequestError) as told:
        client.completions.create(**{"model": "gpt", "prompt": "It", **asked})
    assert words in told.value.body["message"] and told.value.body["type"] == "invalid_request_error"


def test_other_errors_of_the_client(client, runs, tmp_path):
    with pytest.raises(openai.NotFoundError, match="did you mean chat"):
        client.chat.completions.create(model="chats", messages=[{"role": "user", "content": "a"}])
    with pytest.raises(openai.BadRequestError, match="gpt does not talk"):
        client.chat.completions.create(model="gpt", messages=[{"role": "user", "content": "a"}])
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]
    with pytest.raises(openai.BadRequestError, match="something else than text"):
        client.chat.completions.create(model="chat", messages=picture)
    (tmp_path / "tokens").write_text("app the-token-of-the-app rate=1\n")
    with server({"gpt": runs["gpt"]}, tmp_path / "tokens") as found:
        with asking(found, "another-token-than-that") as other, pytest.raises(openai.AuthenticationError):
            other.models.list()
        with asking(found, "the-token-of-the-app") as other:
            other.models.list()
            with pytest.raises(openai.RateLimitError):
                other.models.list()


def test_many_at_once_each_as_alone(all_of_them, runs):
    """More than are written at a time; some in pieces."""
    prompts = [f"It was {'the ' * (i % 5)}{'best'[: i % 4]}" for i in range(12)]
    expected = [Run(runs["gpt"]).generate(p, most=5 + i, temperature=0) for i, p in enumerate(prompts)]
    found, most = [None] * len(prompts), []

    def ask(i):
        with asking(all_of_them) as client:
            asked = {"model": "gpt", "prompt": prompts[i], "temperature": 0, "max_tokens": 5 + i}
            if i % 2:
                found[i] = "".join(e.choices[0].text for e in client.completions.create(**asked, stream=True))
            else:
                found[i] = client.completions.create(**asked).choices[0].text

    writer = all_of_them.running.models.served["gpt"].writer
    seen = writer._seen
    writer._seen = lambda texts: (most.append(texts), seen(texts))
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer._seen = seen
    assert found == expected and 1 < max(most) <= 4


def test_who_hangs_up_is_not_written_for(all_of_them):
    writer = all_of_them.running.models.served["gpt"].writer
    step, slow = writer.writing.step, lambda joining: (time.sleep(0.02), step(joining))[1]
    writer.writing.step = slow
    try:
        with all_of_them.client() as client:
            asked = {"model": "gpt", "prompt": "It", "temperature": 5, "max_tokens": 60, "stream": True}
            with client.stream("POST", "/v1/completions", json=asked) as answer:
                assert next(answer.iter_lines()).startswith("data: ")
            with contextlib.suppress(Exception):
                client.post("/v1/completions", json={**asked, "stream": False}, timeout=0.1)
        for _ in range(200):
            if not writer.writing.rows and not writer.line.rows:
                break
            time.sleep(0.01)
        lines = [line for line in all_of_them.logged if line.get("path") == "/v1/completions"][-2:]
        assert not writer.writing.rows and all(line["completion_tokens"] < 60 for line in lines)
    finally:
        writer.writing.step = step


def test_a_text_that_takes_too_long_ends_with_an_error(runs):
    with server({"gpt": runs["gpt"]}, timeout=0.3) as found:
        writer = found.running.models.served["gpt"].writer
        step = writer.writing.step
        writer.writing.step = lambda joining: (time.sleep(0.1), step(joining))[1]
        asked = {"prompt": "It", "temperature": 0, "max_tokens": 60}
        with found.client() as client:
            late = client.post("/v1/completions", json=asked)
            assert late.status_code == 504 and late.json()["error"]["code"] == "timeout"
            lines = [
                line.removeprefix("data: ")
                for line in client.post("/v1/completions", json={**asked, "stream": True}).text.split("\n\n")
            ]
        assert lines[-2] == "[DONE]" and json.loads(lines[-3])["error"]["code"] == "timeout"


def test_a_stream_that_nobody_reads_ends(runs):
    """However slowly it is read, no longer than `timeout`, and not at all no longer than `patience`."""
    with server({"gpt": runs["gpt"]}, timeout=1.0, patience=0.5) as found:
        served = found.running.models.served["gpt"]
        asked = json.dumps({"prompt": ["It was the"] * 200, "max_tokens": 50, "stream": True})
        head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(asked)}"
        with deaf(found, f"POST /v1/completions HTTP/1.1\r\n{head}\r\n\r\n{asked}".encode()):
            assert soon(lambda: served.users == 1) and soon(lambda: served.users == 0)
        assert soon(lambda: not served.writer.writing.rows)


def test_pieces_that_are_late_are_not_sent():
    """Though they are there already, and only the client was slow."""

    async def first():
        answer = Answer(CompletionRequest(prompt="It"), None, None, "1", -1.0, {})
        answer.texts.append(Text(0, answer._pieces))
        answer.texts[0].give(" was")
        return await anext(answer._come())

    with pytest.raises(Refused, match="not written in time"):
        asyncio.run(first())


def test_prompts_are_counted(runs):
    long = "a " * 600_000
    said = [{"role": "user", "content": long[:700_000]}, {"role": "assistant", "content": long[:700_000]}] * 2
    with server(runs, rows=8) as found, found.client() as client:
        served = found.running.models.served
        made = []
        served["gpt"].writing.row = lambda *given, **how: made.append(given)
        for asked, param, words in [
            ({"prompt": ["a"] * 9}, "prompt", "9 rows; expected 8 at most"),
            ({"prompt": [[1], [2], [3]], "n": 3}, "prompt", "9 rows"),
            ({"prompt": [1] * 9, "n": 9}, "prompt", "9 rows"),
            ({"prompt": long}, "prompt", "1,200,000 characters; expected 1,048,576 at most"),
            ({"prompt": ["a", long]}, "prompt.1", "1,200,000 characters"),
            ({"model": "chat", "messages": said}, "messages", "2,800,000 characters"),
            ({"model": "chat", "messages": said[:1], "n": 9}, "prompt", "9 rows"),
        ]:
            path = "completions" if "prompt" in asked else "chat/completions"
            answer = client.post(f"/v1/{path}", json={"model": "gpt", **asked})
            assert answer.status_code == 413 and words in answer.json()["error"]["message"]
            assert answer.json()["error"]["param"] == param
        assert not made


def test_what_goes_wrong_while_writing_is_told_and_others_go_on(runs):
    with server({"gpt": runs["gpt"]}) as found:
        writing = found.running.models.served["gpt"].writer.writing
        step = writing.step

        def fails(joining):
            writing.step = step
            raise RuntimeError("no")

        writing.step = fails
        with found.client() as client:
            broken = client.post("/v1/completions", json={"prompt": "It", "max_tokens": 3})
            assert broken.status_code == 500 and broken.json()["error"]["code"] == "internal_error"
            assert client.post("/v1/completions", json={"prompt": "It", "max_tokens": 3}).status_code == 200
