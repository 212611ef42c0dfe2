# Copyright: Miyabi Healing contributors
# MIT License (see LICENSE or https://opensource.org/license/mit)
"""What stops a rollout after a wave: the rules, and their words."""

from __future__ import annotations

DOCUMENTATION = r"""
name: broken_rule
short_description: Why no further wave is to be begun
version_added: 0.1.0
author: Miyabi Healing contributors (@miyabi-healing)
description:
  - Judges the results of M(miyabi.healing.heal) after a wave.
  - A host that could not be reached is not well, whatever Ansible counts it as.
positional: _input, hosts, wave
options:
  _input:
    description: The results by host, as C(hostvars), which has them as C(miyabi_heal).
    type: dict
    required: true
  hosts:
    description: All hosts of the rollout, in order.
    type: list
    elements: str
    required: true
  wave:
    description: The hosts of this wave.
    type: list
    elements: str
    required: true
  canary:
    description: Whether all of the first wave have to be well.
    type: bool
    default: true
  max_fail:
    description: More than so many per cent of a wave's hosts that are not well are too many.
    type: float
    default: 20
  same_issue:
    description:
      - One and the same issue on more than so many per cent of all hosts that have answered so far
        is too many, from five answers on. What is wrong everywhere has one cause elsewhere.
    type: float
    default: 49
  check_mode:
    description: Whether these are dry runs, in which an issue that has a plan counts as well.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Stop where a rule says so
  ansible.builtin.fail:
    msg: "{{ hostvars | miyabi.healing.broken_rule(ansible_play_hosts_all, ansible_play_batch) }}"
  when: hostvars | miyabi.healing.broken_rule(ansible_play_hosts_all, ansible_play_batch) != ""
  run_once: true
"""

RETURN = r"""
_value:
  description: Which rule stops the rollout, with numbers and the way out. Empty where none does.
  type: str
"""

from collections import Counter

ANSWERED = ("well", "issues", "unknown")
FEWEST_ANSWERS = 5  # from so many on, a share of them says something
MOST_NAMES = 10  # that a message lists


def is_well(result, check_mode=False):
    """Whether a host is; of a dry run, whether the run would leave something."""
    if result.get("unreachable"):
        return False
    state = result.get("state")
    return state == "well" or (check_mode and state == "issues" and bool(result.get("changed")))


def trouble(result):
    """What is wrong with one host, in some words."""
    if result.get("unreachable"):
        return "unreachable"
    state = result.get("state", "failed")
    left = sorted({each["name"] for each in result.get("issues", []) if not each["healed"]})
    if state == "issues" and left:
        return "issues: {}".format(", ".join(left))
    return state


def listed(results):
    """Hosts with what is wrong with each."""
    words = [f"{host} {trouble(result)}" for host, result in results.items()]
    more = len(words) - MOST_NAMES
    return "; ".join(words[:MOST_NAMES]) + (f"; and {more} more" if more > 0 else "")


def commonest_issue(results):
    """The issue that was found on the most hosts, on how many, and how many have answered."""
    answered = [
        each
        for each in results.values()
        if not each.get("unreachable") and each.get("state") in ANSWERED
    ]
    found = Counter(
        name for each in answered for name in {row["name"] for row in each.get("issues", [])}
    )
    name, count = min(found.items(), key=lambda row: (-row[1], row[0])) if found else ("", 0)
    return name, count, len(answered)


def judge(results, hosts, wave, canary=True, max_fail=20.0, same_issue=49.0, check_mode=False):
    """Which rule is broken, in words without the way out; empty where none is."""
    bad = {host: results[host] for host in wave if not is_well(results[host], check_mode)}
    if canary and bad and hosts[0] in wave:
        return (
            f"The canary rule: {len(bad)} of {len(wave)} host(s) of the first wave not well "
            f"({listed(bad)})."
        )
    share = 100.0 * len(bad) / len(wave)
    if share > max_fail:
        return (
            f"The rule miyabi_max_fail: {len(bad)} of {len(wave)} host(s) of this wave "
            f"({share:.0f} %, more than {max_fail:g} %) not well or not reached ({listed(bad)})."
        )
    name, count, answered = commonest_issue(results)
    if answered >= FEWEST_ANSWERS and 100.0 * count > same_issue * answered:
        return (
            f"The rule miyabi_same_issue: {name} found on {count} of {answered} hosts that have "
            f"answered ({100.0 * count / answered:.0f} %, more than {same_issue:g} %)."
        )
    return ""


def broken_rule(
    hostvars, hosts, wave, canary=True, max_fail=20.0, same_issue=49.0, check_mode=False
):
    """As documented above."""
    found = ((host, hostvars[host].get("miyabi_heal")) for host in hosts)
    results = {host: result for host, result in found if result is not None}
    why = judge(results, hosts, wave, canary, float(max_fail), float(same_issue), check_mode)
    if not why:
        return ""
    touched = len(results)
    return (
        f"{why} {touched} of {len(hosts)} host(s) asked, {len(hosts) - touched} untouched. "
        "Look at those named (on the host: miyabi-healing show), mend the cause, and start again "
        "under a new miyabi_fleet_run: under the same one a host repeats its answer."
    )


class FilterModule:
    """What Ansible loads."""

    def filters(self):
        """The filters by name."""
        return {"broken_rule": broken_rule}
