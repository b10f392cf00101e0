import subprocess
import sys
import textwrap

import pytest

from lightning_dropout.cli import owners, shim
from lightning_dropout.cli.main import main


@pytest.fixture
def arguments(monkeypatch):
    def type_in(*words):
        monkeypatch.setattr(sys, "argv", ["lightning", *words])

    return type_in


@pytest.fixture
def other_package(tmp_path, monkeypatch):
    """An installed distribution that has a ``lightning`` script of its own."""
    (tmp_path / "cloud_tool.py").write_text(
        textwrap.dedent("""
            import sys

            def main():
                print("cloud", *sys.argv[1:])
                return 7
        """)
    )
    info = tmp_path / "cloud_tool-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cloud-tool\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[console_scripts]\nlightning = cloud_tool:main\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_other_commands_are_forwarded_with_arguments_and_exit_code(other_package, arguments, capsys):
    arguments("deploy", "--gpus", "2", "--name=a b")
    assert shim.main() == 7
    assert capsys.readouterr().out == "cloud deploy --gpus 2 --name=a b\n"


def test_help_belongs_to_the_other_package_too(other_package, arguments, capsys):
    arguments("--help")
    assert shim.main() == 7


def test_run_is_ours_whoever_else_is_installed(other_package, arguments, capsys):
    arguments("run", "--list")
    assert shim.main() == 0
    assert "char-lm" in capsys.readouterr().out


def test_a_wrong_recipe_is_reported_under_the_name_that_was_typed(arguments, capsys):
    arguments("run", "chr-lm")
    assert shim.main() == 2
    assert capsys.readouterr().err.startswith("lightning run: there is no recipe 'chr-lm'.")


def test_without_another_package_it_says_so_in_one_line(arguments, monkeypatch, capsys):
    monkeypatch.setattr(shim, "other_owners", list)
    arguments("deploy")
    assert shim.main() == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("lightning: there is no command 'deploy' here, and no other installed package")
    assert err.count("\n") == 1


def test_without_another_package_help_is_ours(arguments, monkeypatch, capsys):
    monkeypatch.setattr(shim, "other_owners", list)
    arguments()
    assert shim.main() == 0
    assert "lightning run RECIPE" in capsys.readouterr().out


def test_nothing_heavy_is_imported_before_a_run(other_package):
    script = textwrap.dedent("""
        import sys
        from lightning_dropout.cli import main, shim
        codes = [main.main(["recipes", "list"]), main.main(["run", "nothing-like-it"])]
        for words in (["run", "--list"], ["deploy"]):
            sys.argv = ["lightning", *words]
            codes.append(shim.main())
        heavy = {"torch", "lightning", "jsonargparse", "wandb", "rich"} & set(sys.modules)
        assert not heavy, heavy
        assert codes == [0, 2, 0, 7], codes
    """)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=other_package, env={"PYTHONPATH": str(other_package)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_it_is_said_where_another_package_took_the_script(other_package, monkeypatch, capsys):
    script = other_package / "lightning"
    script.write_text("#!python\nfrom lightning_dropout.cli.shim import main")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(other_package))
    assert main(["--help"]) == 0
    assert "belongs to" not in capsys.readouterr().out
    assert owners.spelled("lightning run tea") == "lightning run tea"
    script.write_text("#!python\nfrom cloud_tool import main")
    assert main(["--help"]) == 0
    assert "`lightning` belongs to cloud-tool here" in capsys.readouterr().out
    assert owners.spelled("lightning run tea") == "lightning-dropout run tea"
