//! Header fields in one block of memory.

/// Where a name or a value stands, and its size.
pub(super) type Span = (usize, usize);

/// Header fields in order. Names and values are bytes, because neither is known to be text. All
/// are in one block of memory, because a head is read with every request.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    pub(super) bytes: Vec<u8>,
    /// Where each name and its value are.
    pub(super) spans: Vec<[Span; 2]>,
}

impl Fields {
    /// No fields, with room for this many, of this many bytes in all.
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            spans: Vec::with_capacity(fields),
        }
    }

    /// Adds a field.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        let spans = [name, value].map(|text| {
            let span = (self.bytes.len(), text.len());
            self.bytes.extend_from_slice(text);
            span
        });
        self.spans.push(spans);
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
        self.spans.iter().map(|spans| at(&self.bytes, spans))
    }

    /// The value of a field that occurs once, as text. Names are case-insensitive.
    pub(crate) fn single_text(&self, name: &str) -> Option<&str> {
        let is_it = |(known, _): &(&[u8], _)| known.eq_ignore_ascii_case(name.as_bytes());
        let mut values = self.iter().filter(is_it).map(|(_, value)| value);
        let (value, None) = (values.next()?, values.next()) else {
            return None;
        };
        str::from_utf8(value).ok()
    }

    /// Removes all fields except these.
    pub(crate) fn retain(&mut self, stays: impl Fn(&[u8]) -> bool) {
        let bytes = &self.bytes;
        self.spans.retain(|spans| stays(at(bytes, spans).0));
    }

    /// Removes the first field of this name. Returns its value.
    pub(crate) fn take(&mut self, name: &str) -> Option<Vec<u8>> {
        let is_it = |(known, _): (&[u8], _)| known.eq_ignore_ascii_case(name.as_bytes());
        let position = self.iter().position(is_it)?;
        let spans = self.spans.remove(position);
        Some(at(&self.bytes, &spans).1.to_vec())
    }
}

/// The field at these spans.
fn at<'b>(bytes: &'b [u8], spans: &[Span; 2]) -> (&'b [u8], &'b [u8]) {
    let [name, value] = spans.map(|(start, size)| {
        let rest = bytes.get(start..).unwrap_or_default();
        rest.get(..size).unwrap_or_default()
    });
    (name, value)
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Fields {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(fields: T) -> Self {
        let mut all = Self::default();
        for (name, value) in fields {
            all.push(name.as_ref(), value.as_ref());
        }
        all
    }
}
