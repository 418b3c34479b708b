"""Put the pinned packages into .venv, and leave it alone where they are: what `make` does first.

    python3 -I tools/environment.py [chosen] [test] [site] [cluster]

`chosen`: build with this very Python, not with another that is found. `test`, `site`, `cluster`:
the packages of these extras, too, which then stay.

Any Python 3 can start it, if only to be told that it is too old.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:
    sys.exit(
        r"make does not work on Windows. Use WSL, or type: python -m venv .venv, then "
        r".venv\Scripts\pip install -c constraints.txt -e .[test], then "
        r".venv\Scripts\python -m pytest tests"
    )

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("python3.11", "python3.12", "python3.13", "python3.14", "python3")
OLDEST, TOO_NEW, BROKEN = [3, 11], [3, 15], [[3, 14, 1]]  # as requires-python, by test
NEEDED = "CPython 3.11 to 3.14 is needed (not 3.14.1)"
FACTS = """import json, sys, sysconfig
print(json.dumps([list(sys.version_info[:3]), sys.implementation.name, sys.version,
                  bool(sysconfig.get_config_var("Py_GIL_DISABLED"))]))"""
# What pip must know to reach its packages here. Any other setting of the user's, such as
# `user`, `target` or `no-deps`, is for other environments than this one.
NETWORK = (
    "index-url",
    "pypi-url",
    "extra-index-url",
    "no-index",
    "find-links",
    "trusted-host",
    "proxy",
    "cert",
    "client-cert",
    "keyring-provider",
    "retries",
    "timeout",
    "default-timeout",
    "cache-dir",
    "no-cache-dir",
)
# pip has no public way to ask for one merged setting; this one is in all of its releases.
SETTINGS = """import json, sys
from pip._internal.configuration import Configuration, ConfigurationError
merged = Configuration(isolated=False)
merged.load()
found = {}
for section in ("global", "install", ":env:"):  # the later one wins
    for key in sys.argv[1:]:
        try:
            found[key] = merged.get_value(section + "." + key)
        except ConfigurationError:
            pass
print(json.dumps(found))"""


def clean(prefixes=("PYTHON",)):
    """The environment's variables, less those whose name starts with a prefix."""
    return {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}


def facts(python):
    """Version numbers, implementation, full version and freedom of threads, or None."""
    try:
        return json.loads(
            subprocess.check_output(
                [str(python), "-I", "-c", FACTS], env=clean(), stderr=subprocess.DEVNULL
            )
        )
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None  # a dangling link, or pyenv's stand-in for a Python that is not chosen


def supported(python):
    """Whether the pins can be installed with this Python."""
    version, name, _, free_threads = facts(python) or ([0], "", "", False)
    return (
        OLDEST <= version < TOO_NEW
        and version not in BROKEN
        and name == "cpython"
        and not free_threads
    )


def pick(chosen):
    """The Python to build with, or SystemExit with the line to type."""
    names = [sys.executable] if chosen else [shutil.which(name) for name in NAMES]
    for python in names:
        if python and supported(python):
            return python
    version = sys.version.split()[0]
    sys.exit(
        f"{sys.executable} is Python {version}; {NEEDED}. Type: make PYTHON=/path/to/python3.12"
    )


def stamped(venv):
    """What the stamp says: the digest of what is installed, and the extras."""
    try:
        return (venv / "ready").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return []


def pins():
    """A digest of what is to be installed."""
    files = (ROOT / "pyproject.toml", ROOT / "constraints.txt")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def own(venv, chosen):
    """Whether an environment was once complete, at this place, and its Python will do."""
    try:
        made = (venv / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return False
    python = facts(venv / "bin" / "python")
    return (
        (venv / "ready").exists()
        and any(line.startswith("command") and line.endswith(" " + str(venv)) for line in made)
        and supported(venv / "bin" / "python")
        and (not chosen or python == facts(sys.executable))
    )


def pip_environment(python):
    """The variables for pip: none of the user's settings but those of the network."""
    found = subprocess.check_output([str(python), "-I", "-c", SETTINGS, *NETWORK], env=clean())
    kept = {
        "PIP_" + key.upper().replace("-", "_"): value for key, value in json.loads(found).items()
    }
    return dict(clean(("PYTHON", "PIP_")), PIP_CONFIG_FILE=os.devnull, **kept)


def build(venv, chosen, extras):
    """Install into an environment of this place, or into a new one; the stamp comes last.

    Where pip cannot have the network, an environment that was complete stays, to be finished later.
    """
    python, stamp = venv / "bin" / "python", venv / "ready"
    if own(venv, chosen):
        extras = extras | set(stamped(venv)[1:])
        stamp.write_text(" ".join(["unfinished", *sorted(extras)]), encoding="utf-8")
    else:
        if venv.is_symlink():  # or venv would clear what it points to
            sys.exit(f"{venv} is a link to another environment. Remove it, and type make again.")
        base = pick(chosen)
        with suppress(FileNotFoundError):  # before anything else goes: a kill comes at any time
            stamp.unlink()
        print("Building .venv with", base, flush=True)
        subprocess.check_call([base, "-I", "-m", "venv", "--clear", str(venv)], env=clean())
    subprocess.check_call(
        [
            str(python),
            "-I",
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--constraint",
            "constraints.txt",
            "--editable",
            f".[{','.join(sorted(extras))}]" if extras else ".",
        ],
        cwd=str(ROOT),
        env=pip_environment(python),
    )
    try:
        subprocess.check_call([str(python), "-I", "-c", "import torch, sbd_utils"], env=clean())
    except subprocess.CalledProcessError:
        with suppress(FileNotFoundError):
            stamp.unlink()  # so broken that the next one begins anew
        raise
    stamp.write_text(" ".join([pins(), *sorted(extras)]), encoding="utf-8")


def main(arguments):
    venv, chosen = ROOT / ".venv", "chosen" in arguments
    extras = {"test", "site", "cluster"} & set(arguments)
    folder = os.open(str(ROOT), os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(folder, fcntl.LOCK_EX)  # a second make waits for the first one's build
        digest, *there = stamped(venv) or [""]
        if not own(venv, chosen) or digest != pins() or not extras <= set(there):
            build(venv, chosen, extras)
    finally:
        os.close(folder)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # pip has said why
    except KeyboardInterrupt:
        sys.exit(130)
