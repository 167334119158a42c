//! Text from an MLX model folder.
//!
//! `cargo run --release -p kovar-lm --example generate -- cpu models/rustdoc-14m-mlx-4bit "# The borrow checker"`

use std::io::Write;
use std::sync::Arc;

use kovar::{Device, DeviceOptions};
use kovar_lm::{GenerateOptions, Model, Session, SessionOptions, generate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let device = arguments.next().unwrap_or("cpu".into()).parse()?;
    let path = arguments.next().unwrap_or("models/rustdoc-14m-mlx-4bit".into());
    let prompt = arguments.next().unwrap_or("# The borrow checker".into());

    let device = Device::open(&DeviceOptions { device: Some(device), ..DeviceOptions::default() })?;
    let model = Arc::new(Model::load(&device, path)?);
    let mut session = Session::new(model, &SessionOptions::default())?;

    print!("{prompt}");
    let mut tokens =
        generate(&mut session, &prompt, &GenerateOptions { max_tokens: 48, ..GenerateOptions::default() })?;
    for token in &mut tokens {
        print!("{}", token?.text);
        std::io::stdout().flush()?;
    }
    let timing = tokens.timing();
    println!("\n\n{} tokens after the first in {:?}", timing.decode_steps, timing.decode_time);
    Ok(())
}
