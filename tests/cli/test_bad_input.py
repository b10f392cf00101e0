from pathlib import Path

import pytest
import torch

from lightning_dropout.cli.main import main


def refused(arguments, capfd, place):
    """The one line that a run with ``arguments`` ends in; nothing may have been written."""
    before = set(place.rglob("*"))
    assert main(["run", *arguments]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1, err
    assert set(place.rglob("*")) == before
    return err.removeprefix("lightning-dropout: ").rstrip()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--trainer.max_epoch=3", "there is no option 'trainer.max_epoch'. Did you mean 'trainer.max_epochs'?"),
        ("--run.foldr=x", "there is no option 'run.foldr'. Did you mean 'run.folder'?"),
        ("--model.lrr=1", "model: lightning_dropout.LanguageModel has no option 'lrr'. Did you mean 'lr'?"),
        ("--model.network.num_layer=1", "has no option 'num_layer'. Did you mean 'num_layers'?"),
        ("--model.network.dropout.embb=0", "has no option 'dropout.embb'. Did you mean 'dropout.emb'?"),
        ("--trainer.max_epochs=three", "trainer.max_epochs: found 'three'. Give a whole number or null."),
        ("--seed_everything=x", "seed_everything: found 'x'. Give true, false or a whole number."),
        ("--seed_everything=-1", "seed_everything: found -1. Give a whole number from 0 to 2**32 - 1."),
        ("--data.seed=-1", "TextData(seed): found -1. Give a whole number from 0 on."),
        ("--trainer.precision=7", "trainer.precision: found 7. Give 64, 32, 16, 'transformer-engine', "),
        ("--trainer.callbacks.schedule=foo", "trainer.callbacks.schedule: found 'foo'. Give a Schedule, a number or a"),
        ("--trainer.callbacks.schedule=Earl", "trainer.callbacks.schedule: found 'Earl'. Did you mean 'Early'?"),
        ("--trainer.callbacks.how=put", "trainer.callbacks.how: found 'put'. Give 'set' or 'scale'."),
        ("--model.network.dim=1.5", "model.network.dim: found 1.5. Give a whole number."),
        ("--model.network.dropout=3", "model.network.dropout: found '3'. Give a mapping of its keys, or the path of"),
        ("--trainer.max_epochs", "--trainer.max_epochs is given no value."),
        ("--trainer={devices: {a: 1}}", "trainer.devices: found {'a': 1}. Give a list, a text or a whole number."),
        ("--trainer.callbacks.schedule.rat=0.1", "lightning_dropout.schedules.Early has no option 'rat'"),
        ("--trainer.callbacks.schedule=1.5", "Constant(rate): found 1.5. Give a number in [0, 1]."),
        ("--model.network.dropout.emb=1.5", "emb"),
        ("--model.network.num_heads=3", "heads"),
        ("--data.files=nowhere.txt", "TextData(files): no file matches 'nowhere.txt'."),
        ("--data.context_length=5000", "found 2000 characters, 1800 of them for training"),
        ("--run.wandb=online", "W&B was asked to be online, but there is no key in WANDB_API_KEY, netrc or"),
        ("--ckpt_path=nowhere.ckpt", "Checkpoint file not found: nowhere.ckpt"),
        ("--trainer.accelerator=abacus", "abacus"),
        ("--trainer.devices=-1", "`devices` selected with `CPUAccelerator` should be an int > 0."),
        ("--precision=7", "trainer.precision: found 7. Give"),
        ("--devices=1000000", "trainer.devices: found 1000000. Give at most 1024."),
        ("--devices", "--devices is given no value."),
        ("--trainer.profiler=stopwatch", "can only be one of ['simple', 'advanced', "),
        ("surplus", "unrecognized arguments: surplus"),
    ],
)
def test_an_override_that_cannot_be_used(override, message, workplace, tiny, capfd):
    assert message in refused(["char-lm", *tiny, override], capfd, workplace)


def test_an_unknown_site_is_refused_although_wandb_was_started(workplace, tiny, capfd):
    message = refused(["char-lm", *tiny, "--trainer.callbacks.sites=[blok*]"], capfd, workplace)
    assert "'blok*' matches no dropout site. Found: 'network.emb'" in message


def test_a_refused_run_leaves_the_runs_before_it(workplace, tiny, capfd):
    (workplace / "runs/char-lm/version_0").mkdir(parents=True)
    refused(["char-lm", *tiny, "--trainer.callbacks.sites=[blok*]"], capfd, workplace)


def test_an_empty_text(workplace, tiny, text, capfd):
    text.write_text("")
    assert "found 0 characters" in refused(["char-lm", *tiny], capfd, workplace)


