"""What a change has to pass: ``python3 noxfile.py``, which needs nothing installed but Python and
git.
"""

from __future__ import annotations

import os
import shutil
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

RUNNER = str(Path(__file__).resolve().parent / "requirements/runner.txt")
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "uv|venv"  # both come with nox; uv takes a tenth of pip's time
# uv compiles nothing beforehand, so every program that a test starts would compile all it imports
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def install(session: nox.Session, *locks: str) -> None:
    for lock in ("dev", *locks):
        named = f"requirements/{lock}.txt"
        session.install("--no-deps", "--require-hashes", "--requirement", named)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, and likely mistakes."""
    install(session)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly."""
    install(session, "fleet")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests (``-- ARGUMENTS`` go to pytest)."""
    install(session, "fleet")
    workers = str((os.cpu_count() or 1) + 1)  # tests wait a third of their time
    # worksteal: a file's tests mostly share a worker, and so the servers that they start
    session.run("pytest", "-n", workers, "--dist", "worksteal", *session.posargs)


@nox.session(default=False)
def coverage(session: nox.Session) -> None:
    """How much of the code the tests reach; 40 % more processor time than the tests alone."""
    install(session, "fleet")
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", "-n", "auto", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def package(session: nox.Session) -> None:
    """The wheel: it brings nothing but its own package, installs, and runs."""
    install(session)
    folder = Path(session.create_tmp()).resolve()
    wheel = build_wheel(session, folder)
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
    collection = "ansible_collections/miyabi/healing"
    needed += [
        f"miyabi_healing/fleet/{file.relative_to('deploy/ansible')}"
        for part in ("galaxy.yml", "meta/*", "playbooks/*", "plugins/*/*.py", "roles/*/*/*")
        for file in Path("deploy/ansible", collection).glob(part)
    ]
    strange += [
        name
        for name in names
        if "__pycache__" in name or f"{collection}/tests/" in name or name.endswith(".pyc")
    ]
    missing = {
        *needed,
        "miyabi_healing/fleet/fleet-report.schema.json",
        "miyabi_healing/fleet/fleet.html",
        "miyabi_healing/report/page/head.html",
        "miyabi_healing/report/page/page.html",
        "miyabi_healing/report/page/style.css",
        "miyabi_healing/report/prediction.schema.json",
        "miyabi_healing/report/report.schema.json",
        "miyabi_healing/runner/pass.ini",
    } - set(names)
    if strange or missing:
        session.error(f"{wheel.name} should not hold {strange}, and should hold {missing}")

    venv = folder / "venv"
    wheels = fetch_wheels(session, venv, folder)
    lock = ["--require-hashes", "--requirement", RUNNER]
    for what in (lock, [str(wheel)]):
        offline = ["--no-index", "--find-links", str(wheels), "--no-deps"]
        session.run(str(venv / "bin/pip"), "install", "--quiet", *offline, *what, external=True)
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
    install_as_a_tool(session, folder, wheel, wheels)


@nox.session(default=False)
def role(session: nox.Session) -> None:
    """The role that installs, by Ansible on a host behind sshd: three minutes."""
    install(session, "fleet")
    folder = Path(session.create_tmp()).resolve()
    wheels = fetch_wheels(session, folder / "venv", folder)
    shutil.copy(build_wheel(session, folder), wheels)
    where = {"MIYABI_HEALING_TEST_WHEELS": str(wheels)}
    session.run("pytest", "tests/test_ansible_role.py", *session.posargs, env=where)


def build_wheel(session: nox.Session, folder: Path) -> Path:
    """Build ours in a folder."""
    session.run("python", "-m", "build", "--no-isolation", "--outdir", str(folder))
    return max(folder.glob("*.whl"), key=os.path.getmtime)


def fetch_wheels(session: nox.Session, venv: Path, folder: Path) -> Path:
    """Fetch what it requires to a folder below, by the pip of a new environment."""
    session.run("python", "-m", "venv", "--clear", str(venv))  # with pip, which users have
    lock, wheels = ["--require-hashes", "--requirement", RUNNER], folder / "wheels"
    download = ["download", "--quiet", "--no-deps", *lock, "--dest", str(wheels)]
    session.run(str(venv / "bin/pip"), *download, external=True)
    return wheels


def install_as_a_tool(session: nox.Session, folder: Path, wheel: Path, wheels: Path) -> None:
    """As docs/install.md says, by uv and by pipx, but offline: from `wheels`."""
    tools = {name: Path(sys.executable).with_name(name) for name in ("uv", "pipx")}
    top = folder / "tools"
    shutil.rmtree(top, ignore_errors=True)
    places = {
        "HOME": str(top),
        "UV_CACHE_DIR": str(top / "cache"),
        "UV_TOOL_DIR": str(top / "uv"),
        "UV_TOOL_BIN_DIR": str(top / "uv-bin"),
        "PIPX_HOME": str(top / "pipx"),
        "PIPX_BIN_DIR": str(top / "pipx-bin"),
        "PIPX_MAN_DIR": str(top / "man"),
    }
    links = f"--no-index --find-links {wheels}"
    ways = {
        "uv": ["tool", "install", "--offline", *links.split(), "--constraints", RUNNER],
        "pipx": ["install", "--quiet", f"--pip-args={links} --constraint {RUNNER}"],
    }
    for name, words in ways.items():
        session.run(str(tools[name]), *words, str(wheel), external=True, silent=True, env=places)
        program = top / f"{name}-bin" / "miyabi-healing"
        session.run(str(program), "--version", external=True, env=places)
        remove = ["tool"] * (name == "uv") + ["uninstall", "miyabi-healing"]
        session.run(str(tools[name]), *remove, external=True, silent=True, env=places)
        if program.exists():
            session.error(f"{name} has left {program}")


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """What the program costs, against its peers (``-- NAME`` for one topic, ``-- --help`` for
    more).
    """
    install(session, "fleet")
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
    compile_lock = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet"]
    compile_lock += ["--universal", "--generate-hashes", "--python-version", "3.11"]
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
        ("fleet", ["pyproject.toml", "--extra", "fleet", "--constraint", "requirements/dev.txt"]),
        ("nox", ["--group", "nox", "--constraint", "requirements/dev.txt"]),
    ):
        session.run(
            *compile_lock,
            *header,
            *what,
            "--output-file",
            f"requirements/{name}.txt",
            *session.posargs,
            external=True,
        )
