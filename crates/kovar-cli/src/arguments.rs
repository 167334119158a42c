use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use kovar::DeviceChoice;
use kovar_lm::SHAPES;

use crate::doctor::Part;

/// Runs MLX language models on Metal, Vulkan and the CPU.
#[derive(Parser)]
#[command(name = "kovar", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List the devices of this machine, and why backends are missing
    Devices,
    /// Run every check on the devices of this machine, and print a page for a bug report
    Doctor(Doctor),
    /// Continue a prompt; the text alone goes to standard output
    Generate(Generate),
    /// Perplexity of a text, or logits of given tokens
    Eval(Eval),
    /// Measure prompt and decode of a model, or of the shape of one; or the device itself
    Bench(Bench),
    /// Time every command of a model's step, by kernel
    Profile(Profile),
    /// Find out how kernels are best cut for a device, and write the table that --tuning takes
    Tune(Tune),
    /// Prove that the decode step of a model misses no barrier, and say why each stands
    Verify(Verify),
}

#[derive(Args)]
pub(crate) struct Tune {
    #[command(flatten)]
    pub(crate) place: Place,
    /// File for the table [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Times that each is measured
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    pub(crate) rounds: usize,
}

/// The model and what it runs on.
#[derive(Args)]
pub(crate) struct Setup {
    /// Folder of an MLX model: config.json beside model.safetensors
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    #[command(flatten)]
    pub(crate) running: Running,
}

/// What it runs on.
#[derive(Args)]
pub(crate) struct Place {
    /// cpu, vulkan, vulkan:1, metal [default: KOVAR_DEVICE, else the best there is]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<DeviceChoice>,
    /// Memory that it may use on the device, in MiB [default: what the device has]
    #[arg(long, value_name = "MIB")]
    pub(crate) memory: Option<u64>,
    /// Threads of the CPU device [default: one a core]
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) threads: Option<usize>,
    /// Copy weights into the device's own memory rather than use the mapped file: on the CPU faster to read
    #[arg(long)]
    pub(crate) copy_weights: bool,
    /// A table of how kernels are cut, as kovar tune writes it [default: the one that comes along]
    #[arg(long, value_name = "FILE")]
    pub(crate) tuning: Option<PathBuf>,
}

/// What a model runs on, and how.
#[derive(Args)]
pub(crate) struct Running {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Keep activations in 32-bit floats in every product: slower, and the same tokens on every device
    #[arg(long, conflicts_with = "fast")]
    pub(crate) exact: bool,
    /// Round activations to 8 bits in products with quantised weights: the default
    #[arg(long)]
    pub(crate) fast: bool,
}

#[derive(Args)]
pub(crate) struct Doctor {
    /// cpu, vulkan, vulkan:1, metal [default: all that there are]
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<DeviceChoice>,
    /// Folder of the model that is shipped with Kovar
    #[arg(long, value_name = "DIR", default_value = "models/rustdoc-14m-mlx-4bit")]
    pub(crate) model: PathBuf,
    /// Run a part alone; may be given several times
    #[arg(long, value_name = "PART")]
    pub(crate) only: Vec<Part>,
}

#[derive(Args)]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Text to continue
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: String,
    /// Tokens to generate at most
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) max_tokens: usize,
    /// Temperature; 0 takes the likeliest token each time
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub(crate) temp: f32,
    /// Consider only so many of the likeliest tokens; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Consider only the likeliest tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub(crate) top_p: f32,
    /// The same seed gives the same text on the same device
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Args)]
#[command(group = ArgGroup::new("input").required(true))]
pub(crate) struct Eval {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Text file to compute the perplexity of
    #[arg(long, value_name = "FILE", group = "input")]
    pub(crate) text: Option<PathBuf>,
    /// Token ids to compute logits of, separated by commas
    #[arg(long, value_name = "IDS", group = "input", value_delimiter = ',')]
    pub(crate) tokens: Option<Vec<u32>>,
    /// Write the logits as a float32 tensor `logits` [tokens, vocabulary] to this safetensors file
    #[arg(long, value_name = "FILE", requires = "tokens")]
    pub(crate) logits: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Write groups, barriers and their reasons to this file: .txt, .json, .dot or .svg
    #[arg(long, value_name = "FILE")]
    pub(crate) explain: Option<PathBuf>,
}

