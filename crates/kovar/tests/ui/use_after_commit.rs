use kovar::{Buffer, Device, Result};

fn main() {}

fn misuse(device: &Device, x: &Buffer) -> Result<()> {
    let mut encoder = device.encoder()?;
    encoder.commit()?.wait()?;
    encoder.fill(x, 1)
}
