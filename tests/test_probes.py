"""Live probes against scikit-learn, and in the runs that they watch."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from torch import nn

from jichu.cli.main import main
from jichu.core.files import read_json, read_jsonl
from jichu.data.target import Target
from jichu.models.backbone import Features
from jichu.train.probes import KNN, LINEAR, Probe


class Given(nn.Module):
    """Features that are the column `x` itself."""

    def forward(self, batch):
        return {"features": Features(batch["x"])}


def points(n=600):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 6, generator=generator)
    return x, x @ torch.arange(6.0) + 3 * torch.randn(n, generator=generator)


@pytest.mark.parametrize("numbers", [False, True])
def test_probes_find_what_scikit_learn_finds(numbers):
    x, y = points()
    rows, held_out = torch.arange(400), torch.arange(400, 600)
    truth = y if numbers else (y > 0).long()
    target = (
        Target("y", "regression", mean=0.0, std=1.0)
        if numbers
        else Target("y", "classification", ("no", "yes"))
    )
    found = Probe({"x": x}, target, truth, rows, held_out, seed=0)(Given())
    scaler = StandardScaler().fit(x[:400])
    model = Ridge() if numbers else LogisticRegression(C=0.1)
    model.fit(scaler.transform(x[:400]), truth[:400])
    assert found[LINEAR] == pytest.approx(model.score(scaler.transform(x[400:]), truth[400:]), abs=0.011)
    assert 0.5 < found[KNN] < 1


def test_probes_hold_out_rows_of_their_own():
    x, y = points(60)
    target = Target("y", "classification", ("no", "yes"))
    probe = Probe({"x": x}, target, (y > 0).long(), torch.arange(60), torch.arange(0), seed=0)
    assert sorted(probe.fitted.tolist() + probe.held_out.tolist()) == list(range(60)) and probe.rows == 60
    many = torch.arange(60).repeat(50)
    assert Probe({"x": x}, target, (y > 0).long(), many, many, seed=0).rows == 2000


def test_a_pretraining_is_watched(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "sklearn:digits", "--budget", "40 steps", "--batch-size", "32", "--evaluate-every", "20",
                 "--objective", "simclr"]) == 0  # fmt: skip
    assert "probes: accuracy" in capsys.readouterr().err
    run = tmp_path / "runs" / "pretrain"
    rows = [row for row in read_jsonl(run / "metrics.jsonl") if LINEAR in row]
    assert [row["step"] for row in rows] == [20, 40] and rows[-1][LINEAR] > 0.6
    metrics = read_json(run / "summary.json")["stages"][0]["metrics"]
    assert (
        metrics[LINEAR] == rows[-1][LINEAR]
        and {"alignment", "uniformity", "effective_rank"} <= metrics.keys()
    )
    assert "accuracy of a linear probe" in (run / "report.html").read_text()


def test_a_table_is_pretrained_on_views_of_its_rows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = points(300)
    names = ",".join([*(f"x{i}" for i in range(6)), "y"])
    np.savetxt(
        "t.csv",
        torch.cat([x, (y > 0)[:, None]], 1).numpy(),
        delimiter=",",
        header=names,
        comments="",
        fmt="%.4f",
    )
    assert main(["pretrain", "t.csv", "--budget", "60 steps", "--objective", "barlow-twins", "--set",
                 "data.target=y", "--quiet"]) == 0  # fmt: skip
    assert (
        main(
            [
                "finetune",
                "t.csv",
                "--from",
                "runs/pretrain",
                "--budget",
                "20 steps",
                "--set",
                "data.target=y",
                "--quiet",
            ]
        )
        == 0
    )


def test_without_labels_there_is_no_probe(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    flat = tmp_path / "flat"
    flat.mkdir()
    for i, picture in enumerate(sorted(photos.rglob("*.png"))):
        picture.rename(flat / f"{i}.png")
    assert main(["pretrain", str(flat), "--budget", "5 steps", "--batch-size", "8"]) == 0
    assert "probes" not in capsys.readouterr().err


def test_probes_are_measured_in_full_precision():
    x, y = points()
    target = Target("y", "regression", mean=0.0, std=1.0)
    probe = Probe({"x": x + 500}, target, y + 2000, torch.arange(400), torch.arange(400, 600), seed=0)
    alone = probe(Given())
    with torch.autocast("cpu", torch.bfloat16):
        assert probe(Given()) == alone
    same = Probe({"x": x}, target, torch.ones(600), torch.arange(400), torch.arange(400, 600), seed=0)
    assert np.isnan(same(Given())[LINEAR])


@pytest.mark.parametrize("first", ["{'ab'[i % 2]}", "{i / 7:.3f}"])
def test_of_several_targets_with_gaps_the_first_is_probed_where_it_is_known(first, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [
        f"{i % 9},{i % 4 / 3:.2f},{'' if i % 5 == 0 else eval(f'f{first!r}', {'i': i})},{i % 3}"
        for i in range(200)
    ]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y,z", *lines]))
    assert main(["pretrain", "t.csv", "--set", "data.target=[y, z]", "--budget", "4 steps", "--batch-size", "16",
                 "--evaluate-every", "2", "--quiet"]) == 0  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--set", "augment.table.mask=0"], "nothing changes these tables"),
        (["--set", "augment={}"], "nothing changes these tables"),
    ],
)
def test_a_table_needs_views(given, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "sklearn:iris", "--budget", "2 steps", "--quiet", *given]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("backbone", ["mlp", "resnet9"])
def test_close_ups_need_a_network_of_any_size(backbone, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = [
        "pretrain",
        "sklearn:digits",
        "--objective",
        "dino",
        "--backbone",
        backbone,
        "--budget",
        "2 steps",
        "--quiet",
    ]
    assert main(given) == 2
    assert "close-ups of 4 pixels" in capsys.readouterr().err and not (tmp_path / "runs").exists()
    if backbone == "mlp":
        assert main([*given, "--set", "objective={name: dino, local: 0}"]) == 0


@pytest.mark.parametrize("objective", ["simclr", "masked-cells"])
def test_one_column_alone_says_nothing(objective, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("x\n" + "\n".join(str(i / 7) for i in range(40)))
    assert main(["pretrain", "t.csv", "--objective", objective, "--budget", "2 steps", "--quiet"]) == 3
    assert "the one column x" in capsys.readouterr().err
