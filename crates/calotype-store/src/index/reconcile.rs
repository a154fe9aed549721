//! Brings an index in line with the packs there are: when the store is opened, and when the index had
//! to be opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use redb::ReadableTable;

use super::opened::{CHUNKS, Opened, PACKS, broken};
use super::{Adding, Location, NewPack, PackInfo, add};
use crate::backend::{Afresh, Backend};
use crate::error::{ErrorKind, Result};
use crate::id::ChunkId;
use crate::limits::{OPENING_CHUNKS, OPENING_PACKS};
use crate::pack::{self, PackId};

/// Numbers for `packs` (with their lengths): those that the index has them by, or new ones.
pub(super) fn number(
    mut packs: BTreeMap<PackId, u64>,
    known: &BTreeMap<u32, PackInfo>,
) -> BTreeMap<u32, PackInfo> {
    let mut numbered = BTreeMap::new();
    for (&number, info) in known {
        if packs.get(&info.id) == Some(&info.length_bytes) {
            packs.remove(&info.id);
            numbered.insert(number, *info);
        }
    }
    let first = known.keys().next_back().map_or(1, |last| last + 1);
    let new = packs.into_iter().zip(first..);
    numbered.extend(new.map(|((id, length_bytes), number)| {
        (number, PackInfo { id, length_bytes, scanned: false })
    }));
    numbered
}

/// Has the index know the packs of `wanted`, and no others. Answers those of them that are there.
pub(super) fn reconcile(
    index: &Opened,
    backend: &dyn Backend,
    wanted: &BTreeMap<u32, PackInfo>,
) -> Result<BTreeMap<u32, PackInfo>> {
    let mut known = index.packs()?;
    let is_wanted = |number: &u32, info: &PackInfo| {
        wanted
            .get(number)
            .is_some_and(|wanted| (wanted.id, wanted.length_bytes) == (info.id, info.length_bytes))
    };
    let gone: BTreeSet<_> =
        known.iter().filter(|(number, info)| !is_wanted(number, info)).map(|(&n, _)| n).collect();
    known.retain(|number, _| !gone.contains(number));
    forget(index, &gone)?;

    let mut missing: Vec<_> =
        wanted.iter().filter(|(number, _)| !known.contains_key(number)).collect();
    missing.sort_unstable_by_key(|(_, info)| info.id);
    let mut found = Vec::new();
    let mut found_chunks = 0;
    for packs in missing.chunks(OPENING_PACKS) {
        for ((number, info), opened) in packs.iter().zip(open(backend, packs)) {
            let opened = match opened {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    tracing::warn!(pack = %info.id, "a pack is listed, but gone");
                    continue;
                }
                opened => opened?,
            };
            let info = PackInfo { scanned: info.scanned || opened.scanned, ..**info };
            found_chunks += opened.records.len();
            found.push(NewPack { number: **number, info, records: opened.records });
        }
        if found_chunks >= OPENING_CHUNKS {
            add_found(index, std::mem::take(&mut found), &mut known)?;
            found_chunks = 0;
        }
    }
    add_found(index, found, &mut known)?;
    Ok(known)
}

fn add_found(
    index: &Opened,
    found: Vec<NewPack>,
    known: &mut BTreeMap<u32, PackInfo>,
) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let infos: Vec<_> = found.iter().map(|pack| (pack.number, pack.info)).collect();
    index.change(false, |writing| add(writing, found, Adding::Found(known)))?;
    known.extend(infos);
    Ok(())
}

/// Side by side: with a distant backend each takes a while.
fn open(backend: &dyn Backend, packs: &[(&u32, &PackInfo)]) -> Vec<Result<pack::OpenedPack>> {
    thread::scope(|scope| {
        let open = |(_, info): &(_, &PackInfo)| {
            let (id, length_bytes) = (info.id, info.length_bytes);
            // Past caches, which would fetch much more than a footer.
            scope.spawn(move || pack::open_pack(&Afresh(backend), id, length_bytes))
        };
        let opening: Vec<_> = packs.iter().map(open).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| match thread.join() {
            Ok(opened) => opened,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        opening.into_iter().map(join).collect()
    })
}

/// Takes packs out of the index, and all that is read from them.
fn forget(index: &Opened, packs: &BTreeSet<u32>) -> Result<()> {
    if packs.is_empty() {
        return Ok(());
    }
    tracing::info!(packs = packs.len(), "the index knows packs that are gone");
    let mut chunks = Vec::new();
    for row in index.table().iter().map_err(broken)? {
        let (id, location) = row.map_err(broken)?;
        if packs.contains(&Location::decode(location.value()).slot.pack) {
            chunks.push(ChunkId(*id.value()));
        }
    }
    index.change(true, |writing| {
        let mut table = writing.open_table(CHUNKS).map_err(broken)?;
        for id in &chunks {
            table.remove(&id.0).map_err(broken)?;
        }
        let mut table = writing.open_table(PACKS).map_err(broken)?;
        for pack in packs {
            table.remove(pack).map_err(broken)?;
        }
        Ok(())
    })
}
