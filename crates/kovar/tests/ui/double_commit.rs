use kovar::{Device, Result};

fn main() {}

fn misuse(device: &Device) -> Result<()> {
    let encoder = device.encoder()?;
    encoder.commit()?.wait()?;
    encoder.commit()?.wait()?;
    Ok(())
}
