"""Personal data: what is found, what is not, and what becomes of it."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jichu.cli.main import main
from jichu.data.personal import KINDS, find, is_bank_card, is_identity_card, masked


@pytest.mark.parametrize(("kind", "texts"), {
    "e-mail": ["write to jane.doe+news@mail.example.co.uk.", "邮箱：zhang_san@163.com。", "bob [at] example.org"],
    # the example of the standard's own annex, and the numbers that card schemes give out for tests
    "identity card": ["身份证号11010519491231002X", "id 11010519491231002x."],
    "bank card": ["card 4111 1111 1111 1111 thanks", "卡号：6212345678901232", "5555-5555-5555-4444",
                  "3782 822463 10005"],
    "phone": ["call (415) 555-2671 now", "415-555-2671", "+44 20 7946 0958", "手机13812345678，", "+86 138-1234-5678",
              "电话010-62345678", "（0755）12345678", "+1 415 555 2671"],
    "social security number": ["SSN 219-09-9999"],
    "IP address": ["from 8.8.8.8 again"],
}.items())  # fmt: skip
def test_what_is_found(kind, texts):
    for text in texts:
        assert [f.kind for f in find(text)] == [kind], text


@pytest.mark.parametrize("text", [
    "in 2019 and 2020 there were 1,234,567 of them", "version 1.2.3.4.5", "192.168.1.1", "price 4111 1111 1111 1112",
    "11010519491231003X", "order 20240131123456", "ISBN 978-3-16-148410-0", "at 10:30 on 12-05-2020", "a@b", "x @ y",
    "000-12-3456", "3.14159265358979", "0000 0000 0000 0000", "13812345678901234", "",
])  # fmt: skip
def test_what_is_none(text):
    assert find(text) == []


def luhn(digits):
    """The check digit, written as its inventor does."""
    total = 0
    for i, digit in enumerate(reversed(digits)):
        twice = digit * 2 if i % 2 == 0 else digit
        total += twice - 9 if twice > 9 else twice
    return (10 - total % 10) % 10


@settings(max_examples=200, deadline=None)
@given(digits=st.lists(st.integers(0, 9), min_size=14, max_size=14), other=st.integers(1, 9))
def test_cards_with_one_wrong_digit_are_none(digits, other):
    digits = [4, *digits]
    check = luhn(digits)
    number = "".join(map(str, [*digits, check]))
    if len(set(number)) < 2:
        return
    assert is_bank_card(number)
    assert not is_bank_card(number[:-1] + str((check + other) % 10))
    assert [f.kind for f in find(f"no. {number}.")] in (["bank card"], [])  # a dot after it may end a number


@settings(max_examples=200, deadline=None)
@given(serial=st.integers(0, 999), day=st.dates(), place=st.integers(0, 16), other=st.integers(1, 9))
def test_identity_cards(serial, day, place, other):
    if not 1900 <= day.year <= 2100:
        return
    body = f"110105{day:%Y%m%d}{serial:03d}"
    # ISO 7064 mod 11-2 from its definition: the sum of digit × 2^(position from the right) is 1 modulo 11
    total = sum(int(d) * 2 ** (17 - i) for i, d in enumerate(body))
    check = next(c for c in range(11) if (total + c) % 11 == 1)
    number = body + ("X" if check == 10 else str(check))
    assert is_identity_card(number)
    wrong = number[:place] + str((int(number[place]) + other) % 10) + number[place + 1 :]
    assert not is_identity_card(wrong)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text(text):
    for found in find(text):
        assert 0 <= found.start < found.end <= len(text) and found.kind in KINDS
    assert len(masked(text)) == len(text)


def test_inspecting_tells_and_cleaning_leaves_out(in_folder, capsys):
    draw = np.random.default_rng(0)
    words = [
        "the",
        "a",
        "of",
        "to",
        "and",
        "in",
        "that",
        "it",
        "for",
        "was",
        "on",
        "are",
        "as",
        "with",
        "they",
    ]
    texts = [" ".join(draw.choice(words, 12)) for _ in range(60)]
    texts[3] += " write to jane@example.com"
    texts[7] += " or 415-555-2671, or jane@example.com"
    Path("t.csv").write_text("\n".join(["text,kind", *[f'"{t}",{"ab"[i % 2]}' for i, t in enumerate(texts)]]))
    data = ["t.csv", "--set", "target=kind", "--set", "columns={text: text}"]
    assert main(["inspect", *data, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["personal"]["e-mail"]["rows"] == 2 and found["personal"]["phone"]["rows"] == 1
    assert found["personal"]["e-mail"]["first"][0][1] == "j••e@e•••••e.c•m"
    assert main(["inspect", *data, "--page", "p.html"]) == 0
    said = capsys.readouterr().out
    assert "personal data" in said and "e-mail" in said and "jane@example.com" not in said
    assert "jane@example" not in Path("p.html").read_text().split("Personal data")[1].split("<h2")[0]
    assert main(["inspect", *data, "--set", "clean={personal: true}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cleaned"] == {"personal": 2} and found["personal"] == {}
    assert main(["inspect", *data, "--set", "clean={personal: [phone]}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cleaned"] == {"personal": 1}
    assert main(["inspect", *data, "--set", "clean={personal: [fax]}"]) == 2
    assert "e-mail" in capsys.readouterr().err
