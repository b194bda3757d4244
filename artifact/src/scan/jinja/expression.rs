//! Follows an expression of a template, by the grammar of Jinja's parser, and answers what its
//! value may be.

use super::allowed::{
    CONSTANTS, FORBIDDEN, LOADER_FILTERS, MAPPING_METHODS, NUMBER_METHODS, is_method,
};
use super::attribute::{attribute, element, entry, name_text};
use super::filter::{self, Argument};
use super::kind::Kinds;
use super::lists::{self, LIST_METHODS, is_list};
use super::reader::Reader;
use super::scope::check_name;
use super::token::{MAX_DEPTH, Token};

use Token::{Name, Number, Sign, Text};

impl<'t, 'a> Reader<'t, 'a> {
    /// Expressions with commas between. `can_choose`: each may be `a if b else c`.
    pub(super) fn values(&mut self, can_choose: bool) -> Result<Kinds, String> {
        let mut kinds = Kinds::NONE;
        loop {
            let value = if can_choose {
                self.expression()?
            } else {
                self.disjunction()?
            };
            kinds = kinds.with(value);
            if !self.skip_sign(",") {
                return Ok(kinds);
            }
            kinds = kinds.with(Kinds::LIST);
            if self.rest().is_empty() || self.is_sign(")") {
                return Ok(kinds);
            }
        }
    }

    pub(super) fn expression(&mut self) -> Result<Kinds, String> {
        self.depth = self.depth.saturating_add(1);
        if self.depth > MAX_DEPTH {
            return Err("an expression is nested too deeply".to_owned());
        }
        let mut kinds = self.disjunction()?;
        while self.skip_name("if") {
            self.disjunction()?;
            if self.skip_name("else") {
                kinds = kinds.with(self.expression()?);
            }
        }
        self.depth = self.depth.saturating_sub(1);
        Ok(kinds)
    }

    fn disjunction(&mut self) -> Result<Kinds, String> {
        let mut kinds = self.conjunction()?;
        while self.skip_name("or") {
            kinds = kinds.with(self.conjunction()?);
        }
        Ok(kinds)
    }

    fn conjunction(&mut self) -> Result<Kinds, String> {
        let mut kinds = self.negation()?;
        while self.skip_name("and") {
            kinds = kinds.with(self.negation()?);
        }
        Ok(kinds)
    }

    fn negation(&mut self) -> Result<Kinds, String> {
        let mut is_negated = false;
        while self.skip_name("not") {
            is_negated = true;
        }
        let kinds = self.comparison()?;
        Ok(if is_negated { Kinds::NUMBER } else { kinds })
    }

    fn comparison(&mut self) -> Result<Kinds, String> {
        let mut kinds = self.sum()?;
        loop {
            let is_compared = self.operator(&["==", "!=", "<", "<=", ">", ">="]).is_some();
            let is_membership = !is_compared && self.membership();
            if !is_compared && !is_membership {
                return Ok(kinds);
            }
            self.sum()?;
            kinds = Kinds::NUMBER;
        }
    }

    /// Reads `in` or `not in`.
    fn membership(&mut self) -> bool {
        let is_negated = matches!(self.rest(), [Name("not"), Name("in"), ..]);
        if is_negated {
            self.advance();
        }
        self.skip_name("in")
    }

    fn sum(&mut self) -> Result<Kinds, String> {
        let mut kinds = self.concatenation()?;
        while let Some(operator) = self.operator(&["+", "-"]) {
            let right = self.concatenation()?;
            kinds = if operator == "-" {
                kinds.difference(right)
            } else {
                kinds.sum(right)
            };
        }
        Ok(kinds)
    }

    fn concatenation(&mut self) -> Result<Kinds, String> {
        let mut kinds = self.product()?;
        while self.skip_sign("~") {
            self.product()?;
            kinds = Kinds::COMPUTED_TEXT;
        }
        Ok(kinds)
    }

    fn product(&mut self) -> Result<Kinds, String> {
        let mut kinds = self.power()?;
        while let Some(operator) = self.operator(&["*", "/", "//", "%"]) {
            if operator == "%" && !kinds.is_within(Kinds::NUMBERS) {
                return Err("a % after what may be a text, which it formats".to_owned());
            }
            kinds = kinds.with(self.power()?).with_computed_text();
        }
        Ok(kinds)
    }

