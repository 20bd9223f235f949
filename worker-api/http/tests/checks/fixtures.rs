//! gunicorn's own fixtures, where they are at hand (they are not to be copied), and our own.

use std::path::{Path, PathBuf};

use crate::case::Case;
use crate::groups;

/// Fixtures that are answered in another way than gunicorn does, and why.
const DIFFERENCES: &[(&str, &str)] = &[(
    "099",
    "the body is shorter than its Content-Length: the app is told, and does not take it for whole",
)];

#[test]
fn fixtures_are_answered_as_gunicorn_does() {
    let Some(folder) = shared() else {
        return crate::skip::skip("../shared/http-fixtures");
    };
    let mut cases: Vec<Case> = ["valid", "invalid"]
        .into_iter()
        .flat_map(|kind| std::fs::read_dir(folder.join(kind)).unwrap())
        .map(|file| serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap())
        .collect();
    cases.retain(|case| !DIFFERENCES.iter().any(|(name, _)| *name == case.name));
    groups::run("fixtures::fixtures_are_answered_as_gunicorn_does", cases);
}

/// A case of the corpus that is not what gunicorn says has the reason beside it, as `differs`.
#[test]
fn the_corpus_is_answered_as_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let files = std::fs::read_dir(folder).unwrap();
    let cases: Vec<Case> = files
        .flat_map(|file| {
            let text = std::fs::read(file.unwrap().path()).unwrap();
            serde_json::from_slice::<Vec<Case>>(&text).unwrap()
        })
        .collect();
    assert!(cases.len() > 100);
    groups::run("fixtures::the_corpus_is_answered_as_it_says", cases);
}

fn shared() -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut above = here
        .ancestors()
        .map(|folder| folder.join("shared/http-fixtures"));
    above.find(|folder| folder.is_dir())
}
