"""Where the Ansible collection is that coordinators have hosts healed by."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
NAME = "ansible_collections"  # Ansible's own word: it looks for a folder of this name


def collections_folder() -> Path:
    """The folder that holds `ansible_collections`: in the installed package beside this module, in
    a checkout deploy/ansible. Raises FileNotFoundError.
    """
    for folder in (_PACKAGE / "fleet", _PACKAGE.parent / "deploy/ansible"):
        if (folder / NAME / "miyabi/healing/galaxy.yml").is_file():
            return folder
    raise FileNotFoundError("the Ansible collection miyabi.healing is not installed with it")
