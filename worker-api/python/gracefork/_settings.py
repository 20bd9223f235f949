"""gunicorn's settings, each with what becomes of it here.

This is the one place that knows: the config file is read by it, and the table in
``docs/migrating-from-gunicorn.md`` is made from it.
"""

from __future__ import annotations

import enum
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from . import _checks as check


class Fate(enum.Enum):
    """What becomes of a setting."""

    #: Becomes a setting of gracefork's.
    KEY = "key"
    #: The host or the worker carries it out, from the config file itself.
    FILE = "file"
    #: A hook, called as under gunicorn.
    HOOK = "hook"
    #: Nothing here needs it; set to anything but its default, it is named in a warning.
    NONE = "none"
    #: Set, it is an error: without it the server would not be what the file asks for.
    REFUSED = "refused"


@dataclass(frozen=True)
class Setting:
    """One of gunicorn's settings."""

    name: str
    default: Any
    check: check.Check
    fate: Fate
    #: The keys of gracefork's that it becomes.
    keys: tuple[str, ...] = ()
    #: What there is to know about it: a sentence for the table.
    note: str = ""
    #: Values other than the default that ask for nothing.
    idle: tuple[Any, ...] = ()

    def asks_for_something(self, value: Any) -> bool:
        """Whether a value is other than what would be without the setting."""
        return value != self.default and value not in self.idle and value is not None


_ACCESS_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
_SCHEMES = {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}
_LOCAL = ["127.0.0.1", "::1"]
_NO_TLS = "gracefork serves plain HTTP: let a proxy or the cluster end TLS, and leave it out"
_NO_H2 = "workers speak HTTP/1.1; a proxy in front turns HTTP/2 into it"
_NO_DIRTY = "there are no dirty arbiters; run a task queue beside the server"
_STRICT = "requests are read as strictly as gunicorn does by default, and nothing loosens it"
_SYSLOG = "the log goes to standard error or a file: the container's runtime ships it"
_STATSD = "scrape `/metrics` of `health.listen`"
_CONTROL = "the master has no control socket yet: signals and `/status` of `health.listen` do it"
_PYTHON_LOGGING = "sets up Python's logging in the host and workers"
_NO_PASTE = "Paste files are not read: name the app as module:attribute"


def _key(name: str, default: Any, checked: check.Check, *keys: str, note: str = "") -> Setting:
    return Setting(name, default, checked, Fate.KEY, keys, note)


def _file(name: str, default: Any, checked: check.Check, note: str) -> Setting:
    return Setting(name, default, checked, Fate.FILE, note=note)


def _hook(name: str, *parameters: str, note: str = "") -> Setting:
    return Setting(name, None, check.hook(*parameters), Fate.HOOK, note=note)


def _none(
    name: str, default: Any, checked: check.Check, note: str, *, idle: tuple[Any, ...] = ()
) -> Setting:
    return Setting(name, default, checked, Fate.NONE, note=note, idle=idle)


def _refused(
    name: str, default: Any, checked: check.Check, note: str, *, idle: tuple[Any, ...] = ()
) -> Setting:
    return Setting(name, default, checked, Fate.REFUSED, note=note, idle=idle)


def _uncalled(name: str, parameters: tuple[str, ...], note: str) -> Setting:
    return Setting(name, None, check.hook(*parameters), Fate.NONE, note=note)


def _app_and_sockets() -> Iterator[Setting]:
    yield _key(
        "config",
        "./gunicorn.conf.py",
        check.text,
        "python.config",
        note="`-c FILE.py`, `-c file:FILE`, `-c python:MODULE`; only on the command line, as under "
        "gunicorn",
    )
    yield _key("wsgi_app", None, check.text, "app")
    yield _key(
        "bind",
        ["127.0.0.1:8000"],
        check.texts,
        "listen.bind",
        note='left out: `"0.0.0.0:8000"`, which a container needs',
    )
    yield _key("backlog", 2048, check.number, "listen.backlog")
    yield _none(
        "reuse_port", False, check.boolean, "workers share one socket and take connections in turns"
    )


