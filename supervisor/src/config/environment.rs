//! Settings from environment variables.

use std::collections::BTreeMap;

use super::load::Layers;
use super::origin::{Origin, Text};
use super::problem::Problem;
use super::settings::{self, PREFIX, Setting};
use super::suggest;
use super::visible::visible;

/// What the master tells its workers, after the prefix. Not settings, so a gracefork that runs
/// below another one does not take them for typing errors.
pub(crate) const FOR_WORKERS: [&str; 28] = [
    "WORKER",
    "GENERATION",
    "CONTROL_FD",
    "HOST_FD",
    "HOST_FIRST",
    "HOST_START",
    "WRITE_TIMEOUT_USEC",
    "PROXY_ALLOW_IPS",
    "PRELOAD",
    "WORKER_COUNT",
    "SCOREBOARD_FD",
    "KEEP_ALIVE_USEC",
    "HEADER_TIMEOUT_USEC",
    "BODY_TIMEOUT_USEC",
    "DRAIN_TIMEOUT_USEC",
    "HANG_TIMEOUT_USEC",
    "MAX_REQUESTS",
    "MAX_CONNECTIONS",
    "THREADS",
    "UNHEALTHY_STATUS",
    "LIMIT_REQUEST_LINE",
    "LIMIT_REQUEST_FIELDS",
    "LIMIT_REQUEST_FIELD_SIZE",
    "MAX_BODY",
    "FORWARDED_ALLOW_IPS",
    "PROXY_PROTOCOL",
    "ACCESS_LOG",
    "ACCESS_FORMAT",
];

/// The process's environment, as [`Sources`](super::Sources) take it.
///
/// Variables that are not UTF-8 are left out: no setting can have them.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    let utf8 = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(utf8).collect()
}

/// The variables that other servers read as well. To gunicorn they are only
/// defaults: what its own config file gives stays.
pub(crate) fn read_common(env: &BTreeMap<String, String>, layers: &mut Layers) {
    for setting in settings::all() {
        let origin = layers.origins.get(setting.path).map(|place| &place.origin);
        if matches!(origin, Some(Origin::Script(_))) {
            continue;
        }
        if let Some(name) = setting.variable {
            word(setting, name, env, layers);
        }
    }
}

/// Lays the variables over what was read before.
pub(crate) fn read(env: &BTreeMap<String, String>, layers: &mut Layers) {
    for setting in settings::all() {
        word(setting, &setting.env_name(), env, layers);
    }
    warn_of_unknown(env, layers);
}

/// An empty variable counts as not set, as templates of containers often leave them.
fn word(setting: &Setting, name: &str, env: &BTreeMap<String, String>, layers: &mut Layers) {
    if let Some(value) = env.get(name).filter(|value| !value.is_empty()) {
        layers.word(setting.path, value, Text::Env(name, value));
    }
}

/// Lets `PORT` choose the port when no other layer says where to listen.
pub(crate) fn read_port(env: &BTreeMap<String, String>, layers: &mut Layers) {
    let origin = layers.origins.get("listen.bind").map(|place| &place.origin);
    let Some(port) = env.get("PORT").filter(|port| !port.is_empty()) else {
        return;
    };
    if origin != Some(&Origin::Default) {
        return;
    }
    let text = Text::Env("PORT", port);
    if port.parse::<u16>().is_ok() {
        layers.word("listen.bind", &format!("0.0.0.0:{port}"), text);
    } else {
        let label = "expected a port from 0 to 65535, for example 8080";
        layers
            .problems
            .push(Problem::new("invalid `PORT`").at(text.place(&(0..port.len())), label));
    }
}

/// Whether this runs in a pod.
pub(crate) fn under_kubernetes(env: &BTreeMap<String, String>) -> bool {
    env.get("KUBERNETES_SERVICE_HOST")
        .is_some_and(|host| !host.is_empty())
}

/// A warning only: Kubernetes itself makes up such names for a service called gracefork.
fn warn_of_unknown(env: &BTreeMap<String, String>, layers: &mut Layers) {
    let known: Vec<String> = settings::all().map(Setting::env_name).collect();
    let known = || known.iter().filter_map(|name| name.strip_prefix(PREFIX));
    for name in env.keys() {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let of_a_service = rest.starts_with("SERVICE_") || rest.starts_with("PORT");
        if of_a_service || FOR_WORKERS.contains(&rest) || known().any(|known| known == rest) {
            continue;
        }
        let hint = match suggest::nearest(rest, known()) {
            Some(near) => format!("did you mean {PREFIX}{near}?"),
            None => "it is ignored".to_owned(),
        };
        let name = visible(name);
        let warning = format!("the environment variable {name} is no setting: {hint}");
        layers.warnings.push(warning);
    }
}
