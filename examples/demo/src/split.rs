//! The held-out digits, which were not used in training. `examples/models/digits/train.py` writes
//! them.

use std::path::Path;

use anyhow::{Context, Result, ensure};

/// `b"TGSPLIT1"`, the number of images, pixels of an image, classes.
const HEADER_BYTES: usize = 20;
/// Pixels of one image: 8 × 8.
pub const PIXELS: usize = 64;

/// The held-out images with their labels.
pub struct Split {
    images: Vec<u8>,
    labels: Vec<u8>,
}

impl Split {
    /// Reads `heldout.bin`.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let (header, rest) = bytes
            .split_at_checked(HEADER_BYTES)
            .context("the split has no header")?;
        ensure!(
            header.starts_with(b"TGSPLIT1"),
            "the split has another format"
        );
        let count = header
            .get(8..12)
            .and_then(|count| count.try_into().ok())
            .map(u32::from_le_bytes)
            .unwrap_or_default();
        let count = usize::try_from(count)?;
        let (images, rest) = rest
            .split_at_checked(count.saturating_mul(PIXELS))
            .context("the split is cut short")?;
        let labels = rest.get(..count).context("the split is cut short")?;
        Ok(Self {
            images: images.to_vec(),
            labels: labels.to_vec(),
        })
    }

    /// The pixels of images from `first`, 0 to 16, row-major.
    pub fn pixels(&self, first: usize, count: usize) -> Vec<f32> {
        let start = first.saturating_mul(PIXELS);
        self.images
            .iter()
            .skip(start)
            .take(count.saturating_mul(PIXELS))
            .map(|pixel| f32::from(*pixel))
            .collect()
    }

    /// The number of images.
    pub const fn count(&self) -> usize {
        self.labels.len()
    }

    /// The label of one image.
    pub fn label(&self, index: usize) -> u8 {
        self.labels.get(index).copied().unwrap_or(u8::MAX)
    }
}
