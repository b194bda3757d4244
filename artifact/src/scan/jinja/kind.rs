//! What is known of a value in a template.

/// Everything that a value, or what is in it, may be. A set of kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kinds(u16);

impl Kinds {
    /// Nothing that was found yet. Once nothing new is found, it may be anything.
    pub(super) const NONE: Self = Self(0);
    /// A number, a truth value or none.
    pub(super) const NUMBER: Self = Self(1);
    /// A text of the template, unchanged, which could stand in a subscript itself.
    pub(super) const TEXT: Self = Self(1 << 1);
    /// Messages, tools and documents: data of a request.
    pub(super) const INPUT: Self = Self(1 << 2);
    /// Other variables that the renderer passes.
    pub(super) const RENDERER_VARIABLE: Self = Self(1 << 3);
    /// A text that the template made, or that the author of the model wrote.
    pub(super) const COMPUTED_TEXT: Self = Self(1 << 4);
    /// An attribute or element whose name a request chose. It may be printed and compared, and
    /// nothing of it is reached.
    pub(super) const BY_REQUEST_KEY: Self = Self(1 << 5);
    /// A namespace.
    pub(super) const NAMESPACE: Self = Self(1 << 6);
    /// The variable `loop`.
    pub(super) const LOOP: Self = Self(1 << 7);
    /// A list or tuple of the template.
    pub(super) const LIST: Self = Self(1 << 8);
    /// A mapping of the template.
    pub(super) const MAPPING: Self = Self(1 << 9);
    /// A method that is not called.
    pub(super) const METHOD: Self = Self(1 << 10);

    /// Objects of Jinja, which have what a template stored as attributes.
    pub(super) const OBJECTS: Self = Self::NAMESPACE.with(Self::LOOP);
    /// Numbers, and lists of numbers. In a subscript they are never a name.
    pub(super) const NUMBERS: Self = Self::NUMBER.with(Self::LIST);
    /// What may be in a subscript as a variable.
    pub(super) const KEYS: Self = Self::NUMBERS
        .with(Self::INPUT)
        .with(Self::TEXT)
        .with(Self::METHOD)
        .with(Self::MAPPING);

    pub(super) const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the value may be one of these.
    pub(super) const fn has(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether the value can be nothing but these.
    pub(super) const fn is_within(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    /// The kinds of a result that may be another text than its parts.
    pub(super) const fn with_computed_text(self) -> Self {
        if self.is_within(Self::NUMBERS) {
            self
        } else {
            self.with(Self::COMPUTED_TEXT)
        }
    }

    /// Whether the value can be no text or list of the template.
    pub(super) const fn is_mapping_or_data(self) -> bool {
        let data = Self::INPUT.with(Self::RENDERER_VARIABLE);
        self.is_within(data.with(Self::NUMBER).with(Self::MAPPING))
    }

    /// The value, if it can be no object of Jinja.
    pub(super) fn data(self) -> Result<Self, String> {
        if self.has(Self::OBJECTS) {
            return Err("a namespace or loop as a value".to_owned());
        }
        Ok(self)
    }

    /// What `-` gives. Of what is no number it may be a set, whose methods are on no list.
    pub(super) fn difference(self, right: Self) -> Self {
        let is_number = self.is_within(Self::NUMBER) || right.is_within(Self::NUMBER);
        let kinds = self.sum(right);
        if is_number {
            kinds
        } else {
            kinds.with(Self::BY_REQUEST_KEY)
        }
    }

    /// What `+` gives. Python adds a number only to a number.
    pub(super) fn sum(self, right: Self) -> Self {
        if self == Self::NUMBER || right == Self::NUMBER {
            Self::NUMBER
        } else if self == Self::NONE || right == Self::NONE {
            self.with(right)
        } else {
            self.with(right).with_computed_text()
        }
    }
}
