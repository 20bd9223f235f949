//! `docs/settings.md` and `config/gracefork.toml`, made from the declarations.
//!
//! `UPDATE_DOCS=1 cargo test` writes them; without it the test compares.

use std::path::PathBuf;

use super::settings::{self, Setting, Support};
use super::{Flag, Sources, load};

const INTRODUCTION: &str = "\
# Settings

<!-- Made from supervisor/src/config/settings: change it there, then run `UPDATE_DOCS=1 cargo test -p gracefork`. -->

A setting comes from the first of these that gives it: a flag, its `GRACEFORK_*` variable,
`WEB_CONCURRENCY` or `FORWARDED_ALLOW_IPS`, the file named by `-c`, the default. An empty variable
counts as not set. `gracefork config` prints every effective value and where it came from;
`gracefork check` says whether all of them fit. It imports a Python app too, in a process of its own that
runs the gunicorn config file first, as the user that workers run as, within `workers.boot_timeout`:
whatever the app does at import is done. No hook is called.

For a Python app (`main:app`) there is more: `GUNICORN_CMD_ARGS` below the `GRACEFORK_*` variables, and
below the file the gunicorn config file (`-c gunicorn_config.py`, `python.config`, or `gunicorn.conf.py`
in the working directory where no `-c` is given), which a process of its own runs. As with gunicorn,
what that file gives is over those two variables. Where only `--graceful-timeout` is given, the grace
period grows with it. gunicorn's flags that nothing here needs (`--worker-tmp-dir`, `--name`, ...)
are named in a warning; those that would be missed are refused, with what to do instead.

- **Durations** are whole numbers with units, longest first: `30s`, `1m30s`, `250ms`, `12h`. In the
  file they are strings. A bare number is seconds in gunicorn's flags (`--timeout 30`) alone.
- **Sizes** have a unit too: `512MiB`, or `512Mi` as in Kubernetes.
- **Lists and tables** are written in a variable as in the file (`[\"a\", \"b\"]`, `{ KEY = \"value\" }`), or
  shorter: addresses with commas between, arguments and `KEY=VALUE` with blanks between.
";

const TEMPLATE_HEAD: &str = "\
# Every setting of gracefork with its default. Keep what you change, leave out the rest.
# Made from the declarations of the settings; docs/settings.md says more.
#
# gracefork -c gracefork.toml ./server
# gracefork -c gracefork.toml main:app
";

fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (section, about) in settings::SECTIONS {
        let title = if section.is_empty() {
            "Top of the file".to_owned()
        } else {
            format!("`[{section}]`")
        };
        text.push_str(&format!("\n## {title}\n\n{about}\n"));
        for setting in settings::supported_in(section) {
            text.push_str(&entry(setting));
        }
    }
    text.push_str("\n## Known, not supported yet\n\nThese are refused, not ignored.\n\n");
    text.push_str("| setting | for example | what it will do |\n|---|---|---|\n");
    for setting in settings::all().filter(|setting| matches!(setting.support, Support::Later)) {
        text.push_str(&format!(
            "| `{}` | `{}` | {} |\n",
            setting.path, setting.example, setting.doc
        ));
    }
    text
}

fn entry(setting: &Setting) -> String {
    let default = match setting.default {
        "" => "not set".to_owned(),
        default => format!("`{default}`"),
    };
    let mut names: Vec<_> = setting
        .flags
        .iter()
        .map(|flag| format!("`{flag}`"))
        .collect();
    names.push(format!("`{}`", setting.env_name()));
    names.extend(setting.variable.map(|name| format!("`{name}`")));
    if let Some(gunicorn) = setting.gunicorn {
        names.push(format!("gunicorn's `{gunicorn}`"));
    }
    format!(
        "\n### `{}`\n\n{}\n\n- takes {}; default {default}\n- for example `{} = {}`\n- also {}\n",
        setting.path,
        setting.doc,
        setting.describe(),
        setting.key(),
        setting.example,
        names.join(", "),
    )
}

