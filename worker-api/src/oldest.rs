//! Which of the requests in flight the row shows: those that have been there for longest.
//!
//! A row has room for a few. While there are no more, a request claims a free entry and gives it
//! back, by one atomic operation each. Beyond that, requests wait in a queue for an entry to come
//! free, under a lock: then the worker has so much in flight that nobody counts nanoseconds. Who
//! waits began later than all that have an entry, so the row shows the oldest ones.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::scoreboard::{ENTRIES, Noted, Row};

/// So many wait at most; whoever comes then is not shown at all.
const MOST_WAITING: usize = 1024;

/// The entries of this worker's row, and who waits for one.
pub(crate) struct Oldest {
    /// A bit for each free entry.
    free: AtomicU32,
    /// How many wait, so that an end of a request need not look.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    last_ticket: u64,
    waiting: BTreeMap<u64, Noted>,
    /// Whose ticket has got an entry.
    promoted: [Option<u64>; ENTRIES],
}

/// Where a request is written down.
#[derive(Debug)]
pub(crate) enum Place {
    Nowhere,
    Entry(usize),
    Ticket(u64),
}

impl Oldest {
    pub(crate) fn new() -> Self {
        Self {
            free: AtomicU32::new((1 << ENTRIES) - 1),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
        }
    }

    /// Writes a request down that begins.
    pub(crate) fn enter(&self, row: &Row, request: &Noted) -> Place {
        match self.claim() {
            Some(entry) => {
                row.show(entry, request);
                Place::Entry(entry)
            }
            None => self.wait(row, request),
        }
    }

    /// The request has ended.
    pub(crate) fn leave(&self, row: &Row, place: &Place) {
        let entry = match *place {
            Place::Nowhere => return,
            Place::Entry(entry) => entry,
            Place::Ticket(ticket) => {
                let mut queue = self.lock();
                if queue.waiting.remove(&ticket).is_some() {
                    self.waiting.store(queue.waiting.len(), Ordering::SeqCst);
                    return;
                }
                let promoted = &mut queue.promoted;
                match promoted.iter().position(|it| *it == Some(ticket)) {
                    Some(entry) => {
                        promoted[entry] = None;
                        entry
                    }
                    None => return,
                }
            }
        };
        row.hide(entry);
        // Sequentially consistent, and so is `wait`: either it finds the entry, or this finds it.
        self.free.fetch_or(1 << entry, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.promote(row, &mut self.lock());
        }
    }

    #[cold]
    fn wait(&self, row: &Row, request: &Noted) -> Place {
        let mut queue = self.lock();
        if queue.waiting.len() >= MOST_WAITING {
            return Place::Nowhere;
        }
        queue.last_ticket += 1;
        let ticket = queue.last_ticket;
        queue.waiting.insert(ticket, *request);
        self.waiting.store(queue.waiting.len(), Ordering::SeqCst);
        self.promote(row, &mut queue);
        Place::Ticket(ticket)
    }

    /// Gives free entries to those that wait, in their order.
    fn promote(&self, row: &Row, queue: &mut Queue) {
        while !queue.waiting.is_empty()
            && let Some(entry) = self.claim()
            && let Some((ticket, request)) = queue.waiting.pop_first()
        {
            row.show(entry, &request);
            queue.promoted[entry] = Some(ticket);
        }
        self.waiting.store(queue.waiting.len(), Ordering::SeqCst);
    }

    fn claim(&self) -> Option<usize> {
        let mut free = self.free.load(Ordering::SeqCst);
        while free != 0 {
            let entry = free.trailing_zeros();
            let taken = free & !(1 << entry);
            let (ok, failed) = (Ordering::SeqCst, Ordering::SeqCst);
            match self.free.compare_exchange_weak(free, taken, ok, failed) {
                Ok(_) => return Some(entry as usize),
                Err(now) => free = now,
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::Scoreboard;
    use std::time::Duration;

    fn row() -> Row {
        let row = Scoreboard::private().unwrap().row(0).unwrap();
        row.reset(1, 1);
        row
    }

    fn request(number: u64) -> Noted {
        Noted::new("GET", &format!("/{number}"), Duration::from_micros(number))
    }

    fn shown(row: &Row) -> Vec<u64> {
        let oldest = row.oldest();
        oldest
            .iter()
            .map(|it| it.path[1..].parse().unwrap())
            .collect()
    }

    #[test]
    fn the_oldest_are_shown_however_many_there_are() {
        let (row, oldest) = (row(), Oldest::new());
        let mut places: Vec<_> = (1..=20)
            .map(|number| Some(oldest.enter(&row, &request(number))))
            .collect();
        let mut leave = |number: usize| {
            let place: Option<Place> = places[number - 1].take();
            oldest.leave(&row, &place.unwrap());
        };
        assert_eq!(shown(&row), [1, 2, 3, 4, 5, 6, 7, 8]);
        leave(12);
        leave(3);
        assert_eq!(shown(&row), [1, 2, 4, 5, 6, 7, 8, 9]);
        for number in [1, 2, 9] {
            leave(number);
        }
        assert_eq!(shown(&row), [4, 5, 6, 7, 8, 10, 11, 13]);
        for number in [4, 5, 6, 7, 8, 10, 11, 13, 14, 15, 16, 17, 18, 19] {
            leave(number);
        }
        assert_eq!(shown(&row), [20]);
        leave(20);
        assert_eq!(shown(&row), Vec::<u64>::new());
        assert_eq!(
            oldest.free.load(Ordering::Relaxed).count_ones() as usize,
            ENTRIES
        );
    }

    #[test]
    fn a_flood_of_requests_is_not_remembered_one_by_one() {
        let (row, oldest) = (row(), Oldest::new());
        let places: Vec<_> = (1..=3_000)
            .map(|number| oldest.enter(&row, &request(number)))
            .collect();
        assert_eq!(oldest.lock().waiting.len(), MOST_WAITING);
        places
            .iter()
            .rev()
            .for_each(|place| oldest.leave(&row, place));
        assert_eq!(shown(&row), Vec::<u64>::new());
        assert!(oldest.lock().waiting.is_empty());
    }

    #[test]
    fn no_entry_is_lost_when_threads_come_and_go() {
        let (row, oldest) = (row(), Oldest::new());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (row, oldest) = (&row, &oldest);
                scope.spawn(move || {
                    for turn in 0..300 {
                        let many = 1 + (turn + thread) % 6;
                        let places: Vec<_> =
                            (0..many).map(|_| oldest.enter(row, &request(1))).collect();
                        places.iter().for_each(|place| oldest.leave(row, place));
                    }
                });
            }
        });
        assert_eq!(shown(&row), Vec::<u64>::new());
        assert_eq!(
            oldest.free.load(Ordering::Relaxed).count_ones() as usize,
            ENTRIES
        );
        assert!(oldest.lock().promoted.iter().all(Option::is_none));
    }
}
