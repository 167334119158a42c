//! Traps of the translator: WGSL that it accepts, and from which it makes wrong code, code that no driver takes, or a panic.

use std::collections::HashSet;

use naga::compact::{KeepUnused, compact};
use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{
    Block, CooperativeSize, Expression, Function, Handle, MathFunction, Module, Span, Statement, Type, TypeInner,
};

use super::translate::Flaw;
use crate::Trap;

type Result = std::result::Result<(), Flaw>;

/// What every device is spared. For modules whose overrides are not yet resolved: resolving is one of the traps.
pub(super) fn check(wgsl: &str, module: &Module, info: &ModuleInfo) -> Result {
    late_override(wgsl, module)?;
    let mut bitcasts = Vec::new();
    for (function, info) in functions(module, info) {
        let lint = Lint { wgsl, module, function, info };
        lint.stores(&function.body, &mut HashSet::new())?;
        lint.bitcasts(&mut bitcasts);
    }
    other_types(wgsl, &bitcasts)
}

/// What Metal does not take. For modules whose overrides are resolved, as they are translated.
pub(super) fn check_metal(wgsl: &str, module: &Module, info: &ModuleInfo) -> Result {
    for (_, ty) in module.types.iter() {
        if let TypeInner::CooperativeMatrix { columns, rows, .. } = ty.inner {
            let shape = format!("coop_mat{}x{}", columns as u32, rows as u32);
            let line = wgsl.lines().position(|line| line.contains(&shape)).map_or(0, |line| line as u32 + 1);
            tile(columns, rows).map_err(|trap| Flaw::Trap { line, trap })?;
        }
    }
    for (function, info) in functions(module, info) {
        // A type that is named in a load alone is not among those of the module.
        for (handle, expression) in function.expressions.iter() {
            if let Expression::CooperativeLoad { columns, rows, .. } = *expression {
                let span = function.expressions.get_span(handle);
                tile(columns, rows).map_err(|trap| caught(wgsl, span, trap))?;
            }
        }
        let lint = Lint { wgsl, module, function, info };
        lint.loads_of_vectors()?;
        lint.stores_of_vectors(&function.body)?;
        lint.packed_products(&function.body)?;
    }
    Ok(())
}

/// Metal's matrices are 8 x 8.
fn tile(columns: CooperativeSize, rows: CooperativeSize) -> std::result::Result<(), Trap> {
    let (columns, rows) = (columns as u32, rows as u32);
    if (columns, rows) == (8, 8) { Ok(()) } else { Err(Trap::MatrixSize { columns, rows }) }
}

fn functions<'a>(module: &'a Module, info: &'a ModuleInfo) -> impl Iterator<Item = (&'a Function, &'a FunctionInfo)> {
    let entries = module.entry_points.iter().enumerate();
    let entries = entries.map(|(at, entry)| (&entry.function, info.get_entry_point(at)));
    module.functions.iter().map(|(handle, function)| (function, &info[handle])).chain(entries)
}

fn caught(wgsl: &str, span: Span, trap: Trap) -> Flaw {
    let line = if span.is_defined() { span.location(wgsl).line_number } else { 0 };
    Flaw::Trap { line, trap }
}

/// An array sized by an expression of overrides makes a nameless override. Where one with a name stands behind it, and is
/// used, the translator panics.
fn late_override(wgsl: &str, module: &Module) -> Result {
    let nameless = |module: &Module| {
        let mut overrides = module.overrides.iter();
        overrides.find(|(_, o)| o.name.is_none() && o.id.is_none()).map(|(handle, _)| handle)
    };
    if nameless(module).is_none() {
        return Ok(());
    }
    let mut used = module.clone();
    compact(&mut used, KeepUnused::No);
    let Some(nameless) = nameless(&used) else { return Ok(()) };
    match used.overrides.iter().filter(|(handle, _)| *handle > nameless).find_map(|(h, o)| Some((h, o.name.clone()?))) {
        Some((late, name)) => Err(caught(wgsl, used.overrides.get_span(late), Trap::LateOverride { name })),
        None => Ok(()),
    }
}

/// Text of a type in the source, what the translator made of it, and where.
struct Bitcast<'a> {
    wanted: &'a str,
    given: TypeInner,
    span: Span,
}

/// The translator keeps of a bitcast's type the kind alone and takes the width of the value. Which type was written stands
/// in the source; the parser is asked what it means.
fn other_types(wgsl: &str, bitcasts: &[Bitcast<'_>]) -> Result {
    if bitcasts.is_empty() {
        return Ok(());
    }
    let mut asked = wgsl.to_string();
    for (at, bitcast) in bitcasts.iter().enumerate() {
        asked += &format!("\nvar<private> {ASKED}{at}: {};", bitcast.wanted);
    }
    let module = naga::front::wgsl::parse_str(&asked).map_err(|error| Flaw::Text(error.emit_to_string(&asked)))?;
    for (_, variable) in module.global_variables.iter() {
        let number = variable.name.as_deref().and_then(|name| name.strip_prefix(ASKED)?.parse::<usize>().ok());
        let Some(bitcast) = number.and_then(|at| bitcasts.get(at)) else { continue };
        if module.types[variable.ty].inner != bitcast.given {
            return Err(caught(wgsl, bitcast.span, Trap::Bitcast { wanted: bitcast.wanted.into() }));
        }
    }
    Ok(())
}

const ASKED: &str = "kovar_bitcast_type_";

/// What stands between `bitcast<` and its `>`.
fn template(call: &str) -> Option<&str> {
    let types = call.strip_prefix("bitcast")?.trim_start().strip_prefix('<')?;
    let mut depth = 1;
    let end = types.find(|letter| {
        depth += i32::from(letter == '<') - i32::from(letter == '>');
        depth == 0
    })?;
    Some(&types[..end])
}

struct Lint<'a> {
    wgsl: &'a str,
    module: &'a Module,
    function: &'a Function,
    info: &'a FunctionInfo,
}

