"""Other people's machines: which Python, whose settings, what place, what encoding."""

import ast
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from sbd_utils import doctor
from sbd_utils.settings import ROOT
from sbd_utils.training import machine
from tools import notebooks

pytest.importorskip("fcntl", reason="make does not work on Windows")
pytestmark = pytest.mark.slow
SCRIPT = ROOT / "tools" / "environment.py"
spec = importlib.util.spec_from_file_location("environment", SCRIPT)
environment = importlib.util.module_from_spec(spec)
spec.loader.exec_module(environment)
PINS = [
    Requirement(line)
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
]


def interpreter(path, version, name="cpython", free_threads=False):
    """A stand-in for a Python, that tells these facts."""
    facts = json.dumps([[int(part) for part in version.split(".")], name, version, free_threads])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{facts}'\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A clone, in a path with a space, with an environment that is complete."""
    root = tmp_path / "a clone"
    interpreter(root / ".venv" / "bin" / "python", "3.11.2")
    for name in ("pyproject.toml", "constraints.txt"):
        (root / name).write_bytes(b"")
    made = f"home = /usr/bin\ncommand = /usr/bin/python3.11 -m venv --clear {root}/.venv\n"
    (root / ".venv" / "pyvenv.cfg").write_text(made, encoding="utf-8")
    monkeypatch.setattr(environment, "ROOT", root)
    (root / ".venv" / "ready").write_text(environment.pins(), encoding="utf-8")
    return root


@pytest.fixture
def calls(monkeypatch):
    """The commands that a build would run; a number in it is the command that fails."""
    made = []

    def check_call(command, **options):
        made.append(command)
        if len(made) in made:
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(environment.subprocess, "check_call", check_call)
    monkeypatch.setattr(environment, "pip_environment", lambda python: {})
    return made


@pytest.mark.parametrize(
    "version", ["3.8.18", "3.10.13", "3.11.0", "3.12.0", "3.14.0", "3.14.1", "3.14.2", "3.15.0"]
)
def test_the_pythons_that_are_taken_are_those_of_pyproject(version, tmp_path, monkeypatch):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    expected = version in SpecifierSet(project["requires-python"])
    python = interpreter(tmp_path / "python", version)
    assert environment.supported(python) == expected
    monkeypatch.setattr(sys, "executable", str(python))
    if expected:
        assert environment.pick(True) == str(python)
    else:
        with pytest.raises(SystemExit, match=r"is Python \S+; .*PYTHON=\S+$"):
            environment.pick(True)


def test_other_implementations_and_what_does_not_run_are_not_taken(tmp_path):
    assert not environment.supported(interpreter(tmp_path / "a", "3.11.9", "pypy"))
    assert not environment.supported(interpreter(tmp_path / "b", "3.14.2", free_threads=True))
    assert not environment.supported(tmp_path / "missing")


def test_the_first_supported_python_on_the_path_is_taken(tmp_path, monkeypatch):
    for name, version in (("python3.11", "3.10.1"), ("python3.13", "3.13.1"), ("python3", "3.8.1")):
        interpreter(tmp_path / name, version)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/bin")
    monkeypatch.setattr(environment, "NAMES", ("python3.11", "python3.13", "python3"))
    assert environment.pick(False) == str(tmp_path / "python3.13")


