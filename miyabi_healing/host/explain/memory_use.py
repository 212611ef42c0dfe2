"""What memory a process takes, and whether it may be ended when memory is short."""

from __future__ import annotations

from miyabi_healing.host.explain.question import Question
from miyabi_healing.host.memory_users import group_by_program
from miyabi_healing.host.process_status import Process
from miyabi_healing.host.processes import Processes
from miyabi_healing.host.programs import matches, program_name
from miyabi_healing.support.formatting import size_text


def evidence(process: Process, everyone: tuple[Process, ...]) -> tuple[str, ...]:
    """What it takes, and what all of its program take; nothing where that cannot be told."""
    own = group_by_program([process])
    if not own:
        return ()
    name = program_name(process)
    found = f"it takes {size_text(own[0].bytes)} of memory"
    for all_of_them in group_by_program(each for each in everyone if program_name(each) == name):
        if len(all_of_them.processes) > 1:
            found += f"; all of its program: {all_of_them.text}"
    return (found,)


def may_stop(question: Question, process: Process, processes: Processes) -> bool:
    """Whether it is one of the programs that may be ended when memory is short."""
    named = matches(process, question.options("clear_cache").may_stop)
    return named and processes.reason_not_to_end(process) is None


def verdict(question: Question) -> str:
    """For one of these."""
    most = question.threshold("high_memory_usage", 90)
    return f"clear_cache may end it while more than {most:g} % of the memory is taken"
