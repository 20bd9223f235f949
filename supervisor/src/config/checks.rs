//! What concerns several settings, or the machine: from a draft to a config.

use super::environment;
use super::load::{Layers, Loaded, Sources};
use super::origin::{Origin, Place};
use super::owner;
use super::problem::{Problem, Problems};
use super::python;
use super::shutdown;
use super::units::format_duration;
use super::uvicorn;
use super::{BindAddress, Level, WorkerCount};

/// Checks what no setting can check alone, and settles what is worked out from others.
pub(crate) fn finish(mut layers: Layers, sources: &Sources) -> Result<Loaded, Problems> {
    // With a value missing, sums would only tell the same mistake once more.
    let complete = layers.problems.is_empty();
    app(&mut layers, sources, sources.app_optional || !complete);
    chdir(&mut layers);
    if complete {
        listeners(&mut layers);
        workers(&mut layers);
        owner::settle(&mut layers);
        shutdown::settle(&mut layers, environment::under_kubernetes(&sources.env));
    }
    if !layers.problems.is_empty() {
        return Err(layers.problems.sorted());
    }
    let mut config = layers.draft.config.clone();
    config.app.program.clone_from(&layers.draft.app.0);
    config.pidfile.clone_from(&layers.draft.pidfile.0);
    let Layers {
        draft,
        origins,
        warnings,
        ..
    } = layers;
    Ok(Loaded {
        config,
        warnings,
        draft,
        origins,
    })
}

impl Layers {
    /// The first of these settings that somebody gave: what an error points at.
    pub(crate) fn first_given(&self, paths: &[&str]) -> Option<Place> {
        let mut places = paths.iter().filter_map(|path| self.origins.get(path));
        places
            .find(|place| !matches!(place.origin, Origin::Default | Origin::Derived(_)))
            .cloned()
    }

    /// Reports values that do not fit together, at the first that was given.
    pub(crate) fn conflict(&mut self, headline: &str, paths: &[&str], label: &str, help: &str) {
        let problem = match self.first_given(paths) {
            Some(place) => Problem::new(headline).at(place, label),
            None => Problem::new(format!("{headline}: {label}")),
        };
        self.problems.push(problem.help(help));
    }
}

fn app(layers: &mut Layers, sources: &Sources, optional: bool) {
    let in_variable = sources.gunicorn.iter().flatten();
    let idle = in_variable
        .flat_map(|args| &args.idle_flags)
        .chain(&sources.idle_flags);
    let idle: Vec<&str> = idle.copied().collect();
    if layers.hosts_python() {
        python::settle(layers, optional);
        uvicorn::settle(layers);
        if !idle.is_empty() {
            let flags = idle.join(", ");
            layers
                .warnings
                .push(format!("without effect here, and not needed: {flags}"));
        }
        return;
    }
    python::refuse(layers);
    if let Some(flag) = sources.idle_flags.first() {
        let problem = Problem::new(format!("`{flag}` is gunicorn's, and nothing to a program"));
        layers.problems.push(problem.help("leave it out"));
    }
    if layers.draft.app.0.is_empty() && !optional {
        let problem = Problem::new("no app given");
        let help = r#"name what to run: `gracefork ./server` or `gracefork main:app`, or `app = "./server"` in the config file"#;
        layers.problems.push(problem.help(help));
    }
}

pub(crate) fn chdir(layers: &mut Layers) {
    let chdir = &mut layers.draft.config.app.chdir;
    if let Ok(absolute) = std::path::absolute(&chdir) {
        *chdir = absolute;
    }
    let why = match std::fs::metadata(&chdir) {
        Ok(found) if found.is_dir() => None,
        Ok(_) => Some(format!("{} is not a directory", chdir.display())),
        Err(error) => Some(format!("{}: {error}", chdir.display())),
    };
    if let Some(why) = why {
        let help =
            "name a directory that exists; a relative one starts where gracefork was started";
        layers.conflict("invalid `chdir`", &["chdir"], &why, help);
    }
}

fn listeners(layers: &mut Layers) {
    let Some(ops) = layers.draft.config.health.listen else {
        return;
    };
    let taken = layers
        .draft
        .config
        .listen
        .bind
        .contains(&BindAddress::Tcp(ops));
    if taken && ops.port() != 0 {
        let label = format!("{ops} is in `listen.bind` already");
        let help = "give the ops listener a port of its own, for example 9090";
        layers.conflict(
            "invalid `health.listen`",
            &["health.listen", "listen.bind"],
            &label,
            help,
        );
    }
}

fn workers(layers: &mut Layers) {
    let workers = &layers.draft.config.workers;
    let (count, min_ready, restart) = (workers.count, workers.min_ready, workers.restart.clone());
    let (boot_timeout, ready_after) = (workers.boot_timeout, workers.ready_after);
    let is_plain = workers.level == Level::Plain;
    if let WorkerCount::Fixed(count) = count
        && min_ready > count
    {
        let label =
            format!("min_ready is {min_ready}, but count is {count}: the pod would never be ready");
        let help = format!("lower min_ready to {count} or less, or raise count to {min_ready}");
        let paths = ["workers.min_ready", "workers.count"];
        layers.conflict(
            "`workers.min_ready` is more than `workers.count`",
            &paths,
            &label,
            &help,
        );
    }
    if is_plain && boot_timeout < ready_after {
        let (limit, age) = (format_duration(boot_timeout), format_duration(ready_after));
        let label = format!(
            "boot_timeout is {limit}, but ready_after is {age}: no plain worker would ever be ready"
        );
        let help = format!("lower ready_after below {limit}, or raise boot_timeout above {age}");
        let paths = ["workers.boot_timeout", "workers.ready_after"];
        layers.conflict(
            "`workers.boot_timeout` is less than `workers.ready_after`",
            &paths,
            &label,
            &help,
        );
    }
    if restart.backoff > restart.backoff_max {
        let (first, most) = (
            format_duration(restart.backoff),
            format_duration(restart.backoff_max),
        );
        let label = format!("backoff is {first}, but backoff_max is {most}");
        let help = format!("lower backoff to {most} or less, or raise backoff_max to {first}");
        let paths = ["workers.restart.backoff", "workers.restart.backoff_max"];
        layers.conflict(
            "the first wait is longer than the longest",
            &paths,
            &label,
            &help,
        );
    }
}
