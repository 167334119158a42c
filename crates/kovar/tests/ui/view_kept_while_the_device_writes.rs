use kovar::{Buffer, Device, Result};

fn main() {}

fn misuse(device: &Device, x: &Buffer) -> Result<u32> {
    let view = x.map::<u32>()?;
    let elements = &view[..];
    drop(view);
    let mut encoder = device.encoder()?;
    encoder.fill(x, 1)?;
    let _in_flight = encoder.commit()?;
    Ok(elements[0])
}
