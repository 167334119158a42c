use std::io::Write;

use kovar::{Device, DeviceInfo, DeviceKind, MemoryInfo};

use crate::error::Result;

const HEAD: [&str; 6] = ["DEVICE", "NAME", "DRIVER", "MEMORY", "SUBGROUP", "FEATURES"];

pub(crate) fn run() -> Result<()> {
    let (devices, missing) = Device::list();
    let mut out = std::io::stdout().lock();
    out.write_all(table(&devices).as_bytes())?;
    for reason in missing {
        writeln!(out, "missing: {}", reason.split_whitespace().collect::<Vec<_>>().join(" "))?;
    }
    Ok(())
}

fn table(devices: &[DeviceInfo]) -> String {
    let mut rows = vec![HEAD.map(String::from)];
    for (place, info) in devices.iter().enumerate() {
        let index = devices[..place].iter().filter(|earlier| earlier.backend == info.backend).count();
        rows.push(row(info, index));
    }
    let widths: [usize; 6] = std::array::from_fn(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}

pub(crate) fn row(info: &DeviceInfo, index: usize) -> [String; 6] {
    // The name under which `--device` knows it.
    let name = if index == 0 { info.backend.to_string() } else { format!("{}:{index}", info.backend) };
    let kind = match info.kind {
        DeviceKind::Discrete => "discrete",
        DeviceKind::Integrated => "integrated",
        DeviceKind::Virtual => "virtual",
        DeviceKind::Cpu => "processor",
    };
    [name, format!("{} ({kind})", info.name), info.driver.clone(), memory(&info.memory), subgroup(info), features(info)]
}

fn memory(memory: &MemoryInfo) -> String {
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let kind = if memory.unified { "unified" } else { "own" };
    match memory.budget {
        Some(budget) => format!("{} {kind}, {} free", gib(memory.total), gib(budget)),
        None => format!("{} {kind}", gib(memory.total)),
    }
}

fn subgroup(info: &DeviceInfo) -> String {
    let subgroup = &info.subgroup;
    if subgroup.selectable && subgroup.min != subgroup.max {
        format!("{} ({}-{})", subgroup.size, subgroup.min, subgroup.max)
    } else {
        subgroup.size.to_string()
    }
}

fn features(info: &DeviceInfo) -> String {
    let features = &info.features;
    let mut names: Vec<String> = [
        ("f16", features.f16),
        ("bf16", features.bf16),
        ("int-dot", features.int_dot),
        ("host-import", features.host_import),
    ]
    .into_iter()
    .filter(|(_, there)| *there)
    .map(|(name, _)| name.into())
    .collect();
    if !features.cooperative_matrix.is_empty() {
        names.push("coop-matrix".into());
    }
    if let Some(resolution) = features.timestamp_ns {
        names.push(format!("times {resolution} ns"));
    }
    names.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_has_a_row() {
        let (devices, _) = Device::list();
        let text = table(&devices);
        assert_eq!(text.lines().count(), devices.len() + 1);
        assert!(text.starts_with("DEVICE"));
        assert!(text.lines().any(|line| line.starts_with("cpu ")), "{text}");
    }

    #[test]
    fn the_second_of_a_backend_has_its_number() {
        let (devices, _) = Device::list();
        let cpu = devices.iter().find(|info| info.backend == kovar::Backend::Cpu).unwrap().clone();
        let text = table(&[cpu.clone(), cpu]);
        assert!(text.lines().nth(1).unwrap().starts_with("cpu "));
        assert!(text.lines().nth(2).unwrap().starts_with("cpu:1 "));
    }
}
