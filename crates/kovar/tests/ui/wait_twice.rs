use kovar::{Device, Result};

fn main() {}

fn misuse(device: &Device) -> Result<()> {
    let submission = device.encoder()?.commit()?;
    submission.wait()?;
    submission.wait()?;
    Ok(())
}