@pytest.mark.parametrize(
    ("yaml", "message"),
    [
        ("trainr: {max_epochs: 3}", "there is no option 'trainr.max_epochs'. Did you mean 'trainer.max_epochs'?"),
        ("trainer: {max_epoch: 3}", "there is no option 'trainer.max_epoch'. Did you mean 'trainer.max_epochs'?"),
        ("model: {class_path: lightning_dropout.LanguageModl}", "lightning_dropout has no 'LanguageModl'. Did you"),
        ("model: {class_path: lightning_dropout.LanguageModel, init_arg: {}}", "Only init_args and dict_kwargs"),
        ("trainer: [", "the file is not valid YAML, line 2: "),
        ("trainer: {max_epochs: 1, max_epochs: 2}", "not valid YAML, line 1: the key 'max_epochs' stands twice."),
        ("trainer: &a [*a]", "not valid YAML, line 1: an alias stands within what it stands for."),
        ("model: " + 101 * "[" + 101 * "]", "line 1: values are nested more than 100 levels deep."),
        (
            "\n".join([f"a{i}: &a{i} [{', '.join([f'*a{i - 1}' if i else '0'] * 9)}]" for i in range(9)]),
            "are more than",
        ),
        ("model: !!python/name:os.system", "could not determine a constructor for the tag"),
        ("", "the file holds no keys, but nothing. Give keys such as `trainer:`"),
        ("- trainer", "the file holds no keys, but - trainer."),
        ("model: 3", "model: found 3. Give a LightningModule or null."),
        ("model: os.system", "model: what is given is no LightningModule. Give the import path of one."),
        ("trainer: {callbacks: [3]}", "trainer.callbacks: found 3. Give a Callback."),
        ("model: {class_path: os.system}", "model: os.system is no LightningModule. Give the import path of one."),
        ("trainer: {max_epochs: 3}", "there is no model. Give `model:` in a file."),
        (
            "trainer: {callbacks: [{class_path: EarlyStopping, init_args: {monitor: x, patienc: 3}}]}",
            "EarlyStopping has no option 'patienc'. Did you mean 'patience'?",
        ),
    ],
)
def test_a_wrong_key_in_a_file(yaml, message, workplace, capfd):
    (workplace / "own.yaml").write_text(yaml)
    assert message in refused(["own.yaml"], capfd, workplace)


@pytest.mark.parametrize("value", ["3", "[1]", "null"])
@pytest.mark.parametrize(("group", "message"), [("trainer", "trainer: found "), ("run", "there is no run.folder.")])
def test_a_group_that_holds_no_keys(group, message, value, workplace, capfd):
    (workplace / "own.yaml").write_text(f"model: lightning.pytorch.demos.boring_classes.BoringModel\n{group}: {value}")
    assert message in refused(["own.yaml"], capfd, workplace)


@pytest.mark.filterwarnings("ignore:`LanguageModel.configure_optimizers` will be overridden")
@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("{class_path: SGD, init_args: {lr: -1}}", "Invalid learning rate: -1"),
        ("{class_path: SGD, init_args: {lr: fast}}", "optimizer.lr: found 'fast'. Give a number"),
    ],
)
def test_what_a_library_refuses(optimizer, message, workplace, tiny, capfd):
    (workplace / "more.yaml").write_text(f"optimizer: {optimizer}")
    assert message in refused(["char-lm", *tiny, "--config=more.yaml"], capfd, workplace)


def test_a_group_that_is_an_empty_list(workplace, capfd):
    mlp = "{class_path: lightning_dropout.MLP, init_args: {num_inputs: 1, num_outputs: 1, dropout: []}}"
    (workplace / "own.yaml").write_text(
        f"model: {{class_path: lightning_dropout.Regressor, init_args: {{network: {mlp}}}}}"
    )
    assert "given as an empty list. Give a mapping, or leave it out." in refused(["own.yaml"], capfd, workplace)


def test_a_file_that_is_no_text(workplace, capfd):
    (workplace / "own.yaml").write_bytes(b"\x89PNG\r\n")
    assert "utf-8" in refused(["own.yaml"], capfd, workplace)


def test_a_folder_that_cannot_be_written(workplace, tiny, capfd):
    (workplace / "file").touch()
    assert "file" in refused(["char-lm", *tiny, "--run.folder=file/runs"], capfd, workplace)


def test_options_are_not_guessed_from_their_beginning(workplace, tiny, capfd):
    message = refused(["char-lm", *tiny, "--trainer.max_ep=1"], capfd, workplace)
    assert message.startswith("there is no option 'trainer.max_ep'.")


def test_a_checkpoint_with_another_vocabulary(workplace, tiny, capfd):
    torch.save({"TextData": {"vocabulary": "\ufffdab"}, "state_dict": {}}, "other.ckpt")
    message = refused(["char-lm", *tiny, "--ckpt_path=other.ckpt"], capfd, workplace)
    assert "the checkpoint has a vocabulary of 3" in message


def test_a_checkpoint_that_is_none(workplace, tiny, text, capfd):
    message = refused(["char-lm", *tiny, f"--ckpt_path={text}"], capfd, workplace)
    assert message == f"{text} is no checkpoint, or one that was cut off."


def test_a_checkpoint_that_is_cut_off(workplace, tiny, capfd):
    torch.save({"state_dict": {"weight": torch.zeros(10_000)}}, "cut.ckpt")
    Path("cut.ckpt").write_bytes(Path("cut.ckpt").read_bytes()[:20_000])
    assert "cut off" in refused(["char-lm", *tiny, "--ckpt_path=cut.ckpt"], capfd, workplace)


def test_a_bug_keeps_its_traceback(workplace, monkeypatch):
    (workplace / "mine.py").write_text(
        "from lightning.pytorch.demos.boring_classes import BoringModel\n"
        "class Broken(BoringModel):\n"
        "    def training_step(self, batch):\n"
        "        raise ValueError('a bug of the user')\n"
    )
    (workplace / "own.yaml").write_text("model: mine.Broken\n")
    with pytest.raises(ValueError, match="a bug of the user"):
        main(["run", "own.yaml", "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"])
