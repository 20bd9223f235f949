use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;

use super::*;
use std::time::Duration;

/// Bytes of a header and one row.
const ONE_ROW: usize = 64 + 23 * 64;

fn again(fd: &OwnedFd) -> OwnedFd {
    fd.try_clone().unwrap()
}

/// A file with these bytes, sealed as asked.
fn file(bytes: &[u8], seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(c"test", flags).unwrap();
    assert_eq!(rustix::io::write(&fd, bytes).unwrap(), bytes.len());
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

fn scribble(fd: impl AsFd, offset: usize, bytes: &[u8]) {
    assert_eq!(
        rustix::io::pwrite(fd, bytes, offset as u64).unwrap(),
        bytes.len()
    );
}

#[test]
fn master_and_worker_see_the_same_memory() {
    let (master, fd) = Scoreboard::create(3).unwrap();
    let worker = Scoreboard::attach(again(&fd)).unwrap();
    assert_eq!((worker.slots(), worker.phase()), (3, PodPhase::Boot));
    assert!(!worker.pod_healthy());
    for phase in [
        PodPhase::Ready,
        PodPhase::Lameduck,
        PodPhase::Drain,
        PodPhase::Force,
        PodPhase::Exit,
        PodPhase::Boot,
    ] {
        master.set_phase(phase);
        assert_eq!(worker.phase(), phase);
    }
    master.set_pod_healthy(true);
    assert!(worker.pod_healthy());

    master.row(2).unwrap().reset(77, 5);
    let row = worker.row(2).unwrap();
    row.request_began(true, monotonic_now());
    row.request_began(false, monotonic_now());
    row.request_ended(2, monotonic_now(), Duration::from_micros(3));
    row.connection_opened();
    row.raise_state(WorkerState::Ready);
    row.raise_state(WorkerState::Booting);
    let said = master.row(2).unwrap().snapshot();
    assert_eq!(
        (said.pid, said.generation, said.state),
        (77, 5, WorkerState::Ready)
    );
    assert_eq!((said.requests, said.in_flight, said.connections), (2, 1, 1));
    assert_eq!(said.responses, [0, 1, 0, 0, 0]);
    assert!(said.busy_since.unwrap() <= monotonic_now());
    assert_eq!(
        master.row(1).unwrap().snapshot().requests,
        0,
        "another slot's row"
    );
    assert!(master.row(3).is_none());
}

#[test]
fn a_reset_row_forgets_the_worker_before() {
    let board = Scoreboard::private().unwrap();
    let row = board.row(0).unwrap();
    let fresh = row.snapshot();
    row.reset(7, 1);
    row.set_healthy(true);
    row.request_began(true, monotonic_now());
    for class in 0..9 {
        row.request_ended(class, monotonic_now(), Duration::from_micros(3));
    }
    row.count_aborted();
    row.count_unhealthy_answer();
    row.connection_opened();
    row.bytes_received(1);
    row.bytes_sent(1);
    row.count_dropped_line();
    row.show(0, &Noted::new("GET", "/", monotonic_now()));
    assert_eq!(row.oldest().len(), 1);
    row.clear();
    assert_eq!(row.snapshot(), fresh);
    assert_eq!(row.oldest(), []);
}

#[test]
fn nobody_can_cut_or_grow_or_unseal_it() {
    let (board, fd) = Scoreboard::create(2).unwrap();
    for len in [0, 64, 1 << 20] {
        assert_eq!(rustix::fs::ftruncate(&fd, len), Err(Errno::PERM));
    }
    assert_eq!(
        rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE),
        Err(Errno::PERM)
    );
    board.set_phase(PodPhase::Ready);
    assert_eq!(board.phase(), PodPhase::Ready);
}

#[test]
fn the_descriptor_is_close_on_exec() {
    let (_board, fd) = Scoreboard::create(1).unwrap();
    assert!(
        rustix::io::fcntl_getfd(&fd)
            .unwrap()
            .contains(rustix::io::FdFlags::CLOEXEC)
    );
}

#[test]
fn absurd_numbers_of_slots_are_refused() {
    for slots in [0, 65_537, usize::MAX] {
        assert!(Scoreboard::create(slots).is_err());
    }
}

