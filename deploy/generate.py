"""Write everything in this folder anew: ``python3 noxfile.py --session deploy``.

What ``miyabi-healing install`` would write for a program in /opt/miyabi-healing, to read or to copy.
"""

from __future__ import annotations

from pathlib import Path

from miyabi_healing import units

HERE = Path(__file__).resolve().parent
PROGRAM = ("/opt/miyabi-healing/run_healing.sh",)


def services() -> dict[str, bytes]:
    """The units, property lists and lines of cron, by their names below this folder."""
    found: dict[str, bytes] = {}
    for scope in ("system", "user"):
        job = units.Job(PROGRAM, units.INTERVAL, scope == "system", Path("/Users/you"))
        watch = units.Job(PROGRAM, units.INTERVALS["systemd-watch"], job.system)
        for name in ("miyabi-healing.service", "miyabi-healing.timer"):
            found[f"systemd/{scope}/{name}"] = units.unit(name, job).encode()
        name = "miyabi-healing-watch.service"
        found[f"systemd/{scope}/{name}"] = units.unit(name, watch).encode()
        found[f"launchd/{scope}/miyabi-healing.plist"] = units.property_list(job)
        cron = units.cron_file if job.system else units.cron_block
        found[f"cron/{'cron.d' if job.system else 'crontab'}"] = cron(job, "localhost").encode()
    return found


def contents() -> dict[str, bytes]:
    """Everything that is generated."""
    return services()


if __name__ == "__main__":
    for name, data in contents().items():
        (HERE / name).parent.mkdir(parents=True, exist_ok=True)
        (HERE / name).write_bytes(data)
