# Copyright: Miyabi Healing contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""The program on a host: the shell's words that start it, and what came of them."""

from __future__ import annotations

import random
import re
import shlex
import time
from typing import NamedTuple

# beside the PATH, which under sudo or without a login may be short
PLACES = "/usr/local/bin:/opt/miyabi-healing/bin:$HOME/.local/bin"
LONGEST_SAID = 2000  # bytes of standard error, from its end
FIRST_WAIT = 1.0  # seconds between two requests, at most
LONGEST_WAIT = 10.0
HOME = re.compile(r"~[\w.-]*(/|$)")
VARIABLE = re.compile(r"(\$\w+|\$\{\w+\})")

# The status and the end of standard error come by standard output: Ansible takes a status of 255
# for a connection that was lost, and where ssh has a terminal, both outputs are one. What reads
# them ends with the program: else who is left behind with them would be waited for. The program is
# not marked as ansible-runner's, where the host is this one: who ends a playbook must not end it.
#
# It is one line without a backslash, since a user's own shell reads it first: csh cannot read a
# string of two lines, and fish takes backslashes in one.
SCRIPT = "; ".join(
    (
        "program=$(PATH=$PATH:{places}; command -v -- {executable}) "
        '&& [ -f "$program" ] && [ -x "$program" ] || {{ echo {mark} absent; exit 0; }}',
        "unset AWX_ISOLATED_DATA_DIR",
        "echo {mark} begin",
        "exec 3>&1",
        'said=$({{ {{ "$program" {words} </dev/null 2>&4 3>&- 4>&-',
        'code=$?; echo; echo {mark} "$code"; echo >&4; echo {mark} end >&4',
        '}} | LC_ALL=C sed "/^{mark} [0-9]/q" >&3',
        '}} 4>&1 | LC_ALL=C sed "/^{mark} end/q")',
        'printf %s "$said" | tail -c {longest}',
    )
)


class Answer(NamedTuple):
    """What came of a request: the program's status (128 and the signal's number where one ended
    it), what it printed, and the end of what it said on standard error. Without a status it was not
    there.
    """

    code: int | None
    printed: str
    said: str


class NoAnswer(Exception):
    """The host's shell did not come to an end; the message is what was said instead."""


def command(parameters, check_mode, mark):
    """What a shell on the host is to run, of whatever kind it is. `mark` sets apart what the
    program prints; it is drawn anew each time, so that nothing says it by accident.
    """
    words = ["--json"]
    if check_mode:
        words.append("--dry-run")
    if config := parameters["config"]:  # a shell expands ~ at the beginning of a word alone
        words.append(("--config " if config.startswith("~") else "--config=") + path_word(config))
    for name in ("fleet_run", "fleet_token"):
        if parameters[name] not in (None, ""):
            words.append(shlex.quote("--{}={}".format(name.replace("_", "-"), parameters[name])))
    for name in ("only", "skip"):
        words += [shlex.quote(f"--{name}={each}") for each in parameters[name]]
    script = SCRIPT.format(
        places=PLACES,
        executable=path_word(parameters["executable"]),
        mark=mark,
        words=" ".join(words),
        longest=LONGEST_SAID,
    )
    return "/bin/sh -c " + shlex.quote(script)


def path_word(path):
    """A path as one word of the shell, in which ~, ~user and $NAME mean what they do in Ansible's
    paths, and nothing else means anything.
    """
    home = HOME.match(path)
    start = home.end() if home else 0
    parts = VARIABLE.split(path[start:])
    parts[0::2] = [shlex.quote(each) if each else "" for each in parts[0::2]]
    parts[1::2] = [f'"{each}"' for each in parts[1::2]]
    return path[:start] + "".join(parts) or "''"


def read_answer(output, mark, code, error):
    """The answer in what a host's shell printed. `code` and `error` are its own status and standard
    error. Raises NoAnswer.
    """
    output = output.replace("\r\n", "\n")  # as a terminal has it
    if f"{mark} absent\n" in output:
        return Answer(None, "", "")
    _before, begun, printed = output.partition(f"{mark} begin\n")
    ended = re.search(f"\n{re.escape(mark)} ([0-9]+)\n", printed)
    if not (begun and ended):
        said = (error.strip() or output.strip() or "nothing").splitlines()[-1][:500]
        why = f"the host's shell ended with status {code} and said: {said}"
        raise NoAnswer(printable(why))
    said = printed[ended.end() :].strip().removesuffix(f"{mark} end").strip()
    return Answer(int(ended[1]), printed[: ended.start()], said)


def printable(value):
    """What a host says, nested or not, as text that a terminal shows and takes no orders from. The
    program's own reports are such already, but anybody may be the program there.
    """
    if isinstance(value, str):
        if value.isprintable():
            return value
        return "".join(
            each if each.isprintable() else each.encode("unicode_escape").decode() for each in value
        )
    if isinstance(value, dict):
        return {printable(key): printable(each) for key, each in value.items()}
    return [printable(each) for each in value] if isinstance(value, list) else value


def pauses(seconds, clock=time.monotonic, chance=random.uniform):
    """How long to sleep before each further request: full jitter, as long as there is time."""
    end, most = clock() + seconds, FIRST_WAIT
    while clock() < end:
        yield min(chance(0, most), max(0, end - clock()))
        most = min(most * 2, LONGEST_WAIT)
