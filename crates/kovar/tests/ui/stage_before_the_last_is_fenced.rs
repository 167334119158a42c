use kovar::{Buffer, Device, Result};

fn main() {}

fn misuse(device: &Device, x: &Buffer) -> Result<()> {
    let mut session = device.session("decode");
    let mut first = session.stage("first")?;
    let mut second = session.stage("second")?;
    second.fill(x, 2)?;
    second.fence()?.wait()?;
    first.fill(x, 1)?;
    first.fence()?.wait()?;
    Ok(())
}
