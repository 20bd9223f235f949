"""Takes SIGTERM as "say unhealthy and serve on", the well-known trick, and ends on SIGQUIT."""

import signal

from worker import App, say, wait_for_signal

app = App().start()


def unhealthy(*_):
    app.healthy = False
    say("is unhealthy now")


signal.signal(signal.SIGTERM, unhealthy)
wait_for_signal(signal.SIGQUIT)
app.stop()
