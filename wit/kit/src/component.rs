//! The crate as a component: implements the functions of `wit/kit.wit`. The component model manages
//! handles, so a guest cannot forge one.
#![allow(
    missing_docs,
    unsafe_code,
    clippy::missing_safety_doc,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated code; which of these it trips differs by version"
)]

mod bindings {
    wit_bindgen::generate!({ path: "../kit.wit", world: "kit" });

    use super::Kit;
    export!(Kit);
}

use core::mem::ManuallyDrop;

use bindings::exports::tensorgate::kit::{arrays as wit, blocks};

use super::arena;
use crate::array::Array;
use crate::blocks::Block;
use crate::buffer::Buffer;
use crate::datatype::Datatype;
use crate::failure::{Failure, Kind};
use crate::image::{Channels, decode_image};
use crate::moves::{self, Span};
use crate::operator::Operator;
use crate::reduce::{self, Reduction};
use crate::resize::{self, Filter};
use crate::sound::decode_wav;
use crate::unary::{self, Function};
use crate::{arithmetic, boxes, planes};

/// The arena of each instance, in bytes: enough for a photograph of 224 × 224, its planes, and
/// their output.
const ARENA_BYTES: usize = 1_440 << 10;

#[global_allocator]
static ALLOCATOR: arena::Allocator = {
    static ARENA: arena::Arena<{ ARENA_BYTES + arena::LEAST_BYTES }> = arena::Arena::new();
    arena::allocator(&ARENA)
};

pub(crate) struct Kit;

/// An array for which a guest has a handle.
pub(crate) struct ArrayHandle(Array);

/// Converts enums of the WIT interface to ours, which have the same cases.
macro_rules! same {
    ($($name:ident => $ours:ident { $($case:ident),* })*) => {$(
        impl From<wit::$name> for $ours {
            fn from(given: wit::$name) -> Self {
                match given { $(wit::$name::$case => Self::$case),* }
            }
        }
    )*};
}

same! {
    Datatype => Datatype { Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64 }
    Operator => Operator { Add, Subtract, Multiply, Divide, FloorDivide, Remainder, Power, Minimum, Maximum, Equal, NotEqual, Less, LessEqual, Greater, GreaterEqual }
    Function => Function { Negative, Absolute, Exp, Log, Sqrt, Tanh, Sigmoid, Floor, Ceil, Round }
    Reduction => Reduction { Sum, Mean, Minimum, Maximum, Argmax, Argmin }
    Filter => Filter { Nearest, Bilinear, Antialias }
    Channels => Channels { Gray, Rgb, Rgba }
}

impl From<Failure> for wit::Failure {
    fn from(failure: Failure) -> Self {
        let kind = match failure.kind {
            Kind::Value => wit::Kind::Value,
            Kind::Datatype => wit::Kind::Datatype,
            Kind::Overflow => wit::Kind::Overflow,
            Kind::Division => wit::Kind::Division,
            Kind::Data => wit::Kind::Data,
            Kind::Room => wit::Kind::Room,
        };
        Self {
            kind,
            message: failure.message,
        }
    }
}

type Answer = Result<wit::Array, wit::Failure>;

fn hand(made: Result<Array, Failure>) -> Answer {
    made.map(handle).map_err(wit::Failure::from)
}

fn handle(array: Array) -> wit::Array {
    wit::Array::new(ArrayHandle(array))
}

/// Converts dimensions, axes and indices from the component's 32 bits.
fn wide(numbers: &[u32]) -> Vec<usize> {
    numbers.iter().map(|number| *number as usize).collect()
}

impl wit::Guest for Kit {
    type Array = ArrayHandle;

    fn decode_image(data: Vec<u8>, channels: wit::Channels, max_pixels: u32) -> Answer {
        hand(decode_image(&data, channels.into(), max_pixels as usize))
    }

    fn decode_wav(data: Vec<u8>, max_frames: u32) -> Result<(wit::Array, u32), wit::Failure> {
        let (samples, rate) = decode_wav(&data, max_frames as usize)?;
        Ok((handle(samples), rate))
    }
}

