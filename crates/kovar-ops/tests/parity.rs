//! Single operations against MLX, against f64 arithmetic and against the ops that they stand for: one test for each check of
//! [`kovar_checks::ops`], on each device that the machine has.

macro_rules! tests {
    ($($op:ident { $($name:ident $(: $some:ident)?)* })*) => {
        $(mod $op {
            $(#[test]
            fn $name() {
                let name = concat!(stringify!($op), "::", stringify!($name));
                kovar_checks::ops::Check::find(name).run_on_each();
            })*
        })*
    };
}
kovar_checks::ops_checks!(tests);
