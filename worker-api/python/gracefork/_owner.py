"""Who a worker runs as: gunicorn's ``user``, ``group`` and ``initgroups``."""

from __future__ import annotations

import os
import pwd

from ._config import Cfg
from ._fault import BOOT_FAILED, Fault


def become(cfg: Cfg) -> None:
    """Takes the group and the user that the config asks for, for good: nothing of the groups that
    the server was started with is kept. Raises `Fault` when that is not allowed.

    The C library does it for every thread of the process.
    """
    user, group = int(cfg.user), int(cfg.group)
    if (user, group) == (os.geteuid(), os.getegid()):
        return
    try:
        if cfg.initgroups:
            os.initgroups(pwd.getpwuid(user).pw_name, group)
        else:
            os.setgroups([group])
        os.setgid(group)
        os.setuid(user)
    except (OSError, KeyError) as error:
        problem = f"a worker cannot run as user {user} and group {group}: {error}"
        help = "start gracefork as root, or take `user` and `group` out"
        raise Fault(problem, help, BOOT_FAILED) from error
