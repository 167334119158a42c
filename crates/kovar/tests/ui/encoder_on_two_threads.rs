use kovar::{Buffer, Device, Result};

fn main() {}

fn misuse(device: &Device, x: &Buffer) -> Result<()> {
    let mut encoder = device.encoder()?;
    std::thread::scope(|scope| {
        let first = scope.spawn(|| encoder.fill(x, 1));
        let second = scope.spawn(|| encoder.fill(x, 2));
        drop((first.join(), second.join()));
    });
    encoder.commit()?.wait()?;
    Ok(())
}
