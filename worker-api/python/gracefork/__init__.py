"""Serve Python apps and lose no request when they stop or reload.

``gracefork -c gunicorn_config.py main:app`` runs an app. Nothing of it has to import this package;
an app that wants to know how its worker fares may::

    import gracefork

    @gracefork.on_term
    def stop_taking_jobs():
        queue.pause()

    gracefork.health.mark_unhealthy()
    gracefork.worker.slot

All of it works under any server: where there is no gracefork, nothing is called, and a process is
healthy until it says otherwise.
"""

from __future__ import annotations

from . import health
from ._current import WorkerInfo, on_drain, on_term

#: This worker.
worker = WorkerInfo()

__all__ = ["health", "on_drain", "on_term", "worker"]
__version__ = "0.1.0"
