"""The log that hooks are given: gunicorn's names, on Python's logging.

The logger is called ``gunicorn.error``, since apps take its handlers for their own by that name.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from ._config import Cfg
from ._fault import BAD_CONFIG, Fault

_FORMAT = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
_DATE_FORMAT = "[%Y-%m-%d %H:%M:%S %z]"
_LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
}


class Log:
    """``server.log`` and ``worker.log``."""

    def __init__(self, cfg: Cfg) -> None:
        self.cfg = cfg
        self.error_log = logging.getLogger("gunicorn.error")
        self.access_log = logging.getLogger("gunicorn.access")
        # What the native part has to say goes the same way.
        logging.getLogger("gracefork.error").parent = self.error_log
        self.loglevel = _LEVELS.get(str(cfg.loglevel).lower(), logging.INFO)
        self.logfile = None
        self.setup(cfg)

    def setup(self, cfg: Cfg) -> None:
        """Gives the loggers a level and a handler, or what the config's ``logconfig`` says."""
        for logger in (self.error_log, self.access_log):
            logger.propagate = False
            logger.setLevel(self.loglevel)
        if not self.error_log.handlers:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter(_FORMAT, _DATE_FORMAT))
            self.error_log.addHandler(handler)
        _configure(cfg)
        if _names_access_log(cfg):
            self.warning(
                "requests do not pass through the logger gunicorn.access, which the log's"
                " configuration names: `accesslog` and `access_log_format` say where and how they"
                " are logged"
            )

    def lend_to(self, name: str) -> None:
        """Has a logger that apps use log as this one does, as uvicorn's workers for gunicorn do."""
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.handlers = self.error_log.handlers
            logger.setLevel(self.error_log.level)
            logger.propagate = False

    def reopen_files(self) -> None:
        """Opens the files of all handlers anew, at once: one that is only closed would not be
        opened again where it was to begin with an empty file."""
        for handler in self._handlers():
            if isinstance(handler, logging.FileHandler):
                handler.acquire()
                try:
                    _reopen(handler)
                except OSError as error:
                    self.error("%s cannot be opened again: %s", handler.baseFilename, error)
                finally:
                    handler.release()

    def close_on_exec(self) -> None:
        """Nothing to do: Python's files are not inherited."""

    def _handlers(self) -> list[logging.Handler]:
        loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict]
        return [handler for logger in (logging.root, *loggers) for handler in logger.handlers]

    def critical(self, message: object, *args: Any, **kwargs: Any) -> None:
        """Logs at level CRITICAL."""
        self.error_log.critical(message, *args, **kwargs)

    def error(self, message: object, *args: Any, **kwargs: Any) -> None:
        """Logs at level ERROR."""
        self.error_log.error(message, *args, **kwargs)

    def warning(self, message: object, *args: Any, **kwargs: Any) -> None:
        """Logs at level WARNING."""
        self.error_log.warning(message, *args, **kwargs)

    def info(self, message: object, *args: Any, **kwargs: Any) -> None:
        """Logs at level INFO."""
        self.error_log.info(message, *args, **kwargs)

    def debug(self, message: object, *args: Any, **kwargs: Any) -> None:
        """Logs at level DEBUG."""
        self.error_log.debug(message, *args, **kwargs)

    def exception(self, message: object, *args: Any, **kwargs: Any) -> None:
        """Logs at level ERROR, with the exception that is being handled."""
        self.error_log.exception(message, *args, **kwargs)

    def log(self, level: int | str, message: object, *args: Any, **kwargs: Any) -> None:
        """Logs at a level by its name or number."""
        if isinstance(level, str):
            level = _LEVELS.get(level.lower(), logging.INFO)
        self.error_log.log(level, message, *args, **kwargs)


def _reopen(handler: logging.FileHandler) -> None:
    """The file goes on to be used if it cannot be opened again."""
    if handler.stream is not None:
        before, handler.stream = handler.stream, handler._open()
        before.close()


def _configure(cfg: Cfg) -> None:
    """Sets Python's logging up as ``logconfig_dict``, ``logconfig_json`` or ``logconfig`` says."""
    if not (cfg.logconfig_dict or cfg.logconfig_json or cfg.logconfig):
        return
    # Half a megabyte, with all that its handlers could need.
    import logging.config

    try:
        if cfg.logconfig_dict:
            logging.config.dictConfig(_filled(cfg.logconfig_dict))
        elif cfg.logconfig_json:
            with open(cfg.logconfig_json, encoding="utf-8") as file:
                logging.config.dictConfig(_filled(json.load(file)))
        else:
            places = {"__file__": cfg.logconfig, "here": os.path.dirname(cfg.logconfig)}
            logging.config.fileConfig(cfg.logconfig, places, disable_existing_loggers=False)
    except Exception as error:
        names = ("logconfig_dict", "logconfig_json", "logconfig")
        used = next(name for name in names if getattr(cfg, name))
        raise Fault(
            f"`{used}` cannot be used", "correct what the last line names", BAD_CONFIG, error
        ) from error


def _names_access_log(cfg: Cfg) -> bool:
    """Whether the user's own configuration of the log is about requests."""
    if cfg.logconfig_dict:
        return "gunicorn.access" in cfg.logconfig_dict.get("loggers", {})
    return bool(cfg.logconfig and logging.getLogger("gunicorn.access").handlers)


def _filled(config: dict[str, Any]) -> dict[str, Any]:
    """A dict config with the parts that gunicorn 27 adds to one: whatever it does not have at its
    top level. Handlers and formatters of gunicorn's are there beside others too, since the parts
    that are added name them."""
    stream = {"class": "logging.StreamHandler", "formatter": "generic"}
    error = {"level": "INFO", "handlers": ["error_console"], "propagate": True}
    console = {"level": "INFO", "handlers": ["console"]}
    parts: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "root": console,
        "loggers": {"gunicorn.error": error, "gunicorn.access": {**console, "propagate": True}},
    }
    own = {
        "handlers": {
            "console": {**stream, "stream": "ext://sys.stdout"},
            "error_console": {**stream, "stream": "ext://sys.stderr"},
        },
        "formatters": {"generic": {"format": _FORMAT, "datefmt": _DATE_FORMAT}},
    }
    merged = {name: {**part, **config.get(name, {})} for name, part in own.items()}
    return {**parts, **config, **merged}
