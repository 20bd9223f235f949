"""What the apps of the soak tell of the process that they are in."""

import gc
import os
import sys
import threading
from collections import Counter


def look():
    """After a collection: what is there, to be compared with another look."""
    for _ in range(3):
        gc.collect()
    kinds = Counter(f"{type(it).__module__}.{type(it).__qualname__}" for it in gc.get_objects())
    with open("/proc/self/status") as status:
        memory = next(line for line in status if line.startswith("RssAnon"))
    references = getattr(sys, "gettotalrefcount", lambda: None)
    return {
        "blocks": sys.getallocatedblocks(),
        "references": references(),
        "kinds": kinds,
        "memory": int(memory.split()[1]) * 1024,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
        "python_threads": threading.active_count(),
    }
