//! Boxes, their overlap, and non-maximum suppression.

/// The size of the model's input, in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// From left to right.
    pub width: f32,
    /// From top to bottom.
    pub height: f32,
}

impl Frame {
    /// Left, top, right and bottom of a box with this centre, width and height, clipped to the
    /// frame.
    #[must_use]
    pub fn corners(&self, [x, y, width, height]: [f32; 4]) -> [f32; 4] {
        let (half_width, half_height) = (width.max(0.0) / 2.0, height.max(0.0) / 2.0);
        [
            (x - half_width).clamp(0.0, self.width),
            (y - half_height).clamp(0.0, self.height),
            (x + half_width).clamp(0.0, self.width),
            (y + half_height).clamp(0.0, self.height),
        ]
    }
}

/// A possible detection of an anchor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Left, top, right, bottom.
    pub corners: [f32; 4],
    /// The class with the highest score.
    pub class: usize,
    /// That score.
    pub score: f32,
}

/// Non-maximum suppression of candidates (best first): keeps those that no better one of their
/// class overlaps by more than the threshold, at most `most`.
#[must_use]
pub fn kept(candidates: &[Candidate], iou_threshold: f32, most: usize) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = Vec::new();
    for candidate in candidates {
        if kept.len() >= most {
            break;
        }
        let covered = kept.iter().any(|better| {
            better.class == candidate.class
                && overlap(&better.corners, &candidate.corners) > iou_threshold
        });
        if !covered {
            kept.push(*candidate);
        }
    }
    kept
}

/// Intersection over union; 0 if the union is empty.
fn overlap(one: &[f32; 4], other: &[f32; 4]) -> f32 {
    let [left, top, right, bottom] = one;
    let [other_left, other_top, other_right, other_bottom] = other;
    let width = (right.min(*other_right) - left.max(*other_left)).max(0.0);
    let height = (bottom.min(*other_bottom) - top.max(*other_top)).max(0.0);
    let shared = width * height;
    let together = area(one) + area(other) - shared;
    if together > 0.0 {
        shared / together
    } else {
        0.0
    }
}

fn area([left, top, right, bottom]: &[f32; 4]) -> f32 {
    (right - left) * (bottom - top)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(corners: [f32; 4], class: usize, score: f32) -> Candidate {
        Candidate {
            corners,
            class,
            score,
        }
    }

    #[test]
    fn of_boxes_that_overlap_the_best_of_each_class_stays() {
        let best = candidate([0.0, 0.0, 10.0, 10.0], 0, 0.9);
        let shifted = candidate([1.0, 0.0, 11.0, 10.0], 0, 0.8);
        let another = candidate([1.0, 0.0, 11.0, 10.0], 1, 0.7);
        let apart = candidate([50.0, 50.0, 60.0, 60.0], 0, 0.6);
        let all = [best, shifted, another, apart];
        assert_eq!(kept(&all, 0.5, 10), [best, another, apart]);
        assert_eq!(kept(&all, 0.9, 10), all);
        assert_eq!(kept(&all, 0.5, 2), [best, another]);
    }

    #[test]
    fn a_box_without_area_covers_nothing() {
        let point = candidate([5.0, 5.0, 5.0, 5.0], 0, 0.9);
        assert_eq!(kept(&[point, point], 0.0, 10), [point, point]);
    }

    #[test]
    fn boxes_end_at_the_frame() {
        let frame = Frame {
            width: 100.0,
            height: 50.0,
        };
        assert_eq!(
            frame.corners([95.0, 5.0, 20.0, 20.0]),
            [85.0, 0.0, 100.0, 15.0]
        );
        assert_eq!(
            frame.corners([3e38, 0.0, 3e38, -1.0]),
            [100.0, 0.0, 100.0, 0.0]
        );
    }
}
