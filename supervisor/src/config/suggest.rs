//! What a misspelt name was probably meant to be.

use super::settings::{self, Setting};

/// The known name nearest to what was written, if one is near enough to be meant.
pub(crate) fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&written, &name.to_lowercase());
    let (name, distance) = known
        .map(|name| (name, distance(name)))
        .min_by_key(|(_, d)| *d)?;
    (distance <= (name.len() / 3).max(1)).then_some(name)
}

/// What to say about a key that is no setting.
pub(crate) fn for_unknown_key(section: &str, key: &str) -> String {
    if let Some(setting) = by_gunicorn_name(key) {
        return format!("gunicorn's `{key}` is `{}` here", setting.path);
    }
    if let Some(setting) = settings::all().find(|setting| setting.key() == key) {
        return format!(
            "this key belongs {}: `{}`",
            whereabouts(setting.section()),
            setting.path
        );
    }
    let siblings = children(section);
    if let Some(name) = nearest(key, siblings.iter().copied()) {
        return format!("did you mean `{name}`?");
    }
    if let Some(name) = nearest(key, settings::all().map(Setting::key)) {
        let setting = settings::all().find(|setting| setting.key() == name);
        return format!(
            "did you mean `{}`?",
            setting.map_or(name, |setting| setting.path)
        );
    }
    let place = if section.is_empty() {
        "the top of the file".to_owned()
    } else {
        format!("[{section}]")
    };
    format!("{place} takes {}", siblings.join(", "))
}

/// The setting that gunicorn's users know under this name.
pub(crate) fn by_gunicorn_name(name: &str) -> Option<&'static Setting> {
    settings::all().find(|setting| setting.gunicorn == Some(name))
}

/// The keys and sections directly in a section.
fn children(section: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for setting in settings::all() {
        let Some(rest) = settings::below(setting.path, section) else {
            continue;
        };
        let name = rest.split('.').next().unwrap_or(rest);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn whereabouts(section: &str) -> String {
    if section.is_empty() {
        "at the top of the file, before all sections".to_owned()
    } else {
        format!("in [{section}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_found_and_a_far_one_is_not() {
        let known = || ["lameduck", "grace_period", "drain_timeout"].into_iter();
        assert_eq!(nearest("lamduck", known()), Some("lameduck"));
        assert_eq!(nearest("Lame_Duck", known()), Some("lameduck"));
        assert_eq!(nearest("colour", known()), None);
    }

    #[test]
    fn an_unknown_key_is_told_where_it_belongs() {
        assert_eq!(
            for_unknown_key("", "max_requests"),
            "this key belongs in [workers]: `workers.max_requests`"
        );
        assert_eq!(
            for_unknown_key("listen", "chdir"),
            "this key belongs at the top of the file, before all sections: `chdir`"
        );
        assert_eq!(
            for_unknown_key("", "timeout"),
            "gunicorn's `timeout` is `workers.hang_timeout` here"
        );
        assert_eq!(for_unknown_key("workers", "cuont"), "did you mean `count`?");
        assert_eq!(
            for_unknown_key("", "lamduck"),
            "did you mean `shutdown.lameduck`?"
        );
        assert_eq!(
            for_unknown_key("reload", "colour"),
            "[reload] takes surge, watch"
        );
    }
}