def _workers() -> Iterator[Setting]:
    yield _key(
        "workers",
        1,
        check.number,
        "workers.count",
        note="left out: the CPU quota of the container, or every CPU where it has none",
    )
    yield _key(
        "worker_class",
        "sync",
        check.worker_class,
        "python.interface",
        note="sync and gthread are WSGI; asgi and uvicorn's are ASGI, and so is a class made from "
        "them, whose `CONFIG_KWARGS` are read; gevent, eventlet and tornado are refused: use "
        "`threads`, or an ASGI app. Left out, the app tells",
    )
    yield _key("threads", 1, check.number, "workers.threads")
    yield _key("worker_connections", 1000, check.number, "http.max_connections")
    yield _key("max_requests", 0, check.number, "workers.max_requests")
    yield _key("max_requests_jitter", 0, check.number, "workers.max_requests_jitter")
    yield _key(
        "timeout",
        30,
        check.number,
        "workers.hang_timeout",
        note="bounds calls with gthread too: see above",
    )
    yield _key(
        "graceful_timeout",
        30,
        check.number,
        "shutdown.drain_timeout",
        note="how long requests in flight may take; `shutdown.grace_period` grows so that "
        "lameduck, this and the kill margin fit. Left out: what the grace period "
        "leaves",
    )
    yield _key(
        "keepalive",
        2,
        check.number,
        "http.keep_alive",
        note="left out: 75 s, longer than a load balancer keeps a connection",
    )
    yield _key(
        "preload_app",
        False,
        check.boolean,
        "workers.preload",
        note="a reload takes the new code all the same",
    )
    yield _key(
        "asgi_loop", "auto", check.one_of("auto", "asyncio", "uvloop", none="auto"), "python.loop"
    )
    yield _key(
        "asgi_lifespan", "auto", check.one_of("auto", "on", "off", none="auto"), "python.lifespan"
    )
    yield _key(
        "websocket_max_message_size",
        16 * 1024 * 1024,
        check.number,
        "python.ws_max_message_size",
    )
    yield _none(
        "asgi_disconnect_grace_period",
        3,
        check.number,
        "an app is told that its client has left, and is not cancelled for it",
    )
    yield _none(
        "http_parser",
        "auto",
        check.one_of("auto", "fast", "python", none="auto"),
        "the parser is hyper's",
    )
    yield _none(
        "worker_tmp_dir", None, check.text, "workers show life in shared memory, not by files"
    )


def _requests() -> Iterator[Setting]:
    yield _key("limit_request_line", 4094, check.number, "http.limit_request_line")
    yield _key("limit_request_fields", 100, check.number, "http.limit_request_fields")
    yield _key("limit_request_field_size", 8190, check.number, "http.limit_request_field_size")
    yield _key("forwarded_allow_ips", _LOCAL, check.networks, "http.forwarded_allow_ips")
    yield _key(
        "proxy_protocol",
        "off",
        check.proxy_protocol,
        "http.proxy_protocol",
        note="both versions; `REMOTE_ADDR`, `REMOTE_PORT` are the client's, no `PROXY_*` keys",
    )
    yield _key("proxy_allow_ips", _LOCAL, check.networks, "http.proxy_allow_ips")
    yield _key(
        "root_path",
        "",
        check.text,
        "python.root_path",
        note="of ASGI, whose `path` begins with it, other than under gunicorn, whether or not the"
        " proxy takes it off; WSGI takes `SCRIPT_NAME` from the environment, as under gunicorn",
    )
    yield _refused(
        "secure_scheme_headers",
        _SCHEMES,
        check.table,
        "`X-Forwarded-Proto`, `-Protocol` and `-Ssl` alone are understood, as by default: have the "
        "proxy send one of them",
        idle=tuple(
            {name: _SCHEMES[name] for name in some}
            for count in (1, 2)
            for some in combinations(_SCHEMES, count)
        ),
    )
    yield _refused(
        "forwarder_headers",
        ["SCRIPT_NAME", "PATH_INFO"],
        check.comma_separated,
        "proxies that are believed set `SCRIPT_NAME` and `PATH_INFO`, as by default, and nothing "
        "else",
        idle=(["PATH_INFO", "SCRIPT_NAME"],),
    )
    yield _refused(
        "header_map",
        "drop",
        check.one_of("drop", "refuse", "dangerous", none="drop"),
        "fields with an underscore in their name are dropped: have the proxy write a hyphen",
        idle=("refuse",),
    )
    yield _none("permit_obsolete_folding", False, check.boolean, _STRICT)
    yield _none("strip_header_spaces", False, check.boolean, _STRICT)
    yield _none("permit_unconventional_http_method", False, check.boolean, _STRICT)
    yield _none("permit_unconventional_http_version", False, check.boolean, _STRICT)
    yield _none("casefold_http_method", False, check.boolean, _STRICT)
    yield _none(
        "sendfile", None, check.boolean, "`wsgi.file_wrapper` sends files by sendfile where it can"
    )
    yield _none("tmp_upload_dir", None, check.text, "gracefork writes no uploads to disk")
    yield _refused("protocol", "http", check.text, "workers speak HTTP alone, not uwsgi or FastCGI")
    yield _none("uwsgi_allow_ips", _LOCAL, check.networks, "the uwsgi protocol is not spoken")