def test_the_script_starts_on_any_python_3():
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 6))
    names = {
        node.names[0].name if isinstance(node, ast.Import) else node.module
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert names <= set(sys.stdlib_module_names)


def test_a_complete_environment_is_left_alone(place, calls):
    environment.main([])
    assert calls == [] and not environment.own(place / "other" / ".venv", False)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_build_that_fails_leaves_no_stamp_and_the_next_begins_anew(place, calls, step):
    made = place / ".venv" / "pyvenv.cfg"
    text = made.read_text(encoding="utf-8")
    made.write_text("command = python -m venv /another/place", encoding="utf-8")
    calls.append(step + 1)  # itself the first entry
    with pytest.raises(subprocess.CalledProcessError):
        environment.main([])
    assert not (place / ".venv" / "ready").exists()
    made.write_text(text, encoding="utf-8")
    calls.clear()
    environment.main([])
    assert "--clear" in calls[0] and "pip" in calls[1] and len(calls) == 3
    assert environment.main([]) is None and len(calls) == 3


def test_changed_pins_are_installed_into_what_is_there(place, calls):
    (place / "constraints.txt").write_bytes(b"new")
    environment.main([])
    assert "pip" in calls[0] and len(calls) == 2
    assert (place / ".venv" / "ready").read_text(encoding="utf-8") == environment.pins()


def test_without_a_network_what_was_complete_stays_to_be_finished(place, calls):
    calls.append(2)  # itself the first entry, and pip's the next
    with pytest.raises(subprocess.CalledProcessError):
        environment.main(["site"])
    calls.clear()
    environment.main([])
    assert "pip" in calls[0] and calls[0][-1] == ".[site]" and len(calls) == 2
    calls.clear()
    calls.append(3)  # what was installed does not work
    with pytest.raises(subprocess.CalledProcessError):
        environment.main(["cluster"])
    calls.clear()
    environment.main([])
    assert "--clear" in calls[0]


def test_an_extra_is_installed_once_and_stays(place, calls):
    environment.main(["site"])
    environment.main(["site"])
    environment.main([])
    assert calls[0][-1] == ".[site]" and len(calls) == 2
    environment.main(["cluster"])
    assert calls.pop(2)[-1] == ".[cluster,site]" and calls.pop(2)
    (place / "constraints.txt").write_bytes(b"new")
    environment.main([])
    assert calls[2][-1] == ".[cluster,site]" and len(calls) == 4


def test_an_environment_of_another_place_or_python_is_built_anew(place, calls, monkeypatch):
    moved = place.with_name("moved")
    shutil.copytree(place, moved)
    monkeypatch.setattr(environment, "ROOT", moved)
    environment.main([])
    assert "--clear" in calls[0] and f"{moved}/.venv" in calls[0]
    monkeypatch.setattr(environment, "ROOT", place)
    for version, builds in (("3.11.2", 0), ("3.13.1", 1)):  # make PYTHON=...
        calls.clear()
        monkeypatch.setattr(sys, "executable", str(interpreter(place / version, version)))
        environment.main(["chosen"])
        assert len([call for call in calls if "--clear" in call]) == builds
    (place / ".venv" / "bin" / "python").unlink()  # as where its Python was removed
    calls.clear()
    environment.main([])
    assert "--clear" in calls[0]


def test_a_link_to_an_environment_of_another_place_is_refused_and_nothing_lost(place, calls):
    theirs = place.parent / "theirs"
    (place / ".venv").rename(theirs)
    (place / ".venv").symlink_to(theirs)
    (theirs / "pyvenv.cfg").write_text("command = python -m venv /theirs", encoding="utf-8")
    with pytest.raises(SystemExit, match="is a link"):
        environment.main([])
    assert not calls and (theirs / "ready").exists() and (theirs / "bin" / "python").exists()


def test_pip_sees_no_setting_but_those_of_the_network(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://a.invalid/simple\nproxy = http://b.invalid\nquiet = 3\n"
        f"log = /dev/null/x\n[install]\nuser = true\ntarget = {tmp_path}\nno-index = true\n",
        encoding="utf-8",
    )
    settings = {
        "CONFIG_FILE": f"{tmp_path}/pip.conf",
        "PROXY": "http://c.invalid",
        "USER": "1",
        "NO_DEPS": "1",
        "DRY_RUN": "1",
        "REQUIRE_HASHES": "1",
        "PYTHON": "/nowhere",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    found = environment.pip_environment(sys.executable)
    kept = {name: value for name, value in found.items() if name.startswith(("PIP_", "PYTHON"))}
    system = {"PIP_CERT", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST"}
    assert {name: value for name, value in kept.items() if name not in system} == {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://a.invalid/simple",
        "PIP_NO_INDEX": "true",
        "PIP_PROXY": "http://c.invalid",
    }


def test_make_takes_a_path_with_a_space_and_no_python_setting(place, monkeypatch):
    shutil.copy(ROOT / "Makefile", place)
    (place / "tools").mkdir()
    (place / "tools" / "environment.py").write_text("import sys; print(sys.argv[1:])", "utf-8")
    for name in ("python", "jupyter"):
        (place / ".venv" / "bin" / name).write_text("#!/bin/sh\necho $0 $*\nenv\n", "utf-8")
        (place / ".venv" / "bin" / name).chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": "/x", "PYTHONHOME": "/y"}
    for target in ("test", "lab", "reproduce"):
        printed = subprocess.check_output(
            ["make", target, f"PYTHON={sys.executable}"], cwd=place, env=environ, encoding="utf-8"
        )
        extra = ["test"] if target == "test" else []
        assert printed.startswith(str(["chosen", *extra]))
        assert "SBD_PRESET" in printed or target == "lab"
        assert "\nPYTHONPATH=" not in printed and "\nPYTHONHOME=" not in printed


def test_windows_is_told_what_to_type_instead():
    code = f"import runpy, sys; sys.modules['fcntl'] = None; runpy.run_path({str(SCRIPT)!r})"
    done = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, encoding="utf-8")
    [line] = done.stderr.splitlines()
    assert done.returncode == 1 and r"type: python -m venv .venv, then .venv\Scripts\pip" in line


@pytest.mark.parametrize("version", ["3.11.0", "3.11.4", "3.11.5", "3.12.1", "3.13.0", "3.14.2"])
def test_every_python_has_one_exact_pin_of_each_package(version):
    python = {"python_full_version": version, "python_version": version.rpartition(".")[0]}
    names = [pin.name for pin in PINS if not pin.marker or pin.marker.evaluate(python)]
    assert len(set(names)) == len(names) and set(names) == {pin.name for pin in PINS}
    assert all(str(pin.specifier).startswith("==") and "*" not in str(pin) for pin in PINS)


@pytest.mark.skipif(Path(sys.prefix) != ROOT / ".venv", reason="not the environment of make")
def test_every_installed_package_is_as_pinned():
    pins = {canonicalize_name(p.name): p for p in PINS if not p.marker or p.marker.evaluate()}
    exact = [Requirement(line) for line in requires("torch") or []]  # its CUDA libraries
    others = {canonicalize_name(p.name) for p in exact if "==" in str(p.specifier)}
    others |= {f"nvidia-{extra}" for p in exact for extra in p.extras} | {"pip", "sbd-utils"}
    for package in distributions(path=[sysconfig.get_path("purelib")]):
        name = canonicalize_name(package.name)
        assert name in others or pins[name].specifier.contains(package.version), name


def test_a_terminal_that_cannot_show_the_table_gets_what_it_can(tmp_path, monkeypatch):
    for name in ("RESULTS", "NOTEBOOKS"):
        monkeypatch.setattr(notebooks, name, tmp_path)
    monkeypatch.setenv("SBD_PRESET", "quick")
    monkeypatch.setattr(
        notebooks.circles, "compare_with_seeds", lambda preset: [{"score": "R² ≥ 1"}]
    )
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding="latin-1"))
    assert notebooks.main() == 0
    sys.stdout.flush()
    assert "R² ? 1" in terminal.getvalue().decode("latin-1")
    assert "R² ≥ 1" in (tmp_path / "quick" / "claims.md").read_text(encoding="utf-8")


