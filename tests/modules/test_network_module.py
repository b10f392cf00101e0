import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_dropout.layers import Dropout
from lightning_dropout.layers.concrete import ConcreteDropout, concrete_regularization
from lightning_dropout.modules import Classifier, LanguageModel, Regressor
from lightning_dropout.modules.r_drop import symmetric_kl
from lightning_dropout.sites import find_sites


class Blocks(nn.Module):
    """Residual blocks with dropout."""

    def __init__(self, num_blocks: int = 3, width: int = 4, rate: float = 0.5):
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.Tanh(), Dropout(rate)) for _ in range(num_blocks)
        )
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def step(module, seed=0):
    """Loss and gradients of one training step on one batch."""
    torch.manual_seed(0)
    batch = torch.randn(8, 4), torch.randint(3, (8,))
    torch.manual_seed(seed)
    module.zero_grad()
    module.log = lambda *_, **__: None
    loss = module.training_step(batch, 0)
    loss.backward()
    return loss.detach(), [parameter.grad.clone() for parameter in module.network.parameters()]


def test_symmetric_kl_is_the_mean_of_both_directions():
    first, second = torch.randn(2, 6, 5)
    p, q = F.log_softmax(first, 1), F.log_softmax(second, 1)
    both = F.kl_div(p, q, log_target=True, reduction="none") + F.kl_div(q, p, log_target=True, reduction="none")
    torch.testing.assert_close(symmetric_kl(first, second), both.sum(1) / 2)


def test_r_drop_is_the_mean_loss_plus_the_weighted_divergence_of_two_passes():
    network = Blocks()
    loss, _ = step(Classifier(network, num_classes=3, r_drop=2.0))
    torch.manual_seed(0)
    inputs, targets = torch.randn(8, 4), torch.randint(3, (8,))
    torch.manual_seed(0)
    first, second = network(inputs), network(inputs)
    assert not first.equal(second)
    p, q = F.log_softmax(first, 1), F.log_softmax(second, 1)
    kl = [F.kl_div(a, b, log_target=True, reduction="batchmean") for a, b in ((p, q), (q, p))]
    expected = (F.cross_entropy(first, targets) + F.cross_entropy(second, targets)) / 2 + 2.0 * sum(kl) / 2
    torch.testing.assert_close(loss, expected.detach())


def test_r_drop_without_dropout_is_the_bare_loss():
    network = Blocks(rate=0.0)
    torch.testing.assert_close(
        step(Classifier(network, num_classes=3, r_drop=2.0)), step(Classifier(network, num_classes=3))
    )


def test_the_regularizer_of_concrete_dropout_is_part_of_training():
    network = ConcreteDropout(nn.Linear(4, 3), weight_regularizer=1.0, dropout_regularizer=1.0)
    module = Classifier(network, num_classes=3)
    loss, _ = step(module)
    network.weight_regularizer = network.dropout_regularizer = 0.0
    bare, _ = step(module)
    network.weight_regularizer = network.dropout_regularizer = 1.0
    torch.testing.assert_close(loss - bare, concrete_regularization(network).detach())


def test_concrete_dropout_is_not_sharded():
    module = Classifier(ConcreteDropout(nn.Linear(4, 3)), num_classes=3)
    module._device_mesh = {"data_parallel": None}
    with pytest.raises(ValueError, match=r"Classifier cannot shard Concrete dropout: .* Use strategy='ddp'"):
        module.configure_model()


def test_recomputed_blocks_have_the_masks_they_had():
    network = Blocks()
    kept = step(Classifier(network, num_classes=3), seed=3)
    names = list(network.state_dict())
    module = Classifier(copy.deepcopy(network), num_classes=3, activation_checkpointing=True)
    module.configure_model()
    module.configure_model()
    torch.testing.assert_close(step(module, seed=3), kept, rtol=0, atol=0)
    assert list(module.network.state_dict()) == names


def test_activations_of_blocks_are_not_kept():
    def num_saved(**settings):
        module, sizes = Classifier(Blocks(num_blocks=8), num_classes=3, **settings), []
        module.configure_model()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            module(torch.randn(8, 4))
        return sum(sizes)

    assert num_saved(activation_checkpointing=True) < num_saved() / 3


def test_checkpointing_without_blocks_is_refused():
    module = Regressor(nn.Linear(2, 1), activation_checkpointing=True)
    with pytest.raises(ValueError, match=r"activation_checkpointing=True found no nn\.ModuleList of blocks in Linear"):
        module.configure_model()


@pytest.mark.parametrize(
    ("network", "activation_checkpointing"),
    [
        (Blocks(rate=0.0), False),
        (Blocks(rate=0.0), True),
        (nn.Sequential(nn.Linear(4, 8), Dropout(0.0), nn.Linear(8, 3)), False),
    ],
)
def test_compiled_networks_give_the_same_losses_and_names(network, activation_checkpointing):
    torch._dynamo.reset()
    module = Classifier(network, num_classes=3, compile=True, activation_checkpointing=activation_checkpointing)
    names = list(module.state_dict())
    module.configure_model()
    torch._dynamo.utils.counters.clear()
    compiled = step(module)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    torch.testing.assert_close(compiled, step(Classifier(network, num_classes=3)))
    assert list(module.state_dict()) == names


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": -1.0}, r"Classifier\(lr=-1\.0\) makes no sense"),
        ({"r_drop": float("nan")}, r"Classifier\(r_drop=nan\) makes no sense"),
        (
            {"label_smoothing": 1.0},
            r"Classifier\(label_smoothing=1\.0, mixup=0\.0\) .* Give label_smoothing in \[0, 1\)",
        ),
        ({"mixup": -0.2}, r"mixup=-0\.2\) makes no sense"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Classifier(Blocks(), num_classes=3, **settings)


def test_the_dropout_sites_of_a_module_are_those_of_its_network():
    module = Classifier(Blocks(num_blocks=1), num_classes=3, r_drop=0.5, label_smoothing=0.1, mixup=0.2)
    assert find_sites(module).rates() == {"network.blocks.0.2": 0.5}


def test_copies_of_a_compiled_module_run_their_own_network():
    module = Classifier(Blocks(rate=0.0), num_classes=3, compile=True)
    module.configure_model()
    copied = copy.deepcopy(module)
    for parameter in copied.parameters():
        nn.init.zeros_(parameter)
    with torch.compiler.set_stance("force_eager"):
        x = torch.ones(2, 4)
        assert copied(x).eq(0).all()
        assert module(x).ne(0).any()


def test_losses_are_computed_in_fp32():
    logits, targets = torch.randn(64, 3, dtype=torch.bfloat16), torch.randint(3, (64,))
    assert Classifier(nn.Identity(), num_classes=3).loss(logits, targets).dtype == torch.float32
    assert LanguageModel(nn.Identity()).loss(logits[None], targets[None]).dtype == torch.float32
    assert Regressor(nn.Identity()).loss(logits[:, 0], logits[:, 1]).dtype == torch.float32
