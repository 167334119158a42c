//! The tracker against a brute-force model: each byte remembers who touched it since the last barrier.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use kovar::hazard::{Access, Mode, NodeId, ResourceId, Rows, Tracker};
use proptest::collection::vec;
use proptest::prelude::*;

fn access() -> impl Strategy<Value = Access> {
    (0u32..3, 0u64..48, 1u64..12, any::<bool>()).prop_map(|(resource, start, len, write)| {
        Access::new(ResourceId(resource), start..start + len, if write { Mode::Write } else { Mode::Read })
    })
}

/// Whether two commands may not run at the same time.
fn conflicts(a: &[Access], b: &[Access]) -> bool {
    a.iter().any(|a| {
        b.iter().any(|b| {
            a.resource == b.resource
                && a.range.start < b.range.end
                && b.range.start < a.range.end
                && (a.mode == Mode::Write || b.mode == Mode::Write)
        })
    })
}

/// Barriers before these commands, as the encoder places them.
fn place(commands: &[Vec<Access>]) -> Vec<bool> {
    let mut tracker = Tracker::default();
    commands
        .iter()
        .zip(0..)
        .map(|(accesses, node)| {
            let barrier = tracker.conflict(accesses).is_some();
            if barrier {
                tracker.close_group();
            }
            tracker.record(NodeId(node), accesses);
            barrier
        })
        .collect()
}

