//! Bits that flip on the medium: found and named where they matter, harmless where they do not, and
//! never served.

use std::path::Path;

use super::image::Image;
use super::world::{World, directory};
use crate::backend::Folder;
use crate::backend::Key;
use crate::id::ChunkId;
use crate::index::Location;
use crate::limits::CHUNK_BYTES;
use crate::pack::Codec;
use crate::{ErrorKind, ManifestId};

/// What a flipped bit belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hit {
    /// The payload of a chunk, where the chunk is read from.
    Chunk {
        id: ChunkId,
        location: Location,
    },
    Root(ManifestId),
    Format,
    /// Nothing that is needed, or something that can be had elsewhere.
    Spare,
}

impl World {
    /// Flips a bit of some file, looks at what comes of it, and flips it back.
    pub(super) fn damage(&mut self) {
        // Not all are of use to the store, but all are there to be hit.
        let files = self.files.all();
        let Some((path, length)) = self.random.pick(&files).cloned() else { return };
        if length == 0 {
            return;
        }
        let at_an_end = self.random.once_in(3);
        let offset = self.random.below(length);
        let offset = if at_an_end { length - 1 - offset % length.min(512) } else { offset };
        let bit = self.random.below(8) as u8;
        let hit = self.hit(&path, offset);
        self.note(format_args!("flip {} {offset} {bit}: {hit:?}", path.display()));
        // Sometimes while the store is open: then nobody looks at footers or at the index.
        let closed = self.random.coin() || hit == Hit::Format;
        if closed {
            self.close();
        }
        let file = self.files.number(&path).unwrap();
        self.files.flip(file, offset, bit);
        if hit == Hit::Format {
            let error = self.try_open().err().unwrap();
            assert_eq!(error.kind(), ErrorKind::UnsupportedVersion);
        } else {
            if closed {
                self.open();
            }
            if closed || !path.ends_with("index") {
                self.look_at_damage(hit);
            }
        }
        if closed {
            self.close();
        }
        // The index was written anew.
        if !path.ends_with("index") {
            self.files.flip(file, offset, bit);
        }
        self.close();
        self.open();
        self.check_all();
    }

    fn hit(&self, path: &Path, offset: u64) -> Hit {
        if path == directory().join("format") {
            return Hit::Format;
        }
        let key = |folder: Folder| {
            let name = path.strip_prefix(directory().join(folder.name())).ok()?;
            folder.key(name.to_str()?)
        };
        match Folder::ALL.into_iter().find_map(key) {
            Some(Key::Manifest(id)) => Hit::Root(id),
            Some(Key::Pack(pack)) => {
                let core = self.core();
                let packs = core.index.packs();
                let number =
                    packs.iter().find(|(_, info)| info.id == pack).map(|(number, _)| *number);
                let chunks = core.index.scan(&[]).unwrap().candidates;
                let is_hit = |at: Location| {
                    let begin = u64::from(at.offset);
                    Some(at.slot.pack) == number
                        && (begin..begin + u64::from(at.stored_bytes)).contains(&offset)
                };
                let found = chunks.into_iter().find(|chunk| is_hit(chunk.location));
                found.map_or(Hit::Spare, |chunk| Hit::Chunk {
                    id: chunk.id,
                    location: chunk.location,
                })
            }
            _ => Hit::Spare,
        }
    }

    fn look_at_damage(&mut self, hit: Hit) {
        let recorded: Vec<_> =
            self.catalog.iter().map(|(id, image)| (*id, image.clone())).collect();
        for (id, image) in &recorded {
            let harmed = self.harmed(hit, *id, image);
            match self.store().verify(*id) {
                // A frame has bits that mean nothing: then all is read as it was, see below.
                Ok(_) if matches!(hit, Hit::Chunk { location, .. } if location.codec == Codec::Zstd) =>
                    {}
                Ok(_) => assert!(!harmed, "{id} is harmed, which is not found"),
                Err(error) if harmed => assert_eq!(error.kind(), ErrorKind::Corrupt),
                Err(error) => self.failed(&error),
            }
            for chunk in 0..image.chunks.len() {
                let offset = chunk as u64 * CHUNK_BYTES as u64;
                let length = (image.size_bytes - offset).min(CHUNK_BYTES as u64) as usize;
                match self.read_range(*id, image, offset, length) {
                    Ok(()) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
                        assert!(
                            harmed && may_fail(hit, image, chunk),
                            "chunk {chunk} is not harmed"
                        );
                    }
                }
            }
        }
        if self.random.coin() {
            self.heal(&recorded, hit);
        }
    }

    fn harmed(&self, hit: Hit, id: ManifestId, image: &Image) -> bool {
        match hit {
            Hit::Root(root) => root == id,
            Hit::Chunk { id: chunk, location } if location.node => self.has_node(id, chunk),
            Hit::Chunk { id: chunk, .. } => {
                (0..image.chunks.len()).any(|number| image.chunk_id(number) == chunk)
            }
            Hit::Format | Hit::Spare => false,
        }
    }

    /// Whether a tree of two levels has this node.
    fn has_node(&self, id: ManifestId, node: ChunkId) -> bool {
        self.core().root(id).unwrap().children.contains(&node)
    }

    /// What is committed again is whole again, for all who need it.
    fn heal(&mut self, recorded: &[(ManifestId, Image)], hit: Hit) {
        self.note(format_args!("  commit all again"));
        for (id, image) in recorded {
            let committed = self.store().commit(image, None, &()).unwrap();
            assert_eq!(committed.manifest, *id);
        }
        for (id, _) in recorded {
            if let Err(error) = self.store().verify(*id) {
                panic!("{id} did not heal from {hit:?}: {error}");
            }
        }
    }
}

/// Whether a chunk of a harmed disk may be unreadable.
fn may_fail(hit: Hit, image: &Image, chunk: usize) -> bool {
    match hit {
        Hit::Chunk { id, location } if !location.node => image.chunk_id(chunk) == id,
        _ => true,
    }
}
