"""The hosts of a slice, asked by Ansible: one playbook run of the collection for all of them."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from miyabi_healing.fleet import ansible_tools
from miyabi_healing.fleet.collection import collections_folder
from miyabi_healing.fleet.inventory import inventory_hosts
from miyabi_healing.fleet.worker import WorkerError
from miyabi_healing.model.rollout import ANSWERED, Answer, Claim, HostState
from miyabi_healing.support.formatting import display

MODULE = "miyabi.healing.heal"
_PLAYBOOK = [{"ansible.builtin.import_playbook": "miyabi.healing.heal_slice"}]
_STATES = ANSWERED | {HostState.BUSY, HostState.FAILED}  # that a host can say it is in
_OUR_MARK = "AWX_ISOLATED_DATA_DIR"  # ansible-runner's: what it starts can be told by its value
_OUR_TASK = "echo miyabi-healing-"  # in the command that the collection's action sends
_NOT_THERE = "no hosts to target"  # Ansible's words where the inventory has none of a slice
_ALIVE = "-o ServerAliveInterval=30 -o ServerAliveCountMax=6"  # ssh_config(5): three minutes
_HOST_GIVEN_UP = 3600  # seconds; its run goes on, and is reported when the host is asked again
_ASKED_EVERY = 0.2  # seconds, between two questions whether to end
_LARGEST_RESULT = 64 << 20  # characters; ansible-runner empties results of more than 700,000
_LONGEST_MESSAGE = 1000  # characters of what a host says, with what they are escaped by


@dataclass(frozen=True)
class AnsibleWorker:
    """Asks hosts by ansible-playbook. `inventory` is as in `inventory_hosts`; `executable` is the
    program's command on the hosts, empty for what the collection takes; `check` is Ansible's check
    mode, a dry run; `arguments` are further ones of ansible-playbook.
    """

    inventory: str = ""
    executable: str = ""
    check: bool = False
    arguments: tuple[str, ...] = ()

    def hosts(self, pattern: str) -> tuple[str, ...]:
        """The hosts that a pattern names, in the inventory's order. Raises WorkerError."""
        return inventory_hosts(self.inventory, pattern, self.arguments, _load_runner)

    def work(
        self, claim: Claim, told: Callable[[Answer], None], cancelled: Callable[[], bool]
    ) -> None:
        """See `worker.Worker`."""
        folder = Path(tempfile.mkdtemp(prefix="miyabi-fleet-"))
        try:
            _Playbook(self, claim, folder, told, cancelled).run()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _load_runner() -> None:
    """Import what takes a while, before it is needed; whether it is there is said then."""
    with contextlib.suppress(ImportError):
        import ansible_runner  # noqa: F401


class _Playbook:
    """One run of ansible-playbook."""

    def __init__(
        self,
        worker: AnsibleWorker,
        claim: Claim,
        folder: Path,
        told: Callable[[Answer], None],
        cancelled: Callable[[], bool],
    ) -> None:
        self.worker, self.claim, self.folder = worker, claim, folder
        self.told, self.cancelled = told, cancelled
        self.answered: set[str] = set()
        self.has_begun = False  # a host was asked
        self.error: BaseException | None = None

    def run(self) -> None:
        program = ansible_tools.ansible_tool("ansible-playbook")
        runner = self._prepared(program)
        ended = False
        try:
            status, _ = runner.run()
            ended = True
        finally:
            # a task that took too long leaves its ssh behind
            is_ended = ended and status != "canceled"
            end_marked(str(self.folder), _asks_a_host if is_ended else None)
        if self.error is not None:
            raise self.error
        if status != "canceled" and not self.has_begun:
            # its exit status does not tell: 2 is also that of arguments which it does not know
            with runner.stdout as output:
                why = ansible_tools.first_error(output.read())
            if _NOT_THERE in why:  # hosts of a slice may be gone for good
                for host in self.claim.slice.hosts:
                    self.told(Answer(host, HostState.UNREACHABLE, None, "no inventory has it"))
                return
            raise WorkerError(f"ansible-playbook could not begin: {display(why)}")

    def _prepared(self, program: str) -> Any:
        """ansible-runner's Runner of this run; it overrides none of the user's settings but where
        events go. Raises WorkerError.
        """
        try:
            from ansible_runner import Runner
            from ansible_runner.config.runner import RunnerConfig
        except ImportError:
            raise WorkerError(ansible_tools.MISSING) from None
        config = RunnerConfig(
            private_data_dir=str(self.folder / "run"),
            project_dir=os.getcwd(),  # ansible.cfg and paths in arguments are sought there
            playbook=str(self._playbook()),
            inventory=os.path.expanduser(self.worker.inventory) or None,
            limit=f"@{self._limit()}",
            forks=len(self.claim.slice.hosts),
            extravars=self._variables(),
            cmdline=shlex.join((*self.worker.arguments, *(["--check"] * self.worker.check))),
            envvars=self._environment(),
            fact_cache_type="the user's",
            quiet=True,
        )
        config.prepare()
        # ansible-runner would drop it as one of its `settings`, where no file has some
        config.pexpect_timeout = _ASKED_EVERY
        if "ANSIBLE_HOST_KEY_CHECKING" not in os.environ:
            # ansible-runner switches it off; it is Ansible's default, and the user's to change
            del config.env["ANSIBLE_HOST_KEY_CHECKING"]
        config.command[0] = program
        return Runner(config, event_handler=self._heard, cancel_callback=self._is_to_end)

    def _playbook(self) -> Path:
        """One beside which Ansible finds our collection before any other of its name, and the
        user's own collections as ever.
        """
        try:
            collections = collections_folder()
        except FileNotFoundError as error:
            raise WorkerError(str(error)) from None
        project = self.folder / "playbook"
        project.mkdir()
        (project / "collections").symlink_to(collections)
        file = project / "slice.json"
        file.write_text(json.dumps(_PLAYBOOK), encoding="utf-8")
        return file

    def _limit(self) -> Path:
        file = self.folder / "hosts"
        file.write_text("".join(f"{each}\n" for each in self.claim.slice.hosts), encoding="utf-8")
        return file

    def _variables(self) -> dict[str, object]:
        found: dict[str, object] = {
            "miyabi_hosts": "all",
            "miyabi_fleet_run": self.claim.label,
            "miyabi_fleet_token": self.claim.token,
        }
        if self.worker.executable:
            found["miyabi_executable"] = self.worker.executable
        return found

    def _environment(self) -> dict[str, str]:
        here, found = Path.cwd(), {"MAX_EVENT_RES": str(_LARGEST_RESULT)}
        if not ansible_tools.user_has_set(os.environ, here, "pipelining", "ssh_pipelining"):
            # without a terminal for become, which would take the host's run with it when we die
            found["ANSIBLE_PIPELINING"] = "True"
        if not ansible_tools.user_has_set(os.environ, here, "task_timeout"):
            found["ANSIBLE_TASK_TIMEOUT"] = str(_HOST_GIVEN_UP)
        if not ansible_tools.user_has_set(os.environ, here, "ssh_extra_args"):
            # one that vanishes in the middle of its run would be waited for by TCP alone: two hours
            found["ANSIBLE_SSH_EXTRA_ARGS"] = _ALIVE
        if not ansible_tools.user_has_set(
            os.environ, here, "control_path", "control_path_dir", "ssh_args"
        ):
            # a host is asked by one connection; Ansible would have it kept open, beyond our end
            found["ANSIBLE_SSH_ARGS"] = "-C"
        return found

    def _is_to_end(self) -> bool:
        if self.error is None and not self.cancelled():
            return False
        # all of it, and before ansible-runner ends the first process: what Ansible has forked leads
        # sessions of its own, and keeps the terminal open that ansible-runner reads to its end
        end_marked(str(self.folder))
        return True

    def _heard(self, event: Mapping[str, Any]) -> bool:
        """Tell what an event says about a host; nothing of it is kept on disk."""
        self.has_begun |= str(event.get("event")).startswith("runner_on_")
        try:
            answer = answer_of(event)
            if answer is not None and answer.host not in self.answered:
                self.answered.add(answer.host)
                self.told(answer)
        except BaseException as error:
            # ansible-runner would leave Ansible running
            self.error = self.error or error
        return False


