"""What is called a log and is none: databases, other formats, ring buffers. Each with its opposite,
which is still healed.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from gatework import config
from program import report, settings
from test_log_safety import LINES, archive, context, plan, trim

from conftest import wait_for
from miyabi_healing.cli.setup import discovery
from miyabi_healing.gate.handlers.table import apply, recheck
from miyabi_healing.gate.primitives.context import Context, Refused
from miyabi_healing.host import log_text, logs
from miyabi_healing.host.context import HealerContext
from miyabi_healing.host.readings import Host
from miyabi_healing.model.config import Config, LogSettings
from miyabi_healing.model.issue import Issue, Limit
from miyabi_healing.runner import registry

Start = Callable[..., psutil.Popen]
JAR = Path("/usr/share/java/hsqldb.jar")
JAVA = """
import java.sql.*;
public class Rows {
    public static void main(String[] args) throws Exception {
        Connection database = DriverManager.getConnection("jdbc:hsqldb:file:" + args[0], "SA", "");
        Statement statement = database.createStatement();
        if (args[1].equals("count")) {
            ResultSet found = statement.executeQuery("select count(*) from orders");
            found.next();
            System.out.println(found.getInt(1));
            statement.execute("shutdown");
            return;
        }
        statement.execute("set files write delay false");
        statement.execute("create table orders (number integer, what varchar(400))");
        for (int i = 0; i < Integer.parseInt(args[1]); i++) {
            String row = i + ", '" + "precious ".repeat(40) + "'";
            statement.execute("insert into orders values (" + row + ")");
        }
        Runtime.getRuntime().halt(0);
    }
}
"""


def taken(folder: Path, pattern: str = "*.log", **options: float) -> list[str]:
    """The names of what would be taken of a folder's logs."""
    found = plan(f"{folder}/{pattern}", **{"keep_lines": 1, "archive_after_days": 0, **options})
    return sorted(step.path.name for step in found.steps)  # type: ignore[attr-defined]


def said(folder: Path, pattern: str = "*.log") -> dict[str, str]:
    found = plan(f"{folder}/{pattern}", keep_lines=1, archive_after_days=0)
    assert {each.reason for each in found.kept} <= {"no log"}
    return {Path(each.target).name: each.detail for each in found.kept}


