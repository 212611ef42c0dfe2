"""What a change has to pass: ``python3 noxfile.py``, which needs nothing installed but Python and
git.
"""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

if __name__ == "__main__":  # nox comes from a lock too, before it reads this file
    here = Path(__file__).resolve().parent
    python = here / ".nox/bootstrap/bin/python"
    command = [
        here / "requirements/environment.py",
        python.parent.parent,
        here / "requirements/nox.txt",
    ]
    if code := subprocess.call([sys.executable, "-I", *command]):
        sys.exit(code)
    os.execv(
        python,
        [str(python), "-I", "-m", "nox", "--noxfile", str(here / "noxfile.py"), *sys.argv[1:]],
    )

import nox

nox.options.reuse_existing_virtualenvs = True


def install(session: nox.Session) -> None:
    session.install("--no-deps", "--require-hashes", "--requirement", "requirements/dev.txt")


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and likely mistakes."""
    install(session)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly."""
    install(session)
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests (``-- ARGUMENTS`` go to pytest)."""
    install(session)
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """How much of the code the tests reach; 40 % more processor time than the tests alone."""
    install(session)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-n", "auto", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def package(session: nox.Session) -> None:
    """The wheel: it brings nothing but its own package, installs, and runs."""
    install(session)
    folder = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(folder))
    wheel = max(folder.glob("*.whl"), key=os.path.getmtime)
    names = zipfile.ZipFile(wheel).namelist()
    stem = "-".join(wheel.name.split("-")[:2])
    own = ("miyabi_healing/", f"{stem}.dist-info/", f"{stem}.data/data/share/")
    strange = [name for name in names if not name.startswith(own)]
    needed = [
        f"miyabi_healing/{file}" for top in ("checks", "healers") for file in Path(top).glob("*.py")
    ]
    needed += [str(file) for file in Path("miyabi_healing/cli/setup/templates").iterdir()]
    shared = (
        file.relative_to("deploy") for file in Path("deploy/share").rglob("*") if file.is_file()
    )
    needed += [f"{stem}.data/data/{file}" for file in shared]
    missing = {
        *needed,
        "miyabi_healing/report/report.schema.json",
        "miyabi_healing/runner/pass.ini",
    } - set(names)
    if strange or missing:
        session.error(f"{wheel.name} should not hold {strange}, and should hold {missing}")

    venv = folder / "venv"
    session.run("python", "-m", "venv", "--clear", str(venv))
    for what in (["--require-hashes", "--requirement", "requirements/runner.txt"], [str(wheel)]):
        session.run(str(venv / "bin/pip"), "install", "--quiet", "--no-deps", *what, external=True)
    session.run(str(venv / "bin/pip"), "check", external=True)
    home = {name: str(folder) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME")}
    with session.chdir(folder):
        # the last finds what it finds on this host: 1
        for option in ("--version", "--help", "--dry-run"):
            session.run(
                str(venv / "bin/miyabi-healing"),
                option,
                external=True,
                env=home,
                success_codes=[0, 1] if option == "--dry-run" else [0],  # a traceback's status is 1
            )
        for kind in ("systemd-timer", "launchd"):
            dry_install = ["install", "--user", "--dry-run", "--kind", kind]
            session.run(
                str(venv / "bin/miyabi-healing"), *dry_install, external=True, silent=True, env=home
            )


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """What the program costs, against its peers (``-- NAME`` for one topic, ``-- --help`` for
    more).
    """
    install(session)
    session.run("python", "-m", "benchmarks", *session.posargs, success_codes=[0, 1])


@nox.session(default=False)
def deploy(session: nox.Session) -> None:
    """Write what is generated in deploy/ anew."""
    install(session)
    session.run("python", "-m", "deploy.generate")


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Write requirements/*.txt anew from pyproject.toml (``-- --upgrade``: with the newest
    versions).
    """
    session.install("uv")
    compile_lock = (
        "uv pip compile --quiet --universal --generate-hashes --python-version 3.11".split()
    )
    header = ["--custom-compile-command", "python3 noxfile.py --session lock"]
    for name, what in (
        ("runner", ["pyproject.toml"]),
        (
            "dev",
            [
                "pyproject.toml",
                "--extra",
                "notify",
                "--group",
                "dev",
                "--constraint",
                "requirements/runner.txt",
            ],
        ),
        ("nox", ["--group", "nox", "--constraint", "requirements/dev.txt"]),
    ):
        session.run(
            *compile_lock,
            *header,
            *what,
            "--output-file",
            f"requirements/{name}.txt",
            *session.posargs,
        )
