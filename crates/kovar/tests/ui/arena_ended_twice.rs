use kovar::{DType, Device, Result};

fn main() {}

fn misuse(device: &Device) -> Result<()> {
    let mut arena = device.arena();
    let _scratch = arena.buffer(DType::F32, &[64])?;
    arena.end([])?;
    arena.end([])?;
    Ok(())
}
