//! What `gracefork config` and `gracefork check` say.

use super::WorkerCount;
use super::load::Loaded;
use super::settings::{self, Setting, Support};
use super::units::format_duration;
use super::visible::visible;

/// Where comments begin, when the value leaves room.
const COMMENT_COLUMN: usize = 34;

impl Loaded {
    /// Every effective value and where it came from, as a config file that gives the same.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for (section, _) in settings::SECTIONS {
            if !section.is_empty() {
                text.push_str(&format!("\n[{section}]\n"));
            }
            for setting in settings::supported_in(section) {
                text.push_str(&self.line(setting));
                text.push('\n');
            }
        }
        text
    }

    /// What a valid config amounts to, in two lines.
    #[must_use]
    pub fn summary(&self) -> String {
        let config = &self.config;
        let program = match visible(&config.app.program) {
            none if none.is_empty() => "APP".to_owned(),
            program => program,
        };
        let count = match config.workers.count {
            WorkerCount::Auto => "one worker a CPU".to_owned(),
            WorkerCount::Fixed(1) => "1 worker".to_owned(),
            WorkerCount::Fixed(count) => format!("{count} workers"),
        };
        let addresses: Vec<_> = config
            .listen
            .bind
            .iter()
            .map(|a| visible(&a.to_string()))
            .collect();
        let shutdown = &config.shutdown;
        format!(
            "ok: {program}, {count}, on {}\n    on SIGTERM: lameduck {}, then up to {} to drain, {} to spare, within {}",
            addresses.join(", "),
            format_duration(shutdown.lameduck),
            format_duration(shutdown.drain_timeout),
            format_duration(shutdown.kill_margin),
            format_duration(shutdown.grace_period),
        )
    }

    fn line(&self, setting: &Setting) -> String {
        let Support::Now(field) = setting.support else {
            return String::new();
        };
        let value = field(&mut self.draft.clone()).show();
        let origin = visible(&self.origin(setting.path).to_string());
        match value {
            Some(value) => {
                let line = format!("{} = {value}", setting.key());
                format!("{line:COMMENT_COLUMN$}  # {origin}")
            }
            None => format!("# {} is not set", setting.key()),
        }
    }
}