/// A model, or the shape of one.
#[derive(Args)]
#[command(group = ArgGroup::new("weights").required(true))]
pub(crate) struct Weights {
    /// Folder of an MLX model
    #[arg(long, value_name = "DIR", group = "weights")]
    pub(crate) model: Option<PathBuf>,
    /// Made-up weights of this shape, made on the device
    #[arg(long, value_name = "SHAPE", group = "weights", value_parser = SHAPES)]
    pub(crate) synthetic: Option<String>,
    /// Bits of made-up weights: 4, 8, or 16 for bf16
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub(crate) bits: u32,
    /// Made-up weights that share a scale: 32, 64 or 128
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub(crate) group: u32,
}

#[derive(Args)]
pub(crate) struct Profile {
    #[command(flatten)]
    pub(crate) weights: Weights,
    #[command(flatten)]
    pub(crate) running: Running,
    /// Look at a prompt of so many tokens instead of at decoding
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub(crate) prompt: Option<usize>,
    /// Position at which decoding begins; keys and values before it are not computed
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) ctx: usize,
    /// Tokens to decode, or prompts to process, after two for warming up: once unsplit, once command by command
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = at_least_one)]
    pub(crate) steps: usize,
    /// Write to this file too: .json, a trace for Perfetto or Chrome; .html, a page with timeline and roofline
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) part: Option<BenchPart>,
    #[command(flatten)]
    pub(crate) model: BenchModel,
}

#[derive(Subcommand)]
pub(crate) enum BenchPart {
    /// What the device can do at most: reading, multiply-adds, matrix products
    Peak(Peak),
    /// Single kernels at the shapes of a model: among others that may overlap them, and behind barriers
    Ops(Ops),
    /// What replaying a graph saves: small dependent dispatches, and the step of a model if one is given
    Graph(GraphBench),
    /// What loading takes: time to the first token, memory, and whether tensors are copied
    Load(LoadBench),
}

#[derive(Args)]
pub(crate) struct LoadBench {
    /// Folder of an MLX model
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Write a model of this shape with made-up weights into that folder first, where there is none
    #[arg(long, value_name = "SHAPE", value_parser = SHAPES)]
    pub(crate) write: Option<String>,
    /// Write it as MLX may: tensors begin at an odd byte, and not at a multiple of 8
    #[arg(long, requires = "write")]
    pub(crate) ragged: bool,
    #[command(flatten)]
    pub(crate) running: Running,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(mut_group("weights", |group| group.required(false)))]
pub(crate) struct GraphBench {
    /// Dispatches of the graph, each of which waits for the last
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = at_least_one)]
    pub(crate) dispatches: usize,
    #[command(flatten)]
    pub(crate) weights: Weights,
    #[command(flatten)]
    pub(crate) running: Running,
    /// Tokens of the model's prompt
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = at_least_one)]
    pub(crate) prompt: usize,
    /// Tokens to decode with the model
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    pub(crate) r#gen: usize,
    /// Position at which decoding begins; keys and values before it are not computed
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) ctx: usize,
    /// Times that each way is measured, in turns with the others, after once for warming up
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Ops {
    /// The model whose shapes are taken
    #[arg(long, value_name = "SHAPE", default_value = "qwen3-0.6b", value_parser = SHAPES)]
    pub(crate) shape: String,
    /// Only kernels whose name has this in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    #[command(flatten)]
    pub(crate) running: Running,
    /// Times that each is measured
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct Peak {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Times that each is measured
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct BenchModel {
    #[command(flatten)]
    pub(crate) weights: Weights,
    #[command(flatten)]
    pub(crate) running: Running,
    /// Tokens of the prompt
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = at_least_one)]
    pub(crate) prompt: usize,
    /// Tokens to decode
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = at_least_one)]
    pub(crate) r#gen: usize,
    /// Position at which decoding begins; keys and values before it are not computed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) ctx: usize,
    /// Times that each is measured, after once for warming up
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Record each decoded token anew instead of replaying
    #[arg(long)]
    pub(crate) eager: bool,
    /// Tokens of one submission when replaying
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = at_least_one)]
    pub(crate) tokens_per_submission: usize,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("at least 1 is needed".into()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}