def answer_of(event: Mapping[str, Any]) -> Answer | None:
    """What an event of ansible-runner says about a host; None where that is nothing, or not ours to
    tell.
    """
    kind, data = event.get("event"), event.get("event_data") or {}
    host, result = data.get("host"), data.get("res") or {}
    if not host:
        return None
    message = str(result.get("msg") or "")
    if kind == "runner_on_unreachable":
        # Ansible says at length which host, and that it could not be reached
        _, _, why = message.rpartition("over ssh: ")
        return Answer(host, HostState.UNREACHABLE, None, _one_line(why))
    if kind not in ("runner_on_ok", "runner_on_failed"):
        return None
    if data.get("task_action") != MODULE:
        # another task of the play that failed: this host is not asked any more
        failed = kind == "runner_on_failed" and not data.get("ignore_errors")
        return Answer(host, HostState.FAILED, None, _one_line(message)) if failed else None
    # whoever has taken over a slice has another token, so the store does not take from us what a
    # host says that was asked by both; one that is superseded in our own slice was asked from
    # another store
    said, code, report = result.get("state"), result.get("code"), result.get("report")
    # anybody may have written the program that says so
    state = HostState(said) if isinstance(said, str) and said in _STATES else None
    return Answer(
        host,
        state or HostState.FAILED,
        code if type(code) is int and 0 <= code < 256 else None,
        _one_line(message),
        report if state and isinstance(report, Mapping) and report else None,
    )


def _one_line(text: str) -> str:
    words = display(" ".join(text[: 2 * _LONGEST_MESSAGE].split()))
    return words if len(words) <= _LONGEST_MESSAGE else f"{words[:_LONGEST_MESSAGE]}…"


def end_marked(folder: str, which: Callable[[Any], bool] | None = None) -> None:
    """End every process that ansible-runner has started for a run in `folder`, and what those have
    started, whoever their parent is by now; of these only `which`, where that is said.
    """
    import psutil

    end = time.monotonic() + 5
    while time.monotonic() < end:
        found = [
            each
            for each in psutil.process_iter()
            if _is_marked(each, folder) and (which is None or which(each))
        ]
        if not found:
            return
        for each in found:
            _kill(each)
        time.sleep(0.01)  # they are not waited for here: the first is ansible-runner's to reap


def _is_marked(process: Any, folder: str) -> bool:
    import psutil

    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        value: str = process.environ().get(_OUR_MARK, "")
    except (psutil.Error, OSError):
        return False
    return value.startswith(f"{folder}{os.sep}")


def _asks_a_host(process: Any) -> bool:
    """Whether it is the ssh of our own task. What else is left may be in use: a connection that the
    user's settings keep open, with all that it goes through, or what a run on this host started.
    """
    import psutil

    with contextlib.suppress(psutil.Error):
        program, *words = process.cmdline() or ("",)
        return os.path.basename(program) == "ssh" and any(_OUR_TASK in each for each in words)
    return False


def _kill(process: Any) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):  # it is gone, or became somebody else's
        process.kill()