def _process() -> Iterator[Setting]:
    yield _key("chdir", ".", check.folder, "chdir")
    yield _key("raw_env", [], check.texts, "env")
    yield _key("user", os.geteuid(), check.user, "security.user")
    yield _key(
        "group",
        os.getegid(),
        check.group,
        "security.group",
        note="left out: the user's own, where gunicorn stays in the group that it was started with",
    )
    yield _key(
        "umask",
        0,
        check.number,
        "security.umask",
        note="left out: the one that gracefork was started with, and 0 for sockets, as in gunicorn",
    )
    yield _key(
        "initgroups",
        False,
        check.boolean,
        "security.initgroups",
        note="left out: `group` alone, where gunicorn keeps the other groups of root",
    )
    yield _key("pythonpath", None, check.text, "python.path")
    yield _none(
        "daemon",
        False,
        check.boolean,
        "gracefork stays in the foreground, as containers and systemd expect",
    )
    yield _key("pidfile", None, check.text, "pidfile", note="begins where gracefork was started")
    yield _none("proc_name", None, check.text, "`/status` of `health.listen` tells processes apart")
    yield _none(
        "default_proc_name",
        "gunicorn",
        check.text,
        "`/status` of `health.listen` tells processes apart",
    )
    yield _refused("paste", None, check.text, _NO_PASTE)
    yield _none("raw_paste_global_conf", [], check.texts, _NO_PASTE)


def _logging() -> Iterator[Setting]:
    yield _key("accesslog", None, check.text, "log.access")
    yield _key("access_log_format", _ACCESS_FORMAT, check.text, "log.access_format")
    yield _key("errorlog", "-", check.text, "log.file")
    yield _key("loglevel", "info", check.text, "log.level")
    yield _file("logconfig", None, check.text, _PYTHON_LOGGING)
    yield _file("logconfig_dict", {}, check.table, _PYTHON_LOGGING)
    yield _file("logconfig_json", None, check.text, _PYTHON_LOGGING)
    yield _none(
        "logger_class",
        "gunicorn.glogging.Logger",
        check.worker_class,
        "`logconfig_dict` sets up Python's logging, `access_log_format` that of requests",
        idle=("simple",),
    )
    yield _none(
        "capture_output",
        False,
        check.boolean,
        "what an app prints goes to gracefork's own standard output and error",
    )
    yield _none(
        "enable_stdio_inheritance",
        False,
        check.boolean,
        "standard output and error are inherited, and Python flushes them with "
        "`PYTHONUNBUFFERED=1`",
    )
    yield _none("syslog", False, check.boolean, _SYSLOG)
    yield _none("syslog_addr", "udp://localhost:514", check.text, _SYSLOG)
    yield _none("syslog_prefix", None, check.text, _SYSLOG)
    yield _none("syslog_facility", "user", check.text, _SYSLOG)
    yield _none("disable_redirect_access_to_syslog", False, check.boolean, _SYSLOG, idle=(True,))
    yield _none("statsd_host", None, check.text, _STATSD)
    yield _none("statsd_prefix", "", check.text, _STATSD)
    yield _none("dogstatsd_tags", "", check.text, _STATSD)
    yield _none("enable_backlog_metric", False, check.boolean, _STATSD)


