//! What Envoy has of a request.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use tensorgate_vectors::Field;

use crate::abi::{Buffer, Header};

/// Numbers of header maps and of body buffers in the ABI.
pub const REQUEST_TRAILERS: usize = 1;
pub const RESPONSE_TRAILERS: usize = 3;
pub const RECEIVED_REQUEST: usize = 0;
pub const BUFFERED_REQUEST: usize = 1;
pub const RECEIVED_RESPONSE: usize = 2;

/// A function of Envoy in which the client may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Respond,
    Resume,
    Append,
    Reset,
}

/// What has happened to a stream. The driver has a share of it, because the stream itself may end
/// inside a hook.
#[derive(Default)]
pub struct Outcome {
    /// Responses that the module has sent.
    pub replies: Cell<usize>,
    /// Whether the module has resumed the request, or reset it.
    pub resumed: Cell<bool>,
    pub reset: Cell<bool>,
    /// Whether the stream is destroyed.
    pub ended: Cell<bool>,
    /// Whether one of its request hooks runs. Envoy sends a reply of the module's through the
    /// response hooks after that, otherwise at once.
    pub deciding: Cell<bool>,
    /// Whether the hook that gets a piece of the request's body runs.
    pub in_body: Cell<bool>,
    /// The function in which its client has left.
    pub left: Cell<Option<Exit>>,
    /// The body of a reply that waits for this.
    pub reply: RefCell<Option<Vec<u8>>>,
}

impl Outcome {
    /// Whether nothing more of the request may be forwarded.
    pub fn is_closed(&self) -> bool {
        self.replies.get() > 0 || self.reset.get()
    }
}

/// A header field, whose parts have memory of their own.
#[derive(Clone)]
struct Stored {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// Header fields in memory that moves with every change, as the ABI allows.
#[derive(Default)]
pub struct Fields(Vec<Stored>);

impl Fields {
    pub fn of(fields: &[Field]) -> Self {
        let mut stored = Self::default();
        for (name, value) in fields {
            stored.add(name, value);
        }
        stored
    }

    /// Moves all fields, so that no earlier view of them can be used.
    fn renew(&mut self) {
        self.0 = self.0.clone();
    }

    pub fn remove(&mut self, name: &[u8]) {
        self.0.retain(|field| *field.name != *name);
        self.renew();
    }

    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        self.0.push(Stored {
            name: name.into(),
            value: value.into(),
        });
        self.renew();
    }

    pub fn views(&self) -> impl ExactSizeIterator<Item = Header> {
        let views = self.0.iter();
        views.map(|field| Header::of(&field.name, &field.value))
    }

    /// The values of a name.
    pub fn values(&self, name: &[u8]) -> Vec<Buffer> {
        let named = self.0.iter().filter(|field| *field.name == *name);
        named.map(|field| Buffer::of(&field.value)).collect()
    }
}

/// A body's buffer: pieces in memory of their own.
#[derive(Default)]
pub struct Pieces(Vec<Box<[u8]>>);

impl Pieces {
    pub fn size(&self) -> usize {
        self.0.iter().map(|piece| piece.len()).sum()
    }

    pub fn add(&mut self, piece: &[u8]) {
        self.0.push(piece.into());
    }

    /// Moves the pieces of another buffer to the end of this one.
    pub fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Removes the first bytes, and moves the others.
    pub fn drain(&mut self, mut bytes: usize) {
        let pieces = std::mem::take(&mut self.0);
        for piece in pieces {
            let skipped = bytes.min(piece.len());
            bytes -= skipped;
            if skipped < piece.len() {
                self.0.push(piece[skipped..].into());
            }
        }
    }

    pub fn views(&self) -> impl ExactSizeIterator<Item = Buffer> {
        self.0.iter().map(|piece| Buffer::of(piece))
    }
}

/// A request in Envoy.
pub struct Stream {
    pub maps: [RefCell<Fields>; 4],
    pub bodies: [RefCell<Pieces>; 3],
    /// Filter state, by name.
    pub state: RefCell<BTreeMap<Vec<u8>, Box<[u8]>>>,
    /// The attributes that are texts, by number.
    pub attributes: BTreeMap<u32, Box<[u8]>>,
    /// The function in which the client leaves.
    pub exit: Option<Exit>,
    /// The most bytes that Envoy holds of its body.
    pub max_bytes: usize,
    /// Whether a reply does not pass through the response hooks of the filter that has sent it.
    pub skips_own_response: bool,
    pub outcome: Rc<Outcome>,
}

impl Stream {
    pub fn new(fields: &[Field], exit: Option<Exit>) -> Self {
        const SOURCE_ADDRESS: u32 = 24;
        const PROTOCOL: u32 = 10;
        let texts: [(u32, &[u8]); 2] =
            [(SOURCE_ADDRESS, b"127.0.0.1:50000"), (PROTOCOL, b"HTTP/2")];
        Self {
            maps: [
                Fields::of(fields),
                Fields::default(),
                Fields::default(),
                Fields::default(),
            ]
            .map(RefCell::new),
            bodies: Default::default(),
            state: RefCell::default(),
            attributes: texts
                .into_iter()
                .map(|(number, text)| (number, text.into()))
                .collect(),
            exit,
            max_bytes: usize::MAX,
            skips_own_response: false,
            outcome: Rc::default(),
        }
    }
}
