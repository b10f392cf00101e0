"""Check modules for the mode that they are in."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from lightning_dropout.sites import Sites, TrainedParts, find_sites, module_names
from lightning_dropout_callbacks.violations import Violations, listed, name_sites

__all__ = ["ModeCheck"]


class ModeCheck:
    """Checks the train and eval modes of modules and adds what it finds to ``violations``; fixes it if these are to."""

    def __init__(self, violations: Violations) -> None:
        self.num_checks = 0
        #: Names of the modules with sites that are in train mode in the evaluation that runs.
        self.loud: set[str] = set()
        self._violations = violations
        self._before: dict[nn.Module, bool] = {}

    def remember(self, model: nn.Module, modes: Mapping[str, bool]) -> None:
        """Take note of the modes before an evaluation, by names of modules."""
        self._before = {module: modes[name] for name, module in model.named_modules() if name in modes}

    def restore(self) -> None:
        """Put all modules into the mode that was remembered."""
        for module, training in self._before.items():
            module.training = training

    def check_return(self, model: nn.Module, when: str) -> None:
        """Compare the modes with those before an evaluation, if they were remembered, and forget these."""
        self.num_checks += 1
        changed = {module: None for module, training in self._before.items() if module.training != training}
        if changed:
            sites = Sites([site for site in find_sites(model) if site.module in changed and site.rate > 0.0])
            mode = "eval" if next(iter(changed)).training else "train"
            kinds = listed(list(dict.fromkeys(type(module).__name__ for module in changed)))
            self._violations.add(
                f"{len(changed)} modules are not in the mode {when} that they were in before it, {mode}",
                f"{kinds}, with the dropout {name_sites(sites)}" if len(sites) > 0 else kinds,
                "Look for .train() and .eval() calls in validation, and for on_validation_model_train().",
            )
            if self._violations.reaction == "fix":
                self.restore()
            else:
                self._violations.silent |= set(sites.rates())
        self._before = {}

    def check_training(self, model: nn.Module, when: str) -> None:
        """Look for sites that are in eval mode, less those that were found before."""
        self.num_checks += 1
        parts, known = TrainedParts(model), self._violations.silent
        sites = [site for site in _active_sites(model, training=False) if site.module in parts]
        self._violations.add_sites(
            Sites([site for site in sites if site.name not in known]),
            f"in eval mode {when} and would drop nothing",
            "Look for .eval() calls, and call .train() on what Hugging Face's from_pretrained() returns in eval mode.",
            training=True,
        )

    def check_evaluation(self, model: nn.Module, stage: str) -> None:
        """Look for sites that are in train mode."""
        self.num_checks += 1
        sites = _active_sites(model, training=True)
        names = module_names(model)
        self.loud = {names[site.module] for site in sites}
        self._violations.add_sites(
            sites,
            f"in train mode in {stage}",
            "Look for .train() calls in evaluation hooks, and for modules that ignore .eval().",
            training=False,
        )


def _active_sites(model: nn.Module, *, training: bool) -> Sites:
    return Sites([site for site in find_sites(model) if site.module.training == training and site.rate > 0.0])
