import pytest
import wandb

from lightning_dropout.cli.errors import UserError, mendable


def error_of(source, module):
    """What ``source`` raises as code of ``module``."""
    try:
        exec(source, {"__name__": module})
    except Exception as error:
        return error
    pytest.fail("raised nothing")


@pytest.mark.parametrize("module", ["lightning_dropout.data.text", "lightning_dropout_callbacks.mode_guard"])
def test_what_our_code_refuses_is_mendable(module):
    assert mendable(error_of("raise ValueError('found 3.\\n  Give 4.')", module)) == "found 3. Give 4."


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("int('three')", "lightning_dropout.data.text"),
        ("raise ValueError('theirs')", "somebody.else"),
        ("raise ValueError('theirs')", "lightning_dropout_fork"),
        ("raise KeyError('ours')", "lightning_dropout.data.text"),
    ],
)
def test_a_bug_is_not(source, module):
    assert mendable(error_of(source, module)) is None


def test_an_error_that_a_library_wrapped_is_still_ours():
    cause = error_of("raise ValueError('rate is 2')", "lightning_dropout.layers.rate")
    wrapped = ValueError("Does not validate against any of the Union subtypes")
    wrapped.__cause__ = cause
    assert mendable(wrapped) == "rate is 2"


def test_missing_files_and_misconfigurations_are_mendable():
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    assert "no.ckpt" in mendable(error_of("open('no.ckpt')", "torch.serialization"))
    assert mendable(MisconfigurationException("two\nlines")) == "two lines"
    assert mendable(UserError("as it is")) == "as it is"


def test_a_server_that_cannot_be_reached_is_mendable():
    assert mendable(wandb.errors.CommError("Timed out.")).startswith("W&B: Timed out. Say --run.wandb offline")


def test_weights_that_do_not_fit_are_mendable():
    error = RuntimeError("Error(s) in loading state_dict for Linear:\n\tsize mismatch")
    assert mendable(error).startswith("the checkpoint is of another model.")
    assert mendable(RuntimeError("CUDA error")) is None
