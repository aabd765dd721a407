//! The content of a disk.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What the disk writes as a whole or not at all.
pub(super) const BLOCK: usize = 4096;

type Block = [u8; BLOCK];

const ZEROS: Block = [0; BLOCK];

/// The content of a disk: the blocks that do not hold zeros. Copies share what they have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image(BTreeMap<u64, Arc<Block>>);

impl Image {
    /// The bytes of a range.
    #[must_use]
    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for (block, within, range) in pieces(offset, length) {
            if let Some(stored) = self.0.get(&block) {
                bytes[range.clone()].copy_from_slice(&stored[within..within + range.len()]);
            }
        }
        bytes
    }

    /// Puts bytes into a range.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (block, within, range) in pieces(offset, bytes.len()) {
            let stored = self.0.entry(block).or_insert_with(|| Arc::new(ZEROS));
            Arc::make_mut(stored)[within..within + range.len()].copy_from_slice(&bytes[range]);
            if **stored == ZEROS {
                self.0.remove(&block);
            }
        }
    }
}

/// A range of the disk, block by block: the block, where in it, and which part of the range.
pub(super) fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let size = BLOCK as u64;
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + done as u64;
        let within = usize::try_from(at % size).expect("less than a block");
        let piece = (BLOCK - within).min(length - done);
        let range = done..done + piece;
        done += piece;
        (piece > 0).then_some((at / size, within, range))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_gives_back_what_was_written_across_blocks_and_zeros_elsewhere() {
        let mut image = Image::default();
        let bytes: Vec<u8> = (0..10_000_u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
        image.write(4_000, &bytes);
        assert_eq!(image.read(4_000, bytes.len()), bytes);
        assert_eq!(image.read(0, 4_001), [vec![0; 4_000], bytes[..1].to_vec()].concat());
        let before = image.clone();
        image.write(4_000, &vec![0; bytes.len()]);
        assert_eq!(image, Image::default());
        assert_eq!(before.read(4_000, bytes.len()), bytes);
    }
}