    fn power(&mut self) -> Result<Kinds, String> {
        let mut kinds = self.unary()?;
        while self.skip_sign("**") {
            kinds = kinds.with(self.unary()?).with_computed_text();
        }
        Ok(kinds)
    }

    fn unary(&mut self) -> Result<Kinds, String> {
        let mut is_signed = false;
        while self.operator(&["+", "-"]).is_some() {
            is_signed = true;
        }
        let start = self.position;
        let kinds = self.primary()?;
        let kinds = self.postfix(start, kinds)?;
        if kinds.has(Kinds::LOOP) && !self.is_alone(start) {
            return Err("the variable loop in an expression".to_owned());
        }
        self.filters(if is_signed {
            kinds.with_computed_text()
        } else {
            kinds
        })
    }

    pub(super) fn primary(&mut self) -> Result<Kinds, String> {
        let first = self.rest().first();
        self.advance();
        match first {
            Some(Name(name)) => self.variable(name),
            Some(Number) => Ok(Kinds::NUMBER),
            Some(Text(text)) => self.text(text),
            Some(Sign("(")) => self.group(),
            Some(Sign("[")) => self.list(),
            Some(Sign("{")) => self.mapping(),
            Some(Sign(sign)) => Err(format!("a value that begins with {sign}")),
            None => Err("a value that is missing".to_owned()),
        }
    }

    fn group(&mut self) -> Result<Kinds, String> {
        if self.skip_sign(")") {
            return Ok(Kinds::LIST);
        }
        let kinds = self.values(true)?;
        self.expect_sign(")")?;
        Ok(kinds)
    }

    /// A text. Jinja joins those that follow each other.
    fn text(&mut self, first: &str) -> Result<Kinds, String> {
        let mut text = first.to_owned();
        while let [Text(next), ..] = self.rest() {
            text.push_str(next);
            self.advance();
        }
        if text.contains("__") || text.contains("._") || text == "attr" {
            return Err(format!("the text {text:?} is a name of Python's internals"));
        }
        if self.is_sign("[") {
            return Err("a text that has a subscript".to_owned());
        }
        Ok(name_text(&text))
    }

    fn list(&mut self) -> Result<Kinds, String> {
        let mut kinds = Kinds::LIST;
        while !self.skip_sign("]") {
            kinds = kinds.with(self.expression()?);
            if !self.is_sign("]") {
                self.expect_sign(",")?;
            }
        }
        Ok(kinds)
    }

    fn mapping(&mut self) -> Result<Kinds, String> {
        let mut kinds = Kinds::MAPPING;
        while !self.skip_sign("}") {
            let start = self.position;
            let key = self.expression()?;
            let name = match self.since(start) {
                [Text(name)] => Some(name.as_str()),
                _ => None,
            };
            self.expect_sign(":")?;
            let value = self.expression()?;
            kinds = kinds.with(key.data()?).with(entry(name, value.data()?));
            if !self.is_sign("}") {
                self.expect_sign(",")?;
            }
        }
        Ok(kinds)
    }

    fn variable(&mut self, name: &'t str) -> Result<Kinds, String> {
        if CONSTANTS.contains(&name) {
            return Ok(Kinds::NUMBER);
        }
        if name.contains("__") {
            return Err(format!("the name {name}"));
        }
        if name == "caller" && self.is_block_of_call() {
            self.advance();
            self.advance();
            return Ok(Kinds::COMPUTED_TEXT);
        }
        if FORBIDDEN.contains(&name) {
            return Err(format!("the global {name}"));
        }
        let is_function = self.scope.is_function(name) || self.scope.is_macro(name);
        if self.is_sign("(") {
            return if is_function {
                self.call(name)
            } else {
                Err(format!("a call of {name}"))
            };
        }
        // Whether it is defined.
        if self.is_name("is") && (is_function || name == "loop") {
            return Ok(Kinds::NUMBER);
        }
        if is_function {
            return Err(format!("the function {name} as a value"));
        }
        if name != "loop" {
            return Ok(self.scope.variable(name));
        }
        if self.scope.is_in_loop() {
            Ok(Kinds::LOOP)
        } else {
            Err("the variable loop outside of a loop".to_owned())
        }
    }

