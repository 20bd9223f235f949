//! How long requests take, in buckets that double.

use std::time::Duration;

/// How many buckets there are: 1 us, 2 us, 4 us and so on to 2^30 us (18 minutes), and the rest.
pub const LATENCY_BUCKETS: usize = 32;

/// How long answered requests took, from the head that was read to the last byte written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many took as long as each bucket says; see [`Latency::bound`].
    pub counts: [u64; LATENCY_BUCKETS],
    /// All their times together.
    pub sum: Duration,
}

impl Latency {
    /// The longest time that counts in a bucket: 2^`bucket` us. The last bucket has no bound.
    #[must_use]
    pub fn bound(bucket: usize) -> Option<Duration> {
        (bucket < LATENCY_BUCKETS - 1).then(|| Duration::from_micros(1 << bucket))
    }

    /// Adds the other's counts; no number is too large.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// The bucket that a time counts in.
pub(super) fn bucket_of(nanos: u64) -> usize {
    // Whole microseconds, rounded up: a bound belongs to its bucket.
    let last = nanos.saturating_sub(1) / 1000;
    let bucket = (u64::BITS - last.leading_zeros()) as usize;
    bucket.min(LATENCY_BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_the_first_bucket_whose_bound_it_does_not_pass() {
        for nanos in [0, 1, 999, 1_000] {
            assert_eq!(bucket_of(nanos), 0);
        }
        assert_eq!(bucket_of(1_001), 1);
        for bucket in 0..LATENCY_BUCKETS - 1 {
            let bound = Latency::bound(bucket).unwrap();
            let nanos = u64::try_from(bound.as_nanos()).unwrap();
            assert_eq!(
                (bucket_of(nanos), bucket_of(nanos + 1)),
                (bucket, bucket + 1)
            );
        }
        assert_eq!(Latency::bound(LATENCY_BUCKETS - 1), None);
        assert_eq!(bucket_of(u64::MAX), LATENCY_BUCKETS - 1);
    }

    #[test]
    fn any_two_can_be_added() {
        let mut most = Latency {
            counts: [u64::MAX; LATENCY_BUCKETS],
            sum: Duration::MAX,
        };
        most.add(&most.clone());
        assert_eq!((most.counts[3], most.sum), (u64::MAX, Duration::MAX));
    }
}
