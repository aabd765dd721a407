//! What was written to a disk, in order, and what a power cut can leave of it.

use std::sync::Arc;

use super::image::{BLOCK, Image, pieces};

/// One thing that a disk was told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// Everything written before is on the medium.
    Flush,
    /// Bytes, which may be on the medium or not until the next flush.
    Write {
        /// Where.
        offset: u64,
        /// What.
        bytes: Arc<[u8]>,
    },
}

/// All writes and flushes since a moment.
#[derive(Clone, Debug)]
pub struct Recording {
    base: Image,
    operations: Vec<Operation>,
    acknowledged: Option<usize>,
}

/// A moment at which the power is cut, and what of the unflushed writes has reached the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// After so many operations.
    pub after: usize,
    /// Each unflushed block by chance, from this seed; without one, all of them.
    pub seed: Option<u64>,
}

impl Recording {
    pub(super) fn new(base: Image) -> Self {
        Self { base, operations: Vec::new(), acknowledged: None }
    }

    pub(super) fn push(&mut self, operation: Operation) {
        self.operations.push(operation);
    }

    pub(super) fn acknowledge(&mut self) {
        self.acknowledged = Some(self.operations.len());
    }

    /// What was recorded.
    #[must_use]
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Whether somebody had been told before the cut that the work is done.
    #[must_use]
    pub fn is_acknowledged(&self, cut: Cut) -> bool {
        self.acknowledged.is_some_and(|acknowledged| cut.after >= acknowledged)
    }

    /// Every boundary between two operations, and at each one with several unflushed blocks, so many random subsets of them.
    #[must_use]
    pub fn cuts(&self, subsets: u64) -> Vec<Cut> {
        let mut cuts = vec![Cut { after: 0, seed: None }];
        let mut unflushed = 0;
        for (index, operation) in self.operations.iter().enumerate() {
            let after = index + 1;
            match operation {
                Operation::Flush => unflushed = 0,
                Operation::Write { offset, bytes } => unflushed += pieces(*offset, bytes.len()).count(),
            }
            cuts.push(Cut { after, seed: None });
            let subsets = if unflushed > 1 { subsets } else { 0 };
            cuts.extend((0..subsets).map(|subset| Cut { after, seed: Some(after as u64 * 1000 + subset) }));
        }
        cuts
    }

    /// The disk after a cut.
    #[must_use]
    pub fn image(&self, cut: Cut) -> Image {
        let done = &self.operations[..cut.after];
        let flushed = done.iter().rposition(|operation| matches!(operation, Operation::Flush));
        let mut image = self.base.clone();
        let mut chance = cut.seed.map(fastrand::Rng::with_seed);
        for (index, operation) in done.iter().enumerate() {
            let Operation::Write { offset, bytes } = operation else { continue };
            for (block, within, range) in pieces(*offset, bytes.len()) {
                let is_flushed = flushed.is_some_and(|flushed| index < flushed);
                let lost = !is_flushed && chance.as_mut().is_some_and(fastrand::Rng::bool);
                if !lost {
                    image.write(block * BLOCK as u64 + within as u64, &bytes[range]);
                }
            }
        }
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_stays_and_what_was_not_may_be_lost_block_by_block() {
        let mut recording = Recording::new(Image::default());
        let write = |offset, byte| Operation::Write { offset, bytes: vec![byte; 2 * BLOCK].into() };
        recording.push(write(0, 1));
        recording.push(Operation::Flush);
        recording.push(write(0, 2));
        recording.acknowledge();
        let cuts = recording.cuts(40);
        assert_eq!(cuts.len(), 4 + 2 * 40);
        let first_bytes = |cut: &Cut| {
            let image = recording.image(*cut);
            (image.read(0, 1)[0], image.read(BLOCK as u64, 1)[0])
        };
        let after = |after| cuts.iter().filter(move |cut| cut.after == after);
        assert!(after(0).all(|cut| first_bytes(cut) == (0, 0)));
        for seen in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            assert!(after(1).any(|cut| first_bytes(cut) == seen), "{seen:?}");
        }
        assert!(after(2).all(|cut| first_bytes(cut) == (1, 1)));
        for seen in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            assert!(after(3).any(|cut| first_bytes(cut) == seen), "{seen:?}");
        }
        assert!(cuts.iter().all(|cut| recording.is_acknowledged(*cut) == (cut.after == 3)));
    }
}
