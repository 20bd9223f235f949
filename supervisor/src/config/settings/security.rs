//! `[security]`.

use super::Support::Now;
use super::{Setting, UNSAID};

pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        path: "security.user",
        support: Now(|draft| &mut draft.security.user),
        example: r#""nobody""#,
        doc: "The user that workers run as, by name or number; the master stays who it is, and must be root for it. Sockets of `unix:` addresses and a new access log become theirs. Left out, workers run as the master's user.",
        flags: &["--user", "-u"],
        ..UNSAID
    },
    Setting {
        path: "security.group",
        support: Now(|draft| &mut draft.security.group),
        example: "65534",
        doc: "The group that workers run as, by name or number. Left out, it is the user's own.",
        flags: &["--group", "-g"],
        ..UNSAID
    },
    Setting {
        path: "security.initgroups",
        support: Now(|draft| &mut draft.security.initgroups),
        default: "false",
        example: "true",
        doc: "Whether workers are in the other groups of their user as well. Otherwise they have the one group alone, and none of the master's.",
        flags: &["--initgroups"],
        ..UNSAID
    },
    Setting {
        path: "security.umask",
        support: Now(|draft| &mut draft.config.security.umask),
        example: r#""022""#,
        doc: "File mode bits that workers never set, in octal; the sockets of `unix:` addresses are made with it too, and keep their mode until the next start. Left out, they are the master's, and everybody may connect to such a socket, as with gunicorn.",
        flags: &["--umask", "-m"],
        ..UNSAID
    },
];
