"""Databases whose own files look like logs by their name, and how each is known: by its neighbours,
its folder or its names.

One row a database. A name may have one ``*``. What is listed under `beside` makes everything in its
folder a part of the database, so it must be a name that nothing else has: ``dump.rdb`` and ``*.db``
lie beside ordinary logs, too. One that begins with ``{stem}`` (the log's own name without its
extension) or ``{name}`` speaks of that one log alone. The rows are from the databases' own
documents and sources.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from miyabi_healing.support.formatting import display


class Database(NamedTuple):
    """One database: what lies `beside` its logs, what their folder is called (`folders`), and they
    themselves (`files`).
    """

    name: str
    beside: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


# Tuples, not dataclasses: making two of these would cost a healthy run more than all the rest here.
KNOWN = (
    Database(
        "LevelDB or RocksDB", beside=("CURRENT", "MANIFEST-*", "OPTIONS-0*", "*.sst", "*.ldb")
    ),
    Database(
        "HSQLDB", beside=("{stem}.script", "{stem}.properties", "{stem}.lobs", "*.script.new")
    ),
    Database("H2", files=("*.log.db", "*.mv.db", "*.h2.db")),
    Database("Derby", beside=("log.ctrl", "logmirror.ctrl", "seg0")),
    Database(
        "InnoDB",
        beside=("ibdata*", "ib_logfile*", "#ib_redo*", "ibtmp*", "*.ibd"),
        folders=("#innodb_redo",),
        files=(
            "ib_logfile*",
            "undo_0*",
            "binlog.index",
            "*-bin.index",
            "binlog.0*",
            "mysql-bin.0*",
            "mariadb-bin.0*",
        ),
    ),
    Database("Aria or TokuDB", beside=("aria_log_control", "tokudb.*"), files=("aria_log.0*",)),
    Database(
        "PostgreSQL",
        beside=("PG_VERSION",),
        folders=("pg_wal", "pg_xlog", "pg_xact", "pg_clog", "archive_status"),
    ),
    Database(
        "SQLite",
        beside=("{name}-wal", "{name}-journal", "{name}-shm"),
        files=("*-wal", "*-journal"),
    ),
    Database(
        "Oracle",
        beside=("*.ctl", "*.dbf", "*.CTL", "*.DBF", "redo0*.log", "REDO0*.LOG"),
        files=("redo0*.log", "REDO0*.LOG", "*.arc"),
    ),
    Database(
        "Db2",
        beside=("SQLOGCTL.*", "S000*.LOG"),
        folders=("SQLOGDIR", "LOGSTREAM0000"),
        files=("S000*.LOG",),
    ),
    Database("SQL Server or ESE", beside=("edb.chk", "edbres*", "*.jrs", "*.ldf", "*.mdf")),
    Database(
        "Kafka",
        beside=(
            "{stem}.index",
            "*.timeindex",
            "0*.index",
            "*.txnindex",
            "leader-epoch-checkpoint",
            "partition.metadata",
            "recovery-point-offset-checkpoint",
            "log-start-offset-checkpoint",
        ),
        folders=("__cluster_metadata-0", "__consumer_offsets-*"),
    ),
    Database("Redpanda", beside=("*.base_index", "*.compaction_index", "*.stg_index")),
    Database("Pulsar or BookKeeper", beside=("lastMark", "lastId", "*.txn"), files=("*.txn",)),
    Database(
        "ZooKeeper", beside=("snapshot.0", "currentEpoch", "acceptedEpoch"), folders=("version-2",)
    ),
    Database(
        "Cassandra",
        beside=("*_cdc.idx", "CommitLog-*"),
        folders=("commitlog", "cdc_raw"),
        files=("CommitLog-*",),
    ),
    Database(
        "KahaDB or ActiveMQ", beside=("db.data", "db.redo", "*.amq"), folders=("kahadb", "KahaDB")
    ),
    Database(
        "RabbitMQ or Mnesia",
        beside=("LATEST.LOG", "DECISION_TAB.LOG", "schema.DAT", "*.DCD", "*.DCL"),
        files=("LATEST.LOG", "PREVIOUS.LOG", "DECISION_TAB.LOG", "*.DCL"),
    ),
    Database("NATS JetStream", beside=("meta.inf", "meta.sum", "tav.idx")),
    Database("etcd", files=("*.wal",)),
    Database(
        "WiredTiger",
        beside=("WiredTiger", "WiredTiger.*", "WiredTigerLog.*", "WiredTigerPreplog.*"),
        files=("WiredTigerLog.*",),
    ),
    Database("Berkeley DB", beside=("__db.0*", "log.00000*"), files=("log.00000*",)),
    Database("Neo4j", beside=("neostore", "neostore.*"), files=("neostore.*",)),
    Database("Elasticsearch", beside=("translog.ckp", "*.tlog", "segments.gen"), files=("*.tlog",)),
    Database("ClickHouse Keeper", files=("changelog_*",)),
    Database(
        "Redis",
        beside=("*.aof.manifest",),
        folders=("appendonlydir",),
        files=("*.aof", "appendonly*", "*.rdb"),
    ),
    Database(
        "Prometheus or InfluxDB",
        beside=("chunks_head", "*.tsm", "checkpoint.0*", "_*.wal"),
        folders=("chunks_head",),
    ),
    Database("FoundationDB", beside=("log2-V*", "logqueue-*"), files=("logqueue-*", "log2-V*")),
    Database("Tarantool", beside=("*.xlog", "*.vylog"), files=("*.xlog", "*.vylog")),
    Database("SAP HANA", beside=("logsegment_*",), files=("logsegment_*",)),
    Database("OrientDB", beside=("*.wmr", "*.ocf"), files=("*.wal", "*.wmr")),
    Database("Chronicle or Aeron", beside=("*.cq4", "*.cq4t", "cnc.dat", "archive.catalog")),
)
# A folder so called holds such files as its numbered ones, whatever their database: a log of that
# name says more.
WRITE_AHEAD = frozenset(
    "wal WAL db_wal raft-wal raft_log raftlog redolog redo_log txlog translog txnlog "
    "transaction_logs".split()
)


class Names:
    """Patterns with at most one ``*``, made ready to be held against thousands of names: two calls
    for each name.
    """

    def __init__(self, patterns: Sequence[tuple[str, str]]) -> None:
        self.patterns = patterns
        self.exact = frozenset(pattern for pattern, _ in patterns if "*" not in pattern)
        self.starts = tuple(
            pattern.partition("*")[0]
            for pattern, _ in patterns
            if "*" in pattern and pattern[0] != "*"
        )
        self.ends = tuple(pattern[1:] for pattern, _ in patterns if pattern[0] == "*")

    def owner(self, name: str) -> str | None:
        """Whose a name is; None where it is nobody's."""
        if (
            name not in self.exact
            and not name.startswith(self.starts)
            and not name.endswith(self.ends)
        ):
            return None
        return next((owner for pattern, owner in self.patterns if fits(name, pattern)), None)


