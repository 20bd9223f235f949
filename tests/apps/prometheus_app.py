"""Counts over all workers, by files that prometheus_client keeps for each of them."""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

served = Counter("served", "requests")
alive = Gauge("alive", "workers", multiprocess_mode="livesum")


def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return [generate_latest(registry)]
    served.inc()
    alive.set(1)
    return [str(os.getpid()).encode()]
