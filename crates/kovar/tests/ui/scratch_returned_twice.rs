use kovar::{DType, Device, Result};

fn main() {}

fn misuse(device: &Device) -> Result<()> {
    let scratch = device.scratch(DType::F32, &[64])?;
    drop(scratch);
    drop(scratch);
    Ok(())
}
