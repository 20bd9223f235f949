//! Settings that are wrong only together, or on this machine.

use std::time::Duration;

use super::Case;

fn seconds(case: &Case) -> (u64, u64) {
    let shutdown = case.loads().config.shutdown;
    (
        shutdown.lameduck.as_secs(),
        shutdown.drain_timeout.as_secs(),
    )
}

#[test]
fn lameduck_and_drain_timeout_follow_from_where_it_runs() {
    assert_eq!(seconds(&Case::new()), (0, 25));
    let pod = || Case::new().env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
    assert_eq!(seconds(&pod()), (10, 15));
    let probe = "[shutdown]\ngrace_period = \"60s\"\nprobe = { period = \"10s\", failure_threshold = 3, timeout = \"2s\" }\n";
    assert_eq!(seconds(&pod().file(probe)), (35, 20));
    assert_eq!(
        seconds(&Case::new().file("shutdown.lameduck = \"7s\"")),
        (7, 18)
    );
    let delayed = "[shutdown]\nunready_delay = \"2s\"\nprobe = { period = \"1s\" }\n";
    assert_eq!(seconds(&Case::new().file(delayed)), (9, 16));
}

#[test]
fn a_shutdown_that_does_not_fit_into_its_grace_period() {
    Case::new().file("[shutdown]\nlameduck = \"20s\"\ndrain_timeout = \"15s\"\n").fails_with(
        r#"error: the shutdown does not fit into `shutdown.grace_period`
  --> gracefork.toml:3:17
3 | drain_timeout = "15s"
  |                 ^^^^^ lameduck 20s + drain_timeout 15s + kill_margin 5s = 40s, but grace_period is 30s
  = help: raise grace_period (terminationGracePeriodSeconds) to 40s, or lower drain_timeout to 5s"#,
    );
    Case::new().flag("shutdown.drain_timeout", "--graceful-timeout", "30s").fails_with(
        "error: the shutdown does not fit into `shutdown.grace_period`
  --> command line
  | --graceful-timeout 30s
  |                    ^^^ lameduck 0s + drain_timeout 30s + kill_margin 5s = 35s, but grace_period is 30s
  = help: raise grace_period (terminationGracePeriodSeconds) to 35s, or lower drain_timeout to 25s",
    );
    let exact = "[shutdown]\nlameduck = \"10s\"\ndrain_timeout = \"15s\"\n";
    assert_eq!(seconds(&Case::new().file(exact)), (10, 15));
}

#[test]
fn a_shutdown_that_leaves_no_time_to_drain() {
    Case::new()
        .file("[shutdown]\nlameduck = \"25s\"\n")
        .fails_with(
            r#"error: no time is left to drain
  --> gracefork.toml:2:12
2 | lameduck = "25s"
  |            ^^^^^ lameduck 25s + kill_margin 5s leave nothing of grace_period 30s
  = help: raise grace_period (terminationGracePeriodSeconds) above 30s, or lower lameduck"#,
        );
    let case = Case::new().file("[shutdown]\nprobe = { period = \"10s\" }\n");
    let text = case.load().unwrap_err();
    assert!(
        text.contains("lameduck 34s + kill_margin 5s leave nothing"),
        "{text}"
    );
}

#[test]
fn a_lameduck_too_short_for_the_probe_is_a_warning_with_the_number_that_fits() {
    let probe = "grace_period = \"60s\"\nprobe = { period = \"10s\", failure_threshold = 3, timeout = \"2s\" }\n";
    let warnings = |lameduck: &str| {
        Case::new()
            .file(&format!("[shutdown]\nlameduck = \"{lameduck}\"\n{probe}"))
            .loads()
            .warnings
    };
    assert_eq!(
        warnings("31s"),
        [
            "shutdown.lameduck is 31s, but the probe (3 x 10s + 2s) takes up to 32s to stop traffic, and requests that come later are lost: set it to 35s or leave it out"
        ]
    );
    assert_eq!(warnings("32s"), Vec::<String>::new());
}

#[test]
fn more_ready_workers_than_workers() {
    Case::new()
        .file("[workers]\ncount = 2\nmin_ready = 3\n")
        .fails_with(
            "error: `workers.min_ready` is more than `workers.count`
  --> gracefork.toml:3:13
3 | min_ready = 3
  |             ^ min_ready is 3, but count is 2: the pod would never be ready
  = help: lower min_ready to 2 or less, or raise count to 3",
        );
    assert_eq!(
        Case::new()
            .file("workers.min_ready = 3")
            .loads()
            .config
            .workers
            .min_ready,
        3
    );
}

#[test]
fn a_plain_worker_that_is_given_up_before_it_can_be_ready() {
    let loads = |level: &str, boot_timeout: &str| {
        let text = format!("[workers]\nlevel = \"{level}\"\nboot_timeout = \"{boot_timeout}\"\n");
        Case::new().file(&text).load()
    };
    let text = loads("plain", "500ms").unwrap_err();
    assert!(
        text.contains("boot_timeout is 500ms, but ready_after is 1s"),
        "{text}"
    );
    assert!(loads("plain", "1s").is_ok());
    assert!(loads("native", "500ms").is_ok());
}

#[test]
fn a_first_wait_longer_than_the_longest() {
    let text = Case::new()
        .file("[workers.restart]\nbackoff = \"60s\"\n")
        .load()
        .unwrap_err();
    assert!(
        text.contains("backoff is 60s, but backoff_max is 30s"),
        "{text}"
    );
}

#[test]
fn an_ops_listener_where_the_app_listens() {
    Case::new()
        .flag("health.listen", "--health-listen", ":8000")
        .fails_with(
            "error: invalid `health.listen`
  --> command line
  | --health-listen :8000
  |                 ^^^^^ 0.0.0.0:8000 is in `listen.bind` already
  = help: give the ops listener a port of its own, for example 9090",
        );
}

#[test]
fn a_working_directory_that_does_not_exist() {
    Case::new().file("chdir = \"/nonexistent\"\n").fails_with(
        r#"error: invalid `chdir`
  --> gracefork.toml:1:9
1 | chdir = "/nonexistent"
  |         ^^^^^^^^^^^^^^ /nonexistent: No such file or directory (os error 2)
  = help: name a directory that exists; a relative one starts where gracefork was started"#,
    );
}

#[test]
fn no_app() {
    Case::new().app(None).fails_with(
        "error: no app given
  = help: name what to run: `gracefork ./server` or `gracefork main:app`, or `app = \"./server\"` in the config file",
    );
    assert_eq!(
        Case::new()
            .app(None)
            .file("app = \"./a\"")
            .loads()
            .config
            .app
            .program,
        "./a"
    );
    assert_eq!(
        Case::new().file("app = \"./a\"").loads().config.app.program,
        "./server"
    );
}

#[test]
fn the_longest_values_do_not_overflow() {
    let case = Case::new().file(
        "[shutdown]\ngrace_period = \"365d\"\nlameduck = \"365d\"\ndrain_timeout = \"365d\"\nkill_margin = \"365d\"\nunready_delay = \"365d\"\nprobe = { period = \"365d\", failure_threshold = 1000, timeout = \"365d\" }\n",
    );
    assert!(case.load().unwrap_err().contains("does not fit"));
    let short = Case::new()
        .file("[shutdown]\ngrace_period = \"2ms\"\nkill_margin = \"1ms\"\n")
        .loads();
    assert_eq!(
        short.config.shutdown.drain_timeout,
        Duration::from_millis(1)
    );
}
