//! An identity for a written file, made of what is in it.

/// A number of 128 bits that follows from the data and its places: whoever exports the same disk twice
/// gets the same file, and two disks do not get one identity, which `VirtualBox` would refuse.
///
/// It tells apart what nobody forges; it proves nothing.
pub(crate) struct ContentId(u128);

/// The parameters of FNV-1a for 128 bits.
const OFFSET_BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

impl ContentId {
    /// The identity of an empty disk.
    pub(crate) fn new(size_bytes: u64) -> Self {
        let mut id = Self(OFFSET_BASIS);
        id.mix(size_bytes);
        id
    }

    /// Takes in the next block with data, by its place and the CRC-32C of its bytes.
    pub(crate) fn add(&mut self, offset: u64, checksum: u32) {
        self.mix(offset);
        self.mix(checksum.into());
    }

    fn mix(&mut self, value: u64) {
        self.0 = (self.0 ^ u128::from(value)).wrapping_mul(PRIME);
    }

    /// As a UUID of version 8: one whose bits are made as its maker likes (RFC 9562).
    pub(crate) fn uuid(&self) -> [u8; 16] {
        let plain = self.0 & !(0xf << 76) & !(0x3 << 62);
        (plain | 0x8 << 76 | 0x2 << 62).to_be_bytes()
    }
}
