//! The parts of the modules that can run: functions that are exported or referred to, and the
//! functions that they call. Code that ran only when the component was built is dropped, and the
//! globals that only it sets are constants.

use std::collections::HashSet;

use wasmparser::{ConstExpr, ElementItems, Operator, TableInit};

use super::Kept;
use super::module::{Sort, at};
use super::plan::{Export, Member, Origin};

/// The functions that can run, and the globals that they set.
#[derive(Default)]
pub(super) struct Live {
    pub(super) functions: HashSet<Origin>,
    /// The globals that one of these functions sets.
    pub(super) written: HashSet<Origin>,
    /// Functions that are not scanned for calls yet.
    left: Vec<Origin>,
}

impl Live {
    pub(super) fn of(members: &[Member<'_>], exports: &[Export]) -> Result<Self, Kept> {
        let mut live = Self::default();
        for (_, sort, origin) in exports {
            if *sort == Sort::Function {
                live.function(*origin);
            }
        }
        for (nth, member) in members.iter().enumerate() {
            live.referred(nth, member)?;
        }
        while let Some(origin) = live.left.pop() {
            live.calls(origin, members)?;
        }
        Ok(live)
    }

    fn function(&mut self, origin: Origin) {
        if self.functions.insert(origin) {
            self.left.push(origin);
        }
    }

    /// Adds the functions in a member's tables and globals.
    fn referred(&mut self, nth: usize, member: &Member<'_>) -> Result<(), Kept> {
        let module = &member.module;
        for element in &module.elements {
            match element.items.clone() {
                ElementItems::Functions(functions) => {
                    for function in functions {
                        self.function(of(nth, member, Sort::Function, function?));
                    }
                }
                ElementItems::Expressions(_, expressions) => {
                    for expression in expressions {
                        self.expression(nth, member, &expression?)?;
                    }
                }
            }
        }
        for table in &module.tables {
            if let TableInit::Expr(init) = &table.init {
                self.expression(nth, member, init)?;
            }
        }
        for global in &module.globals {
            self.expression(nth, member, &global.init_expr)?;
        }
        Ok(())
    }

    fn expression(
        &mut self,
        nth: usize,
        member: &Member<'_>,
        expression: &ConstExpr<'_>,
    ) -> Result<(), Kept> {
        for operator in expression.get_operators_reader() {
            if let Operator::RefFunc { function_index } = operator? {
                self.function(of(nth, member, Sort::Function, function_index));
            }
        }
        Ok(())
    }

    fn calls(&mut self, origin: Origin, members: &[Member<'_>]) -> Result<(), Kept> {
        let Origin::Own(nth, index) = origin else {
            return Ok(());
        };
        let Some(member) = members.get(nth) else {
            return Ok(());
        };
        let own = index.checked_sub(member.module.imported.functions);
        let Some(body) = own.and_then(|own| at(&member.module.code, own)) else {
            return Ok(());
        };
        for operator in body.get_operators_reader()? {
            match operator? {
                Operator::Call { function_index }
                | Operator::ReturnCall { function_index }
                | Operator::RefFunc { function_index } => {
                    self.function(of(nth, member, Sort::Function, function_index));
                }
                Operator::GlobalSet { global_index } => {
                    self.written
                        .insert(of(nth, member, Sort::Global, global_index));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The origin of an item that a member refers to by its own index.
pub(super) fn of(nth: usize, member: &Member<'_>, sort: Sort, index: u32) -> Origin {
    let imported = at(member.imports.get(sort), index).copied();
    imported.unwrap_or(Origin::Own(nth, index))
}
