//! Tables of how kernels are cut: what is refused, and that every cut computes the same.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kovar::{Backend, Device, DeviceOptions, Settings};
use kovar_checks::ops::Check;
use kovar_ops::tuning::{Row, Table, Tuning};
use kovar_testing::subjects;
use proptest::prelude::*;

fn row(tuning: Tuning) -> Row {
    Row { backend: None, name: None, subgroup: None, tuning, source: "a test".into() }
}

#[test]
fn a_table_comes_back_as_it_was_written() {
    let rows = Tuning::default().candidates().concat();
    let table = Table::new(rows.into_iter().map(row).collect()).unwrap();
    assert_eq!(Table::parse(&table.to_json().unwrap()).unwrap(), table);
}

#[test]
fn the_first_row_that_fits_counts() {
    let tuning = |product_groups| Tuning { product_groups, ..Tuning::default() };
    let rows = vec![
        Row { backend: Some("metal".into()), ..row(tuning(1)) },
        Row { name: Some("no such device".into()), ..row(tuning(2)) },
        Row { subgroup: Some(77), ..row(tuning(3)) },
        Row { backend: Some("null".into()), ..row(tuning(4)) },
        row(tuning(5)),
    ];
    let open = |rows| {
        let settings = Settings::default().with(Table::new(rows).unwrap());
        Device::open(&DeviceOptions { settings, ..DeviceOptions::of(Backend::Null) }).unwrap()
    };
    assert_eq!(Tuning::of(&open(rows.clone())).product_groups, 4);
    assert_eq!(Tuning::of(&open(rows[..3].to_vec())), Tuning::default());
}

#[test]
fn hostile_tables_are_refused() {
    let good = Table::new(vec![row(Tuning::default())]).unwrap().to_json().unwrap();
    let refused = |text: &str| Table::parse(text).unwrap_err().to_string();
    for (from, to) in [
        ("\"product_threads\": 512", "\"product_threads\": 0"),
        ("\"product_threads\": 512", "\"product_threads\": 2048"),
        ("\"product_threads\": 512", "\"product_threads\": 500"),
        ("\"product_rows\": 1", "\"product_rows\": 3"),
        ("\"product_groups\": 528", "\"product_groups\": 0"),
        ("\"product_groups\": 528", "\"product_groups\": 65536"),
        ("\"attention_groups\": 128", "\"attention_groups\": 5000"),
        ("\"attention_subgroups\": 16", "\"attention_subgroups\": 3"),
    ] {
        let message = refused(&good.replace(from, to));
        let name = from.split('"').nth(1).unwrap();
        assert!(message.starts_with("tuning table") && message.contains(name), "{message}");
    }
    for text in ["", "{}", "[1]", "[{\"source\": \"none\"}]", &good.replace("product_rows", "rows"), &good[..40]] {
        assert!(refused(text).starts_with("tuning table"), "{text}");
    }
    let many = vec![row(Tuning::default()); 1001];
    assert!(Table::new(many).unwrap_err().to_string().contains("1001 rows"));
}

proptest! {
    #[test]
    fn any_text_is_a_table_or_an_error(text in "\\PC{0,200}") {
        let _ = Table::parse(&text);
    }
}

/// On each device of this machine.
#[test]
fn every_candidate_computes_the_same() {
    let [products, attention] = Tuning::default().candidates();
    let checks = [
        (products, &["fast::norm_and_products", "fast::gate_and_addition"][..]),
        (attention, &["attention::long_caches", "fused::attention_in_parts_is_attention"][..]),
    ];
    for subject in subjects("every_candidate_computes_the_same") {
        for (candidates, names) in &checks {
            for candidate in candidates {
                let settings = Settings::default().with(Table::new(vec![row(*candidate)]).unwrap());
                let options = DeviceOptions { validation: subject.validates(), settings, ..DeviceOptions::default() };
                let device = Device::from_adapter(subject.adapter.as_ref(), &options).unwrap();
                assert_eq!(Tuning::of(&device), *candidate);
                names.iter().for_each(|name| Check::find(name).run(&device));
            }
        }
    }
}
