"""A gunicorn config file with the well-known trick: a SIGTERM handler in each worker that lets
/health turn before traffic stops. Under gunicorn such a worker never drains and is killed in the
end; under gracefork the handler runs, the worker serves on, drains and exits."""

import signal

bind = "0.0.0.0:8000"
workers = 2


def post_worker_init(worker):
    import main

    def handle_sigterm(signum, frame):
        worker.log.info("worker %s: SIGTERM, unhealthy from now on", worker.pid)
        main.stop_event.set()

    signal.signal(signal.SIGTERM, handle_sigterm)
