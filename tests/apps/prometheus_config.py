from prometheus_client import multiprocess


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)
    server.log.info("worker %s is marked dead", worker.pid)
