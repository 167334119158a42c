use kovar::{Buffer, Result};

fn main() {}

fn misuse(x: &Buffer) -> Result<()> {
    let mut view = x.map_mut::<u32>()?;
    let (first, second) = (&mut view[..], &mut view[..]);
    first[0] = second[0];
    Ok(())
}
