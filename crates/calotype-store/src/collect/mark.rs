//! Gathers the names of everything that must stay.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::core::Core;
use crate::error::{ErrorKind, Result};
use crate::id::{ChunkId, ManifestId};
use crate::limits::MARKS_UNSORTED_MIN;
use crate::manifest;
use crate::partial::{Partial, PartialId};
use crate::registry::State;

/// What was marked so far: eight bytes for each chunk, see [`ChunkId::mark`].
pub(super) struct Mark<'a> {
    core: &'a Core,
    manifests: BTreeSet<ManifestId>,
    partials: BTreeMap<PartialId, u64>,
    /// By their whole names: one that passed for another would leave what is below it unmarked.
    nodes: HashSet<ChunkId>,
    marks: Vec<u64>,
    /// So many of the marks are sorted, each once.
    sorted: usize,
    /// Found after the marks were handed out.
    late: Option<HashSet<u64>>,
}

impl<'a> Mark<'a> {
    pub(super) fn new(core: &'a Core) -> Self {
        Self {
            core,
            manifests: BTreeSet::new(),
            partials: BTreeMap::new(),
            nodes: HashSet::new(),
            marks: Vec::new(),
            sorted: 0,
            late: None,
        }
    }

    pub(super) fn has_manifest(&self, id: &ManifestId) -> bool {
        self.manifests.contains(id)
    }

    /// A manifest in use that is not marked. What is in use but not visible is of a commit that
    /// runs, which protects it.
    pub(super) fn unmarked_manifest(&self, state: &State) -> Option<ManifestId> {
        let mut protected = state.protected().into_iter();
        protected.find(|id| state.manifests.contains(id) && !self.manifests.contains(id))
    }

    /// A partial that is not marked as it is now.
    pub(super) fn unmarked_partial(&self, state: &State) -> Option<(PartialId, u64)> {
        let mut partials = state.partials.iter().map(|(&id, &number)| (id, number));
        partials.find(|(id, number)| self.partials.get(id) != Some(number))
    }

    /// Marks all that a manifest reaches.
    pub(super) fn manifest(&mut self, id: ManifestId) -> Result<()> {
        let root = self.core.root(id)?;
        let mut stack = Vec::new();
        self.children(root.depth() - 1, root.children.iter().copied(), &mut stack);
        self.walk(stack)?;
        self.manifests.insert(id);
        Ok(())
    }

    /// Marks all that a partial reaches. One that is gone or damaged reaches nothing: the commit that
    /// would go on from it begins anew.
    pub(super) fn partial(&mut self, id: PartialId, number: u64) -> Result<()> {
        let partial = match Partial::read(self.core, id) {
            Ok(partial) => partial,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
                self.partials.insert(id, number);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut stack = Vec::new();
        for (level, child) in partial.children() {
            self.children(level, std::iter::once(child), &mut stack);
        }
        self.walk(stack)?;
        self.partials.insert(id, number);
        Ok(())
    }

    fn walk(&mut self, mut stack: Vec<(u32, ChunkId)>) -> Result<()> {
        while let Some((level, node)) = stack.pop() {
            let node: Arc<Vec<u8>> = self.core.node(node)?;
            self.children(level - 1, manifest::children(&node), &mut stack);
        }
        Ok(())
    }

    /// Marks things at `level`; those that have children themselves and are new go on the stack.
    fn children(
        &mut self,
        level: u32,
        children: impl Iterator<Item = ChunkId>,
        stack: &mut Vec<(u32, ChunkId)>,
    ) {
        for child in children.filter(|child| !child.is_hole()) {
            let mark = child.mark();
            match &mut self.late {
                None => self.marks.push(mark),
                Some(late) => drop(late.insert(mark)),
            }
            if level > 0 && self.nodes.insert(child) {
                stack.push((level, child));
            }
        }
        // Many manifests share chunks: the list is kept about as long as the chunks are many.
        if self.marks.len() > 2 * self.sorted + MARKS_UNSORTED_MIN {
            self.sort();
        }
    }

    fn sort(&mut self) {
        self.marks.sort_unstable();
        self.marks.dedup();
        self.sorted = self.marks.len();
    }

    /// All marks so far, sorted, each once. From now on they are gathered apart.
    pub(super) fn sorted(&mut self) -> &[u64] {
        self.sort();
        self.late.get_or_insert_default();
        &self.marks
    }

    /// Whether this was marked after [`Mark::sorted`].
    pub(super) fn has_late(&self, id: ChunkId) -> bool {
        self.late.as_ref().is_some_and(|late| late.contains(&id.mark()))
    }
}