def fits(name: str, pattern: str) -> bool:
    start, star, end = pattern.partition("*")
    long_enough = len(name) >= len(start) + len(end)
    return (
        name.startswith(start) and name.endswith(end) and long_enough if star else name == pattern
    )


@lru_cache(maxsize=1)
def name_tables() -> tuple[Names, Names, Names, tuple[tuple[str, str], ...]]:
    """The rows by what they speak of: beside, folders, files, and what lies beside one log under
    that log's own name.
    """
    beside, folders, files = (
        [(pattern, row.name) for row in KNOWN for pattern in getattr(row, kind)]
        for kind in ("beside", "folders", "files")
    )
    common = [each for each in beside if "{" not in each[0]]
    return (
        Names(common),
        Names(folders),
        Names(files),
        tuple(each for each in beside if "{" in each[0]),
    )


def database_judge(
    path: str, names: Sequence[str], also: Sequence[str] = ()
) -> Callable[[str], str | None]:
    """Judge a folder by its name and all the names in it: a function that says of each why it is a
    database's, if it is.

    `also` are a user's patterns of what lies in a database's folder.
    """
    if reason := database_around(path, names, also):
        return lambda _name: reason
    _beside, _folders, files, own = name_tables()
    ends = tuple(pattern.partition("}")[2] for pattern, _ in own)
    companions = frozenset(name for name in names if name.endswith(ends))

    def judge(name: str) -> str | None:
        if owner := files.owner(name):
            return said(owner, f"called {name}")
        stem = os.path.splitext(name)[0]
        for pattern, owner in own if companions else ():
            beside = pattern.replace("{stem}", stem).replace("{name}", name)
            if beside != name and beside in companions:
                return said(owner, f"beside {beside}")
        return None

    return judge


def database_around(path: str, names: Sequence[str], also: Sequence[str]) -> str | None:
    beside, folders, _files, _own = name_tables()
    last = os.path.basename(path)
    if owner := folders.owner(last):
        return said(owner, f"in a folder {last}")
    if last in WRITE_AHEAD:
        return f"part of a database: in a folder {last}"
    for name in names:
        if owner := beside.owner(name):
            return said(owner, f"beside {name}")
    if also:
        import fnmatch

        for pattern in also:
            if found := fnmatch.filter(names, pattern):
                return said("[logs] databases", f"beside {found[0]}")
    return None


def said(owner: str, why: str) -> str:
    return display(f"part of a database ({owner}): {why}")
