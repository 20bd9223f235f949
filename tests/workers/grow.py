"""Takes 150 MB of memory on GET /slow/0, what a leak does in days."""

import signal

from worker import App, wait_for_signal

held = []


class Leaky(App):
    def route(self, method, path, body):
        if path.startswith("/slow"):
            held.append(bytearray(b"x" * (150 << 20)))
        return super().route(method, path, body)


app = Leaky().start()
wait_for_signal(signal.SIGTERM)
app.stop()
