"""Configurations that nobody would write on purpose: one line and exit code 2, or they are valid after all."""

import contextlib
import copy
import io
import re
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning.pytorch.strategies import SingleDeviceStrategy

from lightning_dropout.cli import training
from lightning_dropout.cli.main import main
from lightning_dropout.cli.recipes import find_recipe

RECIPE = yaml.safe_load(find_recipe("char-lm").read_text())
TINY = {
    "trainer.accelerator": "cpu",
    "trainer.devices": 1,
    "trainer.fast_dev_run": True,
    "trainer.enable_progress_bar": False,
    "trainer.enable_model_summary": False,
    "model.init_args.network.init_args.num_layers": 1,
    "model.init_args.network.init_args.num_heads": 2,
    "model.init_args.network.init_args.dim": 8,
    "model.init_args.network.init_args.context_length": 8,
    "data.init_args.files": "text.txt",
    "data.init_args.context_length": 8,
    "data.init_args.batch_size": 2,
    "run.wandb": "disabled",
}
# Honest numbers of things to build: a huge one is built, for as long as it takes.
COUNTS = ("num_layers", "num_heads", "dim", "context_length", "devices", "num_nodes", "num_workers", "fast_dev_run")
LOOKALIKES = (
    "lightning_dropout.LanguageModl",
    "lightning_dropout",
    "lightning_dropout.callbacks.ModeGuard",
    "lightning_dropout.schedules.Early",
    "lightning_dropout.schedules.Schedule",
    "lightning_dropout.find_sites",
    "lightning_dropout.TextData",
    "lightning.pytorch.callbacks.EarlyStopping",
    "lightning.pytorch.Trainer",
    "torch.nn.Linear",
    "torch.optim.SGD",
    "os.system",
    "builtins.int",
    "no.such.module",
    "..",
    "a.b:c",
)
SNIPPETS = [
    *(
        b":",
        b"- ",
        b"\t",
        b"{",
        b"[",
        b"}",
        b"'",
        b'"',
        b"? ",
        b"|\n",
        b">",
        b"@",
        b"`",
        b"#",
        b"%YAML 9.9\n",
        b"\r",
        b"\n",
        b" ",
    ),
    *(
        b"&a ",
        b"*a",
        b"<<: ",
        b"---\n",
        b"...\n",
        b"\0",
        b"\xff",
        b"\xfe",
        "\u2028é\ufeff".encode(),
        b"null",
        b"~",
        b".nan",
    ),
    *(
        b"!!python/object/apply:os.system ",
        b"!!int ",
        b"!!binary ",
        b"!!set ",
        b"!mine ",
        b"&a [*a, *a]",
        b"class_path: x\n",
    ),
]
EXAMPLES = settings(
    max_examples=180, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)


def paths(value, above=()):
    """Where every key and every item of a configuration stands."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*above, key)
        yield from paths(child, (*above, key))


def get(config, path):
    for key in path:
        config = config[key]
    return config


def tiny_recipe():
    config = copy.deepcopy(RECIPE)
    for name, value in TINY.items():
        *above, key = name.split(".")
        get(config, above)[key] = value
    return config


RECIPE = tiny_recipe()

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**400, -(10**30), 2**63, 1e308, -1e-308, float("nan"), float("inf"), -0.0]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(LOOKALIKES),
    st.sampled_from(["null", "1e3", "-1", "/", ".", "~", "text.txt", "*", "%s{}", "best", "auto", "ddp", "64", "on"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["class_path", "init_args", "rate", "x", "dict_kwargs"]), inner, max_size=3),
        st.builds(
            lambda path, arguments: {"class_path": path, "init_args": arguments}, st.sampled_from(LOOKALIKES), inner
        ),
    ),
    max_leaves=5,
)


@st.composite
def unfit(draw, value):
    """A value of the same type, which may be out of its range."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return draw(st.sampled_from([-(10**9), -7, -1, 0, 1, 10**6]))
    if isinstance(value, float):
        return draw(st.sampled_from([-1.0, -1e-9, 0.0, 1.0, 1.5, 1e300, float("nan"), float("inf")]))
    if isinstance(value, str):
        return draw(st.sampled_from(["", "x", "none", "min", "max", *LOOKALIKES]))
    return draw(st.sampled_from([[], {}, None]))


@st.composite
def misspelt(draw, word):
    index = draw(st.integers(0, max(len(word) - 1, 0)))
    letter = draw(st.sampled_from(["", word[index : index + 1] * 2, "_", "é", "X", "."]))
    return word[:index] + letter + word[index + 1 :]


