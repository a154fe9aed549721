//! Layers over disks, beside plain vectors of bytes.

use std::sync::Arc;

use calotype_disk::{Disk, Error, ErrorKind, Extent, ExtentKind, Layered, Result, raw::Raw};
use proptest::prelude::*;

use crate::support::{extents, read_all};

/// A disk whose every byte has a kind.
struct Bytewise(Vec<(u8, ExtentKind)>);

impl Disk for Bytewise {
    fn size_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        for (index, byte) in buf.iter_mut().enumerate() {
            let found = self.0.get(offset as usize + index);
            *byte = found.ok_or_else(|| Error::new(ErrorKind::OutOfBounds, "past the end"))?.0;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let rest = &self.0[offset as usize..];
        let length = rest.iter().take_while(|byte| byte.1 == rest[0].1).count();
        Ok(Extent { length_bytes: length as u64, kind: rest[0].1 })
    }
}

fn any_disk() -> impl Strategy<Value = Vec<(u8, ExtentKind)>> {
    let kind =
        prop_oneof![Just(ExtentKind::Data), Just(ExtentKind::Zero), Just(ExtentKind::Parent),];
    let run = (kind, 1..30_usize, any::<u8>());
    proptest::collection::vec(run, 0..10).prop_map(|runs| {
        let mut bytes = Vec::new();
        for (kind, length, seed) in runs {
            bytes.extend((0..length).map(|index| {
                let byte = if kind == ExtentKind::Data { seed ^ index as u8 } else { 0 };
                (byte, kind)
            }));
        }
        bytes
    })
}

proptest! {
    #[test]
    fn a_layer_hides_what_it_has_and_shows_the_rest(top in any_disk(), below in any_disk()) {
        let expected: Vec<_> = top
            .iter()
            .enumerate()
            .map(|(index, &(byte, kind))| match kind {
                ExtentKind::Parent => below.get(index).copied().unwrap_or((0, ExtentKind::Zero)),
                _ => (byte, kind),
            })
            .collect();
        let disk = Layered { top: Arc::new(Bytewise(top)), below: Arc::new(Bytewise(below)) };
        let bytes: Vec<_> = expected.iter().map(|byte| byte.0).collect();
        prop_assert_eq!(read_all(&disk), bytes);
        for (offset, length, kind) in extents(&disk) {
            for byte in &expected[offset as usize..(offset + length) as usize] {
                prop_assert_eq!(byte.1, kind);
            }
        }
    }
}

#[test]
fn reading_past_the_end_is_an_error() {
    let raw = Raw::open(Box::new(vec![1; 100])).unwrap();
    let top = Bytewise(vec![(0, ExtentKind::Parent); 100]);
    let disk = Layered { top: Arc::new(top), below: Arc::new(raw) };
    let mut buf = [0; 10];
    disk.read_at(90, &mut buf).unwrap();
    assert_eq!(buf, [1; 10]);
    for offset in [91, 100, u64::MAX] {
        let error = disk.read_at(offset, &mut buf).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfBounds);
    }
}

#[test]
fn a_raw_disk_is_its_file() {
    let disk = Raw::open(Box::new(vec![7; 1000])).unwrap();
    assert_eq!(read_all(&disk), [7; 1000]);
    assert_eq!(extents(&disk), [(0, 1000, ExtentKind::Data)]);
    assert_eq!(disk.extent_at(1000).unwrap_err().kind(), ErrorKind::OutOfBounds);
    assert_eq!(disk.read_at(999, &mut [0; 2]).unwrap_err().kind(), ErrorKind::OutOfBounds);
}