def fill(path: Path, content: bytes = LINES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Databases


def java(*arguments: object) -> str:
    done = subprocess.run(
        ["java", "-cp", str(JAR), *map(str, arguments)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not (shutil.which("java") and JAR.exists()), reason="needs java and HSQLDB")
def test_hsqldb_has_all_its_rows_after_a_run(home: Path) -> None:
    """Its ``.log`` is text; committed rows are nowhere else until it is shut down."""
    source = home / "Rows.java"
    source.write_text(JAVA)
    java(source, home / "data" / "shop", 3000)
    log = home / "data" / "shop.log"
    assert log.read_bytes().count(b"INSERT INTO ORDERS") == 3000
    fill(home / "data-less" / "shop.log", log.read_bytes())
    fill(home / "logs" / "app.log", LINES * 20)
    text = f'[logs]\npatterns = ["{home}/*/*.log"]\n[checks.large_log_files]\nthreshold = 0.1\n'
    options = "[healers.prune_logs]\nkeep_lines = 1\narchive_after_days = 0\n"
    before = log.read_bytes()
    _, document = report("--config", settings(home, text + options))
    (action,) = document["actions_taken"]
    assert [step["target"] for step in action["steps"]] == [f"{home}/logs/app.log"]
    assert {each["target"]: each["detail"] for each in action["kept"]} == {
        f"{home}/data/shop.log": "part of a database (HSQLDB): beside shop.script",
        f"{home}/data-less/shop.log": "part of a database: its lines are SQL statements",
    }
    assert (log.read_bytes(), java(source, home / "data" / "shop", "count")) == (before, "3000")


def test_sqlite_database_called_log_is_read_by_nobody_as_a_log(tmp_path: Path) -> None:
    path = tmp_path / "bot" / "events.log"
    path.parent.mkdir()
    with sqlite3.connect(path) as database:
        database.execute("create table t (x)")
        database.executemany("insert into t values (?)", [("y" * 900,)] * 4000)
    database.close()
    fill(path.with_name("bot.log"))
    assert logs.read_log_group(f"{path.parent}/*.log").odd == (
        (path, "no text: an SQLite database"),
    )
    assert taken(path.parent) == ["bot.log"]
    for step in (trim(path), archive(path)):
        assert recheck(step, context(tmp_path)) == "no text: an SQLite database"
        with pytest.raises(Refused, match="SQLite"):
            apply(step, context(tmp_path))


LAYOUTS = {
    "LevelDB": ("leveldb/000003.log", ["leveldb/CURRENT", "leveldb/MANIFEST-000002"]),
    "RocksDB with its WAL elsewhere": ("service/wal/000123.log", []),
    "HSQLDB": ("shop/shop.log", ["shop/shop.script", "shop/shop.properties"]),
    "InnoDB": ("mysql/undo.log", ["mysql/ibdata1", "mysql/ib_logfile0"]),
    "Kafka": ("kafka/t-0/00000000000000000042.log", ["kafka/t-0/00000000000000000042.timeindex"]),
    "Kafka, index only": ("kafka/t-0/segment.log", ["kafka/t-0/segment.index"]),
    "Redpanda": ("redpanda/0_1/0-1-v1.log", ["redpanda/0_1/0-1-v1.base_index"]),
    "Cassandra": ("cassandra/commitlog/CommitLog-7-1700000000000.log", []),
    "Cassandra, archived": ("backup/x.log", ["backup/CommitLog-7-1700000000000_cdc.idx"]),
    "KahaDB": ("broker/kahadb/db-1.log", ["broker/kahadb/db.data", "broker/kahadb/db.redo"]),
    "BookKeeper": ("ledgers/current/0.log", ["ledgers/current/lastId", "ledgers/current/lastMark"]),
    "Oracle": ("oradata/XE/arch1.log", ["oradata/XE/control01.ctl", "oradata/XE/system01.dbf"]),
    "Derby": ("derby/log/log1.log", ["derby/log/log.ctrl"]),
    "PostgreSQL": ("pg/startup.log", ["pg/PG_VERSION"]),
    "etcd": ("member/wal/0.log", ["member/wal/0000000000000000-0000000000000000.wal"]),
    "WiredTiger": ("mongo/mongo.log", ["mongo/WiredTiger", "mongo/WiredTiger.wt"]),
    "ZooKeeper": ("zk/version-2/x.log", []),
    "Mnesia": ("mnesia/LATEST.LOG", ["mnesia/schema.DAT"]),
    "Berkeley DB": ("bdb/x.log", ["bdb/__db.001"]),
    "SQLite, by its neighbours": ("app/store.log", ["app/store.log-wal", "app/store.log-shm"]),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_text_beside_a_databases_files_is_a_databases_everywhere(
    tmp_path: Path, layout: str
) -> None:
    """In the check, the healer, the gate and ``init``; the reason names the database and what it is
    known by.
    """
    name, neighbours = LAYOUTS[layout]
    log = fill(tmp_path / name, LINES * 60)
    for each in neighbours:
        fill(tmp_path / each, b"x" * 100)
    pattern = "*.LOG" if name.endswith("LOG") else "*.log"
    group = logs.read_log_group(f"{log.parent}/{pattern}")
    assert (group.files, group.megabytes) == ((), 0)
    assert all("part of a database" in reason for _path, reason in group.odd)
    assert taken(log.parent, pattern) == []
    for step in (trim(log), archive(log)):
        assert "part of a database" in str(recheck(step, context(tmp_path)))
    assert discovery.search_homes([tmp_path]).logs == []


@pytest.mark.parametrize(
    "neighbours",
    [
        ["log4j.properties", "app.conf"],
        ["other.script"],
        ["data.db", "dump.rdb"],
        ["index.html", "app.idx"],
        ["app.log.1", "app.log-20250101.gz"],
        ["current", "manifest.json"],
        ["app.db-wal", "app.db"],
        ["version", "LOCK"],
    ],
    ids=" ".join,
)
def test_ordinary_neighbours_do_not_make_a_log_a_database(
    tmp_path: Path, neighbours: list[str]
) -> None:
    log = fill(tmp_path / "logs" / "app.log", LINES * 60)
    for each in neighbours:
        fill(tmp_path / "logs" / each, b"x\n" * 100)
    assert taken(log.parent) == ["app.log"]
    assert recheck(archive(log), context(tmp_path)) is None
    assert [found.path for found in discovery.search_homes([tmp_path]).logs] == [log.parent]


def test_configuration_names_further_databases(tmp_path: Path) -> None:
    fill(tmp_path / "mine" / "0001.log")
    fill(tmp_path / "mine" / "store.mydb")
    log = fill(tmp_path / "other" / "app.log")
    chosen = config(logs=LogSettings(patterns=(f"{tmp_path}/*/*.log",), databases=("*.mydb",)))
    host = Host(chosen)
    group = host.log_group(f"{tmp_path}/*/*.log")
    assert [file.path for file in group.files] == [log]
    assert group.odd == (
        (
            tmp_path / "mine" / "0001.log",
            "part of a database ([logs] databases): beside store.mydb",
        ),
    )
    where = Context(host, "run", tmp_path / "state", (tmp_path,))
    assert "store.mydb" in str(recheck(archive(tmp_path / "mine" / "0001.log"), where))
    assert recheck(archive(log), where) is None
    assert recheck(archive(tmp_path / "mine" / "0001.log"), context(tmp_path)) is None
    healer, kind = registry.load_healer("prune_logs", registry.builtin("healers") / "prune_logs.py")
    assert kind is not None
    found = healer(
        HealerContext(host, {"log_group": group}),
        Issue("large_log_files", "", "", 1, Limit(0)),
        kind(archive_after_days=0),
    )
    assert [step.path for step in found.steps] == [log]
    assert Config().logs.databases == ()


# Text


def blank(size: int, content: bytes) -> bytes:
    return b"\0" * size + content


TEXTS = {
    "plain": LINES,
    "empty": b"",
    "coloured": b"\x1b[31merror\x1b[0m something\x07 \x1b]0;title\x07\n" * 500,
    "progress": b"\r 1 %\r 2 %\r 3 %" * 500,
    "UTF-8": "Ünïcöde 日本語 ログ\n".encode() * 500,
    "Latin-1": "Größe überschritten, naïve façade\n".encode("latin-1") * 500,
    "Shift-JIS": "日本語のログ、エラーが発生しました\n".encode("shift-jis") * 500,
    "KOI8-R": "Ошибка записи\n".encode("koi8-r") * 500,
    "JSON": b'{"level": "info", "statement": "INSERT INTO t VALUES (1)"}\n' * 500,
    "queries with times": b"2025-01-01 12:00:00 LOG: statement: INSERT INTO t VALUES (1)\n" * 500,
    "one stray byte": LINES + b"\x01\n" + LINES,
    "last line not ended": LINES + b"and then",
}
NO_TEXTS = {
    "NUL bytes": (LINES + b"\0" + LINES)[: 15 << 10] + b"\0" + LINES,
    "zeros at its head": blank(100, LINES),
    "records": b"".join(b"\x01\x02%08d\x03\xff\n" % number for number in range(3000)),
    "random": os.urandom(50_000),
    "UTF-16": LINES.decode().encode("utf-16"),
    "one endless line": b"y" * 50_000,
    "gzip": gzip.compress(LINES),
    "statements": b"/*C2*/SET SCHEMA PUBLIC\nINSERT INTO T VALUES(1,'x')\nCOMMIT\n" * 500,
    "Redis": b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n" * 500,
    "text in front only": LINES[:20_000] + os.urandom(200_000),
    "text at both ends": LINES[:20_000] + os.urandom(200_000) + LINES[:20_000],
    "text but for the end": LINES + os.urandom(20_000),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_text_in_any_encoding_is_a_log(tmp_path: Path, kind: str) -> None:
    assert log_text.why_not_text_at(fill(tmp_path / "app.log", TEXTS[kind])) is None


@pytest.mark.parametrize("kind", NO_TEXTS)
def test_what_is_no_text_is_no_log(tmp_path: Path, kind: str) -> None:
    log = fill(tmp_path / "app.log", NO_TEXTS[kind])
    assert log_text.why_not_text_at(log) is not None
    for step in (trim(log), archive(log)):
        assert recheck(step, context(tmp_path)) is not None
        with pytest.raises(Refused):
            apply(step, context(tmp_path))
    assert log.read_bytes() == NO_TEXTS[kind]
    assert taken(tmp_path) == []


@pytest.mark.parametrize("first", [0, 5000, 3 << 20])
@pytest.mark.parametrize("second", [0, 10_000, 1 << 20])
def test_holes_are_passed_over_with_the_zeros_around_them(
    tmp_path: Path, first: int, second: int
) -> None:
    """Who writes on after others emptied the file leaves a hole that ends at a block, and zeros up
    to the line.
    """
    log = tmp_path / "app.log"
    with log.open("wb") as file:
        for size in (first, second):
            file.seek(size, os.SEEK_CUR)
            file.write(LINES)
    assert log_text.why_not_text_at(log) is None
    os.truncate(log, log.stat().st_size + (1 << 20))
    assert log_text.why_not_text_at(log) is None


def test_rotated_log_may_be_compressed_as_its_name_says_but_is_never_trimmed(
    tmp_path: Path,
) -> None:
    packed = gzip.compress("\n".join(str(number) for number in range(200_000)).encode(), 1)
    for name in ("app.log.1.gz", "app.log", "store.log.xz"):
        fill(tmp_path / name, packed)
    assert taken(tmp_path, "*") == []
    found = plan(f"{tmp_path}/*", keep_lines=1, archive_after_days=0)
    assert {(Path(each.target).name, each.reason) for each in found.kept} == {
        ("app.log", "no log"),
        ("store.log.xz", "no log"),
        ("app.log.1.gz", "compressed already"),
    }
    assert "it is compressed" in str(recheck(trim(tmp_path / "app.log.1.gz"), context(tmp_path)))


def test_check_looks_into_large_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of small ones there are thousands; the healer and the gate look into each that they would
    touch.
    """
    for number in range(50):
        fill(tmp_path / f"{number}.log", NO_TEXTS["records"])
    fill(tmp_path / "large.log", NO_TEXTS["records"] * 50)
    looked: list[str] = []
    monkeypatch.setattr(log_text, "why_not_text_at", lambda path: looked.append(Path(path).name))
    assert len(logs.read_log_group(f"{tmp_path}/*.log").files) == 51
    assert looked == ["large.log"]
    monkeypatch.undo()
    assert len(logs.read_log_group(f"{tmp_path}/*.log").files) == 50
    assert taken(tmp_path) == []


# Who writes it

RING = """
import os, sys, time
file = os.open(sys.argv[1], os.O_RDWR)
for number in range(10**7):
    os.lseek(file, 0 if sys.argv[2] == "pwrite" else number % 1000 * 40, 0)
    record = b"record %09d and what it says      \\n" % number
    if sys.argv[2] == "pwrite":
        os.pwrite(file, record, number % 1000 * 40)
    else:
        os.write(file, record)
    if number == 500:
        print(flush=True)
    time.sleep(0.001)
"""
WRITER = """
import os, sys, time
flags = os.O_WRONLY | (os.O_APPEND if sys.argv[2] == "append" else 0)
file = os.open(sys.argv[1], flags)
os.lseek(file, 0, 2)
number = 0
while not os.path.exists(sys.argv[3]):
    os.write(file, b"since %08d\\n" % number)
    number += 1
    if number == 500:
        print(flush=True)
    time.sleep(0.00005)
print(number)
"""


@pytest.mark.parametrize("way", ["pwrite", "seek"])
def test_ring_buffer_is_left_as_it_is(tmp_path: Path, start: Start, way: str) -> None:
    log = fill(tmp_path / "ring.log", b"record %09d and what it says      \n" % 0 * 40_000)
    writer = start(sys.executable, "-c", RING, str(log), way, stdout=subprocess.PIPE)
    writer.stdout.readline()
    size = log.stat().st_size
    found = plan(f"{tmp_path}/*.log", keep_lines=1)
    assert (found.steps, len(found.kept)) == ((), 1)
    assert "writes inside it, not at its end" in found.kept[0].detail
    assert "writes inside it" in str(recheck(trim(log), context(tmp_path)))
    writer.kill()
    writer.wait()
    assert (b"\0" in log.read_bytes(), log.stat().st_size) == (False, size)
    assert recheck(trim(log), context(tmp_path)) is None  # nobody goes back in it any more


@pytest.mark.parametrize("way", ["append", "offset"])
def test_busy_writer_at_the_end_is_healed_and_loses_no_line(
    tmp_path: Path, start: Start, way: str
) -> None:
    """Its position is past any size that was measured before, however often it is looked at."""
    log, stop = fill(tmp_path / "logs" / "app.log", LINES * 20), tmp_path / "stop"
    writer = start(sys.executable, "-c", WRITER, str(log), way, str(stop), stdout=subprocess.PIPE)
    writer.stdout.readline()
    step = trim(log)
    assert [recheck(step, context(tmp_path)) for _ in range(20)] == [None] * 20
    assert [found.path for found in plan(f"{log.parent}/*.log", keep_lines=1).steps] == [log]  # type: ignore[attr-defined]
    apply(step, context(tmp_path))
    stop.touch()
    count = int(writer.communicate()[0])
    since = [line for line in log.read_bytes().split(b"\n") if line.startswith(b"since")]
    assert since[-1] == b"since %08d" % (count - 1)
    assert since == [b"since %08d" % number for number in range(count - len(since), count)]


def test_redirected_output_is_healed_as_ever(tmp_path: Path, start: Start) -> None:
    """``program > app.log`` has an offset of its own."""
    log = tmp_path / "app.log"
    with log.open("wb") as file:
        writer = start("sh", "-c", "while :; do echo a line of output; done", stdout=file)
    wait_for(lambda: log.stat().st_size > 3_000_000)
    done = apply(trim(log), context(tmp_path))
    assert done.details["way"] == "punched"
    assert writer.is_running()


def test_our_own_output_that_goes_back_counts_as_well(tmp_path: Path) -> None:
    log = fill(tmp_path / "app.log")
    with log.open("r+b") as file:
        assert "this program" in str(recheck(trim(log), context(tmp_path)))
        file.seek(0, os.SEEK_END)
        assert recheck(trim(log), context(tmp_path)) is None
