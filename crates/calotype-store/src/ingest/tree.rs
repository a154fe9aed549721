//! Builds the tree of a disk from left to right, taking over whole parts of the base's tree.

use crate::core::Core;
use crate::error::Result;
use crate::id::{ChunkId, ManifestId};
use crate::limits::FANOUT;
use crate::manifest::{self, Root};
use crate::partial::Partial;

/// Takes the nodes as they become full, and names them.
pub(super) trait NodeSink {
    fn node(&mut self, node: Vec<u8>) -> Result<ChunkId>;
}

/// A tree under construction: at most one unfinished node per level is in memory.
pub(super) struct TreeBuilder<'a> {
    core: &'a Core,
    size_bytes: u64,
    base: Option<&'a Root>,
    /// The children so far of the unfinished node at level 1, 2, … and, last, of the root.
    levels: Vec<Vec<ChunkId>>,
    /// The next chunk.
    position: u64,
}

impl<'a> TreeBuilder<'a> {
    pub(super) fn new(core: &'a Core, size_bytes: u64, base: Option<&'a Root>) -> Self {
        let levels = vec![Vec::new(); manifest::depth(size_bytes) as usize];
        Self { core, size_bytes, base, levels, position: 0 }
    }

    /// Goes on where another builder for the same disk and base was.
    pub(super) fn resume(&mut self, partial: &Partial) {
        self.levels.clone_from(&partial.levels);
        self.position = partial.position;
    }

    /// Where another builder can go on.
    pub(super) fn partial(&self, base: Option<ManifestId>) -> Partial {
        Partial::new(self.size_bytes, base, self.position, self.levels.clone())
    }

    /// The next chunk is `id`.
    pub(super) fn chunk(&mut self, id: ChunkId, sink: &mut dyn NodeSink) -> Result<()> {
        self.push(0, id, sink)
    }

    /// The next `chunks` chunks are holes.
    pub(super) fn hole(&mut self, chunks: u64, sink: &mut dyn NodeSink) -> Result<()> {
        let end = self.position + chunks;
        while self.position < end {
            let level = self.level_max(end, self.levels.len() as u32 - 1);
            self.push(level, ChunkId::HOLE, sink)?;
        }
        Ok(())
    }

    /// The next `chunks` chunks are those of the base.
    pub(super) fn keep(&mut self, chunks: u64, sink: &mut dyn NodeSink) -> Result<()> {
        let Some(base) = self.base else { return self.hole(chunks, sink) };
        let end = self.position + chunks;
        let level_max = (self.levels.len() as u32).min(base.depth()) - 1;
        while self.position < end {
            if self.position >= manifest::chunk_count(base.size_bytes) {
                return self.hole(end - self.position, sink);
            }
            match self.level_max(end, level_max) {
                0 => self.keep_of_node(base, end, sink)?,
                level => {
                    let id = self.core.at_level(base, level, self.position)?;
                    self.push(level, id, sink)?;
                }
            }
        }
        Ok(())
    }

    /// Keeps the next chunks up to `end`, or to the end of the base's node that has them: one walk from the
    /// root for all of them.
    fn keep_of_node(&mut self, base: &Root, end: u64, sink: &mut dyn NodeSink) -> Result<()> {
        let slot = manifest::slot(1, self.position);
        let end = end.min(manifest::chunk_count(base.size_bytes));
        let chunks = (end - self.position).min((FANOUT - slot) as u64) as usize;
        let ids: Vec<_> = if base.depth() == 1 {
            base.children[slot..slot + chunks].to_vec()
        } else {
            let node = self.core.at_level(base, 1, self.position)?;
            if node.is_hole() {
                vec![ChunkId::HOLE; chunks]
            } else {
                manifest::children(&self.core.node(node)?).skip(slot).take(chunks).collect()
            }
        };
        for id in ids {
            self.push(0, id, sink)?;
        }
        Ok(())
    }

    /// The root of the tree; the disk must be complete.
    pub(super) fn finish(mut self, sink: &mut dyn NodeSink) -> Result<Root> {
        for level in 0..self.levels.len() - 1 {
            if !self.levels[level].is_empty() {
                self.close(level, sink)?;
            }
        }
        let mut children = self.levels.pop().unwrap_or_default();
        children.resize(FANOUT, ChunkId::HOLE);
        Ok(Root { size_bytes: self.size_bytes, children })
    }

    /// The highest level, `level_max` at most, of which one thing fits between the position and `end`.
    ///
    /// Where the disk ends, what lies beyond is a hole in every tree of no larger a disk, so a part
    /// that reaches past the end fits too, unless the base is larger and may have more there.
    fn level_max(&self, end: u64, level_max: u32) -> u32 {
        let chunks = manifest::chunk_count(self.size_bytes);
        let larger_base = self.base.is_some_and(|base| base.size_bytes > self.size_bytes);
        let fits = |level: u32| {
            let span = manifest::span(level);
            let part_end = self.position + span;
            self.position.is_multiple_of(span)
                && (part_end <= end || (end >= chunks && part_end >= chunks && !larger_base))
        };
        (0..=level_max).rev().find(|&level| fits(level)).unwrap_or(0)
    }

    /// Appends something at `level`; nothing below it may be unfinished.
    fn push(&mut self, level: u32, id: ChunkId, sink: &mut dyn NodeSink) -> Result<()> {
        debug_assert!(self.levels[..level as usize].iter().all(Vec::is_empty));
        self.position += manifest::span(level);
        let level = level as usize;
        self.levels[level].push(id);
        // The root's children stay where they are: the root is made when all is known.
        if self.levels[level].len() == FANOUT && level + 1 < self.levels.len() {
            self.close(level, sink)?;
        }
        Ok(())
    }

    /// Makes a node of the children gathered at `level`, and full ones above it.
    fn close(&mut self, mut level: usize, sink: &mut dyn NodeSink) -> Result<()> {
        loop {
            let children = &mut self.levels[level];
            let id = if children.iter().all(|child| child.is_hole()) {
                ChunkId::HOLE
            } else {
                sink.node(manifest::encode_node(children))?
            };
            children.clear();
            level += 1;
            self.levels[level].push(id);
            if self.levels[level].len() < FANOUT || level + 1 == self.levels.len() {
                return Ok(());
            }
        }
    }
}