impl<'a> Lint<'a> {
    fn inner(&self, expression: Handle<Expression>) -> &TypeInner {
        self.info[expression].ty.inner_with(&self.module.types)
    }

    fn bitcasts(&self, found: &mut Vec<Bitcast<'a>>) {
        for (handle, expression) in self.function.expressions.iter() {
            let span = self.function.expressions.get_span(handle);
            if let Expression::As { convert: None, .. } = expression
                && let Some(wanted) = span.to_range().and_then(|range| template(self.wgsl.get(range)?))
            {
                found.push(Bitcast { wanted, given: self.inner(handle).clone(), span });
            }
        }
    }

    /// Whether a pointer is to something else than a scalar.
    fn to_vectors(&self, pointer: Handle<Expression>) -> bool {
        let scalar = |ty: Handle<Type>| matches!(self.module.types[ty].inner, TypeInner::Scalar(_));
        match *self.inner(pointer) {
            TypeInner::Pointer { base, .. } => !scalar(base),
            TypeInner::ValuePointer { size, .. } => size.is_some(),
            _ => false,
        }
    }

    fn loads_of_vectors(&self) -> Result {
        for (handle, expression) in self.function.expressions.iter() {
            if let Expression::CooperativeLoad { data, .. } = expression
                && self.to_vectors(data.pointer)
            {
                return Err(caught(self.wgsl, self.function.expressions.get_span(handle), Trap::MatrixOfVectors));
            }
        }
        Ok(())
    }

    /// Each cooperative store is given what has been computed before it. The translator computes its operands after it.
    fn stores(&self, block: &Block, computed: &mut HashSet<Handle<Expression>>) -> Result {
        for (statement, span) in block.span_iter() {
            match statement {
                Statement::Emit(range) => computed.extend(range.clone()),
                Statement::CooperativeStore { target, data } => {
                    let mut needed = vec![*target, data.stride];
                    let mut pointer = data.pointer;
                    while let Expression::Access { base, .. } | Expression::AccessIndex { base, .. } =
                        self.function.expressions[pointer]
                    {
                        if let Expression::Access { index, .. } = self.function.expressions[pointer] {
                            needed.push(index);
                        }
                        pointer = base;
                    }
                    if needed.into_iter().any(|operand| !self.is_ready(operand, computed)) {
                        return Err(caught(self.wgsl, *span, Trap::StoreOperand));
                    }
                }
                _ => self.inside(statement, &mut |block| self.stores(block, computed))?,
            }
        }
        Ok(())
    }

    fn stores_of_vectors(&self, block: &Block) -> Result {
        for (statement, span) in block.span_iter() {
            match statement {
                Statement::CooperativeStore { data, .. } if self.to_vectors(data.pointer) => {
                    return Err(caught(self.wgsl, *span, Trap::MatrixOfVectors));
                }
                _ => self.inside(statement, &mut |block| self.stores_of_vectors(block))?,
            }
        }
        Ok(())
    }

    fn is_ready(&self, operand: Handle<Expression>, computed: &HashSet<Handle<Expression>>) -> bool {
        let expression = &self.function.expressions[operand];
        computed.contains(&operand)
            || expression.needs_pre_emit()
            // Results of statements.
            || matches!(
                expression,
                Expression::CallResult(_)
                    | Expression::AtomicResult { .. }
                    | Expression::WorkGroupUniformLoadResult { .. }
                    | Expression::SubgroupBallotResult
                    | Expression::SubgroupOperationResult { .. }
            )
    }

    /// In Metal each operand of a product of packed bytes becomes a variable named after it alone.
    fn packed_products(&self, block: &Block) -> Result {
        let mut named = HashSet::new();
        for (statement, _) in block.span_iter() {
            let Statement::Emit(range) = statement else {
                self.inside(statement, &mut |block| self.packed_products(block))?;
                continue;
            };
            for handle in range.clone() {
                if let Expression::Math { fun, arg, arg1: Some(arg1), .. } = self.function.expressions[handle]
                    && matches!(fun, MathFunction::Dot4I8Packed | MathFunction::Dot4U8Packed)
                    && [arg, arg1].into_iter().any(|operand| !named.insert((fun as u32, operand)))
                {
                    let span = self.function.expressions.get_span(handle);
                    return Err(caught(self.wgsl, span, Trap::RepeatedOperand));
                }
            }
        }
        Ok(())
    }

    fn inside(&self, statement: &Statement, visit: &mut dyn FnMut(&Block) -> Result) -> Result {
        match statement {
            Statement::Block(block) => visit(block),
            Statement::If { accept, reject, .. } => {
                visit(accept)?;
                visit(reject)
            }
            Statement::Switch { cases, .. } => cases.iter().try_for_each(|case| visit(&case.body)),
            Statement::Loop { body, continuing, .. } => {
                visit(body)?;
                visit(continuing)
            }
            _ => Ok(()),
        }
    }
}
