# Copyright: Miyabi Healing contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""Keeps every report on disk as it comes, and in Postgres where that is wanted."""

from __future__ import annotations

DOCUMENTATION = r"""
name: reports
type: notification
short_description: Keep every report of miyabi.healing.heal as it comes
version_added: 0.1.0
author: Miyabi Healing contributors (@miyabi-healing)
description:
  - Appends a line of JSON to a file for each host that M(miyabi.healing.heal) has run on, or that
    could not be reached, and waits until it is on the disk. So nothing that was told is lost when
    the playbook is killed.
  - With O(store), the latest report of each host is also kept in Postgres, one commit a report, in
    the table C(fleet_report) of the project's fleets. Hosts that gave no report are in the file
    alone.
  - What cannot be kept is said at once and once more at the end. It does not stop the playbook.
requirements:
  - psycopg 3, only with O(store)
options:
  path:
    description:
      - The file. Without one it is C(LABEL.jsonl) in the folder C(miyabi-reports), where the
        playbook was started. The label is the variable C(miyabi_fleet_run), else the time.
      - As a variable it is read when the first play starts.
    type: path
    env:
      - name: MIYABI_HEALING_REPORTS
    ini:
      - section: callback_miyabi_reports
        key: path
    vars:
      - name: miyabi_reports
  store:
    description:
      - A connection string of libpq. It is best without a password, which libpq finds in
        C(~/.pgpass).
    type: str
    default: ""
    env:
      - name: MIYABI_HEALING_FLEET_STORE
    ini:
      - section: callback_miyabi_reports
        key: store
"""

import hashlib
import json
import os
import re
import time
from urllib.parse import quote

from ansible.plugins.callback import CallbackBase

MODULE = "miyabi.healing.heal"
ODD = re.compile(r"[^\w.,:/\\-]")  # in what a host, a name or a port is not called
REST = 30.0  # seconds after which a store that failed is tried again
LONGEST_NAME = 200  # bytes; a name of a file has at most 255
CONNECT = {"connect_timeout": 10, "keepalives_idle": 10, "tcp_user_timeout": 10000}
KEEP = """
insert into fleet_report (host, made, kept, code, version, run, label, issues, blocked, summary,
    report, since)
values (%s, least(%s, extract(epoch from clock_timestamp())),
    extract(epoch from clock_timestamp()), %s, %s, %s, %s, %s, %s, %s, %s,
    case when %s = 0 then null else extract(epoch from clock_timestamp()) end)
on conflict (host) do update set made = excluded.made, kept = excluded.kept, code = excluded.code,
    version = excluded.version, run = excluded.run, label = excluded.label,
    issues = excluded.issues, blocked = excluded.blocked, summary = excluded.summary,
    report = excluded.report, since = case when excluded.code = 0 then null
        else coalesce(fleet_report.since, excluded.since) end
where excluded.made >= fleet_report.made
"""


def file_of(label, now):
    """The usual file: a label may hold what no name of a file can."""
    name = quote(label, safe=" +,=@") or time.strftime("%Y-%m-%dT%H-%M-%S", time.localtime(now))
    if len(name) > LONGEST_NAME:
        name = name[: LONGEST_NAME - 17] + "-" + hashlib.sha256(name.encode()).hexdigest()[:16]
    return os.path.join("miyabi-reports", name.lstrip(".") + ".jsonl")


def append(path, row):
    """Append a line, and return when it is on the disk. Raises OSError."""
    folder = os.path.dirname(path) or "."
    os.makedirs(folder, exist_ok=True)
    is_new = not os.path.exists(path)
    line = (json.dumps(row) + "\n").encode()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(file).st_size and not ends_a_line(path):
            line = b"\n" + line  # whoever wrote before was killed in the middle of one
        if os.write(file, line) != len(line):
            raise OSError("only a part could be written")
        os.fsync(file)
    finally:
        os.close(file)
    if is_new:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def ends_a_line(path):
    """Whether a file that is not empty ends with a whole line."""
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def row_of(host, result, label, now, unreachable=False):
    """A host's line."""
    arguments = (result.get("invocation") or {}).get("module_args") or {}
    return {
        "host": host,
        "state": "unreachable" if unreachable else result.get("state", "failed"),
        "code": result.get("code"),
        "at": round(now, 3),
        "label": str(arguments.get("fleet_run") or label),
        "token": arguments.get("fleet_token"),
        "message": str(result.get("msg", "")),
        "report": result.get("report") or None,
    }


def values_of(host, code, report):
    """What the statement is given, in order. Raises KeyError, TypeError, AttributeError for what is
    no report.
    """
    report = json.loads(json.dumps(report))  # without Ansible's own types
    issues = [
        {name: each[name] for name in ("name", "target", "severity", "healed")}
        for each in report["issues_detected"]
    ]
    braked = {(each["issue"], each["target"]) for each in report["actions_taken"] if each["brake"]}
    blocked = [
        each for each in issues if not each["healed"] and (each["name"], each["target"]) in braked
    ]
    return (
        host,
        report["ended"],
        code,
        report.get("version", "")[:LONGEST_NAME],  # an index of the table has no more room
        report["run_id"],
        report.get("fleet", {}).get("run", ""),
        json.dumps(issues),
        len(blocked),
        report["summary"],
        json.dumps(report),
        code,
    )