def _hooks() -> Iterator[Setting]:
    yield _hook("on_starting", "server", note="in the host. What it raises ends the start: exit 1")
    yield _hook("on_reload", "server", note="in the host that is about to be replaced")
    yield _hook("when_ready", "server", note="in the host, once the pod is ready")
    yield _hook(
        "pre_fork", "server", "worker", note="in the host. What it raises fails this one fork"
    )
    yield _hook("post_fork", "server", "worker", note="in the worker, before the app is imported")
    yield _hook("post_worker_init", "worker", note="in the worker, after the app was imported")
    yield _hook(
        "worker_int",
        "worker",
        note="in the worker, when the master gets SIGINT (it drains), or the worker itself SIGINT "
        "or SIGQUIT; at a SIGQUIT of the master `worker_abort` runs alone",
    )
    yield _hook(
        "worker_abort",
        "worker",
        note="in the worker, when it hangs or its work in flight is cut off",
    )
    yield _hook("pre_request", "worker", "req", note="in the worker. What it raises answers 500")
    yield Setting(
        "post_request",
        None,
        check.post_request,
        Fate.HOOK,
        note="in the worker, after the answer. What it raises is logged",
    )
    yield _hook("child_exit", "server", "worker", note="in the host, after the worker has gone")
    yield _hook("worker_exit", "server", "worker", note="in the worker, the last thing it does")
    yield _hook("nworkers_changed", "server", "new_value", "old_value", note="in the host")
    yield _hook("on_exit", "server", note="in the host")
    yield _uncalled("pre_exec", ("server",), "the master is not replaced by exec; it reloads")
    yield _uncalled("ssl_context", ("config", "default_ssl_context_factory"), _NO_TLS)
    yield _uncalled("on_dirty_starting", ("arbiter",), _NO_DIRTY)
    yield _uncalled("dirty_post_fork", ("arbiter", "worker"), _NO_DIRTY)
    yield _uncalled("dirty_worker_init", ("worker",), _NO_DIRTY)
    yield _uncalled("dirty_worker_exit", ("arbiter", "worker"), _NO_DIRTY)


def _development() -> Iterator[Setting]:
    reload = "nothing is watched yet: `kill -HUP` the master, it loses no request"
    yield _none("reload", False, check.boolean, reload)
    yield _none(
        "reload_engine", "auto", check.one_of("auto", "poll", "inotify", none="auto"), reload
    )
    yield _none("reload_extra_files", [], check.texts, reload)
    yield _none("spew", False, check.boolean, "use a profiler, such as py-spy")
    checks = "`gracefork check`, which imports the app; the flag is the same"
    yield _none("check_config", False, check.boolean, checks)
    prints = "`gracefork config`, which imports no app and prints TOML; the flag is the same"
    yield _none("print_config", False, check.boolean, prints)


def _elsewhere() -> Iterator[Setting]:
    yield _none("control_socket", None, check.text, _CONTROL)
    yield _none("control_socket_mode", 0o600, check.number, _CONTROL)
    yield _none("control_socket_disable", False, check.boolean, _CONTROL, idle=(True,))
    yield _refused("keyfile", None, check.text, _NO_TLS)
    yield _refused("certfile", None, check.text, _NO_TLS)
    yield _none("ssl_version", ssl.PROTOCOL_TLS, check.anything, _NO_TLS)
    yield _none("cert_reqs", ssl.CERT_NONE, check.number, _NO_TLS)
    yield _none("ca_certs", None, check.text, _NO_TLS)
    yield _none("suppress_ragged_eofs", True, check.boolean, _NO_TLS, idle=(False,))
    yield _none("do_handshake_on_connect", False, check.boolean, _NO_TLS, idle=(True,))
    yield _none("ciphers", None, check.text, _NO_TLS)
    yield _none("http_protocols", ["h1"], check.comma_separated, _NO_H2)
    yield _none("http2_cleartext", "off", check.cleartext, _NO_H2)
    yield _none("http2_max_concurrent_streams", 100, check.number, _NO_H2)
    yield _none("http2_initial_window_size", 65535, check.number, _NO_H2)
    yield _none("http2_max_frame_size", 16384, check.number, _NO_H2)
    yield _none("http2_max_header_list_size", 65536, check.number, _NO_H2)
    yield _none("dirty_apps", [], check.texts, _NO_DIRTY)
    yield _none("dirty_workers", 0, check.number, _NO_DIRTY)
    yield _none("dirty_timeout", 300, check.number, _NO_DIRTY)
    yield _none("dirty_threads", 1, check.number, _NO_DIRTY)
    yield _none("dirty_graceful_timeout", 30, check.number, _NO_DIRTY)


#: The settings by what they are about.
GROUPS: dict[str, tuple[Setting, ...]] = {
    "The app and its sockets": tuple(_app_and_sockets()),
    "Workers": tuple(_workers()),
    "Requests": tuple(_requests()),
    "The process": tuple(_process()),
    "Logs": tuple(_logging()),
    "Server hooks": tuple(_hooks()),
    "Development": tuple(_development()),
    "What is done elsewhere": tuple(_elsewhere()),
}

#: Every setting of gunicorn 27.0.1, by name.
SETTINGS: dict[str, Setting] = {
    setting.name: setting for group in GROUPS.values() for setting in group
}