def test_a_checkout_has_the_committed_bytes_whatever_autocrlf_says(tmp_path):
    if not shutil.which("git"):
        pytest.skip("no git")
    shutil.copy(ROOT / ".gitattributes", tmp_path)
    contents = {"run": b"set -e\nmake\n", "a.png": b"\x89PNG\r\n\n", "a.safetensors": b"{}\r\n\n"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    settings = ("core.autocrlf=true", "user.name=a", "user.email=a", "init.defaultBranch=main")
    git = ["git", "-C", str(tmp_path), *(word for one in settings for word in ("-c", one))]
    for words in ("init -q", "add .", "commit -qm a", "rm -qr .", "checkout -q HEAD ."):
        subprocess.check_call(git + words.split())
    assert {name: (tmp_path / name).read_bytes() for name in contents} == contents


def test_the_doctor_tells_every_part_and_goes_on_where_one_fails(monkeypatch, capsys):
    def ill():
        raise RuntimeError("no pulse")

    slow = ("torch.compile", "make reproduce")
    parts = {name: part for name, part in doctor.PARTS.items() if name not in slow}
    monkeypatch.setattr(doctor, "PARTS", {"heart": ill} | parts)
    doctor.main()
    told = capsys.readouterr().out
    assert told.startswith("heart: RuntimeError: no pulse\n") and told.count("Error: ") == 1
    assert all(f"\n{name}: " in told for name in parts)


def test_the_doctor_estimates_from_real_steps(monkeypatch):
    monkeypatch.setattr(machine, "may_compile", lambda device: False)
    assert 0 < doctor.step_milliseconds("deconv", seconds=0) < 1e4
    monkeypatch.setattr(doctor, "side_by_side", lambda function, jobs: [20, 60])
    monkeypatch.setattr(doctor, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine, "pick_device", lambda: machine.torch.device("cpu"))
    assert doctor.reproduction().startswith("about 34 minutes")  # 150 epochs of 230 steps
    monkeypatch.setattr(doctor, "cpu_count", lambda: 1)
    assert doctor.reproduction().startswith("about 46 minutes")
