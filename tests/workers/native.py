"""Speaks the native control channel by hand. The first argument says how it behaves:

good                 drains when told
garbage, long, cut   sends frames that are no messages, then behaves
flood                sends without end, then behaves
stays                says DRAINED and does not end
silent               serves on when told to drain, and never says DRAINED
aborted              says DRAINED with work that it aborted
fatal                says FATAL and ends
scribble             writes 0xff all over the scoreboard, again and again, then behaves
unready              says HELLO and never READY
dies                 says READY and dies a moment later, with exit status 9, and serves nothing
vanish               closes its end of the channel and lives on

With `--boot SECONDS` it takes so long before its first word.
"""

import os
import signal
import sys
import threading
import time

from worker import App, Control, say, scoreboard

how = sys.argv[1]
# The master forwards SIGTERM as well; a native worker goes by the channel.
signal.signal(signal.SIGTERM, lambda *_: None)
signal.signal(signal.SIGINT, lambda *_: None)

if "--boot" in sys.argv:
    time.sleep(float(sys.argv[sys.argv.index("--boot") + 1]))
control = Control()
control.send("HELLO=1")
if how == "unready":
    for frame in control.frames():
        if "DRAIN" in frame or "QUIT" in frame:
            break
    os._exit(0)
if how == "dies":
    control.send("READY=1")
    time.sleep(0.1)
    os._exit(9)
app = App().start()


def misbehave():
    if how == "garbage":
        for frame in (b"\xff\xfe\x00\x01", b"\x00", b"no equals sign", b"=", b"READY", bytes(range(256))):
            control.send(frame)
    elif how == "long":
        control.send(b"STATUS=" + b"x" * 4090)
        control.send(b"STATUS=" + b"y" * 60000)
    elif how == "cut":
        for frame in (b"DRAI", b"SERVED", b"STATUS=caf\xc3", b"DRAINED", b"HELLO=", b"WATCHDOG"):
            control.send(frame)
    elif how == "scribble":
        memory = scoreboard()
        while True:
            memory[:] = b"\xff" * len(memory)
            time.sleep(0.01)
    elif how == "flood":
        control.socket.setblocking(False)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            try:
                control.send("STATUS=" + "z" * 1000)
            except BlockingIOError:
                pass
        control.socket.setblocking(True)
        say("has flooded")


def drain():
    say("drains")
    app.stop()
    aborted = 3 if how == "aborted" else 0
    control.send(f"DRAINED=1\nSERVED={app.served}\nABORTED={aborted}")
    if how == "stays":
        say("has drained and stays")
        threading.Event().wait()
    os._exit(0)


if how == "fatal":
    control.send("FATAL=there is no database")
    os._exit(1)
if how == "scribble":
    control.send("READY=1")
    threading.Thread(target=misbehave, daemon=True).start()
elif how == "flood":
    control.send("READY=1")
    misbehave()
else:
    misbehave()
    control.send("READY=1")
if how == "vanish":
    control.socket.close()
    say("has vanished")
    threading.Event().wait()

for frame in control.frames():
    if "LAMEDUCK" in frame:
        app.healthy = False
        control.send("UNHEALTHY=1")
    say(f"was told {frame}")
    if "DRAIN" in frame or "RETIRE" in frame:
        if how == "silent":
            continue
        drain()
    if "QUIT" in frame and how not in ("silent", "stays"):
        os._exit(0)
say("lost its master")
drain()