    /// Whether `caller` gives the text of the block for which its macro was called. In the default
    /// of a parameter it is a variable of the renderer.
    fn is_block_of_call(&self) -> bool {
        matches!(self.rest(), [Sign("("), Sign(")"), ..])
            && self.scope.is_in_macro()
            && self.tokens.first() != Some(&Name("macro"))
    }

    pub(super) fn call(&mut self, function: &str) -> Result<Kinds, String> {
        self.expect_sign("(")?;
        let takes_objects = function == "namespace" || self.scope.is_macro(function);
        let arguments = self.arguments(takes_objects)?;
        if self.scope.is_macro(function) {
            for (index, argument) in arguments.iter().enumerate() {
                self.scope
                    .pass(function, argument.name, index, argument.kinds);
            }
            return Ok(Kinds::COMPUTED_TEXT);
        }
        match function {
            "namespace" => {
                for argument in &arguments {
                    let Some(name) = argument.name else {
                        return Err("a namespace of a mapping".to_owned());
                    };
                    self.scope
                        .set_attribute(name, argument.kinds, argument.is_list);
                }
                Ok(Kinds::NAMESPACE)
            }
            "dict" => {
                let entries = arguments.iter();
                let entries = entries.map(|argument| {
                    let key = argument.name.map_or(Kinds::NONE, name_text);
                    key.with(entry(argument.name, argument.kinds))
                });
                Ok(entries.fold(Kinds::MAPPING, Kinds::with))
            }
            "range" => Ok(Kinds::NUMBERS),
            _ => Ok(Kinds::COMPUTED_TEXT),
        }
    }

    /// The arguments of a call, after its parenthesis. Macros and namespaces take objects of Jinja.
    pub(super) fn arguments(
        &mut self,
        takes_objects: bool,
    ) -> Result<Vec<Argument<'t, 'a>>, String> {
        let mut arguments = Vec::new();
        while !self.skip_sign(")") {
            let mut name = None;
            if let [Name(keyword), Sign("="), ..] = self.rest() {
                check_name(keyword)?;
                if *keyword == "caller" {
                    return Err("an argument that is the caller of a macro".to_owned());
                }
                name = Some(*keyword);
                self.advance();
                self.advance();
            }
            let start = self.position;
            let mut kinds = self.expression()?;
            if !takes_objects {
                kinds = kinds.data()?;
            }
            let literal = match self.since(start) {
                [literal @ (Text(_) | Number)] => Some(literal),
                _ => None,
            };
            arguments.push(Argument {
                name,
                kinds,
                is_list: is_list(self.since(start)),
                literal,
            });
            if !self.is_sign(")") {
                self.expect_sign(",")?;
            }
        }
        Ok(arguments)
    }

    /// Attributes, subscripts and calls of methods after a value.
    /// `start` is where the value begins.
    pub(super) fn postfix(&mut self, start: usize, value: Kinds) -> Result<Kinds, String> {
        let mut kinds = value;
        loop {
            if self.is_sign("[") {
                kinds = self.subscript(kinds)?;
            } else if self.is_sign("(") {
                return Err("a call of a value that has no name".to_owned());
            } else if !self.skip_sign(".") {
                return Ok(kinds);
            } else if let [Number, ..] = self.rest() {
                self.advance();
                kinds = element(kinds)?;
            } else {
                let name = self.name()?;
                kinds = if self.skip_sign("(") {
                    if LIST_METHODS.contains(&name) {
                        let receiver = self.since(start);
                        let arguments = self.arguments(false)?;
                        lists::change(self.scope, name, receiver, &arguments)?
                    } else {
                        self.method(kinds, name)?
                    }
                } else {
                    attribute(self.scope, kinds, name)?
                };
            }
        }
    }

