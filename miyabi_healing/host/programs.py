"""What program a process runs: the name people know it by. Looks only.

Neither the kernel's short name (proc_pid_comm(5): 15 bytes, of the main thread, "MainThread" for
every program of some runtimes) nor the program's file ("node", "python3") says that; for an
interpreter it is the script. Arguments of the program itself never count: ``tail -f chrome`` is
no chrome.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase

from miyabi_healing.host.process_status import LINUX, PROC, Process, command_line, command_psutil

_INTERPRETER = re.compile(
    r"(python|pypy)[\d.]*[a-z]?|node(js)?|bun|deno|ruby[\d.]*|perl[\d.]*|php[\d.]*|java"
    r"|(ba|da|k|z|a)?sh|fish"
)
# options that have a value of their own, by how an interpreter's name begins
_WITH_VALUE = {
    "python": ("-W", "-X", "--check-hash-based-pycs"),
    "pypy": ("-W", "-X"),
    "node": ("-r", "--require", "--import", "--loader", "--experimental-loader", "-C"),
    "ruby": ("-r", "-I", "-C"),
    "java": ("-cp", "-classpath", "--class-path", "-p", "--module-path", "--add-modules"),
}
_SHELL = re.compile(r"(ba|da|k|z|a)?sh|fish")
# what says that code follows, or has it right after it, also after other letters (-uc), by how an
# interpreter's name begins
_CODE = {
    "python": re.compile(r"-[bBdEiIOPqsSuvx]*c.*"),
    "pypy": re.compile(r"-[bBdEiIOPqsSuvx]*c.*"),
    "perl": re.compile(r"-[acflnpstTuUwW0-7]*[eE].*"),
    "ruby": re.compile(r"-[aclnpsSvwW0-7]*e.*"),
    "node": re.compile(r"-e|-p|-pe|--(eval|print)(=.*)?"),
    "bun": re.compile(r"-e|-p|--(eval|print)(=.*)?"),
    "deno": re.compile(r"eval"),
    "php": re.compile(r"-[rBRE]|--(run|process-(begin|code|end))"),
}
_CODE_OF_SHELL = re.compile(r"-[A-Za-z]*c[A-Za-z]*")
# with a value of its own: -o pipefail, also at the end of others
_VALUE_OF_SHELL = re.compile(r"[-+][A-Za-z]*[oO]|--(rcfile|init-file|init-command)")
_NAMES_NEXT = frozenset(("-m", "--module", "-jar"))  # what follows is the program
_SUBCOMMANDS = {"deno": ("run", "serve", "task"), "bun": ("run", "x")}
_ENDINGS = (".js", ".cjs", ".mjs", ".ts", ".py", ".rb", ".pl", ".php", ".sh", ".jar")
# files and folders that are called alike in every package: the package's folder says more
_NO_NAMES = frozenset(("index", "main", "__main__", "cli", "server", "app", "start", "run", "bin"))
_INNER_FOLDERS = frozenset(("dist", "build", "bin", "src", "lib", "out", "cjs", "esm", "server"))


def program_name(process: Process) -> str:
    """What to call a process: the script that an interpreter runs, else its program's file."""
    program, arguments = _command(process.pid)
    return _name(program, arguments) or process.name


def program_names(process: Process) -> frozenset[str]:
    """All that its program may rightly be called: file, script with and without ending, its own
    short name.
    """
    program, arguments = _command(process.pid)
    found = {process.name, process.name.split(" ")[0].rstrip(":"), _file_name(program)}
    if arguments:
        found |= {_title(arguments[0])}
    if script := _script(program, arguments):
        found |= {os.path.basename(script), _stem(script), _name(program, arguments)}
    return frozenset(found - {""})


def program_paths(process: Process) -> tuple[str, ...]:
    """Where its program lies: the script that an interpreter runs, and its file."""
    program, arguments = _command(process.pid)
    script = _script(program, arguments)
    if script and not script.startswith("/"):
        with suppress(OSError):  # relative to where it was started, most often still its own folder
            script = os.path.normpath(f"{os.readlink(f'{PROC}/{process.pid}/cwd')}/{script}")
    return tuple(filter(None, (script, program)))


def matches(process: Process, patterns: Sequence[str]) -> bool:
    """Whether a process's program is called like one of `patterns` (fnmatch(3)), whole."""
    names = program_names(process)
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def _command(pid: int) -> tuple[str, list[str]]:
    return command_line(pid) if LINUX else command_psutil(pid)


def _name(program: str, arguments: Sequence[str]) -> str:
    script = _script(program, arguments)
    if not script:
        return _file_name(program) or (_title(arguments[0]) if arguments else "")
    parts = [part for part in script.split("/") if part]
    while len(parts) > 1 and _stem(parts[-1]) in _NO_NAMES | _INNER_FOLDERS:
        parts.pop()
    return _stem(parts[-1]) if parts else os.path.basename(script)


def _script(program: str, arguments: Sequence[str]) -> str:
    """The script that an interpreter runs; empty where it runs none, or is none."""
    interpreter = _file_name(program) or (_title(arguments[0]) if arguments else "")
    if not arguments or not _INTERPRETER.fullmatch(interpreter):
        return ""
    own = _title(arguments[0])
    if own != interpreter and not _INTERPRETER.fullmatch(own):
        return own  # a title of the program's own
    rest = iter(arguments[1:])
    with_value = next(
        (have for key, have in _WITH_VALUE.items() if interpreter.startswith(key)), ()
    )
    subcommands = _SUBCOMMANDS.get(interpreter, ())
    shell = bool(_SHELL.fullmatch(interpreter))
    for argument in rest:
        if _is_code(interpreter, argument, shell=shell):
            return ""
        if argument in _NAMES_NEXT or argument == "--":
            return next(rest, "")
        if argument in with_value or (shell and _VALUE_OF_SHELL.fullmatch(argument)):
            next(rest, "")
        elif argument in subcommands:
            subcommands = ()
        elif not argument.startswith("-"):
            return argument
    return ""


def _is_code(interpreter: str, argument: str, *, shell: bool) -> bool:
    """Whether an option says that code follows, or has it in itself: then no script is run."""
    if shell:
        return bool(_CODE_OF_SHELL.fullmatch(argument))
    forms = (form for key, form in _CODE.items() if interpreter.startswith(key))
    return any(form.fullmatch(argument) for form in forms)


def _file_name(program: str) -> str:
    return os.path.basename(program)


def _title(argument: str) -> str:
    """The program in the first argument: ``-bash`` of a login shell, ``sshd: alice [priv]``."""
    return os.path.basename(argument.split(" ")[0].rstrip(":")).lstrip("-")


def _stem(path: str) -> str:
    name = os.path.basename(path)
    ending = next((each for each in _ENDINGS if name.endswith(each)), "")
    return name.removesuffix(ending).removesuffix("-cli") or name
