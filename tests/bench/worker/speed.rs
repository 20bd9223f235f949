//! What a request costs, side by side.

use crate::contestant::{Contestant, Running};
use crate::cores::{self, Cores};
use crate::figures::{processor_time, switches};
use crate::table::{Row, Section, Unit};
use crate::wrk;

const CONTESTANTS: [Contestant; 4] = [
    Contestant::Hello,
    Contestant::Axum,
    Contestant::Hyper,
    Contestant::Loop,
];
const ROUNDS: usize = 12;
const SECONDS: u64 = 2;
const CONNECTIONS: usize = 64;

/// One contestant and its figures, round by round. Each round has a process of its own: where its
/// memory came to lie makes up to 2 %, and stays with a process for life.
struct Lane {
    contestant: Contestant,
    rounds: Vec<Round>,
}

struct Round {
    per_second: f64,
    /// In milliseconds.
    p99: f64,
    /// Of the process that serves, in microseconds a request.
    processor: f64,
    /// In 1,000 requests.
    switches: f64,
}

pub(crate) fn measure() -> Section {
    let cores = Cores::pick();
    let mut lanes = CONTESTANTS.map(|contestant| Lane {
        contestant,
        rounds: Vec::new(),
    });
    for _ in 0..ROUNDS {
        for lane in &mut lanes {
            lane.run(&cores);
        }
    }
    let mut rows: Vec<Row> = lanes.iter().flat_map(Lane::rows).collect();
    let [hello, axum, hyper, bare] = lanes.each_ref().map(Lane::best);
    let ratio = |figure: &str, ratio| Row::new(figure, Unit::Ratio, vec![ratio]);
    rows.extend([
        ratio("hello over the bare loop, best time of each", hello / bare).at_most(1.2),
        ratio("hello over bare hyper", hello / hyper).at_most(1.1),
        ratio("axum-app over bare hyper", axum / hyper),
        ratio("bare hyper over the bare loop", hyper / bare),
    ]);
    Section {
        title: format!("GET / under load, {CONNECTIONS} keep-alive connections"),
        how: vec![
            format!("{}, one thread on a core of its own, {SECONDS} s; {ROUNDS} rounds, the servers in turns on one other core, each time a new process.", wrk::version()),
            "hello and axum-app are the one worker of a gracefork with its default settings: everything is counted.".to_owned(),
            "Time: schedstat of all threads of the process that serves, user and kernel, by the requests that wrk saw.".to_owned(),
            "Switches: voluntary and involuntary, of all its threads. Noise only adds, so the ratios are of the best rounds.".to_owned(),
        ],
        rows,
    }
}

impl Lane {
    fn run(&mut self, cores: &Cores) {
        let running = self.contestant.start(|builder| builder);
        cores::pin(running.pid(), cores.server);
        let round = cores::on(cores.load, || {
            // Its first second is not like the others. A thread that it starts meanwhile comes from
            // one that was pinned.
            wrk::run(running.address(), CONNECTIONS, 1);
            Round::measure(&running)
        });
        self.rounds.push(round);
    }

    fn rows(&self) -> [Row; 4] {
        let row = |figure: &str, unit, part: fn(&Round) -> f64| {
            let figure = format!("{}: {figure}", self.contestant.name());
            Row::new(figure, unit, self.rounds.iter().map(part).collect())
        };
        [
            row("requests", Unit::PerSecond, |round| round.per_second).more_is_better(),
            row("p99", Unit::Milliseconds, |round| round.p99),
            row("processor time a request", Unit::Microseconds, |round| {
                round.processor
            }),
            row("context switches in 1,000 requests", Unit::Count, |round| {
                round.switches
            }),
        ]
    }

    /// The least processor time a request.
    fn best(&self) -> f64 {
        let times = self.rounds.iter().map(|round| round.processor);
        times.fold(f64::INFINITY, f64::min)
    }
}

impl Round {
    fn measure(server: &Running) -> Round {
        let pid = server.pid();
        let worked = || processor_time(pid).unwrap().as_secs_f64();
        let before = (worked(), switches(pid));
        let shown = wrk::run(server.address(), CONNECTIONS, SECONDS);
        Round {
            per_second: shown.per_second,
            p99: shown.p99,
            processor: (worked() - before.0) * 1e6 / shown.requests,
            switches: (switches(pid) - before.1) * 1000.0 / shown.requests,
        }
    }
}
