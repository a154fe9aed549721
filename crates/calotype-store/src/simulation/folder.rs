//! One simulated directory: its names as they are seen, as they are on the medium, and what is between.

use std::collections::BTreeMap;

use super::random::Random;

/// Says which file.
pub(super) type Number = u64;

/// The names in a directory. What happens to one name happens in its order; what happens to different
/// names may become durable in any.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) seen: BTreeMap<String, Number>,
    synced: BTreeMap<String, Number>,
    pending: Vec<(String, Option<Number>)>,
    /// The directory itself outlives a power failure.
    pub(super) is_durable: bool,
}

impl Names {
    pub(super) fn set(&mut self, name: &str, file: Option<Number>) {
        match file {
            Some(file) => self.seen.insert(name.to_owned(), file),
            None => self.seen.remove(name),
        };
        self.pending.push((name.to_owned(), file));
    }

    pub(super) fn sync(&mut self) {
        self.synced.clone_from(&self.seen);
        self.pending.clear();
    }

    /// All that have a name, or may have one again after a power failure.
    pub(super) fn files(&self) -> impl Iterator<Item = Number> {
        let pending = self.pending.iter().filter_map(|(_, file)| *file);
        self.seen.values().chain(self.synced.values()).copied().chain(pending)
    }

    /// For each name any of what it was since the last sync.
    pub(super) fn lose_power(&mut self, random: &mut Random) {
        let mut by_name: BTreeMap<String, Vec<Option<Number>>> = BTreeMap::new();
        for (name, file) in self.pending.drain(..) {
            by_name.entry(name).or_default().push(file);
        }
        let mood = random.below(4);
        for (name, states) in by_name {
            let count = match mood {
                0 => 0,
                1 => states.len(),
                _ => random.below(states.len() as u64 + 1) as usize,
            };
            match states[..count].last() {
                None => {}
                Some(Some(file)) => drop(self.synced.insert(name, *file)),
                Some(None) => drop(self.synced.remove(&name)),
            }
        }
        self.seen.clone_from(&self.synced);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_any_of_what_it_was_since_the_folder_was_synced() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut names = Names::default();
            names.set("kept", Some(1));
            names.set("replaced", Some(2));
            names.sync();
            names.set("replaced", Some(3));
            names.set("replaced", None);
            names.set("new", Some(4));
            names.lose_power(&mut Random::new(seed));
            assert_eq!(names.seen["kept"], 1);
            outcomes.insert((names.seen.get("replaced").copied(), names.seen.contains_key("new")));
        }
        assert_eq!(outcomes.len(), 6, "{outcomes:?}");
    }
}
