//! Packing and unpacking of one chunk. Unpacking believes nothing: not the codec, not the length.

use std::cell::RefCell;

use super::Codec;
use super::format::Checksum;
use crate::id::ChunkId;
use crate::limits::ZSTD_LEVEL;

/// Packs chunks, keeping what zstd needs between them.
pub(crate) struct Packer {
    zstd: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl Packer {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { zstd: zstd::bulk::Compressor::new(ZSTD_LEVEL)?, buffer: Vec::new() })
    }

    /// The payload of the chunk `id`: packed if that saves a sixteenth, else the bytes themselves.
    pub(crate) fn pack(&mut self, id: ChunkId, plain: &[u8]) -> Packed {
        self.buffer.resize(plain.len() - plain.len() / 16, 0);
        match self.zstd.compress_to_buffer(plain, &mut self.buffer[..]) {
            Ok(length) if length < plain.len() => {
                Packed::new(Codec::Zstd, self.buffer[..length].to_vec())
            }
            // The usual failure is that the result does not fit, i.e. saves too little.
            _ => Packed {
                codec: Codec::Raw,
                payload: plain.to_vec(),
                checksum: Checksum::of_raw(id),
            },
        }
    }
}

/// A chunk as it is stored.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) codec: Codec,
    pub(crate) payload: Vec<u8>,
    pub(crate) checksum: Checksum,
}

impl Packed {
    pub(crate) fn new(codec: Codec, payload: Vec<u8>) -> Self {
        let checksum = Checksum::of(&payload);
        Self { codec, payload, checksum }
    }
}

/// The plain bytes of a payload if they are `plain_bytes` long and hash to `id`.
pub(crate) fn unpack(
    id: ChunkId,
    codec: Codec,
    payload: Vec<u8>,
    plain_bytes: usize,
) -> Option<Vec<u8>> {
    let plain = match codec {
        Codec::Raw => payload,
        Codec::Zstd => unzstd(&payload, plain_bytes)?,
    };
    (plain.len() == plain_bytes && ChunkId::of(&plain) == id).then_some(plain)
}

/// Whether a payload unpacks to `plain_bytes` bytes that hash to `id`; `room` is used again and again.
pub(crate) fn is_sound(
    id: ChunkId,
    codec: Codec,
    payload: &[u8],
    plain_bytes: usize,
    room: &mut Vec<u8>,
) -> bool {
    let plain = match codec {
        Codec::Raw => Some(payload),
        Codec::Zstd => {
            room.resize(plain_bytes, 0);
            let length = with_zstd(|zstd| zstd.decompress_to_buffer(payload, &mut room[..]).ok());
            length.map(|length| &room[..length])
        }
    };
    plain.is_some_and(|plain| plain.len() == plain_bytes && ChunkId::of(plain) == id)
}

fn unzstd(payload: &[u8], plain_bytes: usize) -> Option<Vec<u8>> {
    with_zstd(|zstd| zstd.decompress(payload, plain_bytes).ok())
}

fn with_zstd<T>(
    unpack: impl FnOnce(&mut zstd::bulk::Decompressor<'static>) -> Option<T>,
) -> Option<T> {
    thread_local! {
        // A context costs more to make than a chunk to unpack.
        static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
            const { RefCell::new(None) };
    }
    ZSTD.with_borrow_mut(|zstd| {
        if zstd.is_none() {
            *zstd = Some(zstd::bulk::Decompressor::new().ok()?);
        }
        unpack(zstd.as_mut()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_text_and_leaves_noise_alone() {
        let mut packer = Packer::new().unwrap();
        let text = b"calotype ".repeat(7000);
        let mut noise = vec![0; 65536];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        for (plain, codec) in [(&text, Codec::Zstd), (&noise, Codec::Raw)] {
            let Packed { codec: used, payload, checksum } = packer.pack(ChunkId::of(plain), plain);
            assert_eq!((used, checksum), (codec, Checksum::of(&payload)));
            let stored = payload.clone();
            let unpacked = unpack(ChunkId::of(plain), used, payload, plain.len());
            assert_eq!(unpacked.as_ref(), Some(plain));
            assert!(is_sound(ChunkId::of(plain), used, &stored, plain.len(), &mut Vec::new()));
        }
    }

    #[test]
    fn refuses_a_payload_that_is_not_its_name() {
        let plain = vec![7; 8192];
        let id = ChunkId::of(&plain);
        let Packed { codec, payload, .. } = Packer::new().unwrap().pack(id, &plain);
        assert!(unpack(ChunkId::of(b"other"), codec, payload.clone(), 8192).is_none());
        assert!(unpack(id, codec, payload.clone(), 8191).is_none());
        assert!(unpack(id, codec, payload.clone(), 8193).is_none());
        assert!(unpack(id, Codec::Raw, payload.clone(), 8192).is_none());
        for index in 0..payload.len() {
            let mut damaged = payload.clone();
            damaged[index] ^= 0x10;
            let sound = is_sound(id, codec, &damaged, 8192, &mut Vec::new());
            let unpacked = unpack(id, codec, damaged, 8192);
            assert_eq!(sound, unpacked.is_some());
            assert!(unpacked.is_none_or(|bytes| bytes == plain));
        }
    }
}
