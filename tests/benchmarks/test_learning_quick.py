from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.benchmarks import ablations, adaptive, learning, runs
from tests.benchmarks.runs import Run, complete, interval, load, table

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def _settings_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_prepare", lambda: None)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("To be, or not to be, that is the question. " * 60)
    return path


def test_tiny_shakespeare_in_small(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    methods = ["GPT-2 form", "Llama form", "early", "adaptive"]
    arguments = [str(text), "--quick", "--seeds", "1", "--runs", str(tmp_path / "runs.jsonl"), "--methods", *methods]
    learning.main([*arguments, "--json", str(tmp_path / "learning.json")])
    assert "architectures, no dropout" in capsys.readouterr().out
    rows = json.loads((tmp_path / "learning.json").read_text())["runs"]
    assert [row["method"] for row in rows] == methods
    assert all(0.0 < row["loss"] <= row["final loss"] < 6.0 for row in rows)

    learning.main([*arguments, "--seeds", "1"])
    assert len((tmp_path / "runs.jsonl").read_text().splitlines()) == 4, "what is done is not done again"


@pytest.mark.parametrize("shape", ["cpu", "gpu"], ids=["small", "large"])
def test_both_forms_have_as_many_parameters_as_nanogpt(shape: str) -> None:
    dim, num_layers = learning.SHAPES[shape].dim, learning.SHAPES[shape].num_layers
    context_length = learning.SHAPES[shape].context_length
    nanogpt = num_layers * (12 * dim**2 + 2 * dim) + dim + (65 + context_length) * dim
    for form in ("GPT-2 form", "Llama form"):
        with torch.device("meta"):
            model = learning.build(form, 65, learning.SHAPES[shape])
        assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(nanogpt, rel=0.01)


@pytest.mark.parametrize("num_tokens", [33, 40])
def test_the_loss_of_a_split_counts_every_token_once(num_tokens: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(7, 8), nn.Linear(8, 7))
    tokens = torch.randint(7, (num_tokens,))
    whole = F.cross_entropy(network(tokens[:-1]), tokens[1:]).item()
    assert learning.split_loss(network, tokens, context_length=8) == pytest.approx(whole, rel=1e-5)


def test_ablations_and_the_sweep_in_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--quick", "--seeds", "1", "--runs"]
    ablations.main([*small, str(tmp_path / "ablations.jsonl"), "--studies", "diabetes"])
    adaptive.main(
        [*small, str(tmp_path / "adaptive.jsonl"), "--tasks", "diabetes", "--methods", *adaptive.CONTROLLED, "rate 0.5"]
    )
    out = capsys.readouterr().out
    assert "curriculum" in out
    assert "loss above that of the best fixed rate" in out


def test_an_interrupted_sweep_goes_on(tmp_path: Path) -> None:
    path, measured = tmp_path / "runs.jsonl", []

    def measure(run: Run) -> dict[str, float]:
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(run)
        return {"loss": float(run.seed)}

    wanted = [Run("task", "method", seed) for seed in range(5)]
    with pytest.raises(KeyboardInterrupt):
        complete(wanted, measure, path=path)
    assert list(load(path)) == measured == wanted[:3]
    results = complete(wanted, lambda run: {"loss": float(run.seed)}, path=path)
    assert [results[run]["loss"] for run in wanted] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_differences_are_taken_in_pairs() -> None:
    figures = {("a", 0): 1.0, ("a", 1): 5.0, ("b", 0): 1.5, ("b", 1): 5.5}
    results = {Run("task", method, seed): {"loss": loss, "seconds": 1.0} for (method, seed), loss in figures.items()}
    grid = table(results, "task", ["a", "b"], figures=["loss"], baseline="a", title="")
    assert list(grid.columns[2].cells) == ["", "+0.5000 ± 0.0000"]
    assert interval([1.0, 2.0, 3.0]) == (2.0, pytest.approx(2.4841, abs=1e-4))
