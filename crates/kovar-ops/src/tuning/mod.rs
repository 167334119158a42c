//! How kernels are cut for a device: a table by its traits, measured by `kovar tune`.

use std::sync::LazyLock;

use kovar::{Device, Error, Result};
use serde::{Deserialize, Serialize};

/// Devices that were measured. Each row says where it is from.
static MEASURED: LazyLock<Option<Table>> = LazyLock::new(|| Table::parse(include_str!("table.json")).ok());

/// Rows of a table, at most.
const MOST_ROWS: usize = 1000;

/// How kernels are cut. What a device does not take is cut down to what it does. Results depend on it as on the order of
/// sums alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// Threads of a workgroup that multiplies one or few rounded rows, at most: a power of two, 32 to 1,024.
    pub product_threads: u32,
    /// Rows of a matrix that its subgroups take at a time: 1 or 2.
    pub product_rows: u32,
    /// Workgroups of a product, at most: as many as run at once, as each rounds x for itself. 1 to 65,535.
    pub product_groups: u32,
    /// Workgroups that attention of one row is cut into, at least where the cache is long enough: 1 to 4,096.
    pub attention_groups: u32,
    /// Subgroups of each: a power of two, up to 32.
    pub attention_subgroups: u32,
}

impl Default for Tuning {
    /// As for an H100 and an H200.
    fn default() -> Tuning {
        Tuning {
            product_threads: 512,
            product_rows: 1,
            product_groups: 528,
            attention_groups: 128,
            attention_subgroups: 16,
        }
    }
}

impl Tuning {
    /// The tuning of a device: of the [`Table`] in its settings, else of those that were measured.
    pub fn of(device: &Device) -> Tuning {
        let found = match device.settings().get::<Table>() {
            Some(table) => table.find(device),
            None => MEASURED.as_ref().and_then(|table| table.find(device)),
        };
        found.unwrap_or_default()
    }

    /// What is worth measuring: products cut otherwise than here, then attention.
    pub fn candidates(self) -> [Vec<Tuning>; 2] {
        let products = [128, 256, 512, 1024]
            .into_iter()
            .flat_map(|product_threads| [1, 2].map(|product_rows| Tuning { product_threads, product_rows, ..self }));
        let groups = [264, 396, 528, 1056].map(|product_groups| Tuning { product_groups, ..self });
        let attention = [64, 128, 256].into_iter().flat_map(|attention_groups| {
            [8, 16, 32].map(|attention_subgroups| Tuning { attention_groups, attention_subgroups, ..self })
        });
        [products.chain(groups).collect(), attention.collect()]
    }

    fn check(&self) -> Result<()> {
        let power = |value: u32, most: u32| value.is_power_of_two() && value <= most;
        let checks = [
            ("product_threads", self.product_threads, power(self.product_threads, 1024) && self.product_threads >= 32),
            ("product_rows", self.product_rows, (1..=2).contains(&self.product_rows)),
            ("product_groups", self.product_groups, (1..=65_535).contains(&self.product_groups)),
            ("attention_groups", self.attention_groups, (1..=4096).contains(&self.attention_groups)),
            ("attention_subgroups", self.attention_subgroups, power(self.attention_subgroups, 32)),
        ];
        match checks.iter().find(|(.., fits)| !fits) {
            Some((name, value, _)) => Err(wrong(format!("{name} is {value}, which is out of its range"))),
            None => Ok(()),
        }
    }
}

/// A tuning and the devices that it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Name of the backend. None: any, here and below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// A part of the device's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Lanes of a subgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subgroup: Option<u32>,
    /// The tuning.
    pub tuning: Tuning,
    /// How it was found: command, device, date.
    pub source: String,
}

/// Tunings by device. A table in the [settings](kovar::DeviceOptions::settings) of a device takes the place of the one that
/// comes with this library.
///
/// ```
/// use kovar::{Backend, Device, DeviceOptions, Settings};
/// use kovar_ops::tuning::{Table, Tuning};
///
/// let table = Table::parse(r#"[{ "subgroup": 1, "source": "a guess", "tuning": {
///     "product_threads": 64, "product_rows": 2, "product_groups": 100, "attention_groups": 8, "attention_subgroups": 4 } }]"#)?;
/// let settings = Settings::default().with(table);
/// let device = Device::open(&DeviceOptions { settings, ..DeviceOptions::of(Backend::Cpu) })?;
/// assert_eq!(Tuning::of(&device).product_threads, if device.info().subgroup.size == 1 { 64 } else { 512 });
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table(Vec<Row>);

impl Table {
    /// A table of these rows; the first that fits a device counts.
    ///
    /// # Errors
    /// [`Error::Op`] naming a number that is out of its range, and for more than 1,000 rows.
    pub fn new(rows: Vec<Row>) -> Result<Table> {
        if rows.len() > MOST_ROWS {
            return Err(wrong(format!("{} rows, at most {MOST_ROWS}", rows.len())));
        }
        rows.iter().try_for_each(|row| row.tuning.check())?;
        Ok(Table(rows))
    }

    /// Reads a table: JSON, a list of [`Row`]s.
    ///
    /// # Errors
    /// [`Error::Op`] saying what is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Table> {
        Table::new(serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?)
    }

    /// The table as [`parse`](Table::parse) reads it.
    ///
    /// # Errors
    /// [`Error::Op`] if it cannot be written.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(&self.0).map_err(|error| wrong(error.to_string()))
    }

    fn find(&self, device: &Device) -> Option<Tuning> {
        let info = device.info();
        let fits = |row: &&Row| {
            row.backend.as_ref().is_none_or(|backend| *backend == info.backend.to_string())
                && row.name.as_ref().is_none_or(|name| info.name.contains(name.as_str()))
                && row.subgroup.is_none_or(|subgroup| subgroup == info.subgroup.size)
        };
        self.0.iter().find(fits).map(|row| row.tuning)
    }
}

fn wrong(message: String) -> Error {
    Error::Op { op: "tuning table", message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_that_comes_along_is_good() {
        let rows = &MEASURED.as_ref().unwrap().0;
        assert!(!rows.is_empty() && rows.iter().all(|row| row.source.contains("2026")), "{rows:?}");
    }
}