    fn method(&mut self, value: Kinds, name: &str) -> Result<Kinds, String> {
        if !is_method(name) {
            return Err(format!("the method {name}"));
        }
        // What the template stored could be called.
        let stored = Kinds::BY_REQUEST_KEY
            .with(Kinds::NAMESPACE)
            .with(Kinds::LOOP);
        if value.has(stored) {
            return Err(format!("a call of {name} of what is no plain data"));
        }
        let arguments = self.arguments(false)?;
        if NUMBER_METHODS.contains(&name) {
            Ok(Kinds::NUMBER)
        } else if MAPPING_METHODS.contains(&name) {
            let defaults = arguments.iter().map(|argument| argument.kinds);
            Ok(defaults.fold(value, Kinds::with))
        } else {
            Ok(Kinds::COMPUTED_TEXT.with(Kinds::LIST))
        }
    }

    /// A subscript. Jinja takes a text there for an attribute.
    fn subscript(&mut self, value: Kinds) -> Result<Kinds, String> {
        let is_guarded = self.is_guarded_key(value);
        self.advance();
        if let [Text(name), Sign("]"), ..] = self.rest() {
            self.advance();
            self.advance();
            return attribute(self.scope, value, name);
        }
        element(value)?;
        let mut key = Kinds::NONE;
        if !self.is_sign(":") {
            key = self.expression()?;
        }
        let mut is_slice = false;
        while self.skip_sign(":") {
            is_slice = true;
            if !self.is_sign(":") && !self.is_sign("]") {
                self.expression()?;
            }
        }
        self.expect_sign("]")?;
        // A slice of a text is another one, with every second character for example.
        if is_slice && !value.is_within(Kinds::NUMBERS.with(Kinds::INPUT)) {
            Ok(value.with(Kinds::COMPUTED_TEXT))
        } else if is_slice || key.is_within(Kinds::NUMBERS) {
            Ok(value)
        } else if is_guarded || key.is_within(Kinds::KEYS) {
            Ok(value.with(Kinds::BY_REQUEST_KEY))
        } else {
            Err("a subscript that may be a text of the template".to_owned())
        }
    }

    /// Whether the next subscript is a key that the variable before surely has: in
    /// `for key in mapping`, or before `if key in mapping`.
    fn is_guarded_key(&self, value: Kinds) -> bool {
        let Some(start) = self.position.checked_sub(1) else {
            return false;
        };
        let is_attribute = start.checked_sub(1).and_then(|at| self.tokens.get(at));
        if is_attribute == Some(&Sign(".")) || value.has(Kinds::COMPUTED_TEXT.with(Kinds::LIST)) {
            return false;
        }
        let Some([Name(mapping), Sign("["), Name(key), Sign("]"), rest @ ..]) =
            self.tokens.get(start..)
        else {
            return false;
        };
        let condition = [Name("if"), Name(key), Name("in"), Name(mapping)];
        if let Some(after) = rest.strip_prefix(&condition) {
            // In a text, `in` finds a part of it.
            return value.is_mapping_or_data() && matches!(after, [Name("else") | Sign(")"), ..]);
        }
        let is_made = self.scope.variable(key).has(Kinds::COMPUTED_TEXT);
        self.scope.is_loop_over(key, mapping) && !is_made
    }

    /// Filters and tests after a value.
    pub(super) fn filters(&mut self, value: Kinds) -> Result<Kinds, String> {
        let mut kinds = value;
        loop {
            if self.skip_sign("|") {
                kinds = self.filter(kinds)?;
            } else if self.skip_name("is") {
                filter::test(self, kinds)?;
                kinds = Kinds::NUMBER;
            } else if self.is_sign("(") {
                return Err("a call of what a filter gives".to_owned());
            } else {
                return Ok(kinds);
            }
        }
    }

    /// A filter after its sign.
    pub(super) fn filter(&mut self, value: Kinds) -> Result<Kinds, String> {
        let name = self.name()?;
        // Jinja reads names with dots as one.
        if self.is_sign(".") {
            return Err(format!("the filter {name} with a dot"));
        }
        let arguments = if self.skip_sign("(") {
            self.arguments(false)?
        } else {
            Vec::new()
        };
        if LOADER_FILTERS.contains(&name) && arguments.is_empty() {
            self.scope.note_loader_filter(name);
            let made = Kinds::COMPUTED_TEXT.with(Kinds::LIST).with(Kinds::MAPPING);
            return Ok(value.data()?.with(made));
        }
        filter::apply(self.scope, name, value, &arguments)
    }
}
