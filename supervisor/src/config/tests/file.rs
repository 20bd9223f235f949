//! Errors of the config file: where, what, and what would fit.

use proptest::prelude::*;

use super::super::{Problems, Sources, load};
use super::Case;

fn told(content: &str, expected: &str) {
    Case::new().file(content).fails_with(expected);
}

#[test]
fn a_duration_with_a_wrong_unit() {
    told(
        "[shutdown]\nlameduck = \"30x\"\n",
        r#"error: invalid `shutdown.lameduck`
  --> gracefork.toml:2:12
2 | lameduck = "30x"
  |            ^^^^^ expected "auto" or a duration, for example "35s""#,
    );
}

#[test]
fn a_duration_without_its_unit() {
    told(
        "[workers]\nboot_timeout = 30 # seconds\n",
        r#"error: invalid `workers.boot_timeout`
  --> gracefork.toml:2:16
2 | boot_timeout = 30 # seconds
  |                ^^ expected a duration of 1ms or more, for example "120s"
  = help: a duration needs its unit: "30s" for seconds, "30ms" for milliseconds"#,
    );
}

#[test]
fn a_misspelt_key_and_a_misspelt_section() {
    told(
        "[shutdown]\nlamduck = \"30s\"\n\n[workres]\ncount = 2\n",
        "error: unknown key `shutdown.lamduck`
  --> gracefork.toml:2:1
2 | lamduck = \"30s\"
  | ^^^^^^^ did you mean `lameduck`?

error: unknown key `workres`
  --> gracefork.toml:4:2
4 | [workres]
  |  ^^^^^^^ did you mean `workers`?",
    );
}

#[test]
fn a_key_in_the_wrong_section_and_one_of_gunicorn() {
    told(
        "lameduck = \"5s\"\nworkers = 4\ntimeout = 30\n",
        "error: unknown key `lameduck`
  --> gracefork.toml:1:1
1 | lameduck = \"5s\"
  | ^^^^^^^^ this key belongs in [shutdown]: `shutdown.lameduck`

error: `workers` is a section
  --> gracefork.toml:2:11
2 | workers = 4
  |           ^ expected keys below [workers]
  = help: gunicorn's `workers` is `workers.count` here

error: unknown key `timeout`
  --> gracefork.toml:3:1
3 | timeout = 30
  | ^^^^^^^ gunicorn's `timeout` is `workers.hang_timeout` here",
    );
}