class Store:
    """The table in Postgres. What could not be kept waits for the store to come back."""

    def __init__(self, dsn):
        self.dsn = dsn
        self.connection = None
        self.waiting = {}  # by host, the latest alone, as in the table
        self.refused = {}  # by host, why the table cannot hold its report
        self.rests_until = 0.0

    def keep(self, values):
        """Keep one report, and those that wait. Returns why they have to wait, empty where they
        were kept, or where that was said less than REST seconds ago.
        """
        self.waiting[values[0]] = values
        return self.flush() if time.monotonic() >= self.rests_until else ""

    def flush(self):
        """Keep those that wait, one commit each. Returns why that failed, empty if it did not."""
        for last in (False, True):
            is_new = self.connection is None
            try:
                for host in list(self.waiting):
                    self._keep_one(host)
                    del self.waiting[host]
                self.rests_until = 0.0
                return ""
            except Exception as error:  # whatever the driver raises: the playbook goes on
                self.close()
                if last or is_new:  # else it was a connection that had been lost
                    self.rests_until = time.monotonic() + REST
                    return in_a_line(error)
        return ""

    def _keep_one(self, host):
        """Have the table hold a report. One that it cannot hold must not keep the others out."""
        line = self._connected()
        import psycopg

        try:
            line.execute(KEEP, self.waiting[host])
        except (UnicodeError, psycopg.DataError, psycopg.ProgrammingError) as error:
            if isinstance(error, psycopg.ProgrammingError) and error.sqlstate:
                raise  # such as a table that is not there
            self.refused[host] = in_a_line(error)
        except psycopg.errors.ProgramLimitExceeded as error:
            self.refused[host] = in_a_line(error)

    def _connected(self):
        if self.connection is None:
            import psycopg

            try:
                wanted = psycopg.conninfo.conninfo_to_dict(self.dsn)
            except psycopg.Error:  # its words would show the password
                raise ValueError("its connection string cannot be read") from None
            try:
                self.connection = psycopg.connect(autocommit=True, **dict(CONNECT, **wanted))
            except psycopg.Error as error:
                shown = [str(wanted.get(key, "")) for key in ("host", "port", "user", "dbname")]
                if (
                    any(map(ODD.search, shown)) or not shown[1].replace(",", "0").isdigit()
                ):  # it may be a piece of the password
                    raise ValueError(
                        "it cannot be reached as its connection string says; is a character of it "
                        "unescaped?"
                    ) from None
                raise ConnectionError(in_a_line(error)) from None
        return self.connection

    def close(self):
        """Leave the server."""
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def in_a_line(error):
    """What went wrong."""
    if isinstance(error, ImportError):
        return "psycopg is not installed beside Ansible"
    words = str(error).strip().splitlines()
    return words[0] if words else type(error).__name__


class CallbackModule(CallbackBase):
    """What Ansible calls."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "miyabi.healing.reports"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self):
        super().__init__()
        self.path = ""
        self.wanted = None
        self.label = ""
        self.store = None
        self.began = time.time()
        self.kept = 0
        self.lost = set()

    def v2_playbook_on_play_start(self, play):
        """From here on, variables are known."""
        known = play.get_variable_manager().get_vars(play=play)
        label = str(known.get("miyabi_fleet_run") or "")
        self.label = "" if "{{" in label else label  # what a host was asked for says it, then
        self.wanted = known.get("miyabi_reports") or self.get_option("path")
        if self.store is None and self.get_option("store"):
            self.store = Store(self.get_option("store"))

    def v2_runner_on_ok(self, result):
        """A host has answered."""
        self._take(result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        """A host has answered, or could not run the program."""
        self._take(result)

    def v2_runner_on_unreachable(self, result):
        """A host does not answer, whatever it was to be asked for: its report will be missing."""
        self._keep(result, unreachable=True)

    def v2_playbook_on_stats(self, stats):
        """Say where the reports are."""
        if self.store:
            why = self.store.flush()
            self.store.close()
            self._tell_refused()
            if why:
                self._complain(sorted(self.store.waiting), "the store: " + why)
        if self.kept:
            self._display.display(f"{self.kept} report(s) kept in {self.path}")
        if self.lost:
            self._say(f"reports of {len(self.lost)} host(s) were LOST: see the errors above")

    def _take(self, result):
        if (result._task.resolved_action or result._task.action) == MODULE:
            self._keep(result)

    def _keep(self, result, unreachable=False):
        host = result._host.get_name()
        row = row_of(host, result._result, self.label, time.time(), unreachable)
        if not self.path:
            path = self.wanted or file_of(row["label"], self.began)
            self.path = os.path.abspath(os.path.expanduser(path))
        try:
            append(self.path, row)
            self.kept += 1
        except OSError as error:
            self._complain([host], f"{self.path}: {error}")
        if not self.store or not row["report"] or not row["report"].get("run_id"):
            return  # it is of no run
        try:
            values = values_of(host, row["code"], row["report"])
        except (KeyError, TypeError, AttributeError) as error:
            self._complain([host], f"the store: it is no report: {error!r}")
            return
        why = self.store.keep(values)
        self._tell_refused()
        if why:
            self._say(f"the store keeps no reports now, they wait: {why}")

    def _tell_refused(self):
        for host, why in self.store.refused.items():
            self._complain([host], "the store: " + why)
        self.store.refused.clear()

    def _complain(self, hosts, why):
        self.lost |= set(hosts)
        self._say("LOST: the report of {} could not be kept in {}".format(", ".join(hosts), why))

    def _say(self, words):
        self._display.error(words, wrap_text=False)
