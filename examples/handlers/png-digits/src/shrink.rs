//! Averages a square of pixels down to 8×8 cells by area, in whole numbers, without rounding
//! before the end.
//!
//! Each axis is measured in units: a pixel has 8, and a cell has `side`. For images of 8 or more
//! pixels a side, a pixel overlaps two cells at most, with whole weights that add up to 8.

/// Cells for each side.
pub const CELLS: usize = 8;
/// Cells for each side, which is the least number of pixels for each side.
pub const SIDE: u32 = 8;

/// The sums of the rows that have been added.
pub struct Shrink {
    side: u32,
    /// The index of the next row, from the top.
    next: u32,
    /// Row-major sums of brightness × weight.
    cells: [[u64; CELLS]; CELLS],
}

/// The cell in which a pixel begins, its weight there, and its weight in the next cell.
fn overlap(pixel: u32, side: u32) -> (usize, u64, u64) {
    let start = pixel.saturating_mul(SIDE);
    let cell = start.checked_div(side).unwrap_or(0);
    let end_of_cell = cell.saturating_add(1).saturating_mul(side);
    let here = end_of_cell.saturating_sub(start).min(SIDE);
    (
        usize::try_from(cell).unwrap_or(usize::MAX),
        u64::from(here),
        u64::from(SIDE.saturating_sub(here)),
    )
}

impl Shrink {
    /// For an image of `side` pixels a side.
    pub fn new(side: u32) -> Self {
        Self {
            side,
            next: 0,
            cells: [[0; CELLS]; CELLS],
        }
    }

    /// Adds the next row, brightness 0 to 65 535.
    pub fn row(&mut self, pixels: impl Iterator<Item = u16>) {
        let mut sums = [0_u64; CELLS];
        for (column, brightness) in (0..self.side).zip(pixels) {
            add(&mut sums, overlap(column, self.side), u64::from(brightness));
        }
        let (cell, here, rest) = overlap(self.next, self.side);
        for (row, weight) in [(Some(cell), here), (cell.checked_add(1), rest)] {
            let Some(cells) = row.and_then(|row| self.cells.get_mut(row)) else {
                continue;
            };
            for (cell, sum) in cells.iter_mut().zip(sums) {
                *cell = cell.saturating_add(sum.saturating_mul(weight));
            }
        }
        self.next = self.next.saturating_add(1);
    }

    /// The sum of a cell whose pixels have the greatest brightness: `side` units squared, times 65
    /// 535.
    pub fn full_cell(&self) -> u64 {
        let side = u64::from(self.side);
        side.saturating_mul(side)
            .saturating_mul(u64::from(u16::MAX))
    }

    /// The cells' sums, row-major; each is at most [`Self::full_cell`].
    pub fn cells(&self) -> impl Iterator<Item = u64> {
        self.cells.iter().flatten().copied()
    }
}

/// Adds a pixel to the one or two cells that it overlaps.
fn add(sums: &mut [u64; CELLS], (cell, here, rest): (usize, u64, u64), brightness: u64) {
    let mut cells = sums.iter_mut().skip(cell);
    for weight in [here, rest] {
        if let Some(sum) = cells.next() {
            *sum = sum.saturating_add(brightness.saturating_mul(weight));
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "tests"
)]
mod tests {
    use super::*;

    #[test]
    fn white_stays_white_at_every_size() {
        for side in 8..=70 {
            let mut shrink = Shrink::new(side);
            for _ in 0..side {
                shrink.row((0..side).map(|_| u16::MAX));
            }
            assert!(
                shrink.cells().all(|sum| sum == shrink.full_cell()),
                "side {side}"
            );
        }
    }

    #[test]
    fn every_unit_of_light_lands_in_exactly_one_cell() {
        for side in [8, 9, 12, 15, 16, 37] {
            for bright in 0..side {
                let mut shrink = Shrink::new(side);
                for row in 0..side {
                    shrink
                        .row((0..side).map(|column| u16::from(row == bright && column == bright)));
                }
                assert_eq!(
                    shrink.cells().sum::<u64>(),
                    64,
                    "side {side}, pixel {bright}"
                );
            }
        }
    }

    #[test]
    fn a_pixel_on_a_border_is_shared_by_its_area() {
        // 12 pixels over 8 cells: half of the second pixel lies in the first cell, half in the
        // second.
        let mut shrink = Shrink::new(12);
        for row in 0..12 {
            shrink.row((0..12).map(|column| u16::from(row == 0 && column == 1)));
        }
        let cells: Vec<u64> = shrink.cells().collect();
        assert_eq!((cells[0], cells[1], cells[8]), (32, 32, 0));
    }
}
