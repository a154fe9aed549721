//! No changing request is carried out twice because somebody else sent it again.
//!
//! The signature of every request that changes something is remembered until its time is too old to be accepted
//! anyway. Twins are the exception: requests that a client means as different though they are equal, and that have the
//! same signature because its time is in whole seconds. They are told apart by the ids that clients give each of
//! their requests, which are not signed; so twins are accepted only shortly after one another, and each only once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use calotype_api::sign::SKEW_SECONDS_MAX;

use super::limits::{SIGNATURES_MAX, TWINS_MAX, TWINS_SECONDS_MAX};

/// A digest; 16 bytes keep the memory small, and collisions cannot be made without the user's key.
type Digest = [u8; 16];

/// Whether a request may be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was not seen before.
    New,
    /// It was seen before.
    Seen,
    /// So many requests are remembered that one more cannot be.
    Full,
}

/// The signatures of changing requests.
#[derive(Default)]
pub(super) struct Replays(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    signatures: HashMap<Digest, First>,
    /// The same by the second in which they can be forgotten.
    by_expiry: BTreeSet<(i64, Digest)>,
}

struct First {
    seen_at: i64,
    twins: Vec<Digest>,
}

impl Replays {
    /// Remembers a request. `ids` are the client's own ids of it, `signed_at` and `now` are in seconds since 1970.
    pub(super) fn check(
        &self,
        signature: &[u8],
        ids: &[&[u8]],
        signed_at: i64,
        now: i64,
    ) -> Verdict {
        let signature = digest(&[signature]);
        let twin = digest(ids);
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = &mut *guard;
        remembered.forget_before(now);
        let full = remembered.signatures.len() >= SIGNATURES_MAX;
        match remembered.signatures.entry(signature) {
            Entry::Occupied(mut entry) => {
                let first = entry.get_mut();
                let shortly = now.abs_diff(first.seen_at) <= TWINS_SECONDS_MAX.unsigned_abs();
                if !shortly || first.twins.len() >= TWINS_MAX || first.twins.contains(&twin) {
                    return Verdict::Seen;
                }
                first.twins.push(twin);
                Verdict::New
            }
            Entry::Vacant(_) if full => Verdict::Full,
            Entry::Vacant(entry) => {
                entry.insert(First { seen_at: now, twins: vec![twin] });
                let skew = i64::try_from(SKEW_SECONDS_MAX).unwrap_or(i64::MAX);
                remembered.by_expiry.insert((signed_at.saturating_add(skew), signature));
                Verdict::New
            }
        }
    }
}

impl Remembered {
    fn forget_before(&mut self, now: i64) {
        while let Some(first) = self.by_expiry.first().filter(|(expiry, _)| *expiry < now).copied()
        {
            self.by_expiry.remove(&first);
            self.signatures.remove(&first.1);
        }
    }
}

fn digest(parts: &[&[u8]]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&part.len().to_le_bytes());
        hasher.update(part);
    }
    let mut digest = Digest::default();
    hasher.finalize_xof().fill(&mut digest);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000;
    const SKEW: i64 = SKEW_SECONDS_MAX.cast_signed();

    #[test]
    fn refuses_the_same_request_for_as_long_as_its_time_is_accepted() {
        let replays = Replays::default();
        assert_eq!(replays.check(b"s", &[b"a"], NOW, NOW), Verdict::New);
        for later in [0, 1, TWINS_SECONDS_MAX, SKEW] {
            assert_eq!(replays.check(b"s", &[b"a"], NOW, NOW + later), Verdict::Seen, "{later}");
        }
        assert_eq!(replays.check(b"t", &[b"a"], NOW, NOW), Verdict::New);
    }

    #[test]
    fn accepts_twins_once_each_and_only_shortly_after_the_first() {
        let replays = Replays::default();
        assert_eq!(replays.check(b"s", &[b"a", b""], NOW, NOW), Verdict::New);
        assert_eq!(replays.check(b"s", &[b"b", b""], NOW, NOW), Verdict::New);
        assert_eq!(replays.check(b"s", &[b"", b"a"], NOW, NOW + TWINS_SECONDS_MAX), Verdict::New);
        assert_eq!(replays.check(b"s", &[b"b", b""], NOW, NOW), Verdict::Seen);
        assert_eq!(
            replays.check(b"s", &[b"c", b""], NOW, NOW + TWINS_SECONDS_MAX + 1),
            Verdict::Seen
        );
    }

    #[test]
    fn accepts_a_bounded_number_of_twins() {
        let replays = Replays::default();
        for twin in 0..TWINS_MAX {
            assert_eq!(replays.check(b"s", &[&twin.to_le_bytes()], NOW, NOW), Verdict::New);
        }
        assert_eq!(replays.check(b"s", &[b"more"], NOW, NOW), Verdict::Seen);
    }

    #[test]
    fn forgets_what_is_too_old_and_takes_no_more_when_full() {
        let replays = Replays::default();
        for index in 0..SIGNATURES_MAX {
            assert_eq!(replays.check(&index.to_le_bytes(), &[], NOW - SKEW, NOW), Verdict::New);
        }
        assert_eq!(replays.check(b"s", &[], NOW, NOW), Verdict::Full);
        assert_eq!(replays.check(&0_usize.to_le_bytes(), &[], NOW - SKEW, NOW), Verdict::Seen);
        assert_eq!(replays.check(b"s", &[], NOW + 1, NOW + 1), Verdict::New);
        let remembered = replays.0.lock().unwrap();
        assert_eq!((remembered.signatures.len(), remembered.by_expiry.len()), (1, 1));
    }
}
