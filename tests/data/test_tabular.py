import numpy as np
import pandas as pd
import pytest
import torch
from jsonargparse import ArgumentParser

from lightning_dropout.data import TabularData

NUM_ROWS = 40
FRAME = pd.DataFrame(
    {
        "age": np.arange(NUM_ROWS) * 2.5,
        "sort": [("a", "b", "c", "c")[index % 4] for index in range(NUM_ROWS)],
        "kind": [index % 2 for index in range(NUM_ROWS)],
        "target": np.arange(NUM_ROWS) * 10.0 + 100,
    }
)


@pytest.fixture
def path(tmp_path):
    FRAME.to_parquet(tmp_path / "table.parquet")
    return str(tmp_path / "table.parquet")


def read(loader):
    batches = list(loader)
    return torch.cat([inputs for inputs, _ in batches]), torch.cat([targets for _, targets in batches])


def test_the_default_is_diabetes_standardised_by_training():
    data = TabularData(batch_size=400)
    inputs, targets = read(data.train_dataloader())
    assert (inputs.shape, targets.shape, data.num_inputs, data.num_outputs) == ((354, 10), (354,), 10, 1)
    for values in (inputs, targets[:, None]):
        assert torch.allclose(values.mean(0), torch.zeros(1), atol=1e-5)
        assert torch.allclose(values.std(0, correction=0), torch.ones(1), atol=1e-5)
    assert len(read(data.val_dataloader())[1]) == 88
    units = data.unscale(torch.cat([targets, read(data.val_dataloader())[1]]))
    assert (units.min().round(), units.max().round()) == (25, 346)


@pytest.mark.parametrize(
    ("name", "num_inputs", "classes"),
    [("breast_cancer", 30, ("benign", "malignant")), ("iris", 4, ("setosa", "versicolor", "virginica"))],
)
def test_classes_are_split_in_proportion(name, num_inputs, classes):
    data = TabularData(name, batch_size=1000)
    assert (data.num_inputs, data.num_outputs, data.classes) == (num_inputs, len(classes), classes)
    counts = [read(loader)[1].bincount() for loader in (data.train_dataloader(), data.val_dataloader())]
    assert counts[0].dtype == torch.int64
    assert torch.allclose(counts[1] / (counts[0] + counts[1]), torch.tensor(0.2), atol=0.01)


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tsv", "json", "jsonl"])
def test_every_kind_of_file_gives_the_same_batches(path, tmp_path, suffix):
    other = tmp_path / f"other.{suffix}"
    writers = {
        "parquet": FRAME.to_parquet,
        "csv": lambda path: FRAME.to_csv(path, index=False),
        "tsv": lambda path: FRAME.to_csv(path, index=False, sep="\t"),
        "json": lambda path: FRAME.to_json(path, orient="records"),
        "jsonl": lambda path: FRAME.to_json(path, orient="records", lines=True),
    }
    writers[suffix](other)
    expected, found = (next(iter(TabularData(source).train_dataloader())) for source in (path, str(other)))
    assert all(map(torch.equal, expected, found))


def test_columns_are_chosen_and_texts_become_categories(path):
    data = TabularData(path, columns=["sort", "age"], batch_size=100)
    inputs, targets = read(data.train_dataloader())
    rows = ((data.unscale(targets) - 100) / 10).round().long()
    assert data.num_inputs == 4
    assert inputs[:, :3].argmax(1).tolist() == [(0, 1, 2, 2)[row % 4] for row in rows]
    assert (inputs[:, :3].sum(1) == 1).all()
    assert torch.allclose(inputs[:, 3], (rows - rows.float().mean()) / rows.float().std(correction=0), atol=1e-4)


def test_numbers_are_classes_where_that_is_said(path):
    data = TabularData(path, target="kind", task="classification", columns=["age"], batch_size=100)
    _, targets = read(data.val_dataloader())
    assert (data.classes, targets.dtype) == (("0", "1"), torch.int64)
    assert TabularData(path, target="kind").num_outputs == 1
    with pytest.raises(ValueError, match=r"^TabularData\(target='kind'\): regression has no classes\. Give task=\.$"):
        _ = TabularData(path, target="kind").num_classes


def test_a_missing_number_is_the_mean_and_a_row_without_target_is_left_out(tmp_path):
    frame = FRAME.assign(age=FRAME["age"].where(FRAME.index != 7), target=FRAME["target"].where(FRAME.index != 3))
    frame.to_csv(tmp_path / "table.csv", index=False)
    data = TabularData(str(tmp_path / "table.csv"), batch_size=100)
    loaders = data.train_dataloader(), data.val_dataloader()
    inputs, targets = (torch.cat(parts) for parts in zip(*map(read, loaders), strict=True))
    rows = ((data.unscale(targets) - 100) / 10).round().tolist()
    assert sorted(rows) == [row for row in range(NUM_ROWS) if row != 3]
    assert inputs[rows.index(7), 0] == 0


