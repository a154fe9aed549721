//! One pass over the index, beside the sorted names of what is needed: finds what is not.

use std::collections::BTreeMap;

use redb::ReadableTable;

use super::opened::{Opened, broken};
use super::{Index, Location, PackInfo};
use crate::error::Result;
use crate::id::ChunkId;

/// A chunk that nothing marked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub(crate) id: ChunkId,
    pub(crate) location: Location,
}

/// What a pass found, all as of one moment.
pub(crate) struct Scan {
    /// Which index this is true of: one that is opened again may have chunks in other places.
    pub(crate) opening: u64,
    /// The packs there were.
    pub(crate) packs: BTreeMap<u32, PackInfo>,
    /// By pack, the stored bytes of marked chunks that are read from it.
    pub(crate) live_bytes: BTreeMap<u32, u64>,
    pub(crate) candidates: Vec<Candidate>,
    /// Marks that no chunk of the index has.
    pub(crate) marks_missing: u64,
}

impl Index {
    /// Passes over the whole index in its order, beside `marks`: sorted, each once, see
    /// [`ChunkId::mark`]. Memory grows with the packs and with what is not marked.
    pub(crate) fn scan(&self, marks: &[u64]) -> Result<Scan> {
        let opened = self.usable()?;
        self.scan_in(&opened, marks)
            .or_else(|error| self.scan_in(&*self.reopen(&opened, &error)?, marks))
    }

    fn scan_in(&self, opened: &Opened, marks: &[u64]) -> Result<Scan> {
        // Before the table: the chunks of every pack in the list are in the table then.
        let packs = self.packs();
        let table = opened.table();
        let mut scan = Scan {
            opening: opened.number,
            packs,
            live_bytes: BTreeMap::new(),
            candidates: Vec::new(),
            marks_missing: marks.len() as u64,
        };
        let mut marks = marks.iter().copied().peekable();
        let mut last_found = None;
        for row in table.iter().map_err(broken)? {
            let (id, location) = row.map_err(broken)?;
            let id = ChunkId(*id.value());
            let location = Location::decode(location.value());
            let mark = id.mark();
            while marks.next_if(|&next| next < mark).is_some() {}
            if marks.peek() == Some(&mark) {
                let live = scan.live_bytes.entry(location.slot.pack).or_default();
                *live += u64::from(location.stored_bytes);
                if last_found.replace(mark) != Some(mark) {
                    scan.marks_missing -= 1;
                }
            } else {
                scan.candidates.push(Candidate { id, location });
            }
        }
        Ok(scan)
    }
}
