"""Python's own http.server on the inherited socket, unchanged but for the socket.

It has no signal handler, as `python -m http.server` has none: one that raised SystemExit could be
swallowed, where the interpreter happened to be in a callback that ignores exceptions.
"""

import http.server
import socket
import sys

server = http.server.ThreadingHTTPServer(("", 0), http.server.SimpleHTTPRequestHandler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=int(sys.argv[1]))
server.serve_forever()