impl blocks::Guest for Kit {
    fn from_bytes(
        datatype: wit::Datatype,
        shape: Vec<u32>,
        head: Vec<u8>,
        blocks: Vec<blocks::Block>,
        rest: Vec<u8>,
    ) -> Answer {
        hand(Array::from_blocks(
            datatype.into(),
            &wide(&shape),
            &head,
            words(blocks),
            &rest,
        ))
    }

    fn to_bytes(
        array: wit::ArrayBorrow<'_>,
        datatype: wit::Datatype,
    ) -> Result<blocks::Filled, wit::Failure> {
        let (made, bytes) = array.get::<ArrayHandle>().0.to_blocks(datatype.into())?;
        Ok(blocks::Filled {
            blocks: records(made),
            bytes: bytes as u32,
        })
    }

    fn decode_image(
        head: Vec<u8>,
        blocks: Vec<blocks::Block>,
        rest: Vec<u8>,
        channels: wit::Channels,
        max_pixels: u32,
    ) -> Answer {
        let data = Buffer::of_blocks(&head, words(blocks), &rest)?;
        hand(decode_image(
            data.bytes(),
            channels.into(),
            max_pixels as usize,
        ))
    }

    fn decode_wav(
        head: Vec<u8>,
        blocks: Vec<blocks::Block>,
        rest: Vec<u8>,
        max_frames: u32,
    ) -> Result<(wit::Array, u32), wit::Failure> {
        let data = Buffer::of_blocks(&head, words(blocks), &rest)?;
        let (samples, rate) = decode_wav(data.bytes(), max_frames as usize)?;
        Ok((handle(samples), rate))
    }
}

const _: () = assert!(
    size_of::<blocks::Block>() == size_of::<Block>()
        && align_of::<blocks::Block>() == align_of::<Block>()
);

/// Converts blocks of the WIT interface to ours.
fn words(blocks: Vec<blocks::Block>) -> Vec<Block> {
    let mut blocks = ManuallyDrop::new(blocks);
    // SAFETY: both are sixteen u64 in a row, with the same size and alignment. The one vector is
    // forgotten, and the other takes its memory over.
    unsafe { Vec::from_raw_parts(blocks.as_mut_ptr().cast(), blocks.len(), blocks.capacity()) }
}

/// Converts our blocks to those of the WIT interface.
fn records(blocks: Vec<Block>) -> Vec<blocks::Block> {
    let mut blocks = ManuallyDrop::new(blocks);
    // SAFETY: as above.
    unsafe { Vec::from_raw_parts(blocks.as_mut_ptr().cast(), blocks.len(), blocks.capacity()) }
}

impl wit::GuestArray for ArrayHandle {
    fn from_bytes(datatype: wit::Datatype, shape: Vec<u32>, data: Vec<u8>) -> Answer {
        hand(Array::from_bytes(datatype.into(), &wide(&shape), &data))
    }

    fn full(datatype: wit::Datatype, shape: Vec<u32>, value: f64) -> Answer {
        hand(Array::full(datatype.into(), &wide(&shape), value))
    }

    fn concat(arrays: Vec<wit::ArrayBorrow<'_>>, axis: u32) -> Answer {
        let arrays: Vec<&Array> = arrays.iter().map(|each| &each.get::<Self>().0).collect();
        hand(moves::concat(&arrays, axis as usize))
    }

    fn datatype(&self) -> wit::Datatype {
        match self.0.datatype() {
            Datatype::Bool => wit::Datatype::Bool,
            Datatype::Uint8 => wit::Datatype::Uint8,
            Datatype::Uint16 => wit::Datatype::Uint16,
            Datatype::Uint32 => wit::Datatype::Uint32,
            Datatype::Uint64 => wit::Datatype::Uint64,
            Datatype::Int8 => wit::Datatype::Int8,
            Datatype::Int16 => wit::Datatype::Int16,
            Datatype::Int32 => wit::Datatype::Int32,
            Datatype::Int64 => wit::Datatype::Int64,
            Datatype::Fp16 => wit::Datatype::Fp16,
            Datatype::Bf16 => wit::Datatype::Bf16,
            Datatype::Fp32 => wit::Datatype::Fp32,
            Datatype::Fp64 => wit::Datatype::Fp64,
        }
    }