/// Whether every conflicting pair has a barrier between.
fn is_ordered(commands: &[Vec<Access>], barriers: &[bool]) -> bool {
    (0..commands.len()).all(|later| {
        let group = (0..=later).rev().find(|at| barriers[*at]).unwrap_or(0);
        (group..later).all(|earlier| !conflicts(&commands[earlier], &commands[later]))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 2000 }))]

    #[test]
    fn every_conflict_is_ordered(commands in vec(vec(access(), 1..4), 1..24)) {
        let barriers = place(&commands);
        prop_assert!(is_ordered(&commands, &barriers));
        // Each barrier is needed: without it, the order is broken.
        for at in (0..commands.len()).filter(|at| barriers[*at]) {
            let mut fewer = barriers.clone();
            fewer[at] = false;
            prop_assert!(!is_ordered(&commands, &fewer), "the barrier before {at} is not needed");
        }
    }

    #[test]
    fn no_placement_has_fewer_barriers(commands in vec(vec(access(), 1..3), 1..9)) {
        let placed = place(&commands).iter().filter(|b| **b).count();
        let gaps = commands.len() - 1;
        let fewest = (0u32..1 << gaps)
            .filter(|set| {
                let barriers: Vec<bool> = (0..=gaps).map(|at| at > 0 && set >> (at - 1) & 1 == 1).collect();
                is_ordered(&commands, &barriers)
            })
            .map(u32::count_ones)
            .min();
        prop_assert_eq!(Some(placed as u32), fewest);
    }

    #[test]
    fn a_conflict_names_the_last_command_that_touched_the_bytes(
        commands in vec(vec(access(), 1..3), 1..40),
        probe in access(),
    ) {
        let mut tracker = Tracker::default();
        let mut touched: HashMap<(u32, u64, bool), u32> = HashMap::new();
        for (accesses, node) in commands.iter().zip(0u32..) {
            if tracker.conflict(accesses).is_some() {
                tracker.close_group();
                touched.clear();
            }
            tracker.record(NodeId(node), accesses);
            for a in accesses {
                for byte in a.range.clone() {
                    touched.insert((a.resource.0, byte, a.mode == Mode::Write), node);
                }
            }
        }
        let hit = tracker.conflict(std::slice::from_ref(&probe));
        let expected = probe.range.clone().any(|byte| {
            touched.contains_key(&(probe.resource.0, byte, true))
                || (probe.mode == Mode::Write && touched.contains_key(&(probe.resource.0, byte, false)))
        });
        prop_assert_eq!(hit.is_some(), expected);
        if let Some(hit) = hit {
            let earlier_wrote = hit.kind != kovar::hazard::HazardKind::War;
            for byte in hit.range {
                prop_assert_eq!(touched.get(&(probe.resource.0, byte, earlier_wrote)), Some(&hit.earlier.0));
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes there, and is safe code alone")]
fn ten_thousand_disjoint_writes_in_any_order_never_conflict() {
    let mut tracker = Tracker::default();
    for i in 0..10_000u64 {
        let start = i * 7919 % 10_000 * 16;
        let write = [Access::new(ResourceId(0), start..start + 16, Mode::Write)];
        assert!(tracker.conflict(&write).is_none());
        tracker.record(NodeId(i as u32), &write);
    }
    assert_eq!(tracker.len(), 10_000);
}

fn strided() -> impl Strategy<Value = Access> {
    (0u32..2, 0u64..40, 1u64..6, 0u64..14, 1u64..7, any::<bool>()).prop_map(
        |(resource, start, len, stride, count, write)| {
            let (range, rows) = Rows::new(start, len, stride, count).unwrap();
            let mode = if write { Mode::Write } else { Mode::Read };
            Access { rows, ..Access::new(ResourceId(resource), range, mode) }
        },
    )
}

/// Allocation, byte, and whether it is written, of everything that a command touches.
fn bytes(accesses: &[Access]) -> Vec<(u32, u64, bool)> {
    let of = |access: &Access| {
        let (len, stride) = access.rows.map_or((u64::MAX, u64::MAX), |rows| (rows.len(), rows.stride()));
        let (resource, start, write) = (access.resource.0, access.range.start, access.mode == Mode::Write);
        let touched = access.range.clone().filter(move |at| (at - start) % stride < len);
        touched.map(move |at| (resource, at, write)).collect::<Vec<_>>()
    };
    accesses.iter().flat_map(of).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 20 } else { 4000 }))]

    #[test]
    fn rows_and_ranges_conflict_where_bytes_meet_and_nowhere_else(
        commands in vec(vec(prop_oneof![strided(), access()], 1..4), 1..24),
    ) {
        let mut tracker = Tracker::default();
        let mut group: Vec<Vec<(u32, u64, bool)>> = Vec::new();
        let mut first = 0u32;
        for (accesses, node) in commands.iter().zip(0u32..) {
            let touched = bytes(accesses);
            let meet = |a: &(u32, u64, bool), b: &(u32, u64, bool)| (a.0, a.1) == (b.0, b.1) && (a.2 || b.2);
            let expected = group.iter().flatten().any(|a| touched.iter().any(|b| meet(a, b)));
            let conflict = tracker.conflict(accesses);
            prop_assert_eq!(conflict.is_some(), expected, "command {} of {:?}", node, commands);
            if let Some(conflict) = conflict {
                let earlier = &group[(conflict.earlier.0 - first) as usize];
                let wrote = conflict.kind != kovar::hazard::HazardKind::War;
                prop_assert!(!conflict.range.is_empty());
                for at in conflict.range.clone() {
                    prop_assert!(earlier.contains(&(conflict.resource.0, at, wrote)), "{conflict}");
                    prop_assert!(touched.iter().any(|b| (b.0, b.1) == (conflict.resource.0, at)), "{conflict}");
                }
                tracker.close_group();
                group.clear();
                first = node;
            }
            tracker.record(NodeId(node), accesses);
            group.push(touched);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "takes minutes there, and is safe code alone")]
fn any_number_of_rows_is_known_exactly_and_very_many_sets_as_their_hull() {
    let column = |first: u64| {
        let (range, rows) = Rows::new(first, 1, 1000, 100_000).unwrap();
        [Access { rows, ..Access::new(ResourceId(0), range, Mode::Write) }]
    };
    let mut tracker = Tracker::default();
    for first in 0..300 {
        assert_eq!(tracker.conflict(&column(first)), None, "column {first}");
        if first < 256 {
            tracker.record(NodeId(first as u32), &column(first));
        }
    }
    assert_eq!(tracker.conflict(&column(255)).map(|conflict| conflict.earlier), Some(NodeId(255)));
    tracker.record(NodeId(256), &column(256));
    assert!(tracker.conflict(&column(299)).is_some());
    tracker.close_group();
    assert_eq!(tracker.conflict(&column(255)), None);
}
