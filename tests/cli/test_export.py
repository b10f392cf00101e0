import torch

import lightning_dropout as ld
from lightning_dropout.cli.main import main


def test_a_run_leaves_a_checkpoint_folder_that_goes_from_text_to_text(workplace, tiny, text, capfd):
    options = [*tiny, "--run.wandb=disabled", "--run.export=llama"]
    assert main(["run", "char-lm", *options]) == 0
    assert {path.name for path in (workplace / "llama").iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }
    best = torch.load(workplace / "runs/char-lm/version_0/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    network = ld.Transformer.from_pretrained("llama")
    assert all(torch.equal(weight, best[f"network.{name}"]) for name, weight in network.state_dict().items())
    data = ld.TextData(str(text), context_length=8)
    generator = ld.TextGenerator.from_pretrained("llama")
    prompt = text.read_text()[:8]
    assert generator.tokenizer.encode(prompt).ids == data.encode(prompt).tolist()
    assert len(generator.generate(prompt, 5)) == 5


def test_what_cannot_be_exported_is_refused_before_training(workplace, capfd):
    options = ["--trainer.accelerator=cpu", "--run.wandb=disabled", "--run.export=folder"]
    model = "--model=lightning.pytorch.demos.boring_classes.BoringModel"
    assert main(["fit", model, *options]) == 2
    assert "run.export: NoneType has no save_pretrained. Say --run.export null." in capfd.readouterr().err
    assert list(workplace.iterdir()) == []