#[test]
fn what_is_no_scoreboard_is_refused() {
    let sealed = seals();
    let attach = |fd| Scoreboard::attach(fd).unwrap_err();
    assert!(matches!(
        attach(file(&[0; ONE_ROW], SealFlags::empty())),
        ScoreboardError::NotSealed
    ));
    assert!(matches!(
        attach(file(&[0; ONE_ROW], SealFlags::SHRINK)),
        ScoreboardError::NotSealed
    ));
    assert!(matches!(
        attach(file(&[0; ONE_ROW], sealed)),
        ScoreboardError::Magic
    ));
    for size in [0, 63, 64, 65, ONE_ROW - 1, ONE_ROW + 1, 192] {
        assert!(matches!(
            attach(file(&vec![0; size], sealed)),
            ScoreboardError::Size(_)
        ));
    }
    let (read, _write) = std::io::pipe().unwrap();
    assert!(matches!(attach(read.into()), ScoreboardError::NotSealed));
}

#[test]
fn another_version_or_a_contradiction_is_refused() {
    let (_board, fd) = Scoreboard::create(1).unwrap();
    scribble(&fd, 8, &1_u32.to_ne_bytes());
    assert!(matches!(
        Scoreboard::attach(again(&fd)),
        Err(ScoreboardError::Version(1))
    ));
    scribble(&fd, 8, &VERSION.to_ne_bytes());
    scribble(&fd, 12, &u32::MAX.to_ne_bytes());
    assert!(matches!(
        Scoreboard::attach(again(&fd)),
        Err(ScoreboardError::Slots)
    ));
}

#[test]
fn a_liar_misleads_but_breaks_nothing() {
    let (board, fd) = Scoreboard::create(2).unwrap();
    scribble(&fd, 0, &vec![0xff; len_of(2)]);
    assert_eq!(board.slots(), 2);
    assert_eq!(
        board.phase(),
        PodPhase::Drain,
        "drains, which loses nothing and ends"
    );
    assert!(!board.pod_healthy());
    let row = board.row(1).unwrap();
    let said = row.snapshot();
    assert_eq!((said.state, said.requests), (WorkerState::Empty, u64::MAX));
    assert!(said.healthy, "only zero is a no");
    assert_eq!(
        row.oldest(),
        [],
        "it looks as if it were written all the time"
    );
    row.request_began(true, monotonic_now());
    row.request_ended(2, monotonic_now(), Duration::from_micros(3));
    row.connection_opened();
    row.connection_closed();
    row.raise_state(WorkerState::Drained);
    row.reset(1, 1);
    assert_eq!(row.snapshot().state, WorkerState::Booting);
}

#[test]
fn a_request_is_shown_in_printable_letters_and_not_too_long() {
    let board = Scoreboard::private().unwrap();
    let row = board.row(0).unwrap();
    let shown = |method: &str, path: &str| {
        row.show(3, &Noted::new(method, path, Duration::from_micros(9)));
        let mut all = row.oldest();
        assert_eq!(all.len(), 1);
        let request = all.remove(0);
        assert_eq!(request.started, Duration::from_micros(9));
        (request.method, request.path)
    };
    let expected = |method: &str, path: &str| (method.to_owned(), path.to_owned());
    assert_eq!(shown("GET", "/"), expected("GET", "/"));
    assert_eq!(shown("PROPPATCHES", ""), expected("PROPPATC", ""));
    let long = "/".repeat(PATH_BYTES);
    assert_eq!(shown("GET", &long).1, long);
    assert_eq!(shown("GET", &format!("{long}x")).1, format!("{long}..."));
    assert_eq!(
        shown("GET", "/s").1,
        "/s",
        "nothing is left of the longer one"
    );
    let hostile = "/\u{1b}[2J\n\"ü %";
    assert_eq!(shown("G\0T", hostile).1, r#"/\x1b[2J\x0a"\xc3\xbc\x20%"#);
    row.hide(3);
    assert_eq!(row.oldest(), []);
}

#[test]
fn a_lie_about_a_request_is_shown_and_does_no_harm() {
    let (board, fd) = Scoreboard::create(1).unwrap();
    let first_entry = 64 + 7 * 64;
    scribble(&fd, first_entry, &[0xfe; 128]);
    let shown = board.row(0).unwrap().oldest();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].method, r"\xfe".repeat(METHOD_BYTES));
    assert_eq!(shown[0].path, format!("{}...", r"\xfe".repeat(PATH_BYTES)));
    // Its writer died in the middle.
    scribble(&fd, first_entry, &[0xff; 4]);
    assert_eq!(board.row(0).unwrap().oldest(), []);
}
