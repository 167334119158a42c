use std::io::Write;
use std::path::Path;

use kovar::Graph;

use crate::arguments::Verify;
use crate::error::{Failure, Result};

pub(crate) fn run(arguments: &Verify) -> Result<()> {
    let session = arguments.setup.session()?;
    let (plain, graph) = (session.plain_decode_graph()?, session.decode_graph()?);
    let mut out = std::io::stdout().lock();
    for (name, graph) in [("as recorded", &plain), ("fused and reordered", &graph)] {
        writeln!(out, "{}", line(name, graph))?;
    }
    let plan = graph.plan();
    writeln!(out, "scratch: {} bytes, {:.1} % of its {} buffers' sum", plan.size, share(&plan), plan.buffers())?;
    if let Some(path) = &arguments.explain {
        std::fs::write(path, explained(&graph, path)?).map_err(|e| Failure::file("write", path, e))?;
    }
    let verdicts = [plain.verify(), graph.verify()];
    match verdicts.iter().find_map(|verdict| verdict.violations.first()) {
        Some(violation) => Err(Failure::new(format!("a barrier is missing: {violation}"))),
        None => Ok(writeln!(out, "proved: every conflicting pair of commands is ordered")?),
    }
}

fn line(name: &str, graph: &Graph) -> String {
    let groups = graph.schedule().groups.len();
    let redundant = graph.verify().redundant.len();
    let barriers = groups.saturating_sub(1);
    format!("{name}: {} commands in {groups} groups, {barriers} barriers, {redundant} of them not needed", graph.len())
}

fn share(plan: &kovar::MemoryPlan) -> f64 {
    if plan.sum == 0 { 0.0 } else { plan.size as f64 * 100.0 / plan.sum as f64 }
}

/// The explanation in the form that the file's name asks for.
fn explained(graph: &Graph, path: &Path) -> Result<String> {
    let explanation = graph.explain();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("txt") => Ok(explanation.to_text()),
        Some("json") => Ok(explanation.to_json()),
        Some("dot") => Ok(explanation.to_dot()),
        Some("svg") => Ok(explanation.to_svg()),
        _ => Err(Failure::new(format!("{}: name it .txt, .json, .dot or .svg", path.display()))),
    }
}
