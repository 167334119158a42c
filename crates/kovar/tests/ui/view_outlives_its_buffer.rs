use kovar::{Buffer, Result};

fn main() {}

fn misuse(x: Buffer) -> Result<u32> {
    let view = x.map::<u32>()?;
    drop(x);
    Ok(view[0])
}
