//! One simulated file: what a reader sees, what is on the medium, and what is between the two.

use super::random::Random;

/// What a disk writes at once.
const SECTOR_BYTES: usize = 512;

/// The bytes of a file.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// What is read.
    pub(super) seen: Vec<u8>,
    /// What was on the medium when the file was last synced.
    synced: Vec<u8>,
    /// What happened to it since.
    pending: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Content {
    pub(super) fn write(&mut self, bytes: &[u8], offset: usize) {
        write(&mut self.seen, bytes, offset);
        self.pending.push(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_length(&mut self, length: usize) {
        self.seen.resize(length, 0);
        self.pending.push(Change::Length(length));
    }

    pub(super) fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Write { offset, bytes } => write(&mut self.synced, &bytes, offset),
                Change::Length(length) => self.synced.resize(length, 0),
            }
        }
    }

    /// A sync that failed: some of what was to be written is not, and no later sync will write it. A
    /// reader may see it nevertheless, or no more.
    pub(super) fn fail_sync(&mut self, random: &mut Random) {
        self.settle(random);
        if random.coin() {
            let length = self.seen.len();
            self.seen.clone_from(&self.synced);
            self.seen.resize(length, 0);
        }
    }

    /// The power fails: of what was not synced anything may be there, and nothing.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        self.settle(random);
        self.seen.clone_from(&self.synced);
    }

    fn settle(&mut self, random: &mut Random) {
        // Often all or nothing, as when only one file was written lately.
        let mood = random.below(4);
        for change in self.pending.drain(..) {
            let kept = match mood {
                0 => false,
                1 => true,
                _ => random.coin(),
            };
            match change {
                Change::Length(length) if kept => self.synced.resize(length, 0),
                Change::Length(_) => {}
                Change::Write { offset, bytes } => {
                    if kept && mood != 3 {
                        write(&mut self.synced, &bytes, offset);
                    } else if mood > 1 {
                        tear(&mut self.synced, &bytes, offset, random);
                    }
                }
            }
        }
    }

    /// Changes one bit, on the medium as well.
    pub(super) fn flip(&mut self, offset: usize, bit: u8) {
        self.sync();
        self.seen[offset] ^= 1 << bit;
        self.synced[offset] ^= 1 << bit;
    }
}

fn write(to: &mut Vec<u8>, bytes: &[u8], offset: usize) {
    if to.len() < offset + bytes.len() {
        to.resize(offset + bytes.len(), 0);
    }
    to[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// Writes some sectors. The file is then as long as if all had been written, or as far as they were.
fn tear(to: &mut Vec<u8>, bytes: &[u8], offset: usize, random: &mut Random) {
    let end = offset + bytes.len();
    let sectors = (offset / SECTOR_BYTES)..end.div_ceil(SECTOR_BYTES);
    if random.coin() && to.len() < end {
        // Where nothing was written, nobody knows what is read.
        let rest = if random.coin() { 0 } else { 0xa5 };
        to.resize(end, rest);
    }
    let count = sectors.len() as u64;
    let (shape, cut) = (random.below(3), random.below(count + 1));
    for (number, sector) in (0..).zip(sectors) {
        let written = match shape {
            0 => number < cut,
            1 => number >= cut,
            _ => random.coin(),
        };
        if written {
            let from = (sector * SECTOR_BYTES).max(offset);
            let until = ((sector + 1) * SECTOR_BYTES).min(end);
            write(to, &bytes[from - offset..until - offset], from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_stays_and_what_was_not_is_anything() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let mut content = Content::default();
            content.write(&[1; 2 * SECTOR_BYTES], 0);
            content.sync();
            content.write(&[2; 2 * SECTOR_BYTES], SECTOR_BYTES);
            assert_eq!(content.seen.len(), 3 * SECTOR_BYTES);
            content.lose_power(&mut random);
            let sectors: Vec<_> = content.seen.chunks(SECTOR_BYTES).map(<[u8]>::to_vec).collect();
            assert_eq!(sectors[0], [1; SECTOR_BYTES]);
            outcomes.insert(sectors.iter().map(|sector| sector[0]).collect::<Vec<_>>());
        }
        // The second sector old or new; the third missing, new, zeros, or anything.
        let all = [
            vec![1, 1],
            vec![1, 1, 0],
            vec![1, 1, 2],
            vec![1, 1, 0xa5],
            vec![1, 2],
            vec![1, 2, 0],
            vec![1, 2, 2],
            vec![1, 2, 0xa5],
        ];
        assert_eq!(outcomes, all.into());
    }

    #[test]
    fn what_a_failed_sync_lost_is_not_written_by_the_next() {
        let lost = (0..100).filter(|&seed| {
            let mut random = Random::new(seed);
            let mut content = Content::default();
            content.write(&[1; 10], 0);
            content.fail_sync(&mut random);
            content.sync();
            content.lose_power(&mut random);
            content.seen != [1; 10]
        });
        assert!(lost.count() > 20);
    }
}