#[test]
fn what_is_not_built_yet() {
    told(
        "[reload]\nwatch = [\"src\"]\n\n[hooks]\nwhen_ready = [\"true\"]\n",
        "error: `reload.watch` is not supported yet
  --> gracefork.toml:2:1
2 | watch = [\"src\"]
  | ^^^^^ remove it

error: `[hooks]` is not supported yet
  --> gracefork.toml:4:2
4 | [hooks]
  |  ^^^^^ remove it",
    );
}

#[test]
fn what_is_no_network() {
    told(
        "[http]\nforwarded_allow_ips = [\"10.0.0.0/8\", \"10.0.0.1/8\"]\n",
        "error: invalid `http.forwarded_allow_ips`
  --> gracefork.toml:2:38
2 | forwarded_allow_ips = [\"10.0.0.0/8\", \"10.0.0.1/8\"]
  |                                      ^^^^^^^^^^^^ `10.0.0.1/8` has bits behind its prefix; the network is 10.0.0.0/8",
    );
}

#[test]
fn what_is_no_format_of_the_access_log() {
    told(
        "[log]\naccess_format = \"%(h)s %(x)s\"\n",
        "error: invalid `log.access_format`
  --> gracefork.toml:2:17
2 | access_format = \"%(h)s %(x)s\"
  |                 ^^^^^^^^^^^^^ `%(x)s` is no atom of an access log
  = help: the atoms are h l u t r m U q H s B b f a T M D L p {header}i {header}o {variable}e: each is written %(atom)s",
    );
}

#[test]
fn wrong_types_and_ranges_all_at_once() {
    told(
        r#"env = { A = 1 }
[workers]
count = "4"
min_ready = 0
level = "natve"
term_immediately = "yes"
max_rss = 512
[health]
unhealthy_status = 200
"#,
        r#"error: invalid `env`
  --> gracefork.toml:1:13
1 | env = { A = 1 }
  |             ^ expected a string: the value of a variable needs quotes

error: invalid `workers.count`
  --> gracefork.toml:3:9
3 | count = "4"
  |         ^^^ expected "auto" or a whole number from 1 to 512, for example 4
  = help: write the number without quotes

error: invalid `workers.min_ready`
  --> gracefork.toml:4:13
4 | min_ready = 0
  |             ^ expected a whole number from 1 to 512, for example 2

error: invalid `workers.level`
  --> gracefork.toml:5:9
5 | level = "natve"
  |         ^^^^^^^ expected "auto", "plain", "notify" or "native"
  = help: did you mean "native"?

error: invalid `workers.term_immediately`
  --> gracefork.toml:6:20
6 | term_immediately = "yes"
  |                    ^^^^^ expected true or false

error: invalid `workers.max_rss`
  --> gracefork.toml:7:11
7 | max_rss = 512
  |           ^^^ expected a size (0 = off), for example "512MiB"
  = help: a size needs its unit: "512MiB", or "512B" for bytes

error: invalid `health.unhealthy_status`
  --> gracefork.toml:9:20
9 | unhealthy_status = 200
  |                    ^^^ expected a whole number from 400 to 599, for example 500"#,
    );
}

#[test]
fn the_wrong_one_of_several_addresses() {
    told(
        "[listen]\nbind = [\"0.0.0.0:8000\", \"0.0.0.0:80000\", \"fd:3\"]\n",
        r#"error: invalid `listen.bind`
  --> gracefork.toml:2:25
2 | bind = ["0.0.0.0:8000", "0.0.0.0:80000", "fd:3"]
  |                         ^^^^^^^^^^^^^^^ expected a port from 0 to 65535 after the last ":", for example "0.0.0.0:8000""#,
    );
    told(
        "listen.bind = [\"127.0.0.1:1\", \"localhost:1\"]\n",
        r#"error: invalid `listen.bind`
  --> gracefork.toml:1:31
1 | listen.bind = ["127.0.0.1:1", "localhost:1"]
  |                               ^^^^^^^^^^^^^ `127.0.0.1:1` is in the list already: remove one of the two"#,
    );
}

#[test]
fn broken_toml() {
    told(
        "[workers]\ncount = 4\ncount = 5\n[shutdown\n",
        "error: this is not valid TOML
  --> gracefork.toml:3:1
3 | count = 5
  | ^^^^^ duplicate key

error: this is not valid TOML
  --> gracefork.toml:4:10
4 | [shutdown
  |          ^ unclosed table, expected `]`",
    );
}

#[test]
fn nothing_in_a_file_can_steer_the_terminal() {
    let text = Case::new()
        .file("\"\\u001b[31m\" = 1\n[workers]\nlevel = \"\\u001b\"\n")
        .load();
    assert!(!text.unwrap_err().contains('\u{1b}'));
}

#[test]
fn files_that_are_no_config() {
    let fails = |path: &str| -> Problems {
        let sources = Sources {
            file: Some(path.into()),
            app: Some("a".into()),
            ..Sources::default()
        };
        load(&sources).unwrap_err()
    };
    let text = fails("/nonexistent/gracefork.toml").to_string();
    let missing = "error: cannot read the config file `/nonexistent/gracefork.toml`: No such file or directory (os error 2)";
    assert_eq!(text, missing);
    let text = fails("missing.toml").to_string();
    assert!(text.contains("\n  = help: the path starts at /"), "{text}");
    assert!(fails("/").to_string().contains("Is a directory"));
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
    let text = fails(fifo.to_str().unwrap()).to_string();
    assert!(text.contains("it can be read only once"), "{text}");
    assert!(text.contains("help: it is read more than once"), "{text}");
    let latin = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(latin.path(), b"# ok\n# \xe9\n").unwrap();
    assert!(
        fails(latin.path().to_str().unwrap())
            .to_string()
            .contains("line 2 is not UTF-8")
    );
}

proptest! {
    #[test]
    fn no_file_makes_the_reader_panic(content in "(?s).{0,200}") {
        let _ = Case::new().file(&content).load();
    }

    #[test]
    fn no_file_of_known_words_makes_the_reader_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "[workers]", "\n", "count", "=", "\"30s\"", "[", "]", "{", "}", "shutdown", ".",
                "probe", "4", "\"\u{1b}é", "'", "lameduck", ",", "env", "1979-05-27", "\r", "listen.bind",
            ]),
            0..30,
        ),
    ) {
        let _ = Case::new().file(&words.join(" ")).load();
    }
}
