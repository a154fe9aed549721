//! Reading stretches of packs in one go, and hashing the chunks in them.

use crate::backend::Key;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::index::Location;
use crate::limits::{NODE_BYTES, PIECE_BYTES, PIECE_GAP_BYTES_MAX, PLAIN_BYTES_MAX};
use crate::pack::codec;
use crate::pack::{Checksum, ENTRY_BYTES, PackId, Record};

/// A chunk to be looked at, where it is said to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) id: ChunkId,
    pub(crate) location: Location,
    /// What its pack says of the payload; without, it is unpacked and compared with its name.
    pub(crate) checksum: Option<Checksum>,
}

impl Place {
    pub(crate) fn plain_bytes(&self) -> usize {
        if self.location.node { NODE_BYTES } else { PLAIN_BYTES_MAX }
    }

    /// Where its entry begins.
    fn begin(&self) -> u64 {
        u64::from(self.location.offset).saturating_sub(ENTRY_BYTES)
    }

    fn end(&self) -> u64 {
        u64::from(self.location.offset) + u64::from(self.location.stored_bytes)
    }
}

/// Chunks of one pack that are read together.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) pack: PackId,
    pub(crate) begin: u64,
    pub(crate) length_bytes: usize,
    pub(crate) places: Vec<Place>,
}

/// Cuts `places` of one pack, which are in the order of their offsets, into pieces.
pub(crate) fn cut(pack: PackId, places: Vec<Place>) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for place in places {
        if let Some(piece) = pieces.last_mut() {
            let piece_end = piece.begin + piece.length_bytes as u64;
            let near = place.begin() >= piece_end
                && place.begin() - piece_end <= PIECE_GAP_BYTES_MAX
                && place.end() - piece.begin <= PIECE_BYTES;
            if near {
                piece.length_bytes = (place.end() - piece.begin) as usize;
                piece.places.push(place);
                continue;
            }
        }
        // A place that the index made up is no reason for a large buffer.
        let length = (place.end() - place.begin()).min(PLAIN_BYTES_MAX as u64 + ENTRY_BYTES);
        pieces.push(Piece {
            pack,
            begin: place.begin(),
            length_bytes: length as usize,
            places: vec![place],
        });
    }
    pieces
}

/// What was found at a place.
#[derive(Debug)]
pub(crate) enum Found {
    /// The chunk, and its entry.
    Sound,
    /// The chunk, but its entry is not as it was written.
    BesideDamage,
    /// Other bytes.
    Damaged,
    /// Nothing could be read there.
    Unreadable(Error),
}

/// What a thread that checks pieces uses again and again.
#[derive(Default)]
pub(crate) struct Room {
    read: Vec<u8>,
    plain: Vec<u8>,
}

/// Reads a piece, past every cache, and tells what is at each of its places. Fails with
/// [`ErrorKind::NotFound`] if there is no such pack.
pub(crate) fn check(
    core: &Core,
    piece: &Piece,
    room: &mut Room,
    mut tell: impl FnMut(&Place, Found),
) -> Result<()> {
    room.read.resize(piece.length_bytes, 0);
    match core.backend.read_below(Key::Pack(piece.pack), piece.begin, &mut room.read) {
        Ok(()) => {
            for place in &piece.places {
                let begin = (place.begin() - piece.begin) as usize;
                let end = (place.end() - piece.begin) as usize;
                let found = match room.read.get(begin..end) {
                    Some(bytes) => look(place, bytes, &mut room.plain),
                    None => Found::Damaged,
                };
                tell(place, found);
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(error),
        // Something in it cannot be read: the rest of it may be.
        Err(_) => {
            for place in &piece.places {
                let length = place.end().saturating_sub(place.begin());
                room.read.resize((length as usize).min(PLAIN_BYTES_MAX + ENTRY_BYTES as usize), 0);
                let key = Key::Pack(piece.pack);
                let read = core.backend.read_below(key, place.begin(), &mut room.read);
                let found = match read {
                    Ok(()) => look(place, &room.read, &mut room.plain),
                    Err(error) if error.kind() == ErrorKind::NotFound => return Err(error),
                    Err(error) => Found::Unreadable(error),
                };
                tell(place, found);
            }
            Ok(())
        }
    }
}

/// `bytes` are an entry and its payload.
fn look(place: &Place, bytes: &[u8], room: &mut Vec<u8>) -> Found {
    let Location { offset, stored_bytes, codec, .. } = place.location;
    let plain_bytes = place.plain_bytes();
    let Some((entry, payload)) = bytes.split_at_checked(ENTRY_BYTES as usize) else {
        return Found::Damaged;
    };
    let checksum = Checksum::of(payload);
    let as_written = place.checksum == Some(checksum);
    if !as_written && !codec::is_sound(place.id, codec, payload, plain_bytes, room) {
        return Found::Damaged;
    }
    let plain_bytes = plain_bytes as u32;
    let record = Record { id: place.id, offset, stored_bytes, plain_bytes, codec, checksum };
    if record.entry() == entry { Found::Sound } else { Found::BesideDamage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Slot;
    use crate::pack::Codec;

    fn place(offset: u32, stored_bytes: u32) -> Place {
        let slot = Slot { pack: 1, record: 0 };
        let location = Location { slot, offset, stored_bytes, codec: Codec::Raw, node: false };
        Place { id: ChunkId::of(b"chunk"), location, checksum: None }
    }

    #[test]
    fn neighbours_are_read_together_up_to_a_size() {
        let step = 64 + 65_536;
        let places: Vec<_> = (0..40).map(|n| place(80 + n * step, 65_536)).collect();
        let pieces = cut(PackId::fresh(), places);
        assert!(pieces.len() > 1);
        assert_eq!(pieces.iter().map(|piece| piece.places.len()).sum::<usize>(), 40);
        let mut end = 16;
        for piece in &pieces {
            assert_eq!(piece.begin, end);
            assert!(piece.length_bytes as u64 <= PIECE_BYTES);
            end = piece.begin + piece.length_bytes as u64;
        }
        assert_eq!(end, 16 + 40 * u64::from(step));
    }

    #[test]
    fn what_lies_far_apart_is_read_apart() {
        let far = 200 + PIECE_GAP_BYTES_MAX as u32 + 65;
        let pieces = cut(PackId::fresh(), vec![place(80, 100), place(244, 10), place(far + 64, 9)]);
        let lengths: Vec<_> =
            pieces.iter().map(|piece| (piece.places.len(), piece.length_bytes)).collect();
        assert_eq!(lengths, [(2, 238), (1, 73)]);
    }

    #[test]
    fn places_that_cannot_be_reserve_little() {
        for places in [
            vec![place(0, u32::MAX), place(3, u32::MAX)],
            vec![place(u32::MAX, u32::MAX)],
            vec![place(64, 10), place(50, 10)],
        ] {
            for piece in cut(PackId::fresh(), places) {
                assert!(piece.length_bytes as u64 <= PIECE_BYTES);
            }
        }
    }
}