fn template() -> String {
    let mut text = TEMPLATE_HEAD.to_owned();
    for (section, about) in settings::SECTIONS {
        text.push_str(&format!("\n\n# ---- {about}\n"));
        if !section.is_empty() {
            text.push_str(&format!("[{section}]\n"));
        }
        for setting in settings::supported_in(section) {
            text.push('\n');
            text.push_str(&wrapped(setting.doc));
            text.push_str(&match setting.default {
                "" => format!("# {} = {}\n", setting.key(), setting.example),
                default => format!("{} = {default}\n", setting.key()),
            });
        }
    }
    text
}

/// Comment lines of at most 96 characters.
fn wrapped(doc: &str) -> String {
    let mut text = String::new();
    let mut line = String::from("#");
    for word in doc.split(' ') {
        if line.len() + word.len() > 95 {
            text.push_str(&line);
            text.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn assert_current(file: &str, expected: &str) {
    let path = root().join(file);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "{file} is out of date: run UPDATE_DOCS=1 cargo test -p gracefork"
    );
}

#[test]
fn the_reference_says_what_is_declared() {
    assert_current("docs/settings.md", &reference());
}

#[test]
fn the_template_says_what_is_declared() {
    assert_current("config/gracefork.toml", &template());
}

#[test]
fn the_template_is_valid_and_equals_the_defaults() {
    let bare = Sources {
        app: Some("./server".into()),
        ..Sources::default()
    };
    let file = root().join("config/gracefork.toml");
    let with_file = Sources {
        file: Some(file),
        ..bare.clone()
    };
    assert_eq!(
        load(&with_file).unwrap().config,
        load(&bare).unwrap().config
    );
}

#[test]
fn what_the_template_leaves_out_is_valid_too() {
    // A commented setting is `# key = value`; every other comment is prose.
    // The example of the app is a program, which has no use for what only Python apps have; and
    // only root can have workers run as others.
    let is_root = nix::unistd::geteuid().is_root();
    let of_root = |path: &str| matches!(path, "security.user" | "security.group");
    let has_a_use = |path: &str| !path.starts_with("python.") && (is_root || !of_root(path));
    let fits = || settings::all().filter(|s| has_a_use(s.path));
    let known = |line: &str| fits().any(|s| line == format!("# {} = {}", s.key(), s.example));
    let whole: Vec<_> = template()
        .lines()
        .map(|line| {
            if known(line) {
                line[2..].to_owned()
            } else {
                line.to_owned()
            }
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gracefork.toml");
    // The probe's example asks for a lameduck of 35s: more than the default grace period.
    let whole = whole
        .join("\n")
        .replace("grace_period = \"30s\"", "grace_period = \"60s\"");
    std::fs::write(&file, whole).unwrap();
    let loaded = load(&Sources {
        file: Some(file),
        ..Sources::default()
    })
    .unwrap();
    assert!(loaded.config.health.listen.is_some() && loaded.config.shutdown.probe.is_some());
}

#[test]
fn every_example_of_a_setting_is_accepted() {
    for setting in settings::all() {
        let Support::Now(field) = setting.support else {
            continue;
        };
        for text in [setting.example, setting.default]
            .into_iter()
            .filter(|text| !text.is_empty())
        {
            let value = toml::de::DeValue::parse(text).unwrap();
            let item = super::raw::Item::from_toml(&value);
            let mut draft = super::draft::Draft::blank();
            assert_eq!(
                field(&mut draft).read(&item, setting),
                Ok(()),
                "{} = {text}",
                setting.path
            );
        }
    }
}

#[test]
fn every_config_that_is_shipped_loads() {
    let mut checked = 0;
    for folder in [
        "config",
        "examples",
        "examples/node",
        "examples/http-server",
    ] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let file = entry.unwrap().path();
            if file
                .extension()
                .is_some_and(|extension| extension == "toml")
                && !file.ends_with("Cargo.toml")
            {
                // Examples say where they are from the root of the repository.
                let chdir = Flag {
                    path: "chdir",
                    value: root().display().to_string(),
                    name: "--chdir",
                };
                let sources = Sources {
                    file: Some(file.clone()),
                    flags: vec![chdir],
                    app_optional: true,
                    ..Sources::default()
                };
                let loaded = load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
                assert_eq!(loaded.warnings, Vec::<String>::new(), "{}", file.display());
                checked += 1;
            }
        }
    }
    assert!(checked >= 6, "{checked}");
}
