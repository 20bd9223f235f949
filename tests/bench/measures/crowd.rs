//! Two hundred workers in one run.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::figures::{Memory, processor_time};
use crate::harness::{Builder, Signal};
use crate::table::{Row, Section, Unit};

use super::milliseconds;

const WORKERS: usize = 200;
const RUNS: usize = 3;
const LAMEDUCK: Duration = Duration::from_secs(1);

pub(crate) fn measure() -> Section {
    let (mut starts, mut ends, mut start_work, mut all_work) = (vec![], vec![], vec![], vec![]);
    let mut memory = Vec::new();
    for _ in 0..RUNS {
        let lameduck = format!("{}s", LAMEDUCK.as_secs());
        let builder = Builder::mio().workers(WORKERS).lameduck(&lameduck);
        let server = builder.spawn();
        let work = follow_processor_time(server.pid());
        // /status with 200 workers is work for the master too: the log is followed instead.
        let began = Instant::now();
        while server.log.count(&["worker ready"]) < WORKERS {
            assert!(
                server.is_running() && began.elapsed() < Duration::from_secs(60),
                "{}",
                server.log.text()
            );
            thread::sleep(Duration::from_millis(2));
        }
        let ready = server
            .log
            .lines()
            .into_iter()
            .rfind(|line| line.contains(&["worker ready"]));
        starts.push(ready.unwrap().at - server.started);
        start_work.extend(processor_time(server.pid()));
        memory.push(Memory::settled(server.pid()).pss / 1e6);
        let told = server.signal(Signal::TERM);
        ends.push(server.expect_exit(0).after(told + LAMEDUCK));
        all_work.extend(work.join().unwrap());
    }
    Section {
        title: format!("{WORKERS} workers (mio-app), started and drained in one run"),
        how: vec![
            format!("{RUNS} runs, lameduck {} s, exit status 0 and no process left behind in each.", LAMEDUCK.as_secs()),
            "Ready: from the master's start to the 200th \"worker ready\". End: SIGTERM to the master's exit, less lameduck.".to_owned(),
            "Processor time: schedstat of the master, at the last Ready and as last seen before its exit (read every 2 ms).".to_owned(),
        ],
        rows: vec![
            Row::new("start to all Ready", Unit::Milliseconds, milliseconds(&starts)),
            Row::new("end of lameduck to exit", Unit::Milliseconds, milliseconds(&ends)),
            Row::new("processor time of the master, to all Ready", Unit::Milliseconds, milliseconds(&start_work)),
            Row::new("processor time of the master, in all", Unit::Milliseconds, milliseconds(&all_work)),
            Row::new("PSS of the master", Unit::Megabytes, memory),
        ],
    }
}

/// The processor time that was seen last before the process ended.
fn follow_processor_time(pid: u32) -> JoinHandle<Option<Duration>> {
    thread::spawn(move || {
        let mut last = None;
        while let Some(time) = processor_time(pid) {
            last = Some(time);
            thread::sleep(Duration::from_millis(2));
        }
        last
    })
}