@st.composite
def mutated(draw):
    """The recipe with one to three mistakes."""
    config = copy.deepcopy(RECIPE)
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(sorted(paths(config), key=str)))
        above, key = get(config, path[:-1]), path[-1]
        how = draw(st.sampled_from(["unfit", "unfit", "unfit", "value", "misspell", "delete", "add", "wrap"]))
        if key in COUNTS and how in ("unfit", "value"):
            above[key] = draw(st.sampled_from([-1, 0, 0.5, "many", [], None]))
        elif how == "unfit":
            above[key] = draw(unfit(above[key]))
        elif how == "value":
            above[key] = draw(values)
        elif how == "misspell" and isinstance(above, dict):
            above[draw(misspelt(str(key)))] = above.pop(key)
        elif how == "delete":
            above.pop(key)
        elif how == "add" and isinstance(above, dict):
            above[draw(st.text(max_size=6))] = draw(values)
        else:
            above[key] = [above[key]]
        if not config:
            break
    return config


@st.composite
def broken(draw):
    """The text of the recipe with pieces cut out and put in."""
    text = yaml.safe_dump(RECIPE).encode()
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        cut = draw(st.sampled_from([0, 0, 1, 5, 10**4]))
        text = text[:at] + draw(st.sampled_from(SNIPPETS)) + text[at + cut :]
    return text


# On the command line, the callback meant is the last one.
LAST = str(len(RECIPE["trainer"]["callbacks"]) - 1)
OPTIONS = {
    name.replace(f".{LAST}.", "."): get(RECIPE, path)
    for path in paths(RECIPE)
    if not re.search(rf"\.[^{LAST}\D]", name := ".".join(str(key) for key in path if key != "init_args"))
}


@st.composite
def override(draw):
    """An option, as wrong as may be."""
    known = st.sampled_from(sorted(OPTIONS))
    option = draw(st.one_of(known, known, known.flatmap(misspelt), st.text(max_size=6)))
    if option.rpartition(".")[2] in COUNTS:
        value = draw(st.sampled_from(["-1", "0", "0.5", "many", "", "[]", "{}"]))
    else:
        same = unfit(OPTIONS.get(option)).map(str)
        value = draw(st.one_of(same, same, values.map(yaml.safe_dump), values.map(str), st.text(max_size=10)))
    return draw(
        st.sampled_from(["--{}={}", "--{}={}", "--{}+={}", "-{}={}", "--{}", "{}", "--{}.x={}", "--no_{}"])
    ).format(option, value)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a command line: it ends in one line and exit code 2, or it is valid."""
    place = tmp_path_factory.mktemp("configurations")
    (place / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 20)
    check = training.DropoutCLI.after_instantiate_classes

    def fit_on_one_device(cli):
        check(cli)
        if not isinstance(cli.trainer.strategy, SingleDeviceStrategy) or cli.trainer.fast_dev_run != 1:
            cli.trainer.fit = lambda *args, **kwargs: None

    def go(*arguments, config=None):
        if config is not None:
            (place / "own.yaml").write_bytes(config)
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = main(["run", *arguments])
            except SystemExit as exit:  # --help and --print_config
                code = exit.code
        said = err.getvalue()
        assert code in (0, 2)
        if code == 2:
            assert said.startswith("lightning-dropout: "), said
            assert said.count("\n") == 1, said
            assert len(said) < 1000, said
        return code

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(training.DropoutCLI, "after_instantiate_classes", fit_on_one_device)
        patch.delenv("WANDB_API_KEY", raising=False)
        patch.setenv("NETRC", str(place / "no-netrc"))
        patch.setenv("WANDB_CONFIG_DIR", str(place / "no-config"))
        yield go
    torch.use_deterministic_algorithms(False)


def test_the_recipe_is_valid_as_it_is(run):
    assert run("own.yaml", config=yaml.safe_dump(RECIPE).encode()) == 0


@EXAMPLES
@given(config=mutated())
def test_a_recipe_with_mistakes(config, run):
    run("own.yaml", config=yaml.safe_dump(config).encode())


@EXAMPLES
@given(text=broken())
def test_a_file_with_damage(text, run):
    run("own.yaml", config=text)


@EXAMPLES
@given(words=st.lists(override(), min_size=1, max_size=3))
def test_a_command_line_with_mistakes(words, run):
    run("own.yaml", *words, config=yaml.safe_dump(RECIPE).encode())


@pytest.mark.parametrize(
    "name",
    ["folder.yaml", "no.yaml", "\0.yaml", "", ".", "x" * 300 + ".yaml", "x" * 300 + "/x.yaml", "é", "a/b/c.yaml"],
)
def test_a_name_of_no_file(name, run, tmp_path):
    (Path.cwd() / "folder.yaml").mkdir(exist_ok=True)
    assert run(name) == 2
