from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from lightning_dropout.sites import TrainedParts


class Counted(nn.Sequential):
    num_looks = 0

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        self.num_looks += 1
        return super().parameters(recurse)


def test_the_nearest_surroundings_with_parameters_decide() -> None:
    frozen = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Dropout())).requires_grad_(False)
    partly = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 2), nn.Dropout())
    model = nn.Sequential(frozen, partly, nn.Dropout())
    parts = TrainedParts(model)
    for _ in range(2):  # an answer that is known already is the same
        assert [part in parts for part in (frozen[1][0], frozen[0], frozen, partly[2], partly[0], model[2], model)] == [
            *(False, False, False, True, False, True, True)
        ]


def test_what_has_no_parameters_around_counts_as_trained() -> None:
    dropout = nn.Dropout()
    assert dropout in TrainedParts(nn.Sequential(dropout))


def test_the_parameters_around_many_layers_are_looked_for_once() -> None:
    model = Counted(nn.Linear(2, 2), *(nn.Dropout() for _ in range(20)))
    parts = TrainedParts(model)
    assert all(layer in parts for layer in model)
    assert model.num_looks == 1
