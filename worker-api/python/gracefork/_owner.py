"""Who a worker runs as: ``user``, ``group``, ``initgroups``, in numbers that the master found."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ._fault import BOOT_FAILED, Fault

#: Whether the master names any.
IS_NAMED = "GRACEFORK_UID" in os.environ


def become(environ: Mapping[str, str]) -> None:
    """Takes the groups and the user that the master names, for good: nothing of the groups that the
    server was started with is kept. Raises `Fault` when that is not allowed.

    The C library does it for every thread of the process.
    """
    user, group = int(environ["GRACEFORK_UID"]), int(environ["GRACEFORK_GID"])
    groups = [int(number) for number in environ["GRACEFORK_GROUPS"].split(",")]
    try:
        os.setgroups(groups)
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    except OSError as error:
        problem = f"a worker cannot run as user {user}, group {group}: {error}"
        help = "is there such a user in this container's user namespace?"
        raise Fault(problem, help, BOOT_FAILED) from error
