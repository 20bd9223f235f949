//! Which of the requests in flight the row shows: those that have been there for longest.
//!
//! A row has room for a few. While there are no more, a request claims a free entry and gives it
//! back. Beyond that, requests wait in a queue for an entry to come free. Who waits began later
//! than all that have an entry, so the row shows the oldest ones.

use std::collections::VecDeque;

use crate::scoreboard::{ENTRIES, Noted, Row};

/// So many wait at most; whoever comes then is not shown at all.
const MOST_WAITING: usize = 1024;

/// The entries of this worker's row, and who waits for one.
pub(crate) struct Oldest {
    /// A bit for each free entry.
    free: u32,
    last_ticket: u64,
    /// By their tickets; the first and the last one have not left.
    waiting: VecDeque<Waiting>,
    /// How many of them have left.
    left: usize,
    /// Whose ticket has got an entry.
    promoted: [Option<u64>; ENTRIES],
}

struct Waiting {
    ticket: u64,
    /// `None` once it has left.
    request: Option<Noted>,
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
            free: (1 << ENTRIES) - 1,
            last_ticket: 0,
            waiting: VecDeque::new(),
            left: 0,
            promoted: [None; ENTRIES],
        }
    }

    /// Writes a request down that begins.
    pub(crate) fn enter(&mut self, row: &Row, request: &Noted) -> Place {
        match self.claim() {
            Some(entry) => {
                row.show(entry, request);
                Place::Entry(entry)
            }
            None => self.wait(request),
        }
    }

    /// The request has ended.
    pub(crate) fn leave(&mut self, row: &Row, place: &Place) {
        let entry = match *place {
            Place::Nowhere => return,
            Place::Entry(entry) => entry,
            Place::Ticket(ticket) => {
                let promoted = self.promoted.iter().position(|it| *it == Some(ticket));
                let Some(entry) = promoted else {
                    return self.give_up(ticket);
                };
                self.promoted[entry] = None;
                entry
            }
        };
        row.hide(entry);
        self.free |= 1 << entry;
        self.promote(row);
    }

    fn wait(&mut self, request: &Noted) -> Place {
        if self.waiting.len() >= MOST_WAITING && self.left > 0 {
            self.waiting.retain(|it| it.request.is_some());
            self.left = 0;
        }
        if self.waiting.len() >= MOST_WAITING {
            return Place::Nowhere;
        }
        self.last_ticket += 1;
        self.waiting.push_back(Waiting {
            ticket: self.last_ticket,
            request: Some(*request),
        });
        Place::Ticket(self.last_ticket)
    }

    /// Somebody does not wait any more.
    fn give_up(&mut self, ticket: u64) {
        let place = self.waiting.binary_search_by_key(&ticket, |it| it.ticket);
        if let Ok(place) = place {
            self.waiting[place].request = None;
            self.left += 1;
        }
        while self.waiting.back().is_some_and(|it| it.request.is_none()) {
            self.waiting.pop_back();
            self.left -= 1;
        }
        self.skip_those_who_left();
    }

    /// Gives free entries to those that wait, in their order.
    fn promote(&mut self, row: &Row) {
        while !self.waiting.is_empty()
            && let Some(entry) = self.claim()
            && let Some(first) = self.waiting.pop_front()
        {
            if let Some(request) = first.request {
                row.show(entry, &request);
                self.promoted[entry] = Some(first.ticket);
            }
            self.skip_those_who_left();
        }
    }

    fn skip_those_who_left(&mut self) {
        while self.waiting.front().is_some_and(|it| it.request.is_none()) {
            self.waiting.pop_front();
            self.left -= 1;
        }
    }

    fn claim(&mut self) -> Option<usize> {
        let entry = self.free.trailing_zeros() as usize;
        let is_free = entry < ENTRIES;
        // The lowest bit that is set.
        self.free &= self.free.wrapping_sub(1);
        is_free.then_some(entry)
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
        let (row, mut oldest) = (row(), Oldest::new());
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
        assert_eq!(oldest.free.count_ones() as usize, ENTRIES);
    }

    #[test]
    fn a_flood_of_requests_is_not_remembered_one_by_one() {
        let (row, mut oldest) = (row(), Oldest::new());
        let places: Vec<_> = (1..=3_000)
            .map(|number| oldest.enter(&row, &request(number)))
            .collect();
        assert_eq!(oldest.waiting.len(), MOST_WAITING);
        places
            .iter()
            .rev()
            .for_each(|place| oldest.leave(&row, place));
        assert_eq!(shown(&row), Vec::<u64>::new());
        assert!(oldest.waiting.is_empty());
    }

    #[test]
    fn whoever_gave_up_waiting_makes_room_for_others() {
        let (row, mut oldest) = (row(), Oldest::new());
        let long: Vec<_> = (1..=9)
            .map(|number| oldest.enter(&row, &request(number)))
            .collect();
        // The ninth waits in front of them all.
        let mut last = None;
        for number in 10..3_000 {
            let before = last.replace(oldest.enter(&row, &request(number)));
            if let Some(place) = before {
                oldest.leave(&row, &place);
            }
        }
        assert!(oldest.waiting.len() < MOST_WAITING);
        let left = oldest.waiting.iter().filter(|it| it.request.is_none());
        assert_eq!(left.count(), oldest.left);
        assert_eq!(shown(&row), [1, 2, 3, 4, 5, 6, 7, 8]);
        oldest.leave(&row, &long[0]);
        assert_eq!(shown(&row), [2, 3, 4, 5, 6, 7, 8, 9]);
        oldest.leave(&row, &long[1]);
        assert_eq!(shown(&row), [3, 4, 5, 6, 7, 8, 9, 2_999]);
    }
}
