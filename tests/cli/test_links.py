import re

import pytest
import yaml

from lightning_dropout.cli.main import main

TRIAL = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
MLP = {"class_path": "lightning_dropout.MLP", "init_args": {"widths": [8]}}
VIT = {
    "class_path": "lightning_dropout.Transformer",
    "init_args": {"num_layers": 1, "num_heads": 2, "dim": 16, "encoder": {}, "patches": {"patch_size": 7}},
}


def run(workplace, *, model, network, data):
    model = {"class_path": f"lightning_dropout.{model}", "init_args": {"network": network}}
    (workplace / "own.yaml").write_text(yaml.safe_dump({"model": model, "data": data}))
    return main(["run", "own.yaml", *TRIAL])


def test_a_network_is_as_wide_as_the_table(workplace, capfd):
    data = {"class_path": "lightning_dropout.TabularData"}
    assert run(workplace, model="Regressor", network=MLP, data=data) == 0
    data["init_args"] = {"path": "iris"}
    assert run(workplace, model="Classifier", network=MLP, data=data) == 0


def test_a_size_that_is_given_stays(workplace, capfd):
    network = {**MLP, "init_args": {"num_inputs": 3, "num_outputs": 1}}
    data = {"class_path": "lightning_dropout.TabularData"}
    with pytest.raises(RuntimeError, match="32x10 and 3x"):
        run(workplace, model="Regressor", network=network, data=data)


def test_patches_need_square_images(workplace, capfd):
    data = {"class_path": "lightning_dropout.ImageData", "init_args": {"path": "images"}}
    save_images(workplace / "images", size=(14, 21))
    assert run(workplace, model="Classifier", network=VIT, data=data) == 2
    assert "patches need square images, and these are 21x14." in capfd.readouterr().err
    data["init_args"]["image_size"] = 14
    assert run(workplace, model="Classifier", network=VIT, data=data) == 0


def save_images(folder, size):
    from PIL import Image

    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for index in range(8):
            Image.new("RGB", size, (index, 0, 0)).save(folder / label / f"{index}.png")


def test_data_that_do_not_say_it_leave_the_question_to_the_user(workplace, capfd):
    data = {"class_path": "lightning.pytorch.demos.boring_classes.BoringDataModule"}
    assert run(workplace, model="Regressor", network=MLP, data=data) == 2
    assert re.search(r"model.network: .* required: num_inputs, num_outputs\n$", capfd.readouterr().err)
