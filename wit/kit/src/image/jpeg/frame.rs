//! The frame of a JPEG: its size and its components.

use super::{BLOCK, damaged, zeros};
use crate::failure::{Failure, data};
use crate::image::area;

/// The side of a block.
pub(super) const SIDE: usize = 8;

/// The most samples of a component for one of another.
const MAX_SAMPLING: usize = 4;

/// A component: a plane of samples.
pub(super) struct Component {
    pub(super) id: u8,
    /// Samples across and down in an MCU, in blocks.
    pub(super) across: usize,
    pub(super) down: usize,
    /// The quantization table's number, and the table once a scan has the component.
    pub(super) table: usize,
    pub(super) quantization: Option<[u16; BLOCK]>,
    /// The size in samples.
    pub(super) width: usize,
    pub(super) height: usize,
    /// The blocks of a row, including those that only fill an MCU.
    pub(super) blocks_across: usize,
    /// The coefficients of a progressive image.
    pub(super) coefficients: Vec<i16>,
    /// The samples, in rows of `blocks_across` blocks.
    pub(super) samples: Vec<u8>,
}

impl Component {
    pub(super) const fn is_decoded(&self) -> bool {
        self.quantization.is_some()
    }
}

/// A frame.
pub(super) struct Frame {
    pub(super) progressive: bool,
    pub(super) width: usize,
    pub(super) height: usize,
    /// The greatest sampling factors.
    pub(super) across: usize,
    pub(super) down: usize,
    /// MCUs of a scan with all components.
    pub(super) mcus_across: usize,
    pub(super) mcus_down: usize,
    pub(super) components: Vec<Component>,
}

impl Frame {
    /// A frame of its header. The size is checked before memory is allocated for it.
    pub(super) fn of_header(
        segment: &[u8],
        progressive: bool,
        max_pixels: usize,
    ) -> Result<Self, Failure> {
        let wrong = || damaged("a frame's header");
        let (&[precision, high, low, wide, narrow, count], listed) =
            segment.split_first_chunk::<6>().ok_or_else(wrong)?;
        let height = usize::from(u16::from_be_bytes([high, low]));
        let width = usize::from(u16::from_be_bytes([wide, narrow]));
        area(height, width, max_pixels)?;
        if precision != 8 {
            return Err(data(format!("a JPEG of {precision} bits, not 8")));
        }
        if count != 1 && count != 3 {
            return Err(data(format!(
                "a JPEG of {count} components: convert it to RGB or grey"
            )));
        }
        let (listed, _) = listed.as_chunks::<3>();
        let sampling =
            |[_, factors, _]: &[u8; 3]| (usize::from(factors >> 4), usize::from(factors & 15));
        let factors: Vec<(usize, usize)> = listed.iter().map(sampling).collect();
        let across = factors
            .iter()
            .map(|(across, _)| *across)
            .max()
            .ok_or_else(wrong)?;
        let down = factors
            .iter()
            .map(|(_, down)| *down)
            .max()
            .ok_or_else(wrong)?;
        let divides = |factor: usize, greatest: usize| greatest.checked_rem(factor) == Some(0);
        let fits = factors
            .iter()
            .all(|(own, deep)| divides(*own, across) && divides(*deep, down));
        if listed.len() != usize::from(count) || !fits || across.max(down) > MAX_SAMPLING {
            return Err(damaged("sampling factors"));
        }
        let mut made = Self {
            progressive,
            width,
            height,
            across,
            down,
            mcus_across: width.div_ceil(SIDE.saturating_mul(across)),
            mcus_down: height.div_ceil(SIDE.saturating_mul(down)),
            components: Vec::new(),
        };
        for ([id, _, table], (own, deep)) in listed.iter().zip(factors) {
            let component = made.component(*id, usize::from(*table), own, deep)?;
            made.components.push(component);
        }
        Ok(made)
    }

    fn component(
        &self,
        id: u8,
        table: usize,
        across: usize,
        down: usize,
    ) -> Result<Component, Failure> {
        let blocks_across = self.mcus_across.saturating_mul(across);
        let blocks = self
            .mcus_down
            .saturating_mul(down)
            .saturating_mul(blocks_across);
        let length = blocks.saturating_mul(BLOCK);
        Ok(Component {
            id,
            across,
            down,
            table,
            quantization: None,
            width: self.width.saturating_mul(across).div_ceil(self.across),
            height: self.height.saturating_mul(down).div_ceil(self.down),
            blocks_across,
            coefficients: zeros(if self.progressive { length } else { 0 })?,
            samples: zeros(length)?,
        })
    }
}
