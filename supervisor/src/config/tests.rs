//! Settings as people get them wrong, and what they are told.

mod budget;
mod file;
mod layers;
mod owner;
mod python;

use std::collections::BTreeMap;

use super::{Evaluated, Flag, GunicornArgs, Loaded, Sources, load};

/// Sources with an app, to which a test adds what it is about.
#[derive(Default)]
struct Case {
    file: Option<String>,
    env: BTreeMap<String, String>,
    flags: Vec<Flag>,
    app: Option<String>,
    idle_flags: Vec<&'static str>,
    gunicorn: Option<Result<GunicornArgs, String>>,
    /// What gunicorn_config.py answered.
    answer: Option<String>,
}

impl Case {
    fn new() -> Self {
        Self {
            app: Some("./server".to_owned()),
            ..Self::default()
        }
    }

    fn file(mut self, content: &str) -> Self {
        self.file = Some(content.to_owned());
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flag(mut self, path: &'static str, name: &'static str, value: &str) -> Self {
        self.flags.push(Flag {
            path,
            value: value.to_owned(),
            name,
        });
        self
    }

    fn app(mut self, app: Option<&str>) -> Self {
        self.app = app.map(str::to_owned);
        self
    }

    fn answer(mut self, settings: &serde_json::Value) -> Self {
        self.answer = Some(settings.to_string());
        self
    }

    fn gunicorn_args(mut self, text: &str) -> Self {
        self.gunicorn = Some(crate::cli::parse_gunicorn_args(text));
        self
    }

    fn load(&self) -> Result<Loaded, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gracefork.toml");
        std::fs::write(&path, self.file.as_deref().unwrap_or_default()).unwrap();
        let sources = Sources {
            file: self.file.is_some().then(|| path.clone()),
            env: self.env.clone(),
            flags: self.flags.clone(),
            app: self.app.clone(),
            idle_flags: self.idle_flags.clone(),
            gunicorn: self.gunicorn.clone(),
            evaluated: self.answer.clone().map(|answer| Evaluated {
                name: "gunicorn_config.py".to_owned(),
                answer,
            }),
            ..Sources::default()
        };
        let shown = path.display().to_string();
        load(&sources).map_err(|problems| problems.to_string().replace(&shown, "gracefork.toml"))
    }

    #[track_caller]
    fn loads(&self) -> Loaded {
        self.load().unwrap_or_else(|text| panic!("{text}"))
    }

    #[track_caller]
    fn fails_with(&self, expected: &str) {
        let text = self.load().expect_err("these settings should be refused");
        assert!(text == expected, "told:\n{text}\n\nexpected:\n{expected}\n");
    }
}
