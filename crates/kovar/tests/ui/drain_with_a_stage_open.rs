use kovar::{Device, Result};

fn main() {}

fn misuse(device: &Device) -> Result<()> {
    let mut session = device.session("decode");
    let stage = session.stage("first")?;
    session.drain()?;
    stage.fence()?.wait()?;
    Ok(())
}