    fn shape(&self) -> Vec<u32> {
        self.0.shape().iter().map(|dim| *dim as u32).collect()
    }

    fn to_bytes(&self, datatype: wit::Datatype) -> Result<Vec<u8>, wit::Failure> {
        Ok(self.0.to_bytes(datatype.into())?)
    }

    fn cast(&self, datatype: wit::Datatype) -> Answer {
        hand(self.0.cast(datatype.into()))
    }

    fn reshape(&self, shape: Vec<u32>) -> Answer {
        hand(moves::reshape(&self.0, &wide(&shape)))
    }

    fn transpose(&self, axes: Vec<u32>) -> Answer {
        hand(moves::transpose(&self.0, &wide(&axes)))
    }

    fn slice(&self, spans: Vec<wit::Span>) -> Answer {
        let span = |span: &wit::Span| Span {
            start: span.start as usize,
            count: span.count as usize,
            step: span.step as isize,
        };
        let spans: Vec<Span> = spans.iter().map(span).collect();
        hand(moves::slice(&self.0, &spans))
    }

    fn gather(&self, axis: u32, indices: Vec<u32>) -> Answer {
        hand(moves::gather(&self.0, axis as usize, &wide(&indices)))
    }

    fn choose(&self, mask: wit::ArrayBorrow<'_>, other: wit::ArrayBorrow<'_>) -> Answer {
        let (mask, other) = (mask.get::<Self>(), other.get::<Self>());
        hand(moves::choose(&mask.0, &self.0, &other.0))
    }

    fn pad(&self, before: Vec<u32>, after: Vec<u32>, value: f64) -> Answer {
        hand(moves::pad(&self.0, &wide(&before), &wide(&after), value))
    }

    fn fit(&self, axis: u32, length: u32, value: f64) -> Answer {
        hand(moves::fit(&self.0, axis as usize, length as usize, value))
    }

    fn resize(&self, axis: u32, height: u32, width: u32, filter: wit::Filter) -> Answer {
        let (height, width) = (height as usize, width as usize);
        hand(resize::resize(
            &self.0,
            axis as usize,
            height,
            width,
            filter.into(),
        ))
    }

    fn combine(&self, operator: wit::Operator, other: wit::ArrayBorrow<'_>) -> Answer {
        hand(arithmetic::combine(
            &self.0,
            operator.into(),
            &other.get::<Self>().0,
        ))
    }

    fn combine_number(
        &self,
        operator: wit::Operator,
        number: f64,
        real: bool,
        reversed: bool,
    ) -> Answer {
        hand(arithmetic::combine_number(
            &self.0,
            operator.into(),
            number,
            real,
            reversed,
        ))
    }

    fn apply(&self, function: wit::Function) -> Answer {
        hand(unary::apply(&self.0, function.into()))
    }

    fn clip(&self, low: f64, high: f64) -> Answer {
        hand(arithmetic::clip(&self.0, low, high))
    }

    fn planes(&self, scale: f32, mean: Vec<f32>, std: Vec<f32>) -> Answer {
        hand(planes::planes(&self.0, scale, &mean, &std))
    }

    fn reduce(&self, reduction: wit::Reduction, axis: Option<u32>, keep: bool) -> Answer {
        let axis = axis.map(|axis| axis as usize);
        hand(reduce::reduce(&self.0, reduction.into(), axis, keep))
    }

    fn softmax(&self, axis: u32) -> Answer {
        hand(reduce::softmax(&self.0, axis as usize))
    }

    fn top_k(&self, k: u32) -> Result<(wit::Array, wit::Array), wit::Failure> {
        let (values, places) = reduce::top_k(&self.0, k as usize)?;
        Ok((handle(values), handle(places)))
    }

    fn nms(
        &self,
        scores: wit::ArrayBorrow<'_>,
        classes: Option<wit::ArrayBorrow<'_>>,
        overlap: f32,
        least: f32,
        limit: u32,
    ) -> Answer {
        let classes = classes.as_ref().map(|classes| &classes.get::<Self>().0);
        let scores = &scores.get::<Self>().0;
        hand(boxes::nms(
            &self.0,
            scores,
            classes,
            overlap,
            least,
            limit as usize,
        ))
    }
}