def test_order_and_split_depend_on_the_seed_and_not_on_the_global_random_state(path):
    def batches(seed):
        loader = TabularData(path, batch_size=8, seed=seed).train_dataloader()
        loader.sampler.set_epoch(1)
        return read(loader)[0]

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = batches(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(batches(0), first)
    assert not torch.equal(batches(1), first)


def test_the_splits_of_a_folder_are_kept(tmp_path):
    FRAME[:20].to_csv(tmp_path / "train.csv", index=False)
    FRAME[20:25].to_csv(tmp_path / "validation.csv", index=False)
    FRAME[25:].to_csv(tmp_path / "test.csv", index=False)
    data = TabularData(str(tmp_path))
    for loader, rows in (
        (data.train_dataloader(), range(20)),
        (data.val_dataloader(), range(20, 25)),
        (data.test_dataloader(), range(25, 40)),
        (data.predict_dataloader(), range(25, 40)),
    ):
        assert sorted(((data.unscale(read(loader)[1]) - 100) / 10).round().tolist()) == list(rows)


def test_the_statistics_of_a_checkpoint_are_used_on_another_table(path, tmp_path):
    state = TabularData(path).state_dict()
    FRAME.assign(age=FRAME["age"] + 1000, sort="new").to_parquet(tmp_path / "other.parquet")
    other = TabularData(str(tmp_path / "other.parquet"))
    other.load_state_dict(state)
    inputs, _ = read(other.val_dataloader())
    assert inputs[:, 0].min() > 10
    assert (inputs[:, 1:4] == 0).all()
    assert other.state_dict() == state
    iris = TabularData("iris")
    iris.setup()
    with pytest.raises(ValueError, match=r"^TabularData: the checkpoint has the columns age, sort, kind, target, the "):
        iris.load_state_dict(state)


def test_arguments_come_from_yaml():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TabularData, "data")
    data = parser.instantiate(parser.parse_object({"data": {"columns": ["a"], "task": "classification"}})).data
    assert (data.columns, data.task) == (["a"], "classification")


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"target": "price"}, r"^TabularData\(target='price'\): no such column\. Found: 'age', 'sort',"),
        ({"columns": ["age", "hight"]}, r"^TabularData\(columns='hight'\): no such column\. Found: 'age', 'sort'"),
        ({"columns": []}, r"^TabularData\(columns=\[\]\): give columns besides the target 'target'\.$"),
        ({"columns": ["target"]}, r"^TabularData\(columns=\['target'\]\): give columns besides the target 'target'\.$"),
        ({"target": "sort", "task": "regression"}, r"^TabularData\(target='sort'\): texts cannot be regressed\. Give"),
        ({"task": "ranking"}, r"^TabularData\(task='ranking'\) is unknown\. Give regression or classification\.$"),
        ({"batch_size": 0}, r"^TabularData\(batch_size\): found 0\. Give a whole number from 1 on\.$"),
        ({"path": "me/none"}, r"^TabularData: 'me/none' cannot be read, on disk or on the hub \(.*\)\.$"),
    ],
)  # fmt: skip
def test_bad_values_are_refused_in_one_line(path, kwargs, message):
    with pytest.raises(ValueError, match=message) as raised:
        TabularData(**{"path": path, **kwargs}).setup()
    assert "\n" not in str(raised.value)


def test_files_that_are_no_tables_are_refused(tmp_path):
    (tmp_path / "a.xlsx").touch()
    (tmp_path / "b.csv").touch()
    message = r"^TabularData: found files that end in '\.csv', '\.xlsx'\. Give files of one kind, of \.parquet, \.csv,"
    with pytest.raises(ValueError, match=message):
        TabularData(str(tmp_path / "*.*")).setup()
    with pytest.raises(FileNotFoundError, match=r"^TabularData: 'gone\.csv' is not there\. Give a file, a glob,"):
        TabularData("gone.csv").setup()
    FRAME.assign(sort=[f"{index} words" for index in range(NUM_ROWS)]).to_csv(tmp_path / "c.csv", index=False)
    assert TabularData(str(tmp_path / "c.csv")).num_inputs == 34
    pd.concat([FRAME.assign(sort=[f"{part} {index}" for index in range(NUM_ROWS)]) for part in range(4)]).to_csv(
        tmp_path / "d.csv", index=False
    )
    with pytest.raises(ValueError, match=r"^TabularData: column 'sort' has 128 different texts, more than 100"):
        TabularData(str(tmp_path / "d.csv")).setup()
